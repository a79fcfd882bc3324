"""The three lanes on a real Redis: what they promise whatever else goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from support.operator_bus import breaker_says
from support.operator_kube import FakeKube
from support.operator_world import Execution, World, calm_breaker, passed_preflight, say_snapshot
from support.servers import Server
from tradingbot.domain.modes import Mode
from tradingbot.runtime.clock import ManualClock
from tradingbot_operator.kube import Forbidden, KubeError


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
        await world.until(lambda: world.status()["mode"].get("effective") == "HALT")
        await world.until(lambda: world.condition("ModeApplied").get("status") == "True")
        await world.until(lambda: world.condition("ChildrenApplied")["reason"] == "ApplyFailed")
        assert world.kube.events("ApplyFailed")


async def test_quick_changes_of_the_mode_end_in_the_last(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        for mode in ("REDUCE_ONLY", "NORMAL", "REDUCE_ONLY", "HALT"):
            world.patch(mode=mode)
            await asyncio.sleep(0)

        def told() -> list[str]:
            return [each["note"] for each in world.kube.events("ModeApplied")]

        await world.until(lambda: any(note.startswith("HALT: received after ") for note in told()))
        assert (await world.spec_mode())["generation"] == "5"
        await world.until(lambda: world.status()["mode"]["effective"] == "HALT")


BROKEN = {
    "a rule between fields": {"risk": {"maxGross": 0.1, "caps": {"BTC": 0.5}}},
    "limits that contradict one another": {"risk": {"drawdown": {"reduceOnly": 0.05, "halt": 0.03}}},
    "a type": {"risk": "yes", "execution": {"slices": "many"}},
    "an unknown network": {"exchange": {"network": "moon"}},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
async def test_a_bot_with_an_invalid_spec_is_halted_all_the_same(
    world: World, execution: Execution, broken: dict[str, object]
) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        deployments = len(world.kube.of_kind("Deployment"))
        world.patch(mode="HALT", **broken)
        await world.until(lambda: world.mode_is(Mode.HALT))
        await world.until(lambda: world.condition("SpecValid").get("status") == "False")
        assert world.condition("SpecValid")["message"].startswith("spec.")
        assert world.kube.events("InvalidSpec")
        assert len(world.kube.of_kind("Deployment")) == deployments


async def test_a_healthy_bot_gets_no_write_from_an_operator_that_was_restarted(
    world: World, execution: Execution
) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        await world.rest(5)
    world.kube.writes.clear()
    async with world.operator():
        await world.rest(200)
    assert world.kube.writes == []


async def test_two_operators_at_once_write_the_same(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator(), world.operator():
        await world.until(world.running_bot)
        world.patch(mode="HALT")
        await world.until(lambda: world.status()["mode"].get("ackedAt"))
        await world.rest(3)
        world.kube.writes.clear()
        await world.rest(100)
        assert world.kube.writes == []
        assert len([each for each in world.kube.events("ModeApplied") if each["note"].startswith("HALT")]) == 1
        assert len(await world.redis.xrange("ctl.commands")) == len(
            {e["p"] for _, e in await world.redis.xrange("ctl.commands")}
        )


async def test_what_is_taken_away_comes_back_and_is_told(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        lost = world.kube.find("Deployment", "majors-monitor")
        await world.kube.delete("apps/v1", "Deployment", "trading", "majors-monitor")
        back = await world.until(lambda: world.kube.find("Deployment", "majors-monitor"))
        assert back["metadata"]["uid"] != lost["metadata"]["uid"]
        await world.until(lambda: world.kube.events("DriftCorrected"))


def model_peers(world: World) -> list[dict[str, Any]]:
    """Where the decision's pod may go besides DNS and Redis."""
    egress = world.kube.find("NetworkPolicy", "majors-ai-decision")["spec"]["egress"]
    return [rule for rule in egress if any("namespaceSelector" in each for each in rule["to"])][1:]


