"""Asking a real server in a process of its own, with everything that can go wrong, on a real Valkey."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from ai_decision.market import features, view
from ai_decision.model import KEY, TODAY, WEIGHTS, PatientClock, answer, asking, settings, spent
from support.model_server import CLOSE, CUT, FLOOD, HANG, TRICKLE, http, reply
from tradingbot.ai_decision.llm.chat import REDACTED, ChatServer, _without_key, open_http
from tradingbot.ai_decision.llm.faults import Fault, ModelFailed
from tradingbot.ai_decision.llm.spend import DailySpend
from tradingbot.runtime.clock import Anchor, SystemClock
from tradingbot.runtime.settings import SettingsError

COST = 1000 * 3 + 100 * 15
"""Micro-USD of an answer with the server's usual usage at the default prices."""


async def failure(strategy, seen=None) -> ModelFailed:
    with pytest.raises(ModelFailed) as caught:
        await strategy.propose(seen or view())
    return caught.value


async def test_an_answer_becomes_a_proposal_with_its_evidence(valkey, model_server):
    model_server.script(reply(answer()))
    async with asking(valkey, model_server) as strategy:
        proposal = await strategy.propose(view(BTC=0.05))

    evidence = proposal.evidence
    assert proposal.weights == WEIGHTS
    assert proposal.model.name == "scripted"
    assert proposal.answer_digest
    assert evidence["answers"] == [json.loads(answer())]
    assert evidence["raw"] == [{"text": answer(), "truncated": False}]
    assert evidence["usage"] == {"tokens_in": 1000, "tokens_out": 100, "unmetered": 0}
    assert evidence["cost_usd"] == "0.004500"
    assert evidence["attempts"] == 1
    assert evidence["failures"] == []
    assert evidence["agreement"] == 1
    assert evidence["prompt"]["version"] == "v1"
    assert len(evidence["prompt"]["digest"]) == 16
    json.dumps(evidence, allow_nan=False)


async def test_the_request_is_what_an_openai_compatible_server_takes(valkey, model_server):
    model_server.script(reply(answer()))
    async with asking(valkey, model_server, AI_LLM_TEMPERATURE="0.5") as strategy:
        await strategy.propose(view(BTC=0.05))

    (request,) = model_server.requests()
    body = request["body"]
    facts = json.loads(body["messages"][1]["content"])
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert body["model"] == "scripted"
    assert body["temperature"] == 0.5
    assert body["response_format"]["json_schema"]["strict"] is True
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert facts["account"]["weights"]["BTC"] == 0.05
    assert facts["limits"]["max_weight"] == {"BTC": 0.15, "ETH": 0.15, "SOL": 0.1, "ADA": 0.1, "DOGE": 0.1}
    assert len(body["messages"][1]["content"]) < 1500


@pytest.mark.parametrize(
    "first",
    [http(500, "boom"), http(503), http(429, retry_after="0"), CLOSE, CUT, reply("not JSON"), http(200, "<html>")],
    ids=["500", "503", "429", "closed", "cut", "bad json", "no completion"],
)
async def test_a_failure_that_may_pass_is_tried_again_within_the_attempts(valkey, model_server, first):
    model_server.script(first, reply(answer()))
    async with asking(valkey, model_server) as strategy:
        proposal = await strategy.propose(view())

    assert proposal.weights == WEIGHTS
    assert proposal.evidence["attempts"] == 2
    assert len(proposal.evidence["failures"]) == 1


async def test_there_are_no_more_attempts_than_are_allowed(valkey, model_server):
    model_server.script(http(500, "boom"))
    async with asking(valkey, model_server, AI_LLM_ATTEMPTS="3") as strategy:
        error = await failure(strategy)

    assert error.fault is Fault.HTTP
    assert "500 boom" in str(error)
    assert len(model_server.requests()) == 3
    assert len(error.evidence["failures"]) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_request_that_the_server_refuses_is_not_repeated(valkey, model_server, status):
    model_server.script(http(status, '{"error": "no"}'))
    async with asking(valkey, model_server) as strategy:
        error = await failure(strategy)

    assert error.fault is Fault.HTTP
    assert len(model_server.requests()) == 1
    assert await spent(valkey) == 0


