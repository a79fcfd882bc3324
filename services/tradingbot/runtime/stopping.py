"""Waits that end when the process is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_CANCEL_AGAIN_S = 0.05

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - not a failure
    """The process was told to stop while it waited."""


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when ``stop`` is set first.

    Raises:
        Stopped: the stop came first.
    """
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Stopped
    finally:
        await end(task)
        await end(stopping)


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel a task until it has ended; its result or error is nobody's business any more.

    Once is not enough: asyncio.wait_for, which redis-py sends through, loses a cancellation that arrives in the same
    turn of the loop as its result (fixed in Python 3.12).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_AGAIN_S)
    if not task.cancelled():
        task.exception()  # mark it as seen
