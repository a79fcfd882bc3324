"""The two-stage strategy: the model judges, the optimizer weighs, and the record tells all of it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given, settings

from ai_decision.market import UNIVERSE, features, view
from ai_decision.model import environ_of
from ai_decision.model import settings as settings_of
from risk_engine.bench import T0, snapshot
from support.model_server import HANG, http, reply
from support.stage import JumpClock, Stage
from tradingbot.ai_decision.allocation import Regime, Stance
from tradingbot.ai_decision.correlation import packed, shrink
from tradingbot.ai_decision.llm.client import open_client
from tradingbot.ai_decision.minutes import WINDOW, minutes_on_stream
from tradingbot.ai_decision.optimizer import Optimizer
from tradingbot.ai_decision.regime import RegimeAnswer, RegimeStrategy, judge, rebuild, weigh
from tradingbot.ai_decision.service import run
from tradingbot.ai_decision.strategy import StrategyFailed, validate
from tradingbot.bus.names import Group, Stream
from tradingbot.bus.params import write_params
from tradingbot.domain.cycles import to_ms
from tradingbot.domain.messages import AuditRecord, ModelName, StateSnapshot, TargetPortfolio, TargetWeight
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import Params, RiskParams
from tradingbot.risk_engine.limits import approve

RISING = features(fast=0.01, slow=0.02)


def answer(regime="trend", risk_multiplier=1.0, confidence=0.8, rationale="All coins rise together.") -> RegimeAnswer:
    return RegimeAnswer(
        regime=Regime(regime), risk_multiplier=risk_multiplier, confidence=confidence, rationale=rationale
    )


def weighed(seen, *answers, optimizer=None):
    count = len(seen.usable)
    return weigh(
        answers or (answer(),),
        seen,
        optimizer=optimizer or Optimizer(count),
        model=ModelName(name="scripted", version="regime-v1"),
        evidence={
            "answers": [each.model_dump(mode="json") for each in answers or (answer(),)],
            "model": "scripted",
            "prompt": {"version": "regime-v1"},
            "correlation": packed(shrink(np.zeros((count, count)), 0.0)),
        },
    )


def gross(proposal) -> float:
    return sum(map(abs, proposal.weights.values()))


def test_a_trend_is_followed_and_a_range_leaned_against():
    wide = RiskParams(allow_short=True, turnover_cap=1.0)
    seen = view(RISING, risk=wide)

    assert all(weight >= 0 for weight in weighed(seen, answer("trend")).weights.values())
    assert gross(weighed(seen, answer("trend"))) > 0.1
    assert all(weight <= 0 for weight in weighed(seen, answer("range")).weights.values())
    assert gross(weighed(seen, answer("range"))) > 0.01


def test_stress_holds_no_view_and_shrinks_what_is_held():
    held = dict.fromkeys(UNIVERSE, 0.035)

    stressed = weighed(view(RISING, **held), answer("stress"))

    assert gross(stressed) <= 0.25 * 0.20 + 1e-9
    assert gross(weighed(view(RISING), answer("stress"))) == 0


def test_less_risk_is_taken_with_a_smaller_multiplier():
    roomy = RiskParams(turnover_cap=1.0)
    taken = [gross(weighed(view(RISING, risk=roomy), answer(risk_multiplier=m))) for m in (0.0, 0.25, 0.5, 1.0)]

    assert taken[0] == 0
    assert all(less < more for less, more in pairwise(taken))
    assert all(each <= m * 0.20 + 1e-9 for each, m in zip(taken, (0, 0.25, 0.5, 1), strict=True))


def test_a_multiplier_of_zero_closes_everything_at_once():
    held = view(RISING, BTC=0.1, ETH=0.1)

    assert weighed(held, answer(risk_multiplier=0)).weights == dict.fromkeys(UNIVERSE, 0.0)


def test_a_market_without_momentum_is_not_traded():
    held = view(features(), BTC=0.02)

    assert weighed(held).weights == {"BTC": 0.02, "ETH": 0, "SOL": 0, "ADA": 0, "DOGE": 0}


def test_most_samples_decide_and_their_disagreement_lowers_confidence():
    judged = judge(
        [
            answer("range", 0.2, 0.9, "sideways"),
            answer("trend", 0.6, 0.6, "up"),
            answer("trend", 0.8, 0.6, "up, up"),
        ]
    )

    assert judged.stance == Stance(regime=Regime.TREND, multiplier=0.6)
    assert judged.agreement == pytest.approx(2 / 3)
    assert judged.confidence == pytest.approx(0.7 * 2 / 3)
    assert judged.rationale == "up"


def test_a_tie_goes_to_caution():
    judged = judge([answer("trend", 0.9), answer("stress", 0.1)])

    assert judged.stance == Stance(regime=Regime.STRESS, multiplier=0.1)


moves = st.dictionaries(st.sampled_from(UNIVERSE), st.floats(-0.5, 0.5), min_size=5)
held = st.dictionaries(st.sampled_from((*UNIVERSE, "XRP")), st.floats(-0.3, 0.3))


@settings(max_examples=100, deadline=None)
@given(
    moves,
    moves,
    st.dictionaries(st.sampled_from(UNIVERSE), st.floats(0, 20), min_size=5),
    held,
    st.booleans(),
    st.sampled_from(Regime),
    st.floats(0, 1),
)
def test_any_market_under_any_stance_gives_what_the_gate_leaves_alone(
    fast, slow, vols, positions, allow_short, regime, multiplier
):
    risk = RiskParams(allow_short=allow_short)
    seen = view(features(fast=fast, slow=slow, vols=vols), risk=risk, **positions)

    proposal = weighed(seen, answer(regime, multiplier))

    validate(proposal, seen)
    approval = approve(
        [TargetWeight(symbol=symbol, weight=weight) for symbol, weight in proposal.weights.items()],
        present=seen.present,
        universe=UNIVERSE,
        risk=risk,
        mode=Mode.NORMAL,
    )
    assert approval.weights == pytest.approx(dict(proposal.weights), abs=1e-9)


def test_the_record_alone_makes_the_very_proposal_again():
    seen = view(RISING, risk=RiskParams(allow_short=True), BTC=0.05, DOGE=-0.02)
    worked = Optimizer(5)
    weighed(view(features(fast=-0.01, slow=-0.03), risk=seen.risk), optimizer=worked)
    proposal = weighed(seen, answer("trend", 0.7), optimizer=worked)

    again = rebuild(json.loads(json.dumps(proposal.evidence)), seen)

    assert again == replace(proposal, answer_digest=None)


def test_the_record_explains_every_coin():
    risk = RiskParams(max_net=0.06, caps={"ADA": 0.01})
    proposal = weighed(view(RISING, risk=risk, DOGE=0.01))

    allocation = proposal.evidence["allocation"]
    binds = {symbol: coin["binds"] for symbol, coin in allocation["coins"].items()}
    for symbol, coin in allocation["coins"].items():
        assert coin["weight"] == proposal.weights[symbol]
        explained = coin["trade_bps"] + coin["cap_bps"] + coin["gross_bps"] + coin["net_bps"]
        assert coin["expected_bps"] - coin["risk_bps"] == pytest.approx(explained, abs=0.01)
    assert binds == {
        "BTC": ["net", "cost"],
        "ETH": ["net"],
        "SOL": ["net"],
        "ADA": ["cap", "net"],
        "DOGE": ["net"],
    }
    assert allocation["net_price_bps"] > 0


def test_a_coin_that_moves_beyond_all_measure_is_left_alone():
    wild = view(features(fast=0.01, slow=0.02, vols={**dict.fromkeys(UNIVERSE, 0.5), "DOGE": 1e200}))

    assert weighed(wild).weights["DOGE"] == pytest.approx(0, abs=1e-4)


def test_an_optimizer_without_an_answer_is_a_failure_with_its_evidence():
    with pytest.raises(StrategyFailed, match="optimizer: the problem is not one of 4 coins") as caught:
        weighed(view(RISING), optimizer=Optimizer(4))

    assert caught.value.evidence["answers"]


# ------------------------------------------------------------------ asking


@asynccontextmanager
async def asking(valkey, server, **environ):
    async with open_client(settings_of(server, **environ), redis=valkey, clock=JumpClock(T0)) as client:
        yield RegimeStrategy(client, minutes=minutes_on_stream(valkey))


def told(**more) -> str:
    return answer(**more).model_dump_json()


async def test_the_model_is_asked_for_a_judgement_only(valkey, model_server):
    model_server.script(reply(told(regime="trend", risk_multiplier=0.5)))
    async with asking(valkey, model_server) as strategy:
        proposal = await strategy.propose(view(RISING))

    (request,) = model_server.requests()
    schema = request["body"]["response_format"]["json_schema"]["schema"]
    facts = json.loads(request["body"]["messages"][1]["content"])
    assert set(schema["required"]) == {"regime", "risk_multiplier", "confidence", "rationale"}
    assert "weights" not in json.dumps(schema)
    assert facts["correlation"] == 0.7
    assert proposal.used == "regime"
    assert proposal.evidence["regime"] == "trend"
    assert proposal.evidence["prompt"]["version"] == "regime-v1"
    assert proposal.answer_digest
    assert 0 < gross(proposal) <= 0.10


@pytest.mark.parametrize(
    "text",
    [
        told().replace("trend", "boom"),
        told().replace("1.0", "1.2"),
        told().replace("0.8", "NaN"),
        '{"regime": "trend"}',
        "It trends.",
    ],
    ids=["unknown regime", "multiplier", "NaN", "missing", "words"],
)
async def test_an_answer_that_breaks_the_schema_is_no_answer(valkey, model_server, text):
    model_server.script(reply(text))
    async with asking(valkey, model_server) as strategy:
        with pytest.raises(StrategyFailed):
            await strategy.propose(view(RISING))


async def test_without_any_features_nobody_is_asked(valkey, model_server):
    model_server.script(reply(told()))
    async with asking(valkey, model_server) as strategy:
        with pytest.raises(StrategyFailed, match="no coin"):
            await strategy.propose(view(features(vols={})))

    assert model_server.requests() == []


# ------------------------------------------------------------------ as a service


class Scene(Stage):
    """The bus around ai_decision."""

    service = "ai_decision"

    async def minute(self, **more) -> None:
        """Account and features of the present minute, and the decision on them."""
        now_ms = self.clock.now_ms()
        await self.say(Stream.SNAPSHOT, snapshot(at_ms=now_ms))
        await self.say(Stream.FEATURES, features(at_ms=now_ms - now_ms % 60_000, **more))
        await self.until_read(Stream.FEATURES, Group.AI)

    async def audits(self) -> list[AuditRecord]:
        return [each for each in await self.read(Stream.AUDIT, AuditRecord) if each.kind == "alpha.target"]


@pytest_asyncio.fixture
async def scene(valkey, valkey_server, model_server):
    await write_params(valkey, Params(), generation=1)
    environ = {**environ_of(model_server, AI_STRATEGY="regime"), "DECISION_WAIT_S": "0"}
    environ.pop("REDIS_URL"), environ.pop("BOT_ID")
    return Scene(redis=valkey, server=valkey_server, clock=JumpClock(T0), environ=environ)


async def test_the_service_decides_by_regime_and_records_why(scene, model_server):
    model_server.script(reply(told()))
    async with scene.running("ai_decision", run):
        await scene.minute(fast=0.01, slow=0.02)

    (target,) = await scene.read(Stream.TARGET, TargetPortfolio)
    (record,) = await scene.audits()
    assert target.used == "regime"
    assert sum(each.weight for each in target.targets) > 0
    assert record.details["strategy"] == "regime"
    assert record.details["evidence"]["allocation"]["rule"] == "cap"
    assert record.details["evidence"]["answers"][0]["regime"] == "trend"


@pytest.mark.parametrize("entry", [http(500), HANG, reply("no idea")], ids=["500", "silence", "words"])
async def test_without_a_judgement_the_baseline_decides_and_the_record_says_so(scene, model_server, entry):
    scene.environ["DECISION_BUDGET_S"] = "1"
    model_server.script(entry)
    async with scene.running("ai_decision", run):
        await scene.minute()

    (target,) = await scene.read(Stream.TARGET, TargetPortfolio)
    (record,) = await scene.audits()
    assert target.used == "baseline_fallback"
    assert record.details["error"]


async def test_a_recorded_decision_is_made_again_from_the_streams(scene, model_server):
    model_server.script(reply(told(regime="trend", risk_multiplier=0.6)))
    async with scene.running("ai_decision", run):
        for step in range(4):
            await scene.minute(fast=0.002 * step, slow=0.005 * step)
            scene.clock.jump(60)

    snapshots = await scene.read(Stream.SNAPSHOT, StateSnapshot)
    seen = await scene.read(Stream.FEATURES, type(RISING))
    records = await scene.audits()
    assert len(records) == 4
    for record, market, account in zip(records, seen, snapshots, strict=True):
        again = rebuild(record.details["evidence"], replace(view(market), snapshot=account))
        assert dict(again.weights) == record.details["steps"]["strategy"]


async def test_minutes_are_read_from_the_stream_oldest_first_and_once(scene):
    for step in range(130):
        await scene.say(Stream.FEATURES, features(at_ms=T0 + 60_000 * step))
    minutes = minutes_on_stream(scene.redis)

    everything = [to_ms(each.asof_minute) for each in await minutes(0)]
    latest = [to_ms(each.asof_minute) for each in await minutes(everything[-3])]

    assert everything == [T0 + 60_000 * step for step in range(130)]
    assert latest == everything[-2:]
    assert len(everything) <= WINDOW


async def test_a_minute_that_cannot_be_read_hides_none_before_it(scene):
    for step in range(10):
        await scene.say(Stream.FEATURES, features(at_ms=T0 + 60_000 * step))
        if step == 7:
            await scene.redis.xadd(Stream.FEATURES, {"v": "nonsense"})

    assert len(await minutes_on_stream(scene.redis)(0)) == 10
