import asyncio

import pytest

from tradingbot.runtime.clock import ManualClock
from tradingbot.venue.budget import MemoryBudget, action_weight, info_weight, items_weight


@pytest.mark.parametrize(
    ("kind", "weight"),
    [
        ("allMids", 2),
        ("l2Book", 2),
        ("clearinghouseState", 2),
        ("orderStatus", 2),
        ("exchangeStatus", 2),
        ("spotClearinghouseState", 2),
        ("userRole", 60),
        ("meta", 20),
        ("frontendOpenOrders", 20),
        ("candleSnapshot", 20),
    ],
)
def test_requests_weigh_what_the_venue_documents(kind, weight):
    assert info_weight(kind) == weight


@pytest.mark.parametrize(
    ("kind", "items", "extra"),
    [
        ("userFills", 2000, 100),
        ("userFillsByTime", 1, 1),
        ("candleSnapshot", 5000, 84),
        ("candleSnapshot", 60, 1),
        ("allMids", 300, 0),
        ("userFunding", 0, 0),
    ],
)
def test_long_answers_cost_extra(kind, items, extra):
    assert items_weight(kind, items) == extra


@pytest.mark.parametrize(("batch", "weight"), [(1, 1), (39, 1), (40, 2), (79, 2), (80, 3)])
def test_an_action_costs_one_and_one_more_for_each_forty_entries(batch, weight):
    assert action_weight(batch) == weight


async def test_a_full_bucket_gives_at_once_and_an_empty_one_makes_wait():
    clock = ManualClock()
    budget = MemoryBudget(clock, capacity_per_min=60)
    await budget.take(60)

    taking = asyncio.create_task(budget.take(10))
    await clock.advance(9)
    assert not taking.done()
    await clock.advance(1.1)

    assert taking.done()


async def test_a_reserve_is_left_for_those_who_may_not_wait():
    clock = ManualClock()
    budget = MemoryBudget(clock, capacity_per_min=60)
    await budget.take(40)

    polling = asyncio.create_task(budget.take(10, reserve=20))
    await clock.advance(0)
    assert not polling.done()
    await budget.take(20)
    await clock.advance(31)

    assert polling.done()


async def test_the_bucket_never_holds_more_than_a_minutes_weight():
    clock = ManualClock()
    budget = MemoryBudget(clock, capacity_per_min=60)
    await clock.advance(3600)

    assert await budget.left() == 60


async def test_what_can_never_fit_is_refused_instead_of_waited_for():
    with pytest.raises(ValueError, match="never fits"):
        await MemoryBudget(ManualClock(), capacity_per_min=60).take(61)
