"""Hanging up on an HTTP request without losing its connection.

httpcore gives a connection back to its pool however a request ends, but for three moments in which a cancellation
leaves it there as taken for ever: between the connection's making and the request's first byte, while it is given back
after the answer's last byte, and while it is given back after another cancellation. A pool of twenty that has lost
twenty answers nobody any more. So a request runs in a task of its own, which is cancelled once at most, and only
between those bytes; before them it ends by itself without sending any, after them it is over anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

AnswerT = TypeVar("AnswerT")

Extensions = Mapping[str, Any]
"""What httpx takes as a request's ``extensions``."""

_FIRST_BYTE: Final = "send_request_headers.started"
_LAST_BYTE: Final = ("receive_response_body.complete", "response_closed.started", ".failed")
"""How the names of httpcore's events end."""

_leaving: set[asyncio.Task[Any]] = set()
"""Requests that nobody waits for and that are still giving their connection back."""


class _Line:
    """Where a request is, as httpcore tells it, and whether somebody still waits for it."""

    def __init__(self, before_leaving: Callable[[], None] | None) -> None:
        self._before_leaving = before_leaving
        self._under_way = False
        self._hung_up = False

    async def trace(self, event: str, _: Any) -> None:
        if event.endswith(_LAST_BYTE):
            self._under_way = False
        elif event.endswith(_FIRST_BYTE):
            if self._hung_up:
                raise asyncio.CancelledError
            if self._before_leaving is not None:
                self._before_leaving()
            self._under_way = True

    def hang_up(self, asking: asyncio.Task[Any]) -> None:
        self._hung_up = True
        if self._under_way:
            asking.cancel()


async def or_hang_up(
    send: Callable[[Extensions], Coroutine[Any, Any, AnswerT]], *, before_leaving: Callable[[], None] | None = None
) -> AnswerT:
    """What ``send`` returns; being cancelled ends the request behind the caller's back.

    Nothing leaves after a cancellation that had not left before; the connection may still be made, in its own time.

    Args:
        send: makes the one request, with these extensions.
        before_leaving: asked right before the first byte, however long the connection took; what it raises ends the
            request, of which nothing has left.
    """
    line = _Line(before_leaving)
    asking = asyncio.create_task(send({"trace": line.trace}))
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        _leaving.add(asking)
        asking.add_done_callback(_left)
        line.hang_up(asking)
        raise


def _left(asked: asyncio.Task[Any]) -> None:
    _leaving.discard(asked)
    if not asked.cancelled():
        asked.exception()  # nobody waits for it any more
