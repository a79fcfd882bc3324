"""The figures of an equity curve, against other ways to compute them and against published examples."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.replay.backtest import figures
from tradingbot.replay.backtest.figures import DAY_MS, HOUR_MS, Returns

moves = st.lists(st.floats(-0.2, 0.25), min_size=3, max_size=60)


def curve(steps: list[float], *, step_ms: int = HOUR_MS) -> tuple[np.ndarray, np.ndarray]:
    equity = [10_000.0]
    for step in steps:
        equity.append(equity[-1] * (1 + step))
    return np.arange(len(equity), dtype=np.int64) * step_ms, np.array(equity)


def returns(steps: list[float]) -> Returns:
    return figures.returns_of(*curve(steps))


@given(moves)
def test_sharpe_is_the_mean_over_the_deviation_scaled_to_a_year_of_8760_hours(steps):
    found = returns(steps)
    deviation = statistics.stdev(found.values.tolist())
    expected = statistics.fmean(found.values.tolist()) / deviation * math.sqrt(8760) if deviation > 1e-12 else None
    assert figures.sharpe(found) == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-9))


@given(moves)
def test_sortino_counts_only_what_was_lost_over_all_periods(steps):
    found = returns(steps).values.tolist()
    downside = math.sqrt(sum(min(each, 0.0) ** 2 for each in found) / len(found))
    expected = sum(found) / len(found) / downside * math.sqrt(8760) if downside > 1e-12 else None
    told = figures.sortino(returns(steps))
    assert told == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-9))


@given(moves)
def test_the_deepest_fall_is_the_worst_of_all_pairs_of_an_earlier_and_a_later_value(steps):
    at_ms, equity = curve(steps)
    worst = max((equity[i] - equity[j]) / equity[i] for i in range(len(equity)) for j in range(i, len(equity)))
    fall = figures.deepest_fall(equity)
    assert fall.depth == pytest.approx(worst, abs=1e-12)
    assert (equity[fall.peak] - equity[fall.bottom]) / equity[fall.peak] == pytest.approx(worst, abs=1e-12)
    if fall.recovered is not None:
        assert equity[fall.recovered] >= equity[fall.peak]
        assert all(equity[fall.bottom : fall.recovered] < equity[fall.peak])
    assert figures.calmar(at_ms, equity) is None or fall.depth > 0


@given(moves)
def test_returns_compound_to_the_whole(steps):
    _, equity = curve(steps)
    assert np.prod(1 + returns(steps).values) == pytest.approx(equity[-1] / equity[0])


@given(st.lists(st.floats(-0.02, 0.02), min_size=20, max_size=400))
def test_the_yearly_rate_compounds_to_the_whole(steps):
    at_ms, equity = curve(steps, step_ms=DAY_MS)
    yearly = figures.annual_return(at_ms, equity)
    assert (1 + yearly) ** (len(steps) / 365) == pytest.approx(equity[-1] / equity[0], rel=1e-9)


def test_no_yearly_rate_is_told_of_less_than_twenty_days():
    at_ms, equity = curve([0.01] * 19, step_ms=DAY_MS)
    assert figures.annual_return(at_ms, equity) is None
    assert figures.calmar(at_ms, equity) is None


@given(st.lists(st.floats(-0.2, 0.25).filter(lambda x: abs(x) > 1e-3), min_size=8, max_size=60))
def test_moments_agree_with_scipy(steps):
    from scipy import stats

    found = returns(steps).values
    if figures.period_sharpe(found) is None or found.std() < 1e-6:
        return
    assert figures.skewness(found) == pytest.approx(stats.skew(found), rel=1e-6, abs=1e-6)
    assert figures.kurtosis(found) == pytest.approx(stats.kurtosis(found, fisher=False), rel=1e-6, abs=1e-6)


def test_days_are_taken_where_there_are_enough_of_them_and_a_rest_is_left_out():
    at_ms, equity = curve([0.001] * (24 * 25 + 7))
    found = figures.returns_of(at_ms, equity)
    assert found.period_ms == DAY_MS
    assert len(found.values) == 25
    assert found.values.tolist() == pytest.approx([1.001**24 - 1] * 25)
    assert found.per_year == 365


def test_the_deflated_sharpe_ratio_reproduces_the_example_of_its_paper():
    """Bailey and López de Prado 2014: SR 2.5 a year, 5 years of 250 days, γ3 −3, γ4 10, V 1/2: 0.90 of 100 trials."""
    lucky = figures.luckiest_sharpe(variance=1 / 2 / 250, trials=100)
    assert lucky == pytest.approx(0.1132, abs=5e-5)
    told = figures.probabilistic_sharpe(2.5 / math.sqrt(250), beat=lucky, count=1250, skew=-3, kurt=10)
    assert told == pytest.approx(0.9004, abs=5e-5)


def test_the_same_example_with_46_trials_is_significant():
    lucky = figures.luckiest_sharpe(variance=1 / 2 / 250, trials=46)
    told = figures.probabilistic_sharpe(2.5 / math.sqrt(250), beat=lucky, count=1250, skew=-3, kurt=10)
    assert told == pytest.approx(0.9505, abs=5e-5)


def test_the_best_of_trials_without_skill_shows_about_what_luck_is_said_to_show():
    draws = np.random.default_rng(1).normal(size=(4000, 50))
    assert draws.max(axis=1).mean() == pytest.approx(figures.luckiest_sharpe(variance=1.0, trials=50), rel=0.03)


def test_the_best_of_many_trials_without_skill_is_not_taken_for_skill():
    naive, deflated = [], []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=(100, 250)) * 0.01
        ratios = np.array([figures.period_sharpe(row) for row in noise])
        naive.append(figures.probabilistic_sharpe(float(ratios.max()), beat=0.0, count=250))
        deflated.append(figures.deflated_sharpe(ratios, noise[int(ratios.argmax())]))
    assert np.mean(naive) > 0.98
    assert 0.3 < np.mean(deflated) < 0.7


def test_the_error_of_a_sharpe_ratio_is_what_samples_of_it_scatter_by():
    draws = np.random.default_rng(3).normal(0.0005, 0.01, size=(2000, 100))
    told = figures.sharpe_error(Returns(values=draws[0], period_ms=DAY_MS))
    seen = np.array([figures.period_sharpe(row) for row in draws]).std() * math.sqrt(365)
    assert told == pytest.approx(seen, rel=0.1)


def test_what_cannot_be_told_is_none():
    at_ms, flat = curve([0.0] * 30)
    found = figures.returns_of(at_ms, flat)
    assert figures.sharpe(found) is figures.sortino(found) is figures.volatility(found) is None
    assert figures.hit_rate(found.values) is figures.skewness(found.values) is None
    assert figures.calmar(at_ms, flat) is None
    assert figures.deepest_fall(flat).depth == 0.0


def test_a_lost_account_has_figures_too():
    at_ms, equity = curve([-0.5, 0.1, 0.2])
    equity[2:] = 0.0
    assert figures.total_return(equity) == -1.0
    assert figures.annual_return(at_ms, equity) is None
    assert all(np.isfinite(figures.returns_of(at_ms, equity).values))
    assert figures.deepest_fall(equity).depth == 1.0
