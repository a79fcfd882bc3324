"""Cancels come first when somebody else has used up the address's weight at the venue."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from execution.test_control import acked, resting_plan
from support.execution_bench import Bench, check_invariants, execution_bench
from support.servers import Server
from tradingbot.bus.buckets import WeightBudget
from tradingbot.bus.client import connect
from tradingbot.bus.control import read_applied
from tradingbot.bus.library import load_library
from tradingbot.bus.names import bucket_key
from tradingbot.domain.messages import Command, OrderAction
from tradingbot.execution import cancels_first
from tradingbot.paper.budgets import IpBudget
from tradingbot.paper.nonces import KEPT
from tradingbot.runtime.clock import Clock

CANCEL, LOOK = 1, 20
"""Weights."""
DEBT = 10_000


class Neighbour(IpBudget):
    """The address's budget with somebody else behind the address; notes what is asked for, and whether it was given."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(1_200, now_ms=clock.now_ms())
        self._clock = clock
        self.asked: list[tuple[int, bool]] = []

    def take(self, weight: int, *, now_ms: int) -> bool:
        given = super().take(weight, now_ms=now_ms)
        self.asked.append((weight, given))
        return given

    def leave(self, weight: float) -> None:
        """Use up all but this much, or give so much of it back."""
        self.add(self.left(self._clock.now_ms()) - weight)  # type: ignore[arg-type]


def with_neighbour(bench: Bench) -> Neighbour:
    neighbour = Neighbour(bench.clock)
    bench.paper.venue.ip_budget = neighbour
    return neighbour


async def refused(neighbour: Neighbour, weight: int, *, times: int) -> None:
    async with asyncio.timeout(60):
        while neighbour.asked.count((weight, False)) < times:
            await asyncio.sleep(0.005)


async def none_open(bench: Bench) -> bool:
    return await bench.resting() == []


async def test_a_halts_cancels_come_first_and_soon_when_weight_comes_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancels_first, "YIELD_S", 600.0)
    await bench.ready(order_tif="Alo", twap_slices=1)
    neighbour = with_neighbour(bench)
    async with bench.trading():
        await bench.begun()
        await resting_plan(bench, BTC=0.12, ETH=0.12)
        await bench.until(lambda: two_open(bench))
        neighbour.leave(-DEBT)
        await bench.command(Command.HALT)
        await refused(neighbour, CANCEL, times=3)
        before = len(neighbour.asked)
        await bench.tick(6)
        await refused(neighbour, CANCEL, times=8)
        applied = await read_applied(bench.redis)
        meanwhile = {weight for weight, _ in neighbour.asked[before:]}
        left_in_ours = await bench.redis.hget(bucket_key("ip_weight"), "tokens")

        assert applied is not None
        assert (applied.cancelled_at, applied.acked_at) == (None, None)
        assert len(await bench.resting()) == 2
        assert meanwhile == {CANCEL}, "nothing else of ours asks for what the cancels wait for"
        assert Decimal(left_in_ours) < LOOK, "nor do the other services, whose polls need a reserve"

        neighbour.leave(CANCEL)
        async with asyncio.timeout(60):
            while await bench.resting():
                await asyncio.sleep(0.005)
        applied = await read_applied(bench.redis)
        assert applied is not None
        assert applied.acked_at is None, "nobody has seen yet that nothing is open"

        neighbour.leave(1_200)
        await bench.tick(4)
        applied = await acked(bench)
        assert await bench.resting() == []

    assert applied.received_at < applied.cancelled_at <= applied.acked_at
    cancels = [each.client_order_id for each in await bench.intents() if each.action is OrderAction.CANCEL]
    assert len(cancels) == len(set(cancels)) == 2, "what is tried again is not asked for again"
    await check_invariants(bench)


async def two_open(bench: Bench) -> bool:
    return len(await bench.resting()) == 2


async def test_a_slow_redis_delays_no_cancel_that_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never_answered(_: WeightBudget) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(WeightBudget, "exhaust", never_answered)
    await bench.ready(order_tif="Alo", twap_slices=1)
    neighbour = with_neighbour(bench)
    async with bench.trading():
        await bench.begun()
        await resting_plan(bench, BTC=0.12)
        neighbour.leave(-DEBT)
        await bench.command(Command.HALT)
        await refused(neighbour, CANCEL, times=3)
        neighbour.leave(1_200)
        await bench.until(lambda: none_open(bench))
        await bench.tick(3)
        await acked(bench)

    await check_invariants(bench)


