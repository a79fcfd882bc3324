"""An order that the venue has acknowledged and then forgotten ends too, and blocks nothing for ever."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from support.execution_bench import Bench
from support.execution_parts import an_order
from tradingbot.bus.control import read_applied
from tradingbot.domain.messages import Command, ReportStatus
from tradingbot.execution.orders import Accepted, Final, Lost, apply, may_have_vanished
from tradingbot.execution.tracker import Tracker

PATIENCE_MS = 30_000


def forget_orders(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The venue loses its record of every order: no status, not resting, a cancel finds nothing."""
    world = bench.paper.venue.engine.world
    monkeypatch.setattr(world, "by_cloid", lambda *_: None)
    monkeypatch.setattr(world, "open_orders", lambda **_: iter(()))


async def ended(bench: Bench) -> bool:
    return any(each.status.terminal for each in await bench.reports())


def test_an_open_order_may_have_vanished_only_long_after_its_end() -> None:
    order = apply(an_order(end_ms=21_000), Accepted(oid="1", at_ms=1_000)).order

    assert not may_have_vanished(order, asked_ms=21_000 + PATIENCE_MS, patience_ms=PATIENCE_MS)
    assert may_have_vanished(order, asked_ms=21_001 + PATIENCE_MS, patience_ms=PATIENCE_MS)
    final = apply(order, Final(outcome=ReportStatus.CANCELED, at_ms=2_000)).order
    unknown = apply(an_order(), Lost(expires_after_ms=6_000, at_ms=1_000)).order
    assert not any(may_have_vanished(e, asked_ms=10**9, patience_ms=PATIENCE_MS) for e in (final, unknown, an_order()))


async def test_an_order_that_the_venue_no_longer_knows_ends_and_its_symbol_is_traded_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.ready(twap_slices=1, order_tif="Alo", replace_once=False)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until(bench.resting)
        with monkeypatch.context() as lost:
            forget_orders(bench, lost)
            await bench.tick(45)
            assert not await ended(bench), "nothing is proven yet"
            await bench.tick(20)
            await bench.until(lambda: ended(bench))
        (end,) = [each for each in await bench.reports() if each.status.terminal]
        assert (end.status, end.error, end.filled_qty) == (ReportStatus.CANCELED, "vanished", Decimal(0))
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        plan = await bench.plan_of(bench.cycle_id)
        assert [each.symbol for each in plan.slices] == ["BTC"]


async def test_a_halt_is_acknowledged_although_the_venue_forgot_an_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.ready(twap_slices=1, order_tif="Alo")
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until(bench.resting)
        forget_orders(bench, monkeypatch)
        await bench.command(Command.HALT)
        await bench.tick(65)

        async def acked() -> bool:
            applied = await read_applied(bench.redis)
            return applied is not None and applied.acked_at is not None

        await bench.until(acked)


async def test_a_fill_that_is_read_at_the_end_of_a_forgotten_order_counts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream is silent and the order's record is lost, but its fills are not."""
    await bench.ready(twap_slices=1, order_tif="Alo", replace_once=False)

    async def deaf(self: Tracker) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Tracker, "listen", deaf)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until(bench.resting)
        bench.prices.set("BTC", 59_000.0)
        await bench.tick(1)
        forget_orders(bench, monkeypatch)
        await bench.tick(65)
        await bench.until(lambda: ended(bench))
        (end,) = [each for each in await bench.reports() if each.status.terminal]

    assert (end.status, end.filled_qty) == (ReportStatus.FILLED, Decimal("0.02"))