async def test_retry_after_is_waited_for_within_the_budget(valkey, model_server):
    model_server.script(http(429, retry_after="1"), reply(answer()))
    started_s = time.monotonic()
    async with asking(valkey, model_server) as strategy:
        await strategy.propose(view())

    assert time.monotonic() - started_s >= 1


async def test_a_retry_after_beyond_the_budget_is_not_waited_for(valkey, model_server):
    model_server.script(http(429, retry_after="3600"), reply(answer()))
    async with asking(valkey, model_server) as strategy:
        error = await failure(strategy)

    assert error.fault is Fault.HTTP
    assert len(model_server.requests()) == 1


async def test_retry_after_as_a_date_counts_from_the_servers_own_clock(valkey, model_server):
    dates = {"Date": "Wed, 18 Feb 2099 16:00:00 GMT", "Retry-After": "Wed, 18 Feb 2099 17:00:00 GMT"}
    model_server.script(http(503, **dates))
    async with asking(valkey, model_server) as strategy:
        await failure(strategy)

    assert len(model_server.requests()) == 1


@pytest.mark.parametrize("entry", [HANG, TRICKLE, reply(answer(), delay_s=60)], ids=["hangs", "trickles", "is slow"])
async def test_a_server_that_does_not_finish_costs_no_more_than_the_budget(valkey, model_server, entry):
    model_server.script(entry)
    async with asking(valkey, model_server, DECISION_BUDGET_S="1") as strategy:
        async with asyncio.timeout(20):
            error = await failure(strategy)

    assert error.fault is Fault.TIME
    assert await spent(valkey) > 0  # it may be on the bill


async def test_the_deadline_of_the_decision_counts_and_not_the_whole_budget(valkey, model_server):
    model_server.script(HANG)
    async with asking(valkey, model_server, DECISION_BUDGET_S="50") as strategy:
        seen = view()
        object.__setattr__(seen, "deadline_s", time.monotonic() + 0.8)
        async with asyncio.timeout(20):
            error = await failure(strategy, seen)

    assert error.fault is Fault.TIME


async def test_requests_that_are_cancelled_again_and_again_give_their_connections_back(model_server):
    model_server.script(HANG)
    async with open_http(model_server.url) as http_client:
        server = ChatServer(http_client, url=model_server.endpoint, max_response_bytes=65_536)
        for count in range(1, 11):  # more than the pool holds
            asked = asyncio.create_task(server.complete(b"{}", key=None))
            while len(model_server.requests()) < count:
                await asyncio.sleep(0.005)
            while not asked.done():
                asked.cancel()
                await asyncio.sleep(0)
        model_server.script(reply(answer()))

        assert (await server.complete(b"{}", key=None)).text == answer()


async def test_a_body_without_end_is_cut_off_at_the_limit(valkey, model_server):
    model_server.script(FLOOD)
    async with asking(valkey, model_server) as strategy:
        error = await failure(strategy)

    assert error.fault is Fault.TOO_LARGE
    assert len(model_server.requests()) == 1


async def test_an_answer_that_is_packed_unasked_is_not_unpacked(valkey, model_server):
    model_server.script(http(200, "x", content_encoding="gzip"))
    async with asking(valkey, model_server) as strategy:
        error = await failure(strategy)

    assert "sent 'gzip' unasked" in str(error)
    assert [each["headers"]["accept-encoding"] for each in model_server.requests()] == ["identity"]


async def test_a_redirection_is_not_followed(valkey, model_server):
    model_server.script(http(307, location=f"{model_server.url}/elsewhere"))
    async with asking(valkey, model_server) as strategy:
        await failure(strategy)

    assert [request["path"] for request in model_server.requests()] == ["/v1/chat/completions"]


