"""Why the optimizer chose what it chose, coin by coin, in basis points.

At the optimum every coin's account balances: what one more unit of weight is expected to earn, less what its risk
costs, is what the trade costs and what the limits that bind hold back:

    expected − risk = trade + cap + gross + net

A limit's part is its dual value: what the objective would gain if it were one unit of weight wider. ``trade`` lies
between −(cost + turnover) and +(cost + turnover): at an end the coin is traded, in between it does not pay to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tradingbot.ai_decision.optimizer import Problem, Rule, Solution
from tradingbot.domain.model import Model

BPS = 10_000.0
DECIMALS = 4
TELLING = 0.001
"""Basis points below which a dual value is the solver's rounding."""


class CoinBreakdown(Model):
    """One coin's account: basis points of equity per unit of weight, over the horizon."""

    weight: float
    change: float
    """Against the present weight."""
    expected_bps: float
    """μ."""
    risk_bps: float
    """γ(Σw): what one more unit adds to the charge for risk."""
    cost_bps: float
    """Of a trade."""
    trade_bps: float
    """What the trade costs at the margin, cost and turnover cap, with the sign of the change."""
    cap_bps: float
    gross_bps: float
    net_bps: float
    binds: tuple[str, ...]
    """What holds the weight where it is: cap, floor, gross, net, turnover, reductions (only what reduces is exempt from
    the turnover cap), cost (a trade does not pay)."""


class Breakdown(Model):
    """The whole, and each coin."""

    rule: Rule
    objective_bps: float
    turnover_price_bps: float
    gross_price_bps: float
    net_price_bps: float
    coins: dict[str, CoinBreakdown]


def breakdown(symbols: Sequence[str], problem: Problem, solution: Solution) -> Breakdown:
    """Tell a solution in words and basis points."""
    prices = solution.prices
    risk = problem.risk_aversion * (problem.sigma * np.array(solution.weights)).sum(axis=1)
    coins = {symbol: _coin(i, problem, solution, float(risk[i])) for i, symbol in enumerate(symbols)}
    return Breakdown(
        rule=solution.rule,
        objective_bps=_bps(solution.objective),
        turnover_price_bps=_bps(prices.turnover),
        gross_price_bps=_bps(prices.gross),
        net_price_bps=_bps(prices.net),
        coins=coins,
    )


def _coin(i: int, problem: Problem, solution: Solution, risk: float) -> CoinBreakdown:
    prices, weight = solution.prices, solution.weights[i]
    change = weight - float(problem.now[i])
    trade, high, low = float(prices.buy[i] - prices.sell[i]), float(prices.high[i]), float(prices.low[i])
    left = float(problem.mu[i]) - risk - float(prices.size[i]) - prices.net
    idle = not change and abs(left) <= float(problem.cost[i]) + prices.turnover
    if idle:  # where the present weight is at its bound too, the solver may call either the reason: the cost suffices
        trade, high, low = left, 0.0, 0.0
    held_back = {
        "cap": high,
        "floor": low,
        "gross": abs(float(prices.size[i])),
        "net": abs(prices.net),
        "turnover": prices.turnover if change else 0.0,
    }
    binds = [name for name, price in held_back.items() if price * BPS > TELLING]
    if solution.rule is Rule.REDUCTIONS and not change:
        binds = ["reductions" if name in {"cap", "floor"} else name for name in binds]
    if idle:
        binds.append("cost")
    return CoinBreakdown(
        weight=weight,
        change=change,
        expected_bps=_bps(float(problem.mu[i])),
        risk_bps=_bps(risk),
        cost_bps=_bps(float(problem.cost[i])),
        trade_bps=_bps(trade),
        cap_bps=_bps(high - low),
        gross_bps=_bps(float(prices.size[i])),
        net_bps=_bps(prices.net),
        binds=tuple(binds),
    )


def _bps(value: float) -> float:
    return round(value * BPS, DECIMALS) + 0.0
