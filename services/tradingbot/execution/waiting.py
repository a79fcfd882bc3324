"""Waiting for something to happen or for a virtual time to come, whichever is first."""

from __future__ import annotations

import asyncio

from tradingbot.runtime.clock import Clock


async def woken(event: asyncio.Event, *, clock: Clock, due_ms: int | None) -> bool:
    """True when the event was set; False when ``due_ms`` (virtual) came first. None waits for the event alone."""
    if event.is_set():
        return True
    if due_ms is None:
        return await event.wait()
    waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep_until_ms(due_ms))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
    return event.is_set()
