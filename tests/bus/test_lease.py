"""One process is the service at a time."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from support.servers import Server
from support.sessions import until
from tradingbot.bus import lease as lease_module
from tradingbot.bus.client import connect
from tradingbot.bus.lease import Lease, free_lease, lease_holder
from tradingbot.bus.library import load_library
from tradingbot.bus.names import lease_key
from tradingbot.runtime.clock import SystemClock

SERVICE = "execution"


def lease_on(redis: Redis) -> Lease:
    return Lease(redis, service=SERVICE, clock=SystemClock())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_MS", 600)
    monkeypatch.setattr(lease_module, "RENEW_S", 0.05)
    monkeypatch.setattr(lease_module, "_POLL_S", 0.01)


async def test_tokens_rise_with_every_holder(any_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_MS", 60_000)
    first, second = lease_on(any_redis), lease_on(any_redis)
    await first.acquire()
    assert await lease_holder(any_redis, SERVICE) == first.token == 1
    assert 3_000 < await any_redis.pttl(lease_key(SERVICE)) <= 60_000
    await first.release()
    assert await lease_holder(any_redis, SERVICE) is None
    await second.acquire()
    assert second.token == 2


async def test_a_second_process_waits_until_the_first_lapses(valkey: Redis, short: None) -> None:
    first, second = lease_on(valkey), lease_on(valkey)
    await first.acquire()
    waiting = asyncio.ensure_future(second.acquire())
    await until(lambda: not first.held)
    await asyncio.wait_for(waiting, 60)
    assert second.held
    assert second.token > first.token


async def test_a_freed_lease_is_taken_at_once(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_MS", 600_000)
    dead, restarted = lease_on(valkey), lease_on(valkey)
    await dead.acquire()
    waiting = asyncio.ensure_future(restarted.acquire())
    assert not await free_lease(valkey, SERVICE, dead.token + 5)
    assert await free_lease(valkey, SERVICE, dead.token)
    await asyncio.wait_for(waiting, 60)
    assert await lease_holder(valkey, SERVICE) == restarted.token


async def test_a_renewed_lease_outlives_its_life(valkey: Redis, short: None) -> None:
    lease = lease_on(valkey)
    await lease.acquire()
    renewing = asyncio.ensure_future(lease.run())
    for _ in range(5):  # a machine that stands still for a whole life loses it, and must
        token = await lease.wait_held()
        await asyncio.sleep(1.3)  # two lives and more
        if lease.held and await lease_holder(valkey, SERVICE) == lease.token == token:
            break
    else:
        pytest.fail("it was lost in each of five tries")
    renewing.cancel()


async def test_a_lost_lease_is_told_and_taken_anew_under_another_token(valkey: Redis, short: None) -> None:
    lease = lease_on(valkey)
    await lease.acquire()
    renewing = asyncio.ensure_future(lease.run())
    await valkey.set(lease_key(SERVICE), "99", px=1000)
    await asyncio.wait_for(lease.lost.wait(), 60)
    assert not lease.held
    assert await asyncio.wait_for(lease.wait_held(), 60) > 1
    assert not lease.lost.is_set()
    renewing.cancel()


async def test_the_release_of_a_lost_lease_leaves_the_successor_alone(valkey: Redis) -> None:
    lease = lease_on(valkey)
    await lease.acquire()
    await valkey.set(lease_key(SERVICE), "99", px=60_000)
    await lease.release()
    assert await lease_holder(valkey, SERVICE) == 99


async def test_a_lease_is_lost_when_redis_is_away_for_its_life_and_comes_back_with_it(
    durable_server: Server, short: None
) -> None:
    redis = connect(durable_server.url, client_name="test")
    await load_library(redis)
    lease = lease_on(redis)
    await lease.acquire()
    renewing = asyncio.ensure_future(lease.run())
    durable_server.kill()
    await asyncio.wait_for(lease.lost.wait(), 60)
    durable_server.start()
    assert await asyncio.wait_for(lease.wait_held(), 60) > 1
    renewing.cancel()
    await redis.aclose()


async def test_waiting_for_the_lease_outlasts_a_missing_library(valkey: Redis, short: None) -> None:
    await valkey.function_flush()
    lease = lease_on(valkey)
    waiting = asyncio.ensure_future(lease.acquire())
    await asyncio.wait({waiting}, timeout=0.05)
    assert not waiting.done()
    await load_library(valkey)
    await asyncio.wait_for(waiting, 60)
    assert lease.held
