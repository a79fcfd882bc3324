"""What the optimizer is told: correlations that are estimated from the past alone, and the account's own limits."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tradingbot.ai_decision.allocation import Market, Regime, Stance, holdings_of, optimal_weights, problem_of
from tradingbot.ai_decision.correlation import MOST, PRIOR, Correlations, packed, shrink, unpacked
from tradingbot.ai_decision.optimizer import Optimizer
from tradingbot.domain.params import RiskParams

TWO = ("BTC", "ETH")


def returns(minutes: int, *, together: float, seed: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    common = draw.normal(size=(minutes, 1))
    own = draw.normal(size=(minutes, 2))
    return (together**0.5 * common + (1 - together) ** 0.5 * own) * [0.001, 0.01]


def seen(rows: np.ndarray) -> Correlations:
    running = Correlations(TWO)
    for row in rows:
        running.observe_row(row)
    return running


def test_nothing_known_means_the_prior():
    assert Correlations(TWO).matrix(TWO).tolist() == [[1, PRIOR], [PRIOR, 1]]


@pytest.mark.parametrize("together", [0.2, 0.5, 0.9])
def test_the_estimate_comes_near_the_truth(together):
    found = float(seen(returns(2000, together=together)).matrix(TWO)[0, 1])

    assert found == pytest.approx(0.8 * together + 0.2 * PRIOR, abs=0.15)


def test_one_wild_minute_does_not_decide():
    calm = returns(1000, together=0.8)
    wild = np.concatenate([calm, [[0.02, -0.2]]])

    assert seen(wild).matrix(TWO)[0, 1] > -0.95


def test_a_coin_that_is_missing_draws_towards_the_prior_and_breaks_nothing():
    rows = returns(500, together=0.9)
    rows[:, 1] = np.nan

    assert seen(rows).matrix(TWO)[0, 1] == PRIOR


def test_a_later_minute_changes_nothing_earlier():
    rows = returns(300, together=0.5)
    before = seen(rows[:200]).matrix(TWO)

    assert (seen(np.concatenate([rows[:200], rows[200:] * 5])[:200]).matrix(TWO) == before).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 50), st.integers(0, 80), st.floats(0, 0.5))
def test_correlations_are_always_positive_definite(seed, count, minutes, missing):
    draw = np.random.default_rng(seed)
    names = [f"C{i}" for i in range(count)]
    running = Correlations(names)
    for _ in range(minutes):
        row = draw.normal(size=count) * 0.01 + draw.normal() * 0.1
        running.observe_row(np.where(draw.uniform(size=count) < missing, np.nan, row))

    matrix = running.matrix(names)

    assert (matrix == matrix.T).all()
    assert (np.diagonal(matrix) == 1).all()
    assert float(np.linalg.eigvalsh(matrix).min()) > 0.001


@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_a_record_holds_the_very_matrix(count, seed):
    raw = np.corrcoef(np.random.default_rng(seed).normal(size=(count, 20))).reshape(count, count)
    matrix = shrink(raw, 30.0)

    assert (unpacked(packed(matrix), count) == matrix).all()


@pytest.mark.parametrize(("values", "count"), [([0.5], 3), ([1.5], 2), ([float("nan")], 2), ([], 2)])
def test_what_correlations_cannot_be_is_refused(values, count):
    with pytest.raises(ValueError, match=f"correlations of {count} coins"):
        unpacked(values, count)


def test_coins_that_move_as_one_are_still_told_apart():
    assert float(shrink(np.ones((2, 2)), 1e9)[0, 1]) == 1.0
    assert float(seen(np.tile(returns(500, together=0.5)[:, :1], 2)).matrix(TWO)[0, 1]) < 1.0
    assert MOST < 1.0


# ------------------------------------------------------------------ the account


def test_a_coin_that_is_not_weighed_is_held_and_counts():
    holdings = holdings_of(("BTC",), present={"BTC": 0.05, "ETH": -0.1}, universe=TWO, risk=RiskParams())

    assert holdings.now == [0.05]
    assert (holdings.room.held_gross, holdings.room.held_net) == (0.1, -0.1)


def test_a_position_that_the_gate_closes_uses_up_turnover_instead():
    risk = RiskParams(external_positions="Reduce", turnover_cap=0.1)
    holdings = holdings_of(("BTC",), present={"XRP": 0.03}, universe=TWO, risk=risk)

    assert holdings.room.held_gross == 0
    assert holdings.room.turnover_cap == pytest.approx(0.07)


def market(**more) -> Market:
    return Market(
        vol_1h=[0.5, 0.8], ret_5m=[0.01, 0.01], ret_1h=[0.02, 0.03], correlation=np.array([[1, 0.5], [0.5, 1]]), **more
    )


def test_a_wide_book_makes_a_trade_dearer():
    holdings = holdings_of(TWO, present={}, universe=TWO, risk=RiskParams())
    stance = Stance(regime=Regime.TREND, multiplier=1)

    near = problem_of(market(half_spread=[0.0001, 0.0001]), holdings, stance)
    wide = problem_of(market(half_spread=[0.0001, 0.0021]), holdings, stance)

    assert (wide.cost - near.cost).tolist() == pytest.approx([0, 0.002])
    assert optimal_weights(market(half_spread=[0.0001, 0.01]), holdings, stance, Optimizer(2))[1] == 0


def test_returns_expected_are_small():
    problem = problem_of(
        market(),
        holdings_of(TWO, present={}, universe=TWO, risk=RiskParams()),
        Stance(regime=Regime.TREND, multiplier=1),
    )

    assert all(0 < each < 0.0025 for each in problem.mu)