async def test_a_venue_that_is_away_is_not_asked_for_the_same_cancels_ever_more_often(bench: Bench) -> None:
    await bench.ready(order_tif="Alo", twap_slices=1)
    neighbour = with_neighbour(bench)
    async with bench.trading():
        await bench.begun()
        await resting_plan(bench, BTC=0.12)
        bench.paper.faults({"kind": "server_error", "path": "/exchange"})
        await bench.command(Command.HALT)
        await bench.until(lambda: asked_to_cancel(bench))
        await asyncio.sleep(0.5)
        await bench.tick(10)
        bench.paper.venue.faults.clear()
        await bench.until(lambda: none_open(bench))
        await bench.tick(3)
        await acked(bench)

    assert len(await asked_to_cancel(bench)) <= 2
    assert (CANCEL, True) in neighbour.asked
    await check_invariants(bench)


async def test_a_cancel_whose_nonce_is_too_old_by_the_time_it_is_sent_again_is_asked_for_anew(bench: Bench) -> None:
    await bench.ready(order_tif="Alo", twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await resting_plan(bench, BTC=0.12)
        bench.paper.faults({"kind": "server_error", "type": "cancelByCloid"})
        bench.paper.faults({"kind": "delay", "type": "cancelByCloid", "count": 1})
        await bench.command(Command.HALT)
        async with asyncio.timeout(60):
            while len(bench.paper.venue.faults.rules) > 1:
                await asyncio.sleep(0.005)
        await bench.tick(3)
        world = bench.paper.venue.engine.world
        for signer in list(world.nonces):
            for nonce in range(KEPT):
                world.use_nonce(signer, bench.clock.now_ms() + nonce)
        bench.paper.venue.faults.clear()

        async def none_open_later() -> bool:
            await bench.tick(1)
            return await none_open(bench)

        await bench.until(none_open_later)
        await bench.tick(3)
        await acked(bench)

    await check_invariants(bench)


async def asked_to_cancel(bench: Bench) -> list[str]:
    return [each.cloid for each in await bench.intents() if each.action is OrderAction.CANCEL]


async def test_without_redis_known_orders_are_cancelled_before_the_venue_is_asked_for_others(
    durable_server: Server,
) -> None:
    redis = connect(durable_server.url, client_name="test")
    await load_library(redis)
    async with execution_bench(redis, durable_server) as bench:
        await bench.ready(order_tif="Alo", twap_slices=1)
        neighbour = with_neighbour(bench)
        async with bench.trading():
            await bench.begun()
            await resting_plan(bench, BTC=0.12, ETH=0.12)
            await bench.until(lambda: two_open(bench))
            durable_server.kill()
            neighbour.leave(CANCEL)
            before = len(neighbour.asked)
            async with asyncio.timeout(60):
                while await bench.resting():
                    await asyncio.sleep(0.005)
            await refused(neighbour, LOOK, times=1)

            assert (LOOK, True) not in neighbour.asked[before:], "there was no weight for a look"
    await redis.aclose()


async def test_without_redis_a_lost_answer_does_not_make_the_cancels_wait_for_a_look(durable_server: Server) -> None:
    redis = connect(durable_server.url, client_name="test")
    await load_library(redis)
    async with execution_bench(redis, durable_server) as bench:
        await bench.ready(order_tif="Alo", twap_slices=1)
        neighbour = with_neighbour(bench)
        async with bench.trading():
            await bench.begun()
            await resting_plan(bench, BTC=0.12, ETH=0.12)
            await bench.until(lambda: two_open(bench))
            bench.paper.faults({"kind": "server_error", "path": "/exchange", "count": 1})
            durable_server.kill()
            neighbour.leave(3 * CANCEL)
            before = len(neighbour.asked)
            async with asyncio.timeout(60):
                while await bench.resting():
                    await asyncio.sleep(0.005)

            assert (LOOK, True) not in neighbour.asked[before:], "there was no weight for a look"
    await redis.aclose()
