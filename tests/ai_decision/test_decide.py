"""A decision: what is targeted, what is held, what is remembered and what is written down."""

from __future__ import annotations

import pytest

from ai_decision.market import UNIVERSE, features, view
from risk_engine.bench import T0, snapshot
from tradingbot.ai_decision.baseline import propose
from tradingbot.ai_decision.decide import DecisionState, decide, snapshot_problem
from tradingbot.ai_decision.strategy import Proposal, StrategyFailed, validate
from tradingbot.domain.cycles import minute_id
from tradingbot.domain.messages import AuditLevel, Inputs, ModelName
from tradingbot.domain.params import AiParams

CYCLE = minute_id(T0)


def make(seen=None, *, state=None, cycle_id=CYCLE, error=None, **positions):
    shown = view(seen, **positions)
    return decide(
        propose(shown, error=error),
        shown,
        state=state or DecisionState(),
        cycle_id=cycle_id,
        cycle_seconds=60,
        ai=AiParams(),
        inputs=Inputs(features_id="1-0", features_digest="ab", snapshot_id="2-0", snapshot_digest="cd", params="1.1+0"),
    )


def weights_of(decision):
    return {target.symbol: target.weight for target in decision.target.targets}


def test_a_first_decision_targets_every_coin_and_remembers_it():
    decision = make()

    assert set(weights_of(decision)) == set(UNIVERSE)
    assert (decision.state.cycle_id, decision.state.weights) == (CYCLE, weights_of(decision))
    (past,) = decision.state.recent
    assert (past.cycle_id, past.weights, set(past.mids)) == (CYCLE, weights_of(decision), set(UNIVERSE))
    assert decision.target.cash_weight == pytest.approx(1 - sum(weights_of(decision).values()))
    assert decision.target.inputs.snapshot_id == "2-0"


def test_a_coin_without_features_is_held_and_still_counts():
    no_btc = {symbol: vol for symbol, vol in view().features.vol_1h.items() if symbol != "BTC"}

    decision = make(features(vols=no_btc), BTC=0.14)

    assert "BTC" not in weights_of(decision)
    assert decision.audit.details["held"] == ["BTC"]
    assert decision.audit.details["net"] <= 0.20 + 1e-9
    assert decision.target.cash_weight == pytest.approx(1 - decision.audit.details["net"])


def test_a_weight_for_a_coin_without_features_is_not_taken_over():
    shown = view(features(stale=("BTC",)), BTC=0.1)
    name = ModelName(name="m", version="1")
    proposal = Proposal(weights={"BTC": 0.0, "ETH": 0.05}, confidence=1, rationale="", model=name, used="llm")

    decision = decide(
        proposal,
        shown,
        state=DecisionState(),
        cycle_id=CYCLE,
        cycle_seconds=60,
        ai=AiParams(),
        inputs=Inputs(),
    )

    assert set(weights_of(decision)) == {"ETH"}


def test_successive_decisions_approach_the_proposal_gradually():
    first = make()
    second = make(state=first.state, cycle_id=minute_id(T0 + 60_000))

    goal = propose(view()).weights["BTC"]
    assert weights_of(first)["BTC"] == pytest.approx(0.3 * goal)
    assert weights_of(second)["BTC"] == pytest.approx(0.3 * goal + 0.7 * 0.3 * goal)


def test_a_target_of_long_ago_is_forgotten():
    old = DecisionState(cycle_id=minute_id(T0 - 6 * 60_000), weights={"BTC": 0.15})

    assert weights_of(make(state=old))["BTC"] == weights_of(make())["BTC"]


def test_the_record_has_what_an_auditor_needs():
    details = make().audit.details

    assert details["used"] == "baseline"
    assert {"confidence", "gross", "turnover", "steps", "signals"} <= set(details)
    assert "raw_llm" not in details


def test_a_fallback_is_named_with_its_error():
    decision = make(error="the model's answer was cut off")

    assert decision.target.used == "baseline_fallback"
    assert decision.audit.details["error"] == "the model's answer was cut off"
    assert decision.audit.level is AuditLevel.WARNING


@pytest.mark.parametrize(
    ("weights", "confidence"),
    [
        ({"BTC": float("nan")}, 0.5),
        ({"BTC": float("inf")}, 0.5),
        ({"BTC": 1.5}, 0.5),
        ({"PEPE": 0.1}, 0.5),
        ({"BTC": 0.1}, 1.5),
        ({"BTC": 0.1}, float("nan")),
    ],
)
def test_an_answer_that_cannot_be_meant_is_refused(weights, confidence):
    odd = Proposal(
        weights=weights, confidence=confidence, rationale="", model=ModelName(name="m", version="1"), used="llm"
    )

    with pytest.raises(StrategyFailed):
        validate(odd, view())


def test_no_decision_rests_on_an_old_or_missing_snapshot():
    assert snapshot_problem(snapshot(), now_ms=T0 + 30_000, speed=1) is None
    assert "31.0 s ago" in (snapshot_problem(snapshot(), now_ms=T0 + 31_000, speed=1) or "")
    assert "-31.0 s ago" in (snapshot_problem(snapshot(), now_ms=T0 - 31_000, speed=1) or "")
    assert snapshot_problem(snapshot(), now_ms=T0 + 170_000, speed=30) is None
    assert snapshot_problem(None, now_ms=T0, speed=1) == "no state snapshot"
    assert snapshot_problem(snapshot(equity=0), now_ms=T0, speed=1) == "the account has no equity"
    assert "never reconciled" in (snapshot_problem(snapshot(last_reconcile_ts=None), now_ms=T0, speed=1) or "")
