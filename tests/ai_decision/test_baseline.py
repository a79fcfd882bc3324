"""The baseline: momentum over volatility, gradual and well within the limits."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ai_decision.market import UNIVERSE, features, view
from tradingbot.ai_decision.baseline import propose, strength
from tradingbot.ai_decision.budgets import CAP_SHARE, DEPLOYABLE
from tradingbot.ai_decision.strategy import validate
from tradingbot.domain.limits import within_limits
from tradingbot.domain.params import RiskParams
from tradingbot.domain.portfolio import gross

moves = st.dictionaries(st.sampled_from(UNIVERSE), st.floats(-1e3, 1e3), min_size=5)
vols = st.dictionaries(st.sampled_from(UNIVERSE), st.floats(0, 50), min_size=5)


@given(moves, moves, vols, st.booleans())
def test_any_market_gives_a_valid_proposal_within_all_limits(fast, slow, vol, allow_short):
    risk = RiskParams(allow_short=allow_short)
    seen = view(features(fast=fast, slow=slow, vols=vol), risk=risk)

    proposal = propose(seen)

    validate(proposal, seen)
    assert not within_limits(proposal.weights, risk)
    assert gross(proposal.weights.values()) <= DEPLOYABLE * risk.max_net + 1e-12
    assert all(abs(weight) <= CAP_SHARE * risk.cap(symbol) for symbol, weight in proposal.weights.items())
    assert all(weight >= 0 or allow_short for weight in proposal.weights.values())


def test_a_market_without_momentum_holds_half_of_each_budget():
    proposal = propose(view())

    assert all(weight > 0.01 for weight in proposal.weights.values())
    assert gross(proposal.weights.values()) == pytest.approx(DEPLOYABLE * 0.20 / 2)
    assert proposal.confidence == 0.5


def test_calmer_coins_get_more():
    weights = propose(view()).weights

    assert weights["BTC"] > weights["ETH"] > weights["SOL"] > weights["ADA"] > weights["DOGE"]


def test_weight_rises_with_momentum_and_the_slow_move_leads():
    still = propose(view()).weights["BTC"]
    rising = propose(view(features(slow=0.005))).weights["BTC"]
    fast_only = propose(view(features(fast=0.005 / 12**0.5))).weights["BTC"]
    falling = propose(view(features(slow=-0.005))).weights["BTC"]

    assert falling < still < fast_only < rising


def test_momentum_down_is_a_short_only_where_shorts_are_allowed():
    falling = features(fast=-0.01, slow=-0.02)

    assert all(weight >= 0 for weight in propose(view(falling)).weights.values())
    assert all(weight < 0 for weight in propose(view(falling, risk=RiskParams(allow_short=True))).weights.values())


def test_confidence_tells_whether_the_moves_agree():
    agree = propose(view(features(fast=0.02, slow=0.05))).confidence
    disagree = propose(view(features(fast=0.02, slow=-0.05))).confidence

    assert agree > 0.95
    assert disagree < 0.05


def test_coins_with_missing_or_stale_features_are_left_out():
    no_doge = {symbol: vol for symbol, vol in view().features.vol_1h.items() if symbol != "DOGE"}
    seen = features(vols=no_doge, stale=("SOL",), missing=("DOGE",))

    assert set(propose(view(seen)).weights) == {"BTC", "ETH", "ADA"}


def test_without_any_features_nothing_is_proposed():
    proposal = propose(view(features(vols={})))

    assert proposal.weights == {}
    assert proposal.confidence == 0


@given(st.floats(-1e308, 1e308), st.floats(0.05, 50))
def test_strength_is_a_number_from_minus_one_to_one_for_any_move(move, vol):
    assert -1 <= strength(move, vol, 5) <= 1


def test_the_same_features_give_the_same_weights_to_the_last_bit():
    seen = view(features(fast=0.001, slow=-0.003))

    assert propose(seen) == propose(seen)
