"""Polling stretches before trading does."""

from __future__ import annotations

import asyncio

from tradingbot.runtime.clock import ManualClock
from tradingbot.venue.budget import MemoryBudget
from tradingbot.venue.polling import PollingBudget


async def test_polling_waits_while_trading_can_still_take():
    clock = ManualClock()
    shared = MemoryBudget(clock, capacity_per_min=100)
    polling = PollingBudget(shared, per_min=100)
    await shared.take(70)

    poll = asyncio.create_task(polling.take(20))
    await clock.advance(1)
    assert not poll.done()
    await asyncio.wait_for(shared.take(25), 60)

    await clock.advance(60)
    assert poll.done()


async def test_polling_never_takes_the_reserve():
    shared = MemoryBudget(ManualClock(), capacity_per_min=100)
    polling = PollingBudget(shared, per_min=100)
    await polling.take(80)

    assert await shared.left() == 20
    assert await polling.left() == 0


async def test_an_early_reconciliation_needs_half_of_the_budget():
    shared = MemoryBudget(ManualClock(), capacity_per_min=100)
    polling = PollingBudget(shared, per_min=100)

    assert await polling.is_rich()
    await shared.take(51)
    assert not await polling.is_rich()