async def test_the_way_to_a_model_follows_its_service_as_far_as_that_may_be_read(
    world: World, execution: Execution
) -> None:
    ask = {"strategy": "llm", "endpoint": "http://model:80/v1", "model": "m"}
    there = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "trading"}}}
    await world.create({"ai": ask})
    async with world.operator():
        await world.until(world.running_bot)
        assert model_peers(world) == [{"to": [there], "ports": [{"protocol": "TCP", "port": 80}]}]

        spec = {"clusterIP": "10.96.0.9", "selector": {"app": "model"}, "ports": [{"port": 80, "targetPort": 8000}]}
        metadata = {"namespace": "trading", "name": "model"}
        await world.kube.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
        world.patch(ai={**ask, "samples": 3})
        pods = {**there, "podSelector": {"matchLabels": {"app": "model"}}}
        known = [{"to": [pods], "ports": [{"protocol": "TCP", "port": 8000}]}]
        await world.until(lambda: model_peers(world) == known)

        forbidden = Forbidden("services is forbidden")
        world.kube.refuse = lambda verb, kind, name: forbidden if (verb, name) == ("get", "model") else None
        world.patch(ai={**ask, "samples": 1})
        await world.until(lambda: model_peers(world) != known)
        assert model_peers(world) == [{"to": [there], "ports": [{"protocol": "TCP", "port": 80}]}]


async def test_a_paused_bot_keeps_its_children_as_they_are_and_obeys_its_mode(
    world: World, execution: Execution
) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        world.kube.person_annotates("trading", "majors", **{"tradingbot.dev/pause": "true"})
        await world.until(lambda: world.condition("Paused").get("status") == "True")
        await world.kube.delete("apps/v1", "Deployment", "trading", "majors-monitor")
        world.patch(mode="HALT", universe=["BTC"])
        await world.until(lambda: world.mode_is(Mode.HALT))
        await world.until(lambda: world.status()["mode"].get("effective") == "HALT")
        await world.rest(5)
        assert world.kube.find("Deployment", "majors-monitor") is None
        world.kube.person_annotates("trading", "majors", **{"tradingbot.dev/pause": None})
        await world.until(lambda: world.kube.find("Deployment", "majors-monitor"))


def _mode_file(world: World) -> str:
    return str(world.kube.find("ConfigMap", "majors-mode")["data"]["mode"])


@pytest.mark.parametrize("hindered", ["paused", "a broken spec", "a Lease that cannot be read"])
async def test_the_mode_file_follows_a_halt_without_redis_whatever_holds_up_the_children(
    world: World, execution: Execution, hindered: str
) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
    assert _mode_file(world).startswith("NORMAL")
    world.redis_is_there = False
    if hindered == "paused":
        world.kube.person_annotates("trading", "majors", **{"tradingbot.dev/pause": "true"})
    if hindered == "a Lease that cannot be read":
        world.kube.refuse = lambda verb, kind, name: KubeError("broken", status=500) if kind == "Lease" else None
    world.patch(mode="HALT", **({"risk": "yes"} if hindered == "a broken spec" else {}))
    async with world.operator():
        await world.until(lambda: _mode_file(world).startswith("HALT"))
        world.kube.writes.clear()
        await world.rest(5)
        assert "majors-mode" not in {each.name for each in world.kube.writes}