async def test_nobody_at_the_endpoint_is_a_failure_that_costs_nothing(valkey, model_server):
    nowhere = "http://127.0.0.1:1/v1"
    async with asking(valkey, model_server, AI_LLM_ENDPOINT=nowhere) as strategy:
        error = await failure(strategy)

    assert error.fault is Fault.CONNECTION
    assert await spent(valkey) == 0


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (reply("nothing"), Fault.BAD_JSON),
        (reply('{"targets": []}'), Fault.SCHEMA),
        (reply(answer({"BTC": 0.1})), Fault.COINS),
        (reply(answer().replace("0.06", "NaN")), Fault.BAD_JSON),
        (reply(answer({**WEIGHTS, "BTC": 3})), Fault.WEIGHTS),
        (reply(answer(cash_weight=0)), Fault.CASH),
        (reply(f"Close BTC.\n{answer()}"), Fault.CONTRADICTION),
        (reply(None, refusal="I will not trade."), Fault.REFUSAL),
        (reply(None), Fault.PROTOCOL),
        (http(200, "[" * 60_000), Fault.PROTOCOL),
        (http(200, '{"choices": []}'), Fault.PROTOCOL),
        (http(200, '{"choices": [{"message": {"content": [1]}}]}'), Fault.PROTOCOL),
    ],
)
async def test_an_unusable_answer_is_a_failure_with_its_reason_first(valkey, model_server, entry, fault):
    model_server.script(entry)
    async with asking(valkey, model_server) as strategy:
        error = await failure(strategy)

    assert error.fault is fault
    assert str(error).startswith(f"{fault}: ")


async def test_an_answer_that_was_cut_off_says_so_and_is_in_the_record(valkey, model_server):
    model_server.script(reply(answer()[:60], finish="length"))
    async with asking(valkey, model_server) as strategy:
        error = await failure(strategy)

    assert "cut off at 800 tokens" in str(error)
    assert error.evidence["raw"][0]["text"] == answer()[:60]
    assert error.answer_digest


async def test_a_long_raw_answer_is_shortened_in_the_record(valkey, model_server):
    model_server.script(reply(" " * 30_000 + answer()))
    async with asking(valkey, model_server) as strategy:
        proposal = await strategy.propose(view())

    (raw,) = proposal.evidence["raw"]
    assert raw["truncated"]
    assert len(raw["text"]) == 4000


async def test_half_a_character_in_an_answer_does_no_harm(valkey, model_server):
    model_server.script(reply(f"\ud83d {answer()}"))
    async with asking(valkey, model_server) as strategy:
        proposal = await strategy.propose(view())

    json.dumps(proposal.evidence, ensure_ascii=False).encode()


async def test_without_any_fresh_coin_nobody_is_asked(valkey, model_server):
    seen = view(features(stale=("BTC", "ETH", "SOL", "ADA", "DOGE")))
    async with asking(valkey, model_server) as strategy:
        error = await failure(strategy, seen)

    assert error.fault is Fault.STALE_INPUTS
    assert model_server.requests() == []


# ------------------------------------------------------------------ money


async def test_what_a_call_cost_stands_in_the_place_of_what_was_reserved(valkey, model_server):
    model_server.script(reply(answer()))
    async with asking(valkey, model_server) as strategy:
        await strategy.propose(view())
        await strategy.propose(view())

    assert await spent(valkey) == 2 * COST
    assert 0 < await valkey.pttl(TODAY) <= 3 * 86_400_000


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": -5, "completion_tokens": 1}, "much", {"prompt_tokens": 1}]
)
async def test_without_a_usage_that_can_be_meant_the_reservation_stays(valkey, model_server, usage):
    model_server.script(reply(answer(), usage=usage))
    async with asking(valkey, model_server) as strategy:
        proposal = await strategy.propose(view())

    body_bytes = len(json.dumps(model_server.requests()[0]["body"], separators=(",", ":")))
    assert proposal.evidence["usage"]["unmetered"] == 1
    assert await spent(valkey) == pytest.approx((body_bytes + 64) * 3 + 800 * 15, rel=0.05)


