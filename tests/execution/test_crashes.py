"""Killed at any step, execution begins again without a second order, a lost fill or a forgotten one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.execution_bench import Bench, check_invariants, execution_bench
from support.servers import Server
from tradingbot.bus.client import connect
from tradingbot.bus.control import read_applied
from tradingbot.bus.library import load_library
from tradingbot.domain.messages import Command, ReportStatus
from tradingbot.execution.sender import Sender
from tradingbot.execution.sending import ActionSender
from tradingbot.execution.tracker import Tracker


class Hang:
    """Stops a method at its first call, before or after it took effect; later calls pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, after: bool) -> None:
        self.reached = asyncio.Event()
        original = getattr(owner, name)

        async def hang(*args: Any, **kwargs: Any) -> Any:
            if self.reached.is_set():
                return await original(*args, **kwargs)
            self.reached.set()
            if after:
                await original(*args, **kwargs)
            return await asyncio.Event().wait()

        monkeypatch.setattr(owner, name, hang)


@pytest.mark.parametrize(
    ("owner", "method", "after", "filled"),
    [
        (Sender, "_record", False, 0),  # committed, not sent
        (ActionSender, "_send", True, 2),  # sent and answered, not recorded
        (Sender, "_finish", False, 2),  # the report not written
        (Sender, "_finish", True, 2),  # all written
    ],
)
async def test_a_kill_at_any_step_of_the_sender_leaves_one_order_and_one_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, owner: type, method: str, after: bool, filled: int
) -> None:
    hang = Hang(monkeypatch, owner, method, after=after)
    await bench.ready(twap_slices=1, replace_once=False)
    async with bench.doomed():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12, ETH=0.12)
        await bench.until(as_async(hang.reached.is_set))
        await bench.tick(0.01)
    async with bench.trading():
        for _ in range(12):
            await bench.tick(1)
        found = await bench.until_reports(lambda all_: sum(e.status.terminal for e in all_) == 2)

    assert sum(each.status is ReportStatus.FILLED for each in found) == filled
    await check_invariants(bench)


async def test_a_kill_with_a_request_in_flight_counts_the_fill_once(bench: Bench) -> None:
    await bench.ready(twap_slices=1)
    async with bench.doomed():
        await bench.begun()
        await bench.next_cycle()
        bench.paper.faults({"kind": "delay", "path": "/exchange", "type": "order", "count": 1, "real_delay_ms": 300})
        await bench.approve(BTC=0.12)
        await bench.until(bench.intents)
        await asyncio.sleep(0.05)
    async with bench.trading():
        for _ in range(12):
            await bench.tick(1)
            await asyncio.sleep(0.05)
        await bench.until_reports(lambda found: any(e.status.terminal for e in found))

    await check_invariants(bench)


async def test_a_new_lease_sends_nothing_before_the_earlier_ones_intents_are_settled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = Hang(monkeypatch, Sender, "_record", after=False)
    await bench.ready(twap_slices=1)
    async with bench.doomed():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until(as_async(hang.reached.is_set))
    async with bench.trading():
        await bench.tick(1)
        await asyncio.sleep(0.5)
        assert bench.orders_sent() == []
        for _ in range(10):
            await bench.tick(1)
        await bench.until_reports(lambda found: any(e.error == "absent" for e in found))


async def test_own_orders_that_the_log_does_not_know_are_cancelled_after_a_start(bench: Bench) -> None:
    await bench.ready(order_tif="Alo", twap_slices=1)
    async with bench.doomed():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12, ETH=0.12)
        await bench.until(bench.resting)
    bench.server.wipe()
    await load_library(bench.redis)
    await bench.ready()
    async with bench.trading():
        await bench.begun()

        async def none_open() -> bool:
            return await bench.resting() == []

        await bench.until(none_open)
        cycle_of_start = bench.cycle_id
        await bench.approve(BTC=0.3)
        await bench.until_read("risk.approved", "exec_grp")
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.plan_of(bench.cycle_id)

    assert cycle_of_start not in {each.cycle_id for each in await bench.plans()}
    assert {each.reason for each in await bench.intents() if each.action == "CANCEL"} >= {"unknown_to_log"}


