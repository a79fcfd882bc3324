"""Token buckets: the function in Redis and its twin in Python do the same to the last bit."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from support.servers import Server
from tradingbot.bus import library
from tradingbot.bus.buckets import Figures, TokenBucket, WeightBudget, read_share, under_share, write_share
from tradingbot.bus.client import connect
from tradingbot.bus.commit import Commit, TokenTake, Verdict, commit
from tradingbot.bus.names import Key, bucket_key, lease_key
from tradingbot.runtime.clock import ManualClock
from tradingbot.venue.polling import PollingBudget

NOW_MS = 1_771_430_400_000
counter = itertools.count()

takes = st.lists(
    st.tuples(
        st.integers(min_value=-5_000, max_value=120_000),  # time since the last take, ms; clocks step back, too
        st.floats(min_value=0.001, max_value=50),
        st.floats(min_value=0, max_value=20),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(capacity=st.floats(min_value=50, max_value=2000), refill=st.floats(min_value=0.01, max_value=40), steps=takes)
async def test_the_function_and_its_twin_agree_and_never_overspend(
    any_redis: Redis, capacity: float, refill: float, steps: list[tuple[int, float, float]]
) -> None:
    name = f"b{next(counter)}"
    twin = TokenBucket(capacity=capacity, refill_per_s=refill, tokens=capacity, at_ms=NOW_MS)
    now_ms, latest_ms, begun_ms, spent = NOW_MS, NOW_MS, None, 0.0
    await any_redis.set(lease_key("s"), "1")
    for index, (passed_ms, amount, reserve) in enumerate(steps):
        now_ms += passed_ms if index else 0
        latest_ms = max(latest_ms, now_ms)
        if begun_ms is None:  # a bucket begins full, at its first take that succeeds
            twin.at_ms = now_ms
        wait_ms = twin.take(amount, now_ms=now_ms, reserve=reserve)
        begun_ms = now_ms if begun_ms is None and not wait_ms else begun_ms
        if index % 2:
            args = [str(now_ms), repr(amount), repr(capacity), repr(refill), repr(reserve)]
            found_ms, tokens = await library.call(any_redis, library.TAKE, [bucket_key(name)], args)
            assert int(found_ms) == wait_ms
            assert float(tokens) == twin.level(now_ms)
        else:
            take = TokenTake(name, amount, capacity, refill, reserve)
            step = Commit(commit_id=f"c{next(counter)}", service="s", lease_token=1, now_ms=now_ms, takes=[take])
            assert ((await commit(any_redis, step)).verdict is Verdict.DONE) == (wait_ms == 0)
        spent += 0 if wait_ms else amount
        assert spent <= capacity + (latest_ms - (begun_ms or now_ms)) / 1000 * refill + 1e-6
        assert twin.level(now_ms) >= (reserve if wait_ms == 0 else 0)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    capacity=st.floats(min_value=50, max_value=2000),
    steps=takes,
    shares=st.lists(st.one_of(st.none(), st.integers(min_value=1, max_value=3000)), min_size=30, max_size=30),
)
async def test_a_share_that_changes_binds_the_function_and_its_twin_alike(
    any_redis: Redis, capacity: float, steps: list[tuple[int, float, float]], shares: list[int | None]
) -> None:
    name = f"b{next(counter)}"
    own = Figures(capacity, capacity / 60, 0)
    twin = TokenBucket(capacity=0, refill_per_s=0, tokens=0, at_ms=NOW_MS)
    now_ms, begun = NOW_MS, False
    await any_redis.set(lease_key("s"), "1")
    for index, ((passed_ms, amount, reserve), share) in enumerate(zip(steps, shares, strict=False)):
        now_ms += max(0, passed_ms) if index else 0
        await (any_redis.hdel(Key.LIMITS, name) if share is None else write_share(any_redis, share, name))
        figures = under_share(share, replace(own, reserve=reserve), amount=amount)
        twin.capacity, twin.refill_per_s = figures.capacity, figures.refill_per_s
        if not begun:  # a bucket begins full, at its first take
            twin.tokens, twin.at_ms = figures.capacity, now_ms
        wait_ms = twin.take(amount, now_ms=now_ms, reserve=figures.reserve)
        begun = begun or not wait_ms
        if index % 2:
            args = [str(now_ms), repr(amount), repr(capacity), repr(capacity / 60), repr(reserve), "1"]
            found_ms, tokens, told = await library.call(any_redis, library.TAKE, [bucket_key(name)], args)
            assert (int(found_ms), told) == (wait_ms, "" if share is None else str(share))
            assert float(tokens) == twin.level(now_ms)
        else:
            take = TokenTake(name, amount, capacity, capacity / 60, reserve)
            step = Commit(commit_id=f"c{next(counter)}", service="s", lease_token=1, now_ms=now_ms, takes=[take])
            assert ((await commit(any_redis, step)).verdict is Verdict.DONE) == (wait_ms == 0)


async def test_a_caller_that_does_not_ask_for_the_share_gets_the_answer_that_it_knows(any_redis: Redis) -> None:
    await write_share(any_redis, 100, "b")
    answer = await library.call(any_redis, library.TAKE, [bucket_key("b")], [str(NOW_MS), "1", "1000", "10", "0"])
    assert answer == ["0", "99"]


async def test_a_running_budget_follows_its_share_without_a_restart(any_redis: Redis) -> None:
    clock = ManualClock(NOW_MS)
    one, other = (WeightBudget(any_redis, capacity_per_min=1100, clock=clock) for _ in range(2))
    await one.take(100)
    assert await other.left() == 1000
    await write_share(any_redis, 200)
    assert (await one.left(), await other.left(), one.per_min) == (200, 200, 200)
    await one.take(150)
    assert await other.left() == 50
    waiting = asyncio.ensure_future(other.take(100))
    while not clock._sleepers:
        await asyncio.sleep(0.001)
    await clock.advance(15)  # 50 are missing, at 200 a minute
    await asyncio.wait_for(waiting, 60)
    await write_share(any_redis, 600)
    await clock.advance(60)
    assert await one.left() == 600
    await any_redis.delete(Key.LIMITS)
    assert (await one.left(), one.per_min) == (1100, 1100)


async def test_a_reserve_shrinks_with_the_share_and_holds_nothing_up_for_ever(any_redis: Redis) -> None:
    clock = ManualClock(NOW_MS)
    shared = WeightBudget(any_redis, capacity_per_min=1100, clock=clock)
    polling = PollingBudget(shared, per_min=1100, in_force=lambda: shared.per_min)
    await write_share(any_redis, 110)
    assert await polling.left() == 88
    assert await polling.is_rich()
    await polling.take(80)
    assert await shared.left() == 30
    assert await polling.left() == 8
    assert not await polling.is_rich()
    waiting = asyncio.ensure_future(polling.take(120))  # more than the share holds: it comes in with time
    for _ in range(20):
        await asyncio.sleep(0.005)
        if waiting.done():
            break
        await clock.advance(10)
    await asyncio.wait_for(waiting, 60)


@pytest.mark.parametrize("kept", ["", "0", "many", "-5", "1.5"])
async def test_a_share_that_is_no_number_leaves_the_callers_own_figures(any_redis: Redis, kept: str) -> None:
    await any_redis.hset(Key.LIMITS, "ip_weight", kept)
    budget = WeightBudget(any_redis, capacity_per_min=100, clock=ManualClock(NOW_MS))
    await budget.take(10)
    assert (await budget.left(), await read_share(any_redis)) == (90, None)


async def test_without_redis_a_process_keeps_to_the_share_that_it_saw_last(durable_server: Server) -> None:
    redis = connect(durable_server.url, client_name="test")
    await library.load_library(redis)
    await write_share(redis, 60)
    clock = ManualClock(NOW_MS)
    budget = WeightBudget(redis, capacity_per_min=1000, clock=clock)
    await budget.take(10)
    durable_server.kill()
    assert await budget.left() == 60
    await budget.take(60)
    waiting = asyncio.ensure_future(budget.take(30, reserve=500))
    while not clock._sleepers:
        await asyncio.sleep(0.001)
    await clock.advance(59)
    assert not waiting.done()
    await clock.advance(2)
    await asyncio.wait_for(waiting, 60)
    await redis.aclose()


@given(
    tokens=st.floats(min_value=0, max_value=10),
    amount=st.floats(min_value=0.1, max_value=10),
    refill=st.floats(min_value=0.01, max_value=20),
)
def test_after_the_wait_that_it_named_the_take_succeeds_soon(tokens: float, amount: float, refill: float) -> None:
    bucket = TokenBucket(capacity=10, refill_per_s=refill, tokens=tokens, at_ms=NOW_MS)
    wait_ms = bucket.take(amount, now_ms=NOW_MS)
    if wait_ms:
        assert bucket.take(amount, now_ms=NOW_MS + wait_ms + 1) == 0


async def test_a_take_waits_in_virtual_time_until_the_weight_is_there(valkey: Redis) -> None:
    clock = ManualClock(NOW_MS)
    budget = WeightBudget(valkey, capacity_per_min=60, clock=clock)
    await budget.take(60)
    assert await budget.left() == 0
    waiting = asyncio.ensure_future(budget.take(20))
    while not clock._sleepers:
        await asyncio.sleep(0.001)
    assert not waiting.done()
    await clock.advance(20)
    await asyncio.wait_for(waiting, 60)
    assert clock.now_ms() == NOW_MS + 20_000


async def test_the_weight_is_shared_among_processes_and_reserves_are_kept(valkey: Redis) -> None:
    clock = ManualClock(NOW_MS)
    one, other = (WeightBudget(valkey, capacity_per_min=100, clock=clock) for _ in range(2))
    assert await one.left() == 100
    await one.take(60)
    assert await other.left() == 40
    waiting = asyncio.ensure_future(other.take(30, reserve=20))
    while not clock._sleepers:
        await asyncio.sleep(0.001)
    assert not waiting.done()
    waiting.cancel()


async def test_more_than_the_bucket_holds_is_refused(valkey: Redis) -> None:
    budget = WeightBudget(valkey, capacity_per_min=100, clock=ManualClock(NOW_MS))
    with pytest.raises(ValueError, match="exceeds"):
        await budget.take(90, reserve=20)


async def test_without_redis_a_process_lives_on_a_budget_of_its_own(durable_server: Server) -> None:
    redis = connect(durable_server.url, client_name="test")
    durable_server.kill()
    clock = ManualClock(NOW_MS)
    budget = WeightBudget(redis, capacity_per_min=100, clock=clock)
    await budget.take(80)
    assert await budget.left() == 20
    waiting = asyncio.ensure_future(budget.take(80))
    while not clock._sleepers:
        await asyncio.sleep(0.001)
    await clock.advance(36)
    await asyncio.wait_for(waiting, 60)
    await redis.aclose()


async def test_what_the_venue_says_is_used_up_is_used_up_for_every_process(any_redis: Redis) -> None:
    clock = ManualClock(NOW_MS)
    cancels, polls = (WeightBudget(any_redis, capacity_per_min=1100, clock=clock) for _ in range(2))
    polling = PollingBudget(polls, per_min=1100)
    await cancels.exhaust()
    await cancels.exhaust()
    assert (await polls.left(), await polling.left()) == (0, 0)
    await clock.advance(6)
    assert await polls.left() == pytest.approx(110)
    assert await polling.left() == 0


async def test_without_redis_what_is_used_up_is_used_up_in_this_process(durable_server: Server) -> None:
    redis = connect(durable_server.url, client_name="test")
    await library.load_library(redis)
    budget = WeightBudget(redis, capacity_per_min=1100, clock=ManualClock(NOW_MS))
    durable_server.kill()
    await budget.exhaust()
    assert await budget.left() == 0
    await redis.aclose()