async def test_above_the_cap_nobody_is_asked_and_nothing_stays_reserved(valkey, model_server):
    model_server.script(reply(answer()))
    await valkey.set(TODAY, 4_999_000)
    async with asking(valkey, model_server) as strategy:
        error = await failure(strategy)

    assert error.fault is Fault.SPEND_CAP
    assert model_server.requests() == []
    assert await spent(valkey) == 4_999_000


async def test_samples_that_are_asked_at_once_cannot_exceed_the_cap_together(valkey, model_server):
    model_server.script(reply(answer(), usage=None))
    most = "0.06"  # two reservations, not seven
    async with asking(valkey, model_server, AI_LLM_SAMPLES="7", AI_LLM_MAX_USD_PER_DAY=most) as strategy:
        error = await failure(strategy)

    assert error.fault is Fault.SPEND_CAP
    assert 1 <= len(model_server.requests()) <= 3
    assert await spent(valkey) <= 60_000


async def test_a_model_without_a_price_needs_no_money(valkey, model_server):
    model_server.script(reply(answer()))
    free = {"AI_LLM_USD_PER_MTOK_IN": "0", "AI_LLM_USD_PER_MTOK_OUT": "0", "AI_LLM_MAX_USD_PER_DAY": "0"}
    async with asking(valkey, model_server, **free) as strategy:
        assert (await strategy.propose(view())).evidence["cost_usd"] == "0.000000"


async def test_without_redis_nothing_is_spent(valkey, valkey_server, model_server):
    model_server.script(reply(answer()))
    async with asking(valkey, model_server) as strategy:
        valkey_server.kill()
        with pytest.raises(Exception, match="Redis does not answer"):
            await strategy.propose(view())

    assert model_server.requests() == []


# ------------------------------------------------------------------ circuit


async def test_after_several_failures_in_a_row_the_model_is_left_alone_and_then_tried_again(valkey, model_server):
    clock = PatientClock()
    environ = {"AI_LLM_CIRCUIT_FAILURES": "2", "AI_LLM_CIRCUIT_OPEN_S": "300", "AI_LLM_ATTEMPTS": "1"}
    async with asking(valkey, model_server, clock, **environ) as strategy:
        model_server.script(http(500))
        assert [(await failure(strategy)).fault for _ in range(3)] == [Fault.HTTP, Fault.HTTP, Fault.CIRCUIT_OPEN]
        assert len(model_server.requests()) == 2

        clock.leapt_s += 301
        assert (await failure(strategy)).fault is Fault.HTTP  # the one try
        assert (await failure(strategy)).fault is Fault.CIRCUIT_OPEN

        clock.leapt_s += 301
        model_server.script(reply(answer()))
        assert (await strategy.propose(view())).weights == WEIGHTS
        model_server.script(http(500))
        assert [(await failure(strategy)).fault for _ in range(2)] == [Fault.HTTP, Fault.HTTP]


async def test_the_record_tells_the_cap_and_how_the_circuit_stands_after_each_decision(valkey, model_server):
    clock = PatientClock()
    environ = {"AI_LLM_CIRCUIT_FAILURES": "2", "AI_LLM_ATTEMPTS": "1", "AI_LLM_MAX_USD_PER_DAY": "2.5"}
    async with asking(valkey, model_server, clock, **environ) as strategy:
        model_server.script(http(500))
        told = [(await failure(strategy)).evidence for _ in range(3)]
        clock.leapt_s += 301
        model_server.script(reply(answer()))
        told.append((await strategy.propose(view())).evidence)

    assert [each["circuit"]["open"] for each in told] == [False, True, True, False]
    assert [each["circuit"]["failures"] for each in told] == [1, 2, 2, 0]
    assert 200 < told[1]["circuit"]["wait_s"] <= 300
    assert {each["cap_usd"] for each in told} == {"2.500000"}
    assert {each["model"] for each in told} == {"scripted"}