async def outcome(bench: Bench, cycle_id: str) -> ReportStatus | None:
    """What became of a cycle's order, CANCELED if none was planned; None as long as that is open."""
    for each in await bench.reports():
        if each.client_order_id.startswith(cycle_id) and each.status.terminal:
            return each.status
    plan = next((each for each in await bench.plans() if each.cycle_id == cycle_id), None)
    return ReportStatus.CANCELED if plan is not None and not plan.slices else None


async def trades_again(bench: Bench) -> None:
    """An order is ended unsent where a connection from before the outage breaks in its cycle; the next asks again."""
    for _ in range(5):
        await bench.until(as_async(bench.lifted))
        await bench.next_cycle()
        cycle_id = bench.cycle_id
        await bench.approve(BTC=0.12)
        if await bench.until(lambda cycle_id=cycle_id: outcome(bench, cycle_id)) is ReportStatus.FILLED:
            return
    raise AssertionError("no order was filled in five cycles")


async def test_without_redis_open_orders_are_cancelled_and_trading_comes_back(durable_server: Server) -> None:
    redis = connect(durable_server.url, client_name="test")
    await load_library(redis)
    async with execution_bench(redis, durable_server) as bench:
        await bench.ready(order_tif="Alo", twap_slices=1)
        async with bench.trading():
            await bench.begun()
            await bench.next_cycle()
            await bench.approve(BTC=0.12, ETH=0.12)

            async def both_open() -> bool:
                return len(await bench.resting()) == 2

            await bench.until(both_open)
            durable_server.kill()

            async def none_open() -> bool:
                return await bench.resting() == []

            await bench.until(none_open)
            durable_server.start()
            await redis.connection_pool.disconnect()
            await bench.mirror()
            await bench.until_reports(lambda found: sum(e.status.terminal for e in found) == 2)
            await bench.until(as_async(bench.lifted))
            await bench.params(twap_slices=1)
            await trades_again(bench)
        await check_invariants(bench)
    await redis.aclose()


async def test_a_halt_while_execution_is_dead_is_obeyed_at_its_start(bench: Bench) -> None:
    await bench.ready(order_tif="Alo", twap_slices=1)
    async with bench.doomed():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until(bench.resting)
    await bench.command(Command.HALT)
    async with bench.trading():

        async def acked() -> bool:
            applied = await read_applied(bench.redis)
            return applied is not None and applied.acked_at is not None and applied.mode == "HALT"

        await bench.until(acked)
        assert await bench.resting() == []

    await check_invariants(bench)


async def test_fills_missed_by_the_stream_are_found_by_asking(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(self: Tracker) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Tracker, "listen", deaf)
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until(bench.reports)
        await bench.tick(10)
        found = await bench.until_reports(lambda all_: any(e.status is ReportStatus.FILLED for e in all_))

    assert found[-1].fee > 0
    await check_invariants(bench)


def as_async(look: Any) -> Any:
    async def looked() -> Any:
        return look()

    return looked


async def test_what_can_never_be_sent_becomes_a_dead_letter_and_the_stream_goes_on(bench: Bench) -> None:
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.redis.xadd("exec.orders", {"p": "{not json"})
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_reports(lambda found: any(e.status is ReportStatus.FILLED for e in found))
        (intent,) = await bench.intents_valid()
        await bench.say("exec.orders", intent.model_copy(update={"action_id": "nobody's"}), source="execution")
        await bench.say("exec.orders", intent.model_copy(update={"action_id": "part", "action_size": 3}))

        async def buried() -> bool:
            return await bench.redis.xlen("dlq.exec.orders") == 3

        await bench.until(buried)
        await bench.until_read("exec.orders", "exec_orders_grp")

    assert len(bench.orders_sent()) == 1
    assert len(await bench.audits("dlq")) == 3


async def test_failing_closed_is_not_run_in_a_task_that_counts_as_cancelled(durable_server: Server) -> None:
    """Before Python 3.11.3 a time-out in such a task raises CancelledError, and execution would end instead."""
    redis = connect(durable_server.url, client_name="test")
    await load_library(redis)
    async with execution_bench(redis, durable_server) as bench:
        await bench.ready()
        async with bench.doomed() as service:
            await bench.begun()
            durable_server.kill()

            async def failed_closed() -> bool:
                return "redis: " in bench.running_process.health.readiness[1]

            await bench.until(failed_closed)
            assert service.cancelling() == 0
    await redis.aclose()
