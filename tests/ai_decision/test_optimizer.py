"""The optimizer: the best portfolio among those that the risk gate leaves alone, the same to the last bit."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from ai_decision.problems import COINS, accounts, oracle, problem, problems
from tradingbot.ai_decision.optimizer import Optimizer, Rule, UnsolvedError, objective
from tradingbot.ai_decision.program import MAX_ITERATIONS, Program
from tradingbot.domain.limits import TOLERANCE, within_limits
from tradingbot.domain.messages import TargetWeight
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import RiskParams
from tradingbot.risk_engine.limits import approve

FIVE = COINS[:5]
OPTIMIZERS = {n: Optimizer(n) for n in range(1, 9)}


def solve(each, optimizer=None):
    return (optimizer or OPTIMIZERS[len(each.mu)]).solve(each)


@settings(max_examples=200, deadline=None)
@given(accounts(), st.integers(0, 2**32 - 1))
def test_the_risk_gate_leaves_every_solution_alone(account, seed):
    symbols, present, risk = account
    solution = solve(problem(symbols, present=present, risk=risk, seed=seed))

    approval = approve(
        [TargetWeight(symbol=s, weight=w) for s, w in zip(symbols, solution.weights, strict=True)],
        present=present,
        universe=symbols,
        risk=risk,
        mode=Mode.NORMAL,
    )

    for symbol, weight in zip(symbols, solution.weights, strict=True):
        assert abs(approval.weights[symbol] - weight) <= TOLERANCE


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@settings(max_examples=50, deadline=None)
@given(problems())
def test_no_portfolio_that_the_gate_leaves_alone_is_worth_more(each):
    best = max(oracle(each, rule) for rule in Rule)
    scale = float(np.abs(each.mu).max() + each.cost.max()) * each.room.max_gross

    assert solve(each).objective >= best - 1e-6 * abs(best) - 1e-8 * scale


def test_the_objective_equals_that_of_an_independent_solver_at_fifty_coins():
    coins = tuple(f"C{i}" for i in range(50))
    present = dict.fromkeys(coins[::2], 0.003)

    for short in (False, True):
        each = problem(coins, present=present, risk=RiskParams(allow_short=short), seed=7)
        assert solve(each, Optimizer(50)).objective == pytest.approx(oracle(each, Rule.CAP), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(problems(count=3), min_size=2, max_size=4))
def test_an_updated_optimizer_gives_the_same_last_bit_as_a_fresh_one(several):
    kept = Optimizer(3)

    for each in several:
        updated, fresh = kept.solve(each), Optimizer(3).solve(each)
        assert updated.weights == fresh.weights
        assert updated.objective == fresh.objective
        assert updated.prices.turnover == fresh.prices.turnover


@given(problems())
def test_the_prices_of_all_limits_explain_every_weight(each):
    solution = solve(each)
    prices = solution.prices
    left = each.mu - each.risk_aversion * each.sigma @ np.array(solution.weights)
    held = (prices.buy - prices.sell) + (prices.high - prices.low) + prices.size + prices.net

    scale = max(float(np.abs(each.mu).max()), float(each.cost.max()), 1e-3)
    rounding = 2e-7 * each.risk_aversion * float(each.sigma.max())
    if solution.iterations:
        assert left == pytest.approx(held, abs=1e-6 * scale + rounding * len(left))


def account(*, present=None, seed=1, **risk):
    return problem(FIVE, present=present or {}, risk=RiskParams(**risk), seed=seed)


def test_reductions_that_the_limits_demand_pass_the_turnover_cap():
    beyond = account(present=dict.fromkeys(FIVE, 0.2), turnover_cap=0.05)

    solution = solve(beyond)

    assert solution.rule is Rule.REDUCTIONS
    assert sum(abs(w - 0.2) for w in solution.weights) > 0.05
    assert not within_limits(dict(zip(FIVE, solution.weights, strict=True)), RiskParams())


def test_leaving_a_market_may_take_more_than_the_turnover_cap():
    falling = replace(account(present=dict.fromkeys(FIVE, 0.03)), mu=np.full(5, -0.05))

    solution = solve(falling)

    assert solution.weights == [0.0] * 5
    assert solution.rule is Rule.REDUCTIONS


def test_increases_keep_the_turnover_cap():
    rising = replace(account(), mu=np.full(5, 0.05))

    solution = solve(rising)

    assert solution.rule is Rule.CAP
    assert sum(solution.weights) == pytest.approx(0.1)
    assert solution.prices.turnover > 0


def test_what_does_not_pay_for_its_cost_is_not_traded():
    present = {"BTC": 0.01, "ETH": 0.02}
    dull = account(present=present)
    dull = replace(dull, mu=dull.risk_aversion * dull.sigma @ dull.now + 0.0001, cost=np.full(5, 0.0005))

    assert solve(dull).weights == [0.01, 0.02, 0.0, 0.0, 0.0]


def test_held_coins_take_their_part_of_gross():
    rising = {"seed": 3, "turnover_cap": 1.0, "max_net": 1.0}
    free = replace(account(**rising), mu=np.full(5, 0.05))
    beside = replace(account(present={"XRP": 0.3}, **rising), mu=np.full(5, 0.05))

    assert sum(solve(free).weights) == pytest.approx(0.4)
    assert sum(solve(beside).weights) == pytest.approx(0.1)


def test_nothing_is_bought_where_held_coins_fill_the_limits():
    full = replace(account(present={"XRP": 0.5, "ETH": 0.01}), mu=np.full(5, 0.05))

    assert solve(full).weights == [0.0] * 5


def test_a_problem_where_the_steps_go_round_in_a_circle_is_solved_with_shorter_ones():
    sigma = np.zeros((5, 5))
    sigma[np.tril_indices(5)] = 1e-6 * np.array(
        [333, 496, 1285, 466, 979, 1167, 528, 1109, 1056, 1553, 671, 1426, 1351, 1554, 2250]
    )
    each = replace(
        account(allow_short=True),
        mu=np.array([-0.000539, -0.001576, -0.001444, -0.001316, -0.001985]),
        sigma=sigma + np.tril(sigma, -1).T,
        risk_aversion=10.0,
        cost=np.full(5, 0.00055),
        now=np.array([-0.061571, 0.026593, 0.060688, -0.076625, -0.048627]),
    )

    solution = solve(each)

    assert solution.iterations > MAX_ITERATIONS
    assert solution.objective == pytest.approx(oracle(each, Rule.CAP), rel=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["mu", "cost", "now", "lows", "highs", "sigma"])
def test_numbers_that_are_not_finite_are_refused(field, value):
    each = account()
    broken = getattr(each, field).copy()
    broken.flat[1] = value

    with pytest.raises(UnsolvedError, match="not finite"):
        solve(replace(each, **{field: broken}))


def test_a_problem_of_another_size_is_refused():
    with pytest.raises(UnsolvedError, match="not one of 4 coins"):
        Optimizer(4).solve(account())


def test_a_covariance_that_is_none_gives_no_answer():
    each = account(turnover_cap=1.0)

    with pytest.raises(UnsolvedError):
        solve(replace(each, sigma=-each.sigma * 1000))


def test_an_answer_beyond_the_limits_is_no_answer(monkeypatch):
    whole = Program.solve

    def stray(self, **numbers):
        found = whole(self, **numbers)
        return replace(found, weights=found.weights + 0.01)

    monkeypatch.setattr(Program, "solve", stray)

    with pytest.raises(UnsolvedError, match="would move"):
        solve(replace(account(), mu=np.full(5, 0.05)))


def test_an_answer_that_is_worth_less_than_the_solver_says_is_no_answer(monkeypatch):
    whole = Program.solve

    def boast(self, **numbers):
        found = whole(self, **numbers)
        return replace(found, value=found.value * 2)

    monkeypatch.setattr(Program, "solve", boast)

    with pytest.raises(UnsolvedError, match="is worth"):
        solve(replace(account(), mu=np.full(5, 0.05)))


def test_the_objective_is_return_less_risk_less_cost():
    each = account(present={"BTC": 0.05})
    weights = [0.1, 0.0, 0.02, 0.0, 0.0]
    w = np.array(weights)

    by_hand = each.mu @ w - each.risk_aversion / 2 * w @ each.sigma @ w - 0.05 * each.cost[0] - 0.02 * each.cost[2]

    assert objective(each, weights) == pytest.approx(by_hand, rel=1e-12)


def test_the_optimizer_loads_numpy_and_clarabel_and_nothing_heavier():
    told = subprocess.run(
        [sys.executable, "-c", "import sys, tradingbot.ai_decision.regime; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = {name.partition(".")[0] for name in told.stdout.split()}
    assert {"numpy", "clarabel"} <= loaded
    assert not {"scipy", "cvxpy", "numba", "pandas"} & loaded
