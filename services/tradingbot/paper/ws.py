"""``/ws``: subscriptions and posts. A placeholder hub until the channels are written."""

from __future__ import annotations

import asyncio
from starlette.websockets import WebSocket

from tradingbot.paper.venue import Venue


class Hub:
    """All sockets of one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self.count = 0

    async def serve(self, socket: WebSocket) -> None:
        await socket.close()

    async def run(self, stop: asyncio.Event) -> None:
        await stop.wait()

    def close_all(self, code: int) -> None:
        return None
