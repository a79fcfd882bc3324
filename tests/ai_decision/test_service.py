"""ai_decision on a real Valkey: one target a cycle, of the newest features, or a record that says why not."""

from __future__ import annotations

import pytest
import pytest_asyncio

from ai_decision.market import UNIVERSE, features
from risk_engine.bench import T0, snapshot
from support.stage import JumpClock, Stage
from tradingbot.ai_decision.service import AiDecision, run
from tradingbot.ai_decision.settings import AiDecisionSettings
from tradingbot.ai_decision.strategy import Proposal, StrategyFailed
from tradingbot.bus.names import Group, Key, Stream
from tradingbot.bus.params import write_params
from tradingbot.bus.session import open_session
from tradingbot.domain.messages import AuditRecord, ModelName, TargetPortfolio
from tradingbot.domain.params import Params
from tradingbot.runtime.settings import SettingsError


class Scene(Stage):
    """The bus around ai_decision."""

    service = "ai_decision"

    async def account(self) -> str:
        return await self.say(Stream.SNAPSHOT, snapshot(at_ms=self.clock.now_ms()))

    async def market(self, **more) -> str:
        """Features of the present minute, and wait until they are dealt with."""
        minute_ms = self.clock.now_ms() - self.clock.now_ms() % 60_000
        entry_id = await self.say(Stream.FEATURES, features(at_ms=minute_ms, **more))
        await self.until_read(Stream.FEATURES, Group.AI)
        return entry_id

    async def targets(self) -> list[TargetPortfolio]:
        return await self.read(Stream.TARGET, TargetPortfolio)

    async def audits(self, kind: str = "alpha.target") -> list[AuditRecord]:
        return [record for record in await self.read(Stream.AUDIT, AuditRecord) if record.kind == kind]


@pytest_asyncio.fixture
async def scene(valkey, valkey_server):
    await write_params(valkey, Params(), generation=1)
    return Scene(redis=valkey, server=valkey_server, clock=JumpClock(T0), environ={"DECISION_WAIT_S": "0"})


async def test_features_at_a_boundary_become_one_target_that_names_its_inputs(scene):
    async with scene.running("ai_decision", run):
        snapshot_id = await scene.account()
        features_id = await scene.market()

    (target,) = await scene.targets()
    (record,) = await scene.audits()
    assert {each.symbol for each in target.targets} == set(UNIVERSE)
    assert target.used == "baseline"
    assert target.inputs.features_id == features_id
    assert target.inputs.snapshot_id == snapshot_id
    assert target.inputs.features_digest
    assert target.inputs.snapshot_digest
    assert target.inputs.params == "1.1+0"
    assert record.cause == features_id
    assert record.details["used"] == "baseline"


async def test_only_a_cycles_boundary_makes_a_decision(scene):
    scene.environ["CYCLE_SECONDS"] = "300"
    async with scene.running("ai_decision", run):
        await scene.account()
        for _ in range(6):
            await scene.account()
            await scene.market()
            scene.clock.jump(60)

    assert len(await scene.targets()) == 2


async def test_a_consumer_that_comes_back_decides_on_the_newest_features_only(scene):
    for _ in range(4):
        await scene.say(Stream.FEATURES, features(at_ms=scene.clock.now_ms()))
        scene.clock.jump(60)
    await scene.account()
    newest = await scene.say(Stream.FEATURES, features(at_ms=scene.clock.now_ms()))
    async with scene.running("ai_decision", run):
        await scene.until_read(Stream.FEATURES, Group.AI)

    (target,) = await scene.targets()
    assert target.inputs.features_id == newest
    assert len(await scene.audits("stale_cycle")) == 1


async def test_features_of_an_earlier_cycle_are_acked_as_stale(scene):
    await scene.account()
    await scene.say(Stream.FEATURES, features(at_ms=scene.clock.now_ms()))
    scene.clock.jump(60)
    async with scene.running("ai_decision", run):
        await scene.until_read(Stream.FEATURES, Group.AI)

    assert await scene.targets() == []
    assert len(await scene.audits("stale_cycle")) == 1


@pytest.mark.parametrize("lacking", ["snapshot", "fresh snapshot", "parameters"])
async def test_without_ground_to_stand_on_there_is_no_target_but_a_record(scene, lacking):
    async with scene.running("ai_decision", run):
        if lacking != "snapshot":
            await scene.account()
        if lacking == "fresh snapshot":
            scene.clock.jump(60)
        if lacking == "parameters":
            await scene.redis.delete(Key.PARAMS)
        await scene.market()

    (record,) = await scene.audits()
    assert await scene.targets() == []
    assert lacking.split()[-1] in record.details["skipped"]


async def test_a_snapshot_that_comes_a_moment_later_is_waited_for(scene):
    scene.environ["DECISION_WAIT_S"] = "5"
    async with scene.running("ai_decision", run):
        await scene.say(Stream.FEATURES, features(at_ms=scene.clock.now_ms()))
        await scene.account()
        await scene.until_read(Stream.FEATURES, Group.AI)

    assert len(await scene.targets()) == 1


async def test_the_same_cycle_is_decided_once(scene):
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()
        await scene.market()

    assert len(await scene.targets()) == 1
    assert "has its target already" in (await scene.audits())[-1].details["skipped"]


async def test_smoothing_goes_on_where_it_stopped_after_a_restart(scene):
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()
    scene.clock.jump(60)
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()

    first, second = await scene.targets()
    assert second.targets[0].weight == pytest.approx(first.targets[0].weight * 1.7)


class Broken:
    """A strategy that answers with nonsense, or not at all."""

    def __init__(self, weight: float | None) -> None:
        self.weight = weight

    async def propose(self, view):
        if self.weight is None:
            raise StrategyFailed("no answer within 12 s")
        name = ModelName(name="broken", version="1")
        return Proposal(weights={"BTC": self.weight}, confidence=1, rationale="", model=name, used="llm")


@pytest.mark.parametrize("weight", [None, float("nan"), 7.0])
async def test_a_strategy_without_a_usable_answer_is_replaced_by_the_baseline_for_this_cycle(scene, weight):
    async def run_broken(process):
        settings = AiDecisionSettings.load(process.environ)
        async with open_session(process, settings) as bus:
            await AiDecision(bus, Broken(weight), settings=settings).run()

    async with scene.running("ai_decision", run_broken):
        await scene.account()
        await scene.market()

    (target,) = await scene.targets()
    (record,) = await scene.audits()
    assert target.used == "baseline_fallback"
    assert record.details["used"] == "baseline_fallback"
    assert record.details["error"]


async def test_a_language_model_without_an_address_is_refused_at_the_start(scene):
    scene.environ["AI_USE_LLM"] = "true"

    with pytest.raises(SettingsError, match="AI_LLM_ENDPOINT"):
        async with scene.running("ai_decision", run):
            pass


async def test_a_message_that_is_not_valid_becomes_a_dead_letter_and_the_stream_goes_on(scene):
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.redis.xadd(Stream.FEATURES, {"p": '{"env": {}, "data": {}}'})
        await scene.market()

    assert await scene.redis.xlen("dlq.md.features.1m") == 1
    assert len(await scene.targets()) == 1
