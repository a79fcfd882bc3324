"""The three lanes on a real Redis: what they promise whatever else goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from support.operator_kube import FakeKube
from support.operator_world import Execution, World, calm_breaker, passed_preflight
from support.servers import Server
from tradingbot.domain.modes import Mode
from tradingbot.runtime.clock import ManualClock
from tradingbot_operator.kube import KubeError


@pytest.fixture
async def world(valkey: Redis, valkey_server: Server) -> AsyncIterator[World]:
    clock = ManualClock()
    await calm_breaker(valkey)
    await passed_preflight(valkey)
    yield World(kube=FakeKube(clock), clock=clock, redis=valkey, server=valkey_server)


@pytest.fixture
async def execution(world: World) -> AsyncIterator[Execution]:
    each = Execution(world)
    task = asyncio.create_task(each.run())
    yield each
    task.cancel()


async def test_an_applied_bot_becomes_ready_and_says_so(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        status = world.status()
        assert status["ready"] == "8/8"
        assert status["phase"] == "Running"
        assert status["mode"]["effective"] == "NORMAL"
        assert world.condition("ModeApplied")["status"] == "True"
        assert world.condition("ChildrenApplied")["status"] == "True"
        assert world.body()["metadata"]["finalizers"] == ["tradingbot.dev/stop-trading"]


async def test_a_halt_reaches_redis_while_every_apply_fails(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        world.kube.refuse = lambda verb, kind, name: KubeError("broken", status=500) if verb == "apply" else None
        world.patch(universe=["BTC"], mode="REDUCE_ONLY")
        world.patch(mode="HALT")
        await world.until(lambda: world.mode_is(Mode.HALT))
        await world.until(lambda: world.condition("ModeApplied").get("status") == "True")
        await world.until(lambda: world.condition("ChildrenApplied")["reason"] == "ApplyFailed")
        assert world.status()["mode"]["effective"] == "HALT"
        assert world.kube.events("ApplyFailed")