async def test_an_exhausted_day_does_not_open_the_circuit(valkey, model_server):
    await valkey.set(TODAY, 5_000_000)
    model_server.script(reply(answer()))
    async with asking(valkey, model_server, AI_LLM_CIRCUIT_FAILURES="1") as strategy:
        assert (await failure(strategy)).fault is Fault.SPEND_CAP
        await valkey.delete(TODAY)

        assert await strategy.propose(view())


# ------------------------------------------------------------------ samples


async def test_several_samples_are_asked_at_once_and_their_agreement_is_measured(valkey, model_server):
    odd = answer({**WEIGHTS, "BTC": 0.0})
    model_server.script(*[reply(each, delay_s=0.3) for each in (answer(), odd, answer())])
    started_s = time.monotonic()
    async with asking(valkey, model_server, AI_LLM_SAMPLES="3") as strategy:
        proposal = await strategy.propose(view())

    assert time.monotonic() - started_s < 0.9 or len(model_server.requests()) == 3
    assert proposal.weights == pytest.approx(WEIGHTS)
    assert proposal.evidence["agreement"] == pytest.approx(1 - 0.06 / 0.90)
    assert proposal.confidence < 0.8
    assert await spent(valkey) == 3 * COST


async def test_a_majority_of_usable_answers_is_enough(valkey, model_server):
    model_server.script(reply("no"), reply(answer()))
    async with asking(valkey, model_server, AI_LLM_SAMPLES="3", AI_LLM_ATTEMPTS="1") as strategy:
        proposal = await strategy.propose(view())

    assert len(proposal.evidence["answers"]) == 2
    assert len(proposal.evidence["raw"]) == 3


async def test_half_of_the_answers_is_no_majority(valkey, model_server):
    model_server.script(reply(answer()), reply("no"))
    async with asking(valkey, model_server, AI_LLM_SAMPLES="2", AI_LLM_ATTEMPTS="1") as strategy:
        error = await failure(strategy)

    assert "1 of 2 answers are usable" in str(error)


# ------------------------------------------------------------------ the key


async def test_a_key_in_a_file_is_read_anew_at_each_call(valkey, model_server, tmp_path):
    file = tmp_path / "key"
    file.write_text("first\n")
    model_server.script(reply(answer()))
    async with asking(valkey, model_server, AI_LLM_API_KEY="", AI_LLM_API_KEY_FILE=str(file)) as strategy:
        await strategy.propose(view())
        file.write_text("second\n")
        await strategy.propose(view())
        file.unlink()
        error = await failure(strategy)

    assert [each["headers"]["authorization"] for each in model_server.requests()] == ["Bearer first", "Bearer second"]
    assert error.fault is Fault.API_KEY
    assert "second" not in str(error)


@pytest.mark.parametrize("key", ["sk-line\nbreak", "sk-ümlaut", "sk two"])
async def test_a_key_that_no_header_takes_is_refused_without_being_shown(valkey, model_server, key):
    async with asking(valkey, model_server, AI_LLM_API_KEY=key) as strategy:
        error = await failure(strategy)

    assert error.fault is Fault.API_KEY
    assert key not in str(error) + repr(error) + json.dumps(dict(error.evidence))
    assert model_server.requests() == []


@pytest.mark.parametrize(
    "entry",
    [http(401, f"Incorrect API key provided: {KEY}"), reply(f"my key is {KEY}"), reply(None, refusal=KEY)],
    ids=["in an error", "in an answer", "in a refusal"],
)
async def test_a_server_that_echoes_the_key_does_not_bring_it_into_errors_or_records(valkey, model_server, entry):
    model_server.script(entry)
    async with asking(valkey, model_server) as strategy:
        error = await failure(strategy)

    assert KEY not in str(error) + repr(error) + json.dumps(dict(error.evidence))
    assert KEY not in repr(settings(model_server))


