"""Token buckets: the function in Redis and its twin in Python do the same to the last bit."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from support.servers import Server
from tradingbot.bus import library
from tradingbot.bus.buckets import TokenBucket, WeightBudget
from tradingbot.bus.client import connect
from tradingbot.bus.commit import Commit, TokenTake, Verdict, commit
from tradingbot.bus.names import bucket_key, lease_key
from tradingbot.runtime.clock import ManualClock

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
    now_ms, latest_ms, spent = NOW_MS, NOW_MS, 0.0
    await any_redis.set(lease_key("s"), "1")
    for index, (passed_ms, amount, reserve) in enumerate(steps):
        now_ms += passed_ms if index else 0  # a bucket begins full, at its first take
        latest_ms = max(latest_ms, now_ms)
        wait_ms = twin.take(amount, now_ms=now_ms, reserve=reserve)
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
        assert spent <= capacity + (latest_ms - NOW_MS) / 1000 * refill + 1e-6
        assert twin.level(now_ms) >= (reserve if wait_ms == 0 else 0)


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
    await asyncio.wait_for(waiting, 5)
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
    await asyncio.wait_for(waiting, 5)
    await redis.aclose()
