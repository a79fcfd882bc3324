"""Suspension, deletion and a lost account, on a real Redis: nothing is let go before it is safe, nothing is held for
ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from support.operator_kube import FakeKube
from support.operator_world import Execution, World, calm_breaker, passed_preflight
from support.servers import Server
from tradingbot.bus.buckets import IP_WEIGHT
from tradingbot.domain.modes import Mode
from tradingbot.runtime.clock import ManualClock
from tradingbot_operator.kube import KubeError

ACCOUNT = "0x" + "1a" * 20
TESTNET = {
    "exchange": {"network": "testnet", "accountAddress": ACCOUNT, "privateKeySecretRef": {"name": "agent"}},
    "dryRun": True,
}


@pytest.fixture
async def world(valkey: Redis, valkey_server: Server) -> World:
    clock = ManualClock()
    await calm_breaker(valkey)
    await passed_preflight(valkey)
    return World(kube=FakeKube(clock), clock=clock, redis=valkey, server=valkey_server)


@pytest.fixture
async def execution(world: World) -> AsyncIterator[Execution]:
    each = Execution(world)
    task = asyncio.create_task(each.run())
    yield each
    task.cancel()


async def test_a_suspended_bot_loses_its_pods_only_after_the_halt_is_acknowledged(
    world: World, execution: Execution
) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        execution.cancels = False
        world.patch(suspend=True)
        await world.until(lambda: world.mode_is(Mode.HALT))
        await world.rest(5)
        assert len(world.kube.of_kind("Deployment")) == 7
        execution.cancels = True
        await world.until(lambda: not world.kube.of_kind("Pod"))
        await world.until(lambda: world.condition("Suspended").get("status") == "True")
        assert {each["kind"] for each in world.kube.objects.values() if each["metadata"].get("ownerReferences")} == {
            *("ConfigMap", "PersistentVolumeClaim", "Secret"),
        }
        status = world.status()
        assert status["phase"] == "Suspended"
        assert status["mode"]["effective"] == "HALT"
        assert world.condition("ModeApplied")["status"] == "True"


async def test_a_suspended_bot_at_rest_gets_no_write_and_comes_back(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        world.patch(suspend=True)
        await world.until(lambda: world.condition("Suspended").get("status") == "True")
        await world.rest(3)
    world.kube.writes.clear()
    async with world.operator():
        await world.rest(100)
        assert world.kube.writes == []
        world.patch(suspend=False)
        await world.until(world.running_bot)
        await world.until(lambda: world.status()["mode"]["effective"] == "NORMAL")


async def test_a_bot_that_is_born_suspended_never_gets_a_pod(world: World, execution: Execution) -> None:
    await world.create({"suspend": True})
    async with world.operator():
        await world.until(lambda: world.condition("Suspended").get("status") == "True")
        assert world.kube.of_kind("Deployment") == []
        assert world.status()["mode"]["effective"] == "HALT"


async def test_a_suspension_that_nobody_acknowledges_ends_at_its_deadline_with_a_warning(
    world: World, execution: Execution
) -> None:
    await world.create({"deletionDeadlineSeconds": 20})
    async with world.operator():
        await world.until(world.running_bot)
        execution.silent = True
        world.patch(suspend=True)
        await world.rest(15)
        assert world.kube.of_kind("Deployment")
        await world.rest(7)
        await world.until(lambda: not world.kube.of_kind("Pod"))
        assert world.kube.events("SuspendedUnconfirmed")


async def test_a_deletion_waits_for_the_acknowledgement_and_frees_the_account(
    world: World, execution: Execution
) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        assert world.kube.of_kind("Lease")
        execution.open_orders, execution.cancels = 2, False
        world.delete()
        await world.until(lambda: world.status().get("deletion") == "execution to cancel 2 open orders")
        assert (await world.spec_mode())["reason"] == "deleted"
        await world.rest(10)
        assert world.body() is not None
        execution.cancels = True
        await world.until(lambda: world.body() is None)
        await world.until(lambda: not world.kube.of_kind("Lease"))
        assert world.kube.of_kind("Deployment") == []
        assert not world.kube.events("DeletionLetGo")


@pytest.mark.parametrize(("outcome", "warned"), [("flat", False), ("failed", True)])
async def test_a_flattening_deletion_waits_for_flat_positions(
    world: World, execution: Execution, outcome: str, warned: bool
) -> None:
    await world.create({"deletionPolicy": "Flatten"})
    async with world.operator():
        await world.until(world.running_bot)
        execution.flattens = "pending"
        world.delete()
        await world.until(lambda: world.status().get("deletion", "").startswith("execution to close the positions"))
        assert '"halt_action":"Flatten"' in await world.redis.hget("ctl.params", "values")
        await world.rest(5)
        assert world.body() is not None
        execution.flattens = outcome
        await world.redis.hset("ctl.applied", "flatten", "")
        await world.until(lambda: world.body() is None, flow_s=0.5)
        assert bool(world.kube.events("DeletionLetGo")) is warned


async def test_a_deletion_with_a_dead_redis_ends_at_its_deadline_with_a_warning(
    world: World, execution: Execution
) -> None:
    await world.create({"deletionDeadlineSeconds": 30})
    async with world.operator():
        await world.until(world.running_bot)
        execution.silent, world.redis_is_there = True, False
        world.server.kill()
        world.delete()
        await world.rest(25)
        assert world.body() is not None
        await world.until(lambda: world.body() is None, flow_s=0.2)
        [told] = world.kube.events("DeletionLetGo")
        assert "may still be open" in told["note"]


async def test_a_bot_that_never_ran_can_be_deleted_at_once(world: World) -> None:
    world.redis_is_there = world.kube.pods_start = False
    await world.create()
    async with world.operator():
        await world.until(lambda: world.body()["metadata"].get("finalizers"))
        await world.until(lambda: world.status().get("phase") == "Starting")
        before = world.clock.now_ms()
        world.delete()
        await world.until(lambda: world.body() is None)
        assert world.clock.now_ms() - before < 10_000
        assert not world.kube.events("DeletionLetGo")


async def test_a_bot_with_a_broken_spec_can_be_deleted(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        world.patch(risk="broken", deletionPolicy="nonsense")
        await world.until(lambda: world.condition("SpecValid")["status"] == "False")
        world.delete()
        await world.until(lambda: world.body() is None)
        assert not world.kube.events("DeletionLetGo")


async def test_a_bot_with_policy_leave_has_no_finalizer(world: World, execution: Execution) -> None:
    await world.create({"deletionPolicy": "Leave"})
    async with world.operator():
        await world.until(world.running_bot)
        assert not world.body()["metadata"].get("finalizers")
        world.patch(deletionPolicy="CancelOrders")
        await world.until(lambda: world.body()["metadata"].get("finalizers"))
        world.patch(deletionPolicy="Leave")
        await world.until(lambda: not world.body()["metadata"].get("finalizers"))
        world.delete()
        assert world.body() is None
        await world.until(lambda: not world.kube.of_kind("Lease"))
        assert (await world.spec_mode())["mode"] == "NORMAL"


async def test_a_deletion_that_was_asked_for_without_an_operator_is_carried_out_by_the_next(
    world: World, execution: Execution
) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
    world.delete()
    assert world.body() is not None
    async with world.operator():
        await world.until(lambda: world.body() is None)
    assert (await world.spec_mode())["mode"] == "HALT"


async def test_the_second_bot_of_an_account_is_refused_and_gets_it_when_the_first_has_gone(
    world: World, execution: Execution
) -> None:
    await world.create(TESTNET)
    async with world.operator():
        await world.until(world.running_bot)
        second = world.kube.person_creates("trading", "second", TESTNET)
        await world.until(lambda: world.condition("AccountInUse", "second").get("status") == "True")
        assert "TradingBot majors" in world.condition("AccountInUse", "second")["message"]
        assert world.kube.events("AccountInUse")
        assert world.status("second")["phase"] == "Refused"
        assert world.kube.find("Deployment", "second-execution") is None
        assert not second["metadata"].get("finalizers")
        world.delete()
        await world.until(lambda: world.body() is None)
        await world.until(lambda: world.kube.find("Deployment", "second-execution"), flow_s=0.5)


async def test_a_refused_bot_can_be_deleted_at_once(world: World, execution: Execution) -> None:
    await world.create(TESTNET)
    async with world.operator():
        await world.until(world.running_bot)
        world.kube.person_creates("trading", "second", TESTNET)
        await world.until(lambda: world.condition("AccountInUse", "second").get("status") == "True")
        world.delete("second")
        assert world.body("second") is None
        await world.rest(3)
        assert world.running_bot()
        assert world.kube.of_kind("Lease")


async def test_a_bot_that_adopts_a_living_bots_state_writes_nothing_of_it(world: World, execution: Execution) -> None:
    first = await world.create(TESTNET)
    async with world.operator():
        await world.until(world.running_bot)
        before = await world.spec_mode()
        thief = {**TESTNET, "mode": "HALT", "redis": {"adopt": first.uid}}
        for hindered in (True, False):
            refuse = lambda verb, kind, name: KubeError("broken", status=500) if kind == "Lease" else None  # noqa: E731
            world.kube.refuse = refuse if hindered else lambda verb, kind, name: None
            if hindered:
                world.kube.person_creates("trading", "thief", thief)
            else:
                await world.until(lambda: world.condition("AccountInUse", "thief").get("status") == "True", flow_s=0.5)
            await world.rest(5)
            assert await world.spec_mode() == before
            assert (await world.redis.hgetall("ctl.params"))["uid"] == first.uid


async def test_a_bot_that_adopts_the_state_of_one_that_is_gone_goes_on_with_it(
    world: World, execution: Execution
) -> None:
    first = await world.create(TESTNET)
    async with world.operator():
        await world.until(world.running_bot)
        world.delete()
        await world.until(lambda: world.body() is None)
        heir = await world.create({**TESTNET, "redis": {"adopt": first.uid}}, name="heir")
        await world.until(lambda: world.running_bot("heir"))
        assert (await world.spec_mode())["uid"] == heir.uid


async def test_a_refused_bot_takes_no_share_of_the_weight_from_an_operator_that_was_restarted(
    world: World, execution: Execution
) -> None:
    await world.create(TESTNET)
    async with world.operator():
        await world.until(world.running_bot)
        world.kube.person_creates("trading", "second", TESTNET)
        await world.until(lambda: world.condition("AccountInUse", "second").get("status") == "True")
        await world.rest(3)
    shares: list[str | None] = [await world.redis.hget("ctl.limits", IP_WEIGHT)]
    async with world.operator():
        for _ in range(60):
            await world.rest(0.25)
            shares.append(await world.redis.hget("ctl.limits", IP_WEIGHT))
    assert len(set(shares)) == 1
