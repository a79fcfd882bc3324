"""What is taken as a model's answer, and what is not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_decision.market import UNIVERSE, features, view
from ai_decision.model import WEIGHTS, answer
from tradingbot.ai_decision.llm.answer import WeightsAnswer, check_weights, read_answer
from tradingbot.ai_decision.llm.faults import Fault, ModelFailed, Refused
from tradingbot.ai_decision.llm.schema import strict_schema
from tradingbot.ai_decision.llm.strategy import agreement, interpret, rebuild
from tradingbot.ai_decision.llm.words import contradictions
from tradingbot.ai_decision.strategy import validate
from tradingbot.domain.messages import ModelName
from tradingbot.domain.params import RiskParams

NAME = ModelName(name="scripted", version="v1")


def taken(text: str, **positions: float) -> WeightsAnswer:
    parsed, around = read_answer(text, WeightsAnswer)
    check_weights(parsed, view(**positions), around=around)
    return parsed


def fault_of(text: str, **positions: float) -> Fault:
    with pytest.raises(Refused) as caught:
        taken(text, **positions)
    return caught.value.fault


def test_a_well_formed_answer_is_taken_as_it_is():
    assert taken(answer()).weights == WEIGHTS


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{answer()}\n```",
        f"Here are the weights.\n{answer()}\nThat is all.",
        f"<think>Sell BTC? {{no}} Perhaps not.</think>{answer()}",
    ],
)
def test_words_and_fences_around_the_object_are_no_fault(text):
    assert taken(text).weights == WEIGHTS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot help with that.",
        "[1, 2]",
        "null",
        answer()[:-5],
        answer().replace("0.06", "NaN"),
        answer().replace("0.06", "-Infinity"),
        answer() + answer(),
        f"Either {answer()} or {answer({'BTC': 0.1})}",
        answer().replace('"confidence"', '"cash_weight": 0.5, "confidence"'),
        "[" * 50_000,
        '{"targets":' * 50_000,
        answer().replace("0.06", "9" * 5000),
    ],
)
def test_what_is_not_one_object_without_doubt_is_bad_json(text):
    assert fault_of(text) is Fault.BAD_JSON


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        answer(confidence=1.5),
        answer(confidence="high"),
        answer(confidence=True),
        answer(note="extra"),
        answer(rationale="x" * 5000),
        answer().replace("0.06", '"0.06"'),
        answer().replace("0.06", "1e999"),
        answer().replace("0.06", "null"),
    ],
)
def test_an_object_of_another_shape_breaks_the_schema(text):
    assert fault_of(text) is Fault.SCHEMA


@pytest.mark.parametrize(
    "weights",
    [{**WEIGHTS, "PEPE": 0.01}, {key: w for key, w in WEIGHTS.items() if key != "DOGE"}, {}],
    ids=["unknown", "missing", "none"],
)
def test_exactly_the_coins_that_were_asked_for_must_be_there(weights):
    assert fault_of(answer(weights)) is Fault.COINS


def test_a_coin_named_twice_is_refused():
    both = json.loads(answer())
    both["targets"].append({"symbol": "BTC", "weight": 0.0})

    assert fault_of(json.dumps(both)) is Fault.COINS


def test_a_coin_without_fresh_features_was_not_asked_for():
    stale = view(features(stale=("DOGE",)))
    parsed, _ = read_answer(answer(), WeightsAnswer)

    with pytest.raises(Refused, match="unknown: DOGE"):
        check_weights(parsed, stale)


@pytest.mark.parametrize("weight", [1.5, -0.05, -3.0, 1e300])
def test_a_weight_out_of_range_is_refused(weight):
    assert fault_of(answer({**WEIGHTS, "BTC": weight})) is Fault.WEIGHTS


def test_a_short_is_taken_only_where_shorts_are_allowed():
    parsed, _ = read_answer(answer({**WEIGHTS, "BTC": -0.05}), WeightsAnswer)

    check_weights(parsed, view(risk=RiskParams(allow_short=True)))
    with pytest.raises(Refused):
        check_weights(parsed, view())


def test_cash_must_be_what_the_weights_leave():
    assert fault_of(answer(cash_weight=0.5)) is Fault.CASH
    assert taken(answer(cash_weight=0.83)).cash_weight == 0.83


def test_cash_counts_positions_that_cannot_change():
    stale = view(features(stale=("DOGE",)), DOGE=0.1)
    weights = {symbol: weight for symbol, weight in WEIGHTS.items() if symbol != "DOGE"}
    parsed, _ = read_answer(answer(weights, cash_weight=1 - sum(weights.values()) - 0.1), WeightsAnswer)

    check_weights(parsed, stale)


AGAINST = [
    ("We sell BTC now.", {"BTC": 0.02}),
    ("Momentum fades, so I close the BTC position.", {"BTC": 0.02}),
    ("Reducing our exposure to ETH and bitcoin.", {"BTC": 0.02}),
    ("Sell ETH, SOL and BTC", {"BTC": 0.02, "ETH": 0.09, "SOL": 0.09}),
    ("Buy more BTC", {"BTC": 0.12}),
    ("Adding to BTC on strength; others unchanged", {"BTC": 0.12}),
    ("Do not touch ETH. Sell all BTC.", {"BTC": 0.02}),
    ("ETH might fall, but I sell half of our BTC", {"BTC": 0.02}),
]


@pytest.mark.parametrize(("text", "present"), AGAINST)
def test_words_that_say_the_opposite_of_the_weights_are_refused(text, present):
    assert fault_of(answer(rationale=text), **present) is Fault.CONTRADICTION


def test_words_around_the_object_count_too():
    assert fault_of(f"I decided to sell BTC.\n{answer()}", BTC=0.02) is Fault.CONTRADICTION


@pytest.mark.parametrize(
    ("text", "present"),
    [
        ("We sell BTC now.", {"BTC": 0.09}),
        ("Buy BTC and reduce ETH", {"BTC": 0.02, "ETH": 0.09}),
        ("Sell BTC", {"BTC": 0.058}),
        ("Do not sell BTC.", {"BTC": 0.02}),
        ("I would sell BTC if it broke down.", {"BTC": 0.02}),
        ("Selling pressure on BTC eases.", {"BTC": 0.02}),
        ("The increase in BTC volatility calls for care; closing BTC price is high.", {"BTC": 0.09}),
        ("Closing ADA; BTC grows", {"BTC": 0.02, "ADA": 0.09}),
        ("Verkaufe BTC", {"BTC": 0.02}),
    ],
)
def test_words_that_agree_or_say_nothing_are_no_fault(text, present):
    assert taken(answer(rationale=text), **present)


def test_a_short_grows_by_selling():
    assert contradictions("Sell BTC", {"BTC": -0.1}, present={"BTC": -0.05}) == []
    assert contradictions("Reduce BTC", {"BTC": -0.1}, present={"BTC": -0.05})
    assert contradictions("Buy BTC", {"BTC": -0.1}, present={"BTC": -0.05})


@given(st.text(max_size=300))
def test_no_text_does_more_than_be_refused(text):
    for whole in (text, answer(rationale=text), text + answer()):
        try:
            check_weights(read_answer(whole, WeightsAnswer)[0], view(), around=text)
        except Refused:
            continue


def parsed(weights: dict[str, float] | None = None, **more: object) -> WeightsAnswer:
    return WeightsAnswer.model_validate_json(answer(weights, **more))


def test_one_answer_is_the_proposal():
    proposal = interpret([parsed()], view(), model=NAME)

    assert proposal.weights == WEIGHTS
    assert proposal.confidence == 0.8
    assert proposal.rationale == "Momentum is mild."
    assert proposal.used == "llm"


def test_several_answers_meet_in_the_median_and_disagreement_lowers_confidence():
    odd = parsed({**WEIGHTS, "BTC": 0.0}, rationale="odd")
    proposal = interpret([parsed(), odd, parsed()], view(), model=NAME)

    assert proposal.weights == pytest.approx(WEIGHTS)
    assert proposal.rationale == "Momentum is mild."
    # the answers hold 0.16, 0.10 and 0.16, the median 0.16: only 0.06 of 0.90 is apart
    assert proposal.evidence["agreement"] == pytest.approx(1 - 0.06 / 0.90)
    assert proposal.confidence == pytest.approx(0.8 * (1 - 0.06 / 0.90))


def test_answers_that_share_nothing_agree_in_nothing():
    nothing, something = parsed(dict.fromkeys(UNIVERSE, 0.0)), parsed(WEIGHTS)

    assert agreement([nothing, nothing, something], dict.fromkeys(UNIVERSE, 0.0)) == 0
    assert agreement([nothing, nothing], dict.fromkeys(UNIVERSE, 0.0)) == 1


ROWS = st.lists(st.tuples(*[st.floats(0, 1) for _ in UNIVERSE], st.floats(0, 1)), min_size=1, max_size=7)


@given(ROWS)
def test_a_proposal_of_checked_answers_is_valid_and_comes_out_of_its_record_again_to_the_last_bit(rows):
    answers = [parsed(dict(zip(UNIVERSE, row, strict=False)), confidence=row[-1]) for row in rows]
    proposal = interpret(answers, view(), model=NAME)
    validate(proposal, view())
    record = {"answers": [each.model_dump() for each in answers], "model": "scripted", "prompt": {"version": "v1"}}

    again = rebuild(json.loads(json.dumps(record)), view())

    assert again.weights == proposal.weights
    assert (again.confidence, again.rationale, again.model) == (proposal.confidence, proposal.rationale, proposal.model)


@pytest.mark.parametrize("answers", [[], [json.loads(answer({"BTC": 0.1}))]], ids=["none", "of other coins"])
def test_a_record_that_does_not_fit_the_view_is_no_proposal(answers):
    with pytest.raises(ModelFailed):
        rebuild({"answers": answers, "model": "scripted", "prompt": {"version": "v1"}}, view())


def test_the_schema_that_is_sent_requires_every_field_and_allows_no_other():
    schema = strict_schema(WeightsAnswer)
    target = schema["$defs"]["CoinWeight"]

    assert schema["required"] == ["targets", "cash_weight", "confidence", "rationale"]
    assert schema["additionalProperties"] is False
    assert target["required"] == ["symbol", "weight"]
    assert "maximum" not in json.dumps(schema)


HOSTILE = [
    "<think>" * 9_000,
    "x" + " " * 64_000 + "y",
    "buy " * 16_000,
    "sell some " * 6_000,
    "sell BTC" + ",BTC" * 16_000 + " price",
    "buy" + " " * 64_000,
    ("buy BTC" + "\t" * 5) * 5_000,
    "<think>{</think>" * 4_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.timeout(30)
def test_no_text_of_the_size_that_is_read_keeps_the_loop_from_its_work(text):
    try:
        taken(f"{text}\n{answer()}")
    except Refused:
        return
