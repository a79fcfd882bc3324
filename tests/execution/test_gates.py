"""Every gate between a decision and the wire: the mode inside the commit, the gate before the request, the lease."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.execution_bench import Bench, check_invariants
from tradingbot.bus.control import read_applied
from tradingbot.domain.messages import Command, ReportStatus
from tradingbot.domain.modes import EffectiveMode, Mode, ModeSource
from tradingbot.execution.gate import Gate
from tradingbot.execution.mode_reader import ModeReader
from tradingbot.execution.sender import Sender
from tradingbot.venue.errors import VenueUnavailable
from tradingbot.venue.info import InfoClient
from tradingbot.venue.models import UserRateLimit


def normal() -> EffectiveMode:
    return EffectiveMode(mode=Mode.NORMAL, source=ModeSource.SPEC, reason="")


def open_gate() -> Gate:
    gate = Gate()
    gate.lift("starting")
    gate.mode = normal()
    return gate


def test_a_gate_is_shut_until_the_past_is_accounted_for() -> None:
    assert Gate().refusal(at_most=Mode.NORMAL) is not None
    assert open_gate().refusal(at_most=Mode.NORMAL) is None


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("at_most", list(Mode))
def test_an_order_passes_up_to_its_own_mode(mode: Mode, at_most: Mode) -> None:
    gate = open_gate()
    gate.mode = EffectiveMode(mode=mode, source=ModeSource.PERSON, reason="why")

    assert (gate.refusal(at_most=at_most) is None) == (mode.rank <= at_most.rank)


def test_a_stop_of_our_own_counts_beside_the_mode_and_names_itself() -> None:
    gate = open_gate()

    assert gate.stop("skew", "the clocks differ")
    assert not gate.stop("skew", "still")
    assert gate.refusal(at_most=Mode.REDUCE_ONLY) == "skew: still"
    assert gate.refusal(at_most=Mode.HALT) is None, "flatten goes on"
    gate.stop("redis", "gone")
    assert gate.refusal(at_most=Mode.HALT) == "gone"


def test_a_stop_may_let_reductions_pass() -> None:
    gate = open_gate()
    gate.stop("action_budget", "3 are left", mode=Mode.REDUCE_ONLY)

    assert gate.refusal(at_most=Mode.NORMAL) is not None
    assert gate.refusal(at_most=Mode.REDUCE_ONLY) is None
    assert (gate.reduces_only, gate.stops, gate.strictness) == (True, {}, Mode.REDUCE_ONLY)


async def test_what_was_committed_before_a_halt_is_not_sent_after_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, original = asyncio.Event(), Sender._record

    async def late(self: Sender, action_id: str) -> Any:
        await held.wait()
        return await original(self, action_id)

    monkeypatch.setattr(Sender, "_record", late)
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until(bench.intents)
        await bench.command(Command.HALT)

        async def received() -> bool:
            applied = await read_applied(bench.redis)
            return applied is not None and applied.mode is Mode.HALT

        await bench.until(received)
        held.set()
        (report,) = await bench.until_reports(lambda found: found)

    assert bench.orders_sent() == []
    assert (report.status, report.error) == (ReportStatus.CANCELED, "HALT by person: test")
    await check_invariants(bench)


async def test_a_mode_that_this_process_has_not_heard_of_is_found_inside_the_commit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(self: ModeReader) -> EffectiveMode:
        return normal()

    # From the start: a reading that had begun before it turned deaf would still hear of the HALT.
    monkeypatch.setattr(ModeReader, "read", deaf)
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.breaker(Mode.HALT)
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.plan_of(bench.cycle_id)
        await bench.tick(5)

    assert await bench.intents() == []
    assert bench.orders_sent() == []


async def test_nothing_is_sent_without_the_lease_and_trading_comes_back_with_it(bench: Bench) -> None:
    await bench.ready(order_tif="Alo", twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.redis.set("lease:execution", 999, px=1_500)

        async def lost() -> bool:
            return not bench.lifted()

        await bench.until(lost)
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until(bench.lifted_again)
        await bench.params(twap_slices=1)
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_reports(lambda found: any(e.status is ReportStatus.FILLED for e in found))

    tokens = {each.lease_token for each in await bench.intents()}
    assert 999 not in tokens
    await check_invariants(bench)


@pytest.mark.parametrize("asked_again", [False, True], ids=["told", "told-and-then-not-answered"])
async def test_a_nearly_used_up_action_budget_lets_only_reductions_pass(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, asked_again: bool
) -> None:
    silent_from_ms = bench.clock.now_ms() + 120_000

    async def poor(self: InfoClient, user: str) -> UserRateLimit:
        if bench.clock.now_ms() > silent_from_ms:
            raise VenueUnavailable("no answer")
        return UserRateLimit(volume_usd=0, used=9_900, cap=10_000)  # type: ignore[arg-type]

    monkeypatch.setattr(InfoClient, "user_rate_limit", poor)
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.tick(1)
        await bench.until(lambda: bench.audits("local_stop"))
        await bench.tick(310 if asked_again else 1)
        await bench.next_cycle()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        plan = await bench.plan_of(bench.cycle_id)

    assert [each.reason for each in plan.skipped] == ["reduce_only"]
    assert bench.orders_sent() == []
