"""Whatever a strategy proposes, what leaves the stabilizer keeps the limits and moves in small steps."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tradingbot.ai_decision.stabilize import stabilize
from tradingbot.domain.limits import TOLERANCE
from tradingbot.domain.messages import TargetWeight
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import AiParams, RiskParams
from tradingbot.domain.portfolio import gross, net, turnover
from tradingbot.risk_engine.limits import approve

UNIVERSE = ("BTC", "ETH", "SOL", "ADA", "DOGE")
RISK, AI = RiskParams(), AiParams()
LOOSE = 2 * TOLERANCE

portfolios = st.dictionaries(st.sampled_from(UNIVERSE), st.floats(-1, 1))
positions = st.dictionaries(st.sampled_from(UNIVERSE), st.floats(-0.5, 0.5))
limits = st.builds(
    RiskParams,
    max_gross=st.floats(0.01, 2),
    max_net=st.floats(0.01, 2),
    caps=st.dictionaries(st.sampled_from(UNIVERSE), st.floats(0, 1)),
    turnover_cap=st.floats(0.001, 1),
    allow_short=st.booleans(),
)


def steady(proposed, *, confidence=1.0, previous=None, present=None, risk=RISK, ai=AI):
    return stabilize(proposed, confidence=confidence, previous=previous or {}, present=present or {}, risk=risk, ai=ai)


@given(portfolios, portfolios, positions, limits, st.floats(0, 1), st.floats(0.01, 1))
def test_the_result_keeps_every_limit_that_can_hold(proposed, previous, present, risk, confidence, alpha):
    weights = steady(
        proposed,
        confidence=confidence,
        previous=previous,
        present=present,
        risk=risk,
        ai=AiParams(smooth_alpha=alpha),
    ).weights
    held = {symbol: weight for symbol, weight in present.items() if symbol not in weights}
    whole = [*held.values(), *weights.values()]

    assert set(weights) == set(proposed)
    assert all(abs(weight) <= risk.cap(symbol) + TOLERANCE for symbol, weight in weights.items())
    assert all(weight >= 0 or risk.allow_short for weight in weights.values())
    if weights:
        assert gross(whole) <= max(risk.max_gross, gross(held.values())) + LOOSE
        assert abs(net(whole)) <= max(risk.max_net, abs(net(held.values()))) + LOOSE
    grows = any(abs(w) > abs(present.get(s, 0.0)) or w * present.get(s, 0.0) < 0 for s, w in weights.items())
    assert not grows or turnover(weights, present) <= risk.turnover_cap + LOOSE


@given(portfolios, portfolios, positions, limits)
def test_the_risk_gate_changes_nothing_in_a_stabilized_target(proposed, previous, present, risk):
    weights = steady(proposed, previous=previous, present=present, risk=risk).weights

    targets = [TargetWeight(symbol=symbol, weight=weight) for symbol, weight in weights.items()]
    approval = approve(targets, present=present, universe=UNIVERSE, risk=risk, mode=Mode.NORMAL)

    assert approval.weights == weights


def test_smoothing_moves_by_alpha_towards_the_target():
    result = steady({"BTC": 0.10}, previous={"BTC": 0.02}, present={"BTC": 0.02})

    assert result.weights["BTC"] == pytest.approx(0.3 * 0.10 + 0.7 * 0.02)


def test_a_coin_without_a_previous_target_starts_from_its_present_weight():
    assert steady({"BTC": 0.10}, present={"BTC": 0.05}).weights["BTC"] == pytest.approx(0.3 * 0.10 + 0.7 * 0.05)


def test_low_confidence_halves_the_target():
    sure = steady({"BTC": 0.10}, confidence=0.4)
    unsure = steady({"BTC": 0.10}, confidence=0.39)

    assert unsure.weights["BTC"] == pytest.approx(sure.weights["BTC"] / 2)


def test_the_turnover_cap_scales_increases_and_never_reductions():
    quick = AiParams(smooth_alpha=1)

    result = steady({"BTC": 0.15, "ETH": 0.0}, present={"ETH": 0.05, "BTC": 0.05}, ai=quick)

    assert result.weights["ETH"] == 0.0
    assert result.weights["BTC"] == pytest.approx(0.10)


def test_tighter_limits_count_at_once_whatever_the_previous_target_was():
    tight = RiskParams(caps={"BTC": 0.02})

    assert steady({"BTC": 0.15}, previous={"BTC": 0.15}, present={"BTC": 0.15}, risk=tight).weights["BTC"] == 0.02


def test_held_coins_leave_less_room():
    result = steady({"BTC": 0.15}, present={"SOL": 0.10, "ADA": 0.05}, ai=AiParams(smooth_alpha=1))

    assert result.weights["BTC"] == pytest.approx(0.05)


def test_every_step_is_recorded_with_its_weights():
    result = steady({"BTC": 0.5, "ETH": 0.1}, confidence=0.1)

    assert list(result.steps) == ["strategy", "cap_and_scale", "low_confidence", "ewma", "turnover"]
    assert result.steps["strategy"] == {"BTC": 0.5, "ETH": 0.1}
    assert result.steps["cap_and_scale"]["BTC"] == pytest.approx(0.2 * 0.15 / 0.25)
    assert result.weights == result.steps["turnover"]
