"""HALT, REDUCE_ONLY, RESUME, flatten, and execution's own stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest
from pydantic import SecretStr

from support.execution_bench import KEY, WIDE, Bench, check_invariants
from support.stage import BOT_ID
from tradingbot.bus.control import Applied, issue, read_applied
from tradingbot.bus.names import Key
from tradingbot.domain.messages import Command, ControlCommand, OrderAction, ReportStatus, Side
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.domain.params import HaltAction
from tradingbot.domain.static import Network
from tradingbot.venue.exchange import ExchangeClient
from tradingbot.venue.http import open_http
from tradingbot.venue.signing import Signer
from tradingbot.venue.wire import WireOrder, order_action


async def settled(bench: Bench) -> None:
    """Let the tracker find what there is."""
    await bench.tick(3)


async def resting_plan(bench: Bench, **weights: float) -> None:
    """A plan whose orders rest at the venue, with more slices to come."""
    await bench.next_cycle()
    await bench.approve(**weights)
    await bench.until(bench.resting)


async def acked(bench: Bench) -> Applied:
    async def look() -> Applied | None:
        applied = await read_applied(bench.redis)
        return applied if applied and applied.mode is Mode.HALT and applied.acked_at is not None else None

    found: Applied = await bench.until(look)
    return found


async def applied_mode(bench: Bench, mode: Mode) -> None:
    async def look() -> bool:
        applied = await read_applied(bench.redis)
        return applied is not None and applied.mode is mode and applied.acked_at is not None

    await bench.until(look)


async def test_halt_cancels_what_is_open_stamps_three_times_and_nothing_follows(bench: Bench) -> None:
    await bench.ready(order_tif="Alo")
    async with bench.trading():
        await bench.begun()
        await resting_plan(bench, BTC=0.12, ETH=0.12)
        await bench.command(Command.HALT)
        applied = await acked(bench)
        sent = len(bench.orders_sent())
        assert await bench.resting() == []
        await bench.tick(30)
        await bench.next_cycle()
        await bench.approve(BTC=0.2)
        await bench.until_read("risk.approved", "exec_grp")
        await bench.tick(10)

    assert applied.received_at <= applied.cancelled_at <= applied.acked_at
    assert applied.open_orders == 0
    assert len(bench.orders_sent()) == sent
    assert len(await bench.plans()) == 1, "in HALT nothing is planned"
    await check_invariants(bench)


async def test_halt_is_acknowledged_only_when_an_unknown_outcome_is_known(bench: Bench) -> None:
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        bench.paper.faults({"kind": "drop_before", "path": "/exchange", "type": "order"})
        await bench.approve(BTC=0.12)
        await bench.until(bench.intents)
        await bench.command(Command.HALT)
        await bench.until(lambda: read_applied_halted(bench))
        await asyncio.sleep(0.6)
        applied = await read_applied(bench.redis)
        assert applied is not None
        assert applied.acked_at is None
        assert await bench.reports() == []
        await bench.tick(8)
        await acked(bench)

    assert {each.error for each in await bench.reports()} == {"absent"}
    await check_invariants(bench)


async def read_applied_halted(bench: Bench) -> bool:
    applied = await read_applied(bench.redis)
    return applied is not None and applied.mode is Mode.HALT and applied.received_at is not None


async def test_resume_goes_on_with_the_next_cycle(bench: Bench) -> None:
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.command(Command.HALT)
        await acked(bench)
        await bench.command(Command.RESUME)
        await applied_mode(bench, Mode.NORMAL)
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_reports(lambda found: any(e.status is ReportStatus.FILLED for e in found))

    await check_invariants(bench)


async def test_reduce_only_cancels_increases_and_lets_reductions_pass(bench: Bench) -> None:
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(ETH=0.2)
        await bench.until_reports(lambda found: any(e.status is ReportStatus.FILLED for e in found))
        await bench.tick(30)
        await bench.params(twap_slices=1, order_tif="Alo")
        await resting_plan(bench, BTC=0.12)
        await bench.command(Command.REDUCE_ONLY)
        await applied_mode(bench, Mode.REDUCE_ONLY)
        assert await bench.resting() == []
        await bench.params(twap_slices=1)
        await bench.next_cycle()
        await bench.approve(BTC=0.3, ETH=0.1)
        plan = await bench.plan_of(bench.cycle_id)
        await bench.until_reports(lambda found: any(e.reduce_only and e.status is ReportStatus.FILLED for e in found))

    assert {each.symbol for each in plan.slices} == {"ETH"}
    last = bench.orders_sent()[-1]
    assert last["action"]["orders"][0]["r"] is True
    await check_invariants(bench)


async def test_flatten_follows_the_acknowledgement_and_ends_flat(bench: Bench) -> None:
    await bench.ready(twap_slices=1)
    await bench.params(risk=WIDE.model_copy(update={"halt_action": HaltAction.FLATTEN}), twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12, ETH=0.12)
        await bench.until_reports(lambda found: sum(e.status is ReportStatus.FILLED for e in found) == 2)
        await bench.tick(5)
        await bench.command(Command.HALT)
        applied = await acked(bench)
        for _ in range(20):
            await bench.tick(1)
            applied = await read_applied(bench.redis)
            if applied and applied.flatten == "flat":
                break

    assert applied is not None
    assert applied.flatten == "flat"
    assert (await bench.position("BTC"), await bench.position("ETH")) == (0, 0)
    orders = bench.orders_sent()
    assert orders[-1]["at_ms"] >= applied.acked_at
    assert all(each["r"] and each["t"]["limit"]["tif"] == "Ioc" for each in orders[-1]["action"]["orders"])
    flat = [each for each in await bench.intents() if each.reason == "FLATTEN"]
    assert {each.symbol for each in flat} == {"BTC", "ETH"}
    await check_invariants(bench)


async def test_a_breaker_that_never_spoke_counts_as_halt(bench: Bench) -> None:
    await bench.params()
    await bench.mirror()
    async with bench.trading():
        await bench.begun()
        await acked(bench)
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_read("risk.approved", "exec_grp")

    assert await bench.plans() == []
    assert bench.orders_sent() == []


async def test_without_parameters_nobody_trades(bench: Bench) -> None:
    await bench.breaker()
    await bench.mirror()
    async with bench.trading():
        await bench.tick(1)
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_read("risk.approved", "exec_grp")

    assert await bench.plans() == []
    assert [each.details["why"] for each in await bench.audits("exec.plan")] == ["there are no parameters yet"]


async def no_snapshot(bench: Bench) -> None:
    await bench.redis.delete(Key.LATEST_SNAPSHOT)


async def a_clock_that_steps_back(bench: Bench) -> None:
    bench.clock.jump(-90)


@pytest.mark.parametrize("happens", [no_snapshot, a_clock_that_steps_back])
async def test_without_a_fresh_snapshot_execution_stops_and_cancels_what_is_open(
    bench: Bench, happens: Callable[[Bench], Awaitable[None]]
) -> None:
    await bench.ready(order_tif="Alo")
    async with bench.trading():
        await bench.begun()
        await resting_plan(bench, BTC=0.12)
        await happens(bench)
        await bench.until(lambda: bench.audits("local_stop"))

        async def none_open() -> bool:
            return await bench.resting() == []

        await bench.until(none_open)
        assert (await read_applied(bench.redis)).mode is Mode.NORMAL, "a local stop writes no key"

    await check_invariants(bench)


async def test_stopping_the_process_leaves_nothing_open(bench: Bench) -> None:
    await bench.ready(order_tif="Alo")
    async with bench.trading():
        await bench.begun()
        await resting_plan(bench, BTC=0.12, ETH=0.12)

    assert await bench.resting() == []
    await check_invariants(bench)


async def test_a_cancel_is_carried_out_however_long_the_venue_refuses_to_listen(bench: Bench) -> None:
    await bench.ready(order_tif="Alo", twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await resting_plan(bench, BTC=0.12)
        bench.paper.faults({"kind": "server_error", "path": "/exchange", "count": 3})
        await bench.command(Command.HALT)
        await acked(bench)
        assert await bench.resting() == []

    cancels = [each for each in await bench.intents() if each.action is OrderAction.CANCEL]
    assert {each.reason for each in cancels} == {"halt"}
    await check_invariants(bench)


async def test_a_foreign_order_is_left_alone_and_told(bench: Bench) -> None:
    order = WireOrder(asset_id=0, side=Side.BUY, px=Decimal(50_000), size=Decimal("0.01"), tif="Gtc")
    signer = Signer(SecretStr(KEY), Network.PAPER)
    async with open_http(bench.paper.http_url) as http:
        await ExchangeClient(http).send(
            signer.sign(order_action([order]), nonce=bench.clock.now_ms(), expires_after_ms=None)
        )
    await bench.ready()
    async with bench.trading():
        await bench.begun()
        await bench.command(Command.HALT)
        await acked(bench)

    assert len(await bench.resting()) == 1
    (record, *_) = await bench.audits("foreign_order")
    assert record.details["orders"][0]["symbol"] == "BTC"


async def test_what_is_applied_names_the_resource_and_its_generation(bench: Bench) -> None:
    await bench.ready()
    async with bench.trading():
        await bench.begun()
        for generation, command in ((1, Command.REDUCE_ONLY), (2, Command.RESUME), (3, Command.RESUME)):
            said = ControlCommand(
                command=command, command_id=f"g{generation}", source=ModeSource.SPEC, uid="u-1", generation=generation
            )
            await issue(bench.redis, said, now_ms=bench.clock.now_ms(), bot_id=BOT_ID)

            async def taken(wanted: int = generation) -> bool:
                applied = await read_applied(bench.redis)
                return applied is not None and (applied.spec_uid, applied.spec_generation) == ("u-1", wanted)

            await bench.until(taken)
            applied = await read_applied(bench.redis)
            assert applied is not None
            assert applied.mode is (Mode.REDUCE_ONLY if generation == 1 else Mode.NORMAL)