@pytest.mark.parametrize(
    "form", [r"sk\/a+b\"c", r"sk/a+b\"c", "sk\\u002fa\\u002Bb\\u0022c", r"\u0073k\/a\u002bb\u0022c"]
)
def test_a_key_is_cut_out_however_json_writes_it(form: str) -> None:
    key = 'sk/a+b"c'
    assert json.loads(f'"{form}"') == key
    assert _without_key(f'{{"error": "{form}"}}', SecretStr(key)) == f'{{"error": "{REDACTED}"}}'


async def test_a_faster_clock_has_a_smaller_cap_for_its_shorter_days(valkey):
    anchor = Anchor.at(virtual_start_ms=1_771_430_400_000, speed=10.0)
    spend = DailySpend(valkey, max_usd=1.0, clock=SystemClock(anchor))
    await spend.reserve(60_000)
    with pytest.raises(ModelFailed, match="spend_cap"):
        await spend.reserve(60_000)


async def test_an_answer_that_was_paid_for_counts_though_redis_goes_away(valkey, valkey_server, model_server):
    model_server.script(reply(answer()))
    async with asking(valkey, model_server) as strategy:
        spending = DailySpend.settle

        async def away(self, reservation, micro_usd):
            valkey_server.kill()
            await spending(self, reservation, micro_usd)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DailySpend, "settle", away)
            with capture_logs() as logged:
                proposal = await strategy.propose(view())
    assert proposal.weights == WEIGHTS
    (told,) = [each for each in logged if each["event"] == "spend_not_settled"]
    assert told["reserved_usd"] > told["cost_usd"] > 0
    assert told["error"]


async def test_a_prompt_that_does_not_exist_is_refused_at_the_start(valkey, model_server):
    with pytest.raises(SettingsError, match=r"there is no prompt v999; there is .*v1"):
        async with asking(valkey, model_server, AI_LLM_PROMPT="v999"):
            pass


# ------------------------------------------------------------------ dialects


async def test_what_a_server_refuses_by_name_is_left_out_from_then_on(valkey, model_server):
    refusals = [
        "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        "Unsupported value: 'temperature' does not support 0.",
        "response_format of type json_schema is not supported",
        "response_format is not supported",
    ]
    model_server.script(*[http(400, text) for text in refusals], reply(answer()))
    async with asking(valkey, model_server, AI_LLM_ATTEMPTS="5") as strategy:
        await strategy.propose(view())
        await strategy.propose(view())

    bodies = [set(each["body"]) for each in model_server.requests()]
    formats = [each["body"].get("response_format", {}).get("type") for each in model_server.requests()]
    assert bodies[-1] == bodies[-2] == {"model", "messages", "stream", "max_completion_tokens"}
    assert formats == ["json_schema", "json_schema", "json_schema", "json_object", None, None]


async def test_a_server_that_refuses_the_same_again_and_again_gets_no_more_than_the_attempts(valkey, model_server):
    model_server.script(http(400, "temperature"))
    async with asking(valkey, model_server, AI_LLM_ATTEMPTS="5") as strategy:
        await failure(strategy)

    assert len(model_server.requests()) == 2


async def test_features_of_the_book_are_told_where_they_are_known(valkey, model_server):
    model_server.script(reply(answer()))
    book = {"spread_bps": {"BTC": 0.123456}, "liquidity_score": {"BTC": 0.5, "ETH": 1.0}}
    async with asking(valkey, model_server) as strategy:
        await strategy.propose(view(features(**book)))

    coins = json.loads(model_server.requests()[0]["body"]["messages"][1]["content"])["coins"]
    assert (coins["BTC"]["spread_bps"], coins["BTC"]["liquidity"], coins["ETH"]["liquidity"]) == (0.1235, 0.5, 1.0)
    assert "spread_bps" not in coins["ETH"]
