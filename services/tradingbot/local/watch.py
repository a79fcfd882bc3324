"""Reads the bus for the live table, without a group: watching leaves no trace."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tradingbot.bus.control import read_modes
from tradingbot.bus.errors import BusError, bus_errors
from tradingbot.bus.names import PAYLOAD_FIELD, Stream
from tradingbot.domain.modes import EffectiveMode
from tradingbot.local.board import STREAMS, Board

_COUNT = 500


class Watcher:
    """Feeds a board with what has been written since ``begin``."""

    def __init__(self, redis: Redis, board: Board) -> None:
        self._redis = redis
        self._board = board
        self._last: dict[Stream, str] = dict.fromkeys(STREAMS, "0-0")
        self.mode: EffectiveMode | None = None

    async def begin(self) -> None:
        """Watch from now on: what a data folder holds of earlier runs is not this run's."""
        with bus_errors():
            for stream in STREAMS:
                newest: Any = await self._redis.xrevrange(stream, count=1)
                self._last[stream] = newest[0][0] if newest else "0-0"

    async def look(self) -> bool:
        """Take in what is new; False while the bus does not answer."""
        try:
            for stream in STREAMS:
                with bus_errors():
                    rows: Any = await self._redis.xrange(stream, min=f"({self._last[stream]}", count=_COUNT)
                for entry_id, fields in rows:
                    self._last[stream] = entry_id
                    self._see(stream, fields.get(PAYLOAD_FIELD, ""))
            self.mode = await read_modes(self._redis)
        except (BusError, RedisError):
            return False
        return True

    def _see(self, stream: Stream, raw: str) -> None:
        try:
            self._board.see(stream, raw)
        except ValidationError:
            return  # an invalid message is the consumer's to report: it becomes a dead letter