async def test_a_change_of_limits_arrives_without_touching_a_pod(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        world.kube.writes.clear()
        world.patch(risk={"maxGross": 0.3})

        async def there() -> bool:
            return '"max_gross":0.3' in (await world.redis.hget("ctl.params", "values") or "")

        await world.until(there)
        await world.rest(2)
        applied = {each.name for each in world.kube.writes if each.verb != "patch_status"}
        assert applied <= {"majors-mode"}, "the mode file names its generation; nothing else has changed"


async def test_a_silent_execution_is_restarted_after_ten_seconds_and_that_is_told(
    world: World, execution: Execution
) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        pod = world.kube.find("Pod", "majors-execution-0")["metadata"]["uid"]
        execution.silent = True
        world.patch(mode="HALT")
        await world.until(lambda: world.mode_is(Mode.HALT))
        await world.rest(8)
        assert world.kube.find("Pod", "majors-execution-0")["metadata"]["uid"] == pod
        await world.rest(4)
        await world.until(lambda: world.kube.find("Pod", "majors-execution-0")["metadata"]["uid"] != pod)
        assert world.kube.events("ExecutionRestarted")
        again = world.kube.find("Pod", "majors-execution-0")["metadata"]["uid"]
        await world.rest(20)
        assert world.kube.find("Pod", "majors-execution-0")["metadata"]["uid"] == again
        execution.silent = False
        await world.until(lambda: world.condition("ModeApplied")["status"] == "True")


async def test_an_execution_that_does_not_acknowledge_is_restarted_after_thirty_seconds(
    world: World, execution: Execution
) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        pod = world.kube.find("Pod", "majors-execution-0")["metadata"]["uid"]
        execution.open_orders, execution.cancels = 3, False
        world.patch(mode="HALT")
        await world.until(lambda: world.status()["mode"].get("receivedAt"))
        await world.until(lambda: world.status()["mode"].get("openOrders") == 3)
        await world.rest(25)
        assert world.kube.find("Pod", "majors-execution-0")["metadata"]["uid"] == pod
        await world.rest(7)
        await world.until(lambda: world.kube.find("Pod", "majors-execution-0")["metadata"]["uid"] != pod)


async def test_an_operator_that_was_restarted_goes_on_with_the_time_that_has_passed(
    world: World, execution: Execution
) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        execution.silent = True
        world.patch(mode="HALT")
        await world.until(lambda: world.status()["mode"].get("desired") == "HALT")
        asked = world.status()["mode"]["requestedAt"]
        pod = world.kube.find("Pod", "majors-execution-0")["metadata"]["uid"]
        await world.rest(6)
    async with world.operator():
        await world.rest(6)
        await world.until(lambda: world.kube.find("Pod", "majors-execution-0")["metadata"]["uid"] != pod)
        assert world.status()["mode"]["requestedAt"] == asked


async def test_redis_that_goes_and_comes_back_is_told(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        world.redis_is_there = False
        world.server.kill()
        world.patch(mode="HALT")
        await world.until(lambda: world.condition("RedisReady")["status"] == "False")
        assert world.condition("ModeApplied")["status"] == "Unknown"
        assert world.condition("ModeApplied")["reason"] == "RedisUnreachable"
        assert world.kube.events("RedisUnreachable")
        assert "effective" not in world.status()["mode"]


async def test_a_latched_breaker_is_told_with_the_command_that_clears_it(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        await breaker_says(world.redis, Mode.HALT, latch_id="drawdown-7", reason="drawdown 3.2 %")
        await world.until(lambda: world.status().get("breaker", {}).get("latchId"), flow_s=1.0)
        [told] = world.kube.events("BreakerLatched")
        assert "tradingbot.dev/clear-breaker=drawdown-7" in told["note"]
        await world.until(lambda: world.status()["mode"]["effective"] == "HALT", flow_s=1.0)
        assert world.condition("Degraded")["reason"] == "BreakerLatched"
        world.kube.person_annotates("trading", "majors", **{"tradingbot.dev/clear-breaker": "drawdown-7"})

        async def cleared() -> bool:
            return any("CLEAR_BREAKER" in e["p"] for _, e in await world.redis.xrange("ctl.commands"))

        await world.until(cleared)
        await calm_breaker(world.redis)
        await world.until(lambda: world.kube.events("BreakerCleared"), flow_s=1.0)
        # Left there, it would clear the next latch of that name too.
        await world.until(lambda: "tradingbot.dev/clear-breaker" not in world.bot().annotations)
        commands = await world.redis.xlen("ctl.commands")
        await breaker_says(world.redis, Mode.REDUCE_ONLY, latch_id="drawdown-7", command_id="again")
        await world.until(lambda: world.status()["mode"]["effective"] == "REDUCE_ONLY", flow_s=1.0)
        assert await world.redis.xlen("ctl.commands") == commands


async def test_a_secret_that_a_pod_misses_is_made_again(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        await world.kube.delete("v1", "Secret", "trading", "majors-bus")
        pod = world.kube.find("Pod", "majors-monitor-0")
        stuck = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "majors-bus" not found'}}
        world.kube._put({**pod, "status": {"conditions": [], "containerStatuses": [{"state": stuck}]}})
        await world.until(lambda: world.kube.find("Secret", "majors-bus"))


async def test_figures_are_written_once_a_minute_at_most(world: World, execution: Execution) -> None:
    await world.create()
    async with world.operator():
        await world.until(world.running_bot)
        await world.rest(65)
        world.kube.writes.clear()
        await say_snapshot(world.redis, world.clock.now_ms(), equity=10_001)
        await world.rest(130)
        written = [each.body for each in world.kube.writes if each.verb == "patch_status"]
        assert [each["portfolio"]["equityUsd"] for each in written] == ["10001.00"]
