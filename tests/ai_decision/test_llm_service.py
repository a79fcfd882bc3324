"""The language model strategy in the running service, on a real Valkey with the role's rights and a real server."""

from __future__ import annotations

import json

import pytest
import pytest_asyncio

from ai_decision.market import UNIVERSE, view
from ai_decision.model import KEY, TODAY, WEIGHTS, answer, environ_of
from ai_decision.test_service import Scene
from risk_engine.bench import T0
from support.model_server import CUT, TRICKLE, http, reply
from support.stage import JumpClock
from tradingbot.ai_decision import strategies
from tradingbot.ai_decision.service import run
from tradingbot.bus.params import write_params
from tradingbot.domain.audit_words import audit_words
from tradingbot.domain.ids import digest
from tradingbot.domain.messages import AuditLevel
from tradingbot.domain.params import Params


@pytest_asyncio.fixture
async def scene(valkey, valkey_server, model_server):
    await write_params(valkey, Params(), generation=1)
    environ = environ_of(model_server, DECISION_WAIT_S="0")
    del environ["REDIS_URL"], environ["BOT_ID"]
    return Scene(redis=valkey, server=valkey_server, clock=JumpClock(T0), environ=environ)


async def test_the_models_weights_become_the_target_and_the_record_tells_how(scene, model_server):
    model_server.script(reply(answer()))
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()

    (target,) = await scene.targets()
    (record,) = await scene.audits()
    details = record.details
    assert target.used == "llm"
    assert target.model.name == "scripted"
    assert target.rationale == "Momentum is mild."
    assert target.inputs.model_answer_digest == digest(answer())
    assert details["strategy"] == "llm"
    assert details["steps"]["strategy"] == WEIGHTS
    assert {each.symbol: each.weight for each in target.targets} == details["steps"]["turnover"]
    assert details["evidence"]["answers"] == [json.loads(answer())]
    assert details["evidence"]["prompt"]["version"] == "v1"
    assert "error" not in details


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (http(500, "boom"), "http: 500 boom"),
        (TRICKLE, "out_of_time: no answer within"),
        (CUT, "connection: "),
        (reply("no idea"), "bad_json: "),
        (reply(answer({**WEIGHTS, "BTC": 2})), "weights: "),
        (reply(f"Selling BTC!\n{answer()}"), "contradiction: the text says sell BTC"),
    ],
    ids=["500", "trickle", "cut", "bad json", "weights", "contradiction"],
)
async def test_without_a_usable_answer_the_baseline_decides_and_the_record_says_why(scene, model_server, entry, error):
    model_server.script(entry)
    scene.environ["DECISION_BUDGET_S"] = "2" if entry is TRICKLE else "30"
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()

    (target,) = await scene.targets()
    (record,) = await scene.audits()
    assert target.used == record.details["used"] == "baseline_fallback"
    assert {each.symbol for each in target.targets} == set(UNIVERSE)
    assert record.details["error"].startswith(error)
    assert record.details["strategy"] == "llm"
    assert record.details["evidence"]["failures"]
    assert record.details["evidence"]["prompt"]["version"] == "v1"


async def test_an_exhausted_day_is_a_fallback_that_asks_nobody(scene, model_server):
    await scene.redis.set(TODAY, 5_000_000)
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()

    (record,) = await scene.audits()
    assert record.details["error"].startswith("spend_cap: 5.0000 USD of 5.0000")
    assert model_server.requests() == []


async def decisions(scene, *, count):
    for _ in range(count):
        await scene.account()
        await scene.market()
        scene.clock.jump(60)


async def test_a_model_that_begins_to_be_left_alone_and_answers_again_is_told_once_each(scene, model_server):
    scene.environ |= {"AI_LLM_CIRCUIT_FAILURES": "2", "AI_LLM_ATTEMPTS": "1", "AI_LLM_CIRCUIT_OPEN_S": "1000"}
    model_server.script(http(500, "boom"))
    async with scene.running("ai_decision", run):
        await decisions(scene, count=4)
    model_server.script(reply(answer()))
    async with scene.running("ai_decision", run):  # whose circuit is closed
        await decisions(scene, count=2)

    opened, closed = await scene.audits("llm.circuit")
    assert (opened.level, opened.details["failures"]) == (AuditLevel.WARNING, 2)
    assert opened.details["error"].startswith("http: 500 boom")
    assert audit_words(opened).startswith(
        "the language model is left alone for 1000 s after 2 failed decisions in a row"
    )
    assert (closed.level, closed.details) == (AuditLevel.INFO, {"state": "closed"})


async def test_a_bot_that_asks_no_model_tells_nothing_of_one(scene):
    scene.environ |= {"AI_STRATEGY": "baseline"}
    async with scene.running("ai_decision", run):
        await decisions(scene, count=1)

    assert await scene.audits()
    assert await scene.audits("llm.circuit") == []


async def test_the_next_decision_is_told_of_the_last_one_and_what_became_of_it(scene, model_server):
    model_server.script(reply(answer()))
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()
        scene.clock.jump(60)
        await scene.account()
        await scene.market()

    first, second = (json.loads(each["body"]["messages"][1]["content"]) for each in model_server.requests())
    (target, _) = await scene.targets()
    assert first["recent"] == []
    (past,) = second["recent"]
    assert past["cycle"] == "20260218T1600Z"
    assert past["weights"] == pytest.approx({each.symbol: each.weight for each in target.targets}, abs=1e-4)
    assert past["equity_pct"] == 0
    assert set(past["price_pct"]) == set(UNIVERSE)


async def test_the_key_is_nowhere_on_the_bus(scene, model_server):
    model_server.script(reply(f"{KEY} {answer()}"))
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()

    everything = [await scene.redis.hgetall("state:ai_decision")]
    everything += [await scene.redis.xrange(stream) for stream in ("audit.logs", "alpha.target")]
    assert "20260218T1600Z" in repr(everything)
    assert KEY not in repr(everything)


async def test_the_record_alone_makes_the_same_proposal_again(scene, model_server):
    odd = answer({**WEIGHTS, "BTC": 0.013, "SOL": 0.1 / 3})
    model_server.script(reply(answer()), reply(odd), reply(answer({**WEIGHTS, "BTC": 0.07})))
    scene.environ["AI_LLM_SAMPLES"] = "3"
    async with scene.running("ai_decision", run):
        await scene.account()
        await scene.market()

    (record,) = await scene.audits()
    again = strategies.rebuild(record.details["strategy"], view(), evidence=record.details["evidence"])
    assert again.weights == record.details["steps"]["strategy"]
    assert again.confidence == record.details["confidence"] < 0.8
    assert again.evidence == record.details["evidence"]
