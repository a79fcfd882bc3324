"""The portfolio that earns most for its risk and its costs, among those which the risk gate would leave alone.

    maximise μᵀw − γ/2·wᵀΣw − Σ cost·|w − now|

What the gate leaves alone is not one convex set but two: within box, gross and net, either Σ|w − now| keeps the
turnover cap, or nothing grows (what only reduces is exempt from the cap). Both are solved where the cap binds or cannot
be kept, and the better one is taken; where it does not bind, the first is the best of both. Zero is always in the
second, so there is always an answer, however far beyond its limits the present portfolio is.

The last step is the gate's own arithmetic on the solver's answer. It may move a weight by the solver's rounding and no
more; what it moves further, or what is worth less than the solver says, is no answer (``UnsolvedError``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from tradingbot.ai_decision.program import Array, Bounds, InfeasibleError, Optimum, Prices, Program, UnsolvedError
from tradingbot.domain.limits import TOLERANCE
from tradingbot.domain.weights import Room, Vector, clip, fit, reduce_only

__all__ = ["Optimizer", "Problem", "Rule", "Solution", "UnsolvedError"]

ROUNDING = 1e-7
"""How far from a bound, or from the present weight, the solver's answer counts as at it."""
MOVED = 1e-6
"""How far the gate's arithmetic may move a weight: a dollar in a million."""
WORTH = 1e-6
"""How much of the objective's size the last steps may cost."""
NO_ROOM = 1e-7
"""Room for so little leaves the solver nothing to search in, and the account nothing to gain."""


class Rule(StrEnum):
    """How the turnover cap was kept."""

    CAP = "cap"
    """Σ|w − now| is within it."""
    REDUCTIONS = "reductions"
    """Nothing grows, so that it does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One decision. Vectors are parallel; returns, risk and costs are fractions of equity over the same horizon."""

    mu: Array
    """Expected returns."""
    sigma: Array
    """Covariance, n x n."""
    risk_aversion: float
    """γ > 0: a portfolio of variance v must earn γ·v/2 more than cash to be as good."""
    cost: Array
    """Of a trade, as a fraction of what is traded, ≥ 0."""
    now: Array
    """Present weights."""
    lows: Array
    """The least weight of each coin, ≤ 0; 0 for all means long only."""
    highs: Array
    """The greatest, ≥ 0."""
    room: Room
    """Gross, net and turnover, and what held coins take of them, as the gate counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The best portfolio, and why it is the best."""

    weights: Vector
    objective: float
    rule: Rule
    prices: Prices
    iterations: int
    """Of the solver, over all programs solved; 0 where the limits left nothing to choose."""


class Optimizer:
    """Solves problems of one size; each program is set up at its first use and updated from then on."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._programs: dict[bool, Program] = {}

    def solve(self, problem: Problem) -> Solution:
        """The best portfolio that the gate would leave alone.

        Raises:
            UnsolvedError: numbers that are not finite, or no answer that can be trusted.
        """
        _check(problem, self._n)
        bounds = _bounds(problem)
        if bounds.gross <= NO_ROOM or not bool((bounds.lows < bounds.highs).any()):
            return _nothing(problem)
        capped = self._within_cap(problem, bounds)
        if capped is not None and not _may_gain(capped, problem, bounds):
            return capped
        reduced = self._reducing(problem, bounds)
        if capped is None:
            return reduced
        best = reduced if reduced.objective > capped.objective else capped
        return replace(best, iterations=capped.iterations + reduced.iterations)

    def _within_cap(self, problem: Problem, bounds: Bounds) -> Solution | None:
        """The best of those that keep the turnover cap; None when the other limits demand more turnover."""
        if demanded_turnover(bounds) > bounds.turnover - NO_ROOM:
            return None
        try:
            return self._solve(problem, bounds, Rule.CAP)
        except InfeasibleError:
            return None

    def _reducing(self, problem: Problem, bounds: Bounds) -> Solution:
        """The best of those where nothing grows."""
        lows = np.clip(np.minimum(bounds.now, 0.0), bounds.lows, 0.0)
        highs = np.clip(np.maximum(bounds.now, 0.0), 0.0, bounds.highs)
        if not bool((lows < highs).any()):
            return _nothing(problem)
        free = float(np.abs(bounds.now).sum()) + 1.0
        return self._solve(problem, replace(bounds, lows=lows, highs=highs, turnover=free), Rule.REDUCTIONS)

    def _solve(self, problem: Problem, bounds: Bounds, rule: Rule) -> Solution:
        shorts = bool((bounds.lows < 0.0).any())
        if shorts not in self._programs:
            self._programs[shorts] = Program(self._n, shorts=shorts)
        optimum = self._programs[shorts].solve(
            mu=problem.mu, risk=problem.sigma * problem.risk_aversion, cost=problem.cost, bounds=bounds
        )
        weights = _settle(optimum, problem, bounds, rule)
        value = objective(problem, weights)
        if not -optimum.value - value <= WORTH * (abs(value) + _size(problem)):
            raise UnsolvedError(f"the portfolio is worth {value:.3e}, the solver says {-optimum.value:.3e}")
        return Solution(
            weights=weights, objective=value, rule=rule, prices=optimum.prices, iterations=optimum.iterations
        )


def objective(problem: Problem, weights: Vector) -> float:
    """μᵀw − γ/2·wᵀΣw − Σ cost·|w − now|."""
    w = np.array(weights)
    risk = w * (problem.sigma * w).sum(axis=1)
    return float((problem.mu * w - problem.risk_aversion / 2.0 * risk - problem.cost * np.abs(w - problem.now)).sum())


def demanded_turnover(bounds: Bounds) -> float:
    """Turnover that box, gross and net demand at least; exact without shorts, a lower bound with them."""
    inside = np.clip(bounds.now, bounds.lows, bounds.highs)
    net = float(inside.sum())
    beyond = max(float(np.abs(inside).sum()) - bounds.gross, net - bounds.net_up, -net - bounds.net_down, 0.0)
    return float(np.abs(inside - bounds.now).sum()) + beyond


def _check(problem: Problem, n: int) -> None:
    if problem.sigma.shape != (n, n) or any(each.shape != (n,) for each in _vectors(problem)):
        raise UnsolvedError(f"the problem is not one of {n} coins")
    sums = (float(each.sum()) for each in (*_vectors(problem), problem.sigma))
    if not all(math.isfinite(number) for number in (*sums, problem.risk_aversion, *problem.room)):
        raise UnsolvedError("the problem has numbers that are not finite")


def _vectors(problem: Problem) -> tuple[Array, ...]:
    return problem.mu, problem.cost, problem.now, problem.lows, problem.highs


def _bounds(problem: Problem) -> Bounds:
    """The limits for these coins alone. Where held coins are beyond net already, the side that adds to it is closed:
    the gate asks for no more than that."""
    room, lows, highs = problem.room, problem.lows, problem.highs
    net_up, net_down = room.max_net - room.held_net, room.max_net + room.held_net
    free = float(np.abs(lows).sum() + np.abs(highs).sum()) + 1.0
    long_only = not bool((lows < 0.0).any())
    if net_up <= (NO_ROOM if long_only else 0.0):
        highs, net_up = np.minimum(highs, 0.0), free
    if net_down <= 0.0:
        lows, net_down = np.maximum(lows, 0.0), free
    return Bounds(
        now=problem.now,
        lows=lows,
        highs=highs,
        turnover=room.turnover_cap,
        gross=max(0.0, room.max_gross - room.held_gross),
        net_up=net_up,
        net_down=net_down,
    )


def _settle(optimum: Optimum, problem: Problem, bounds: Bounds, rule: Rule) -> Vector:
    """The solver's answer to the last digit: kinks and bounds met exactly, then the gate's own arithmetic."""
    found = optimum.weights
    for target in (np.zeros_like(found), bounds.lows, bounds.highs, bounds.now):
        found = np.where(np.abs(found - target) <= ROUNDING, target, found)
    weights: Vector = found.tolist()
    now: Vector = bounds.now.tolist()
    clip(weights, bounds.lows.tolist(), bounds.highs.tolist())
    if rule is Rule.REDUCTIONS:
        reduce_only(weights, now)
    fit(weights, now, [0] * len(weights), problem.room)
    moved = float(np.abs(optimum.weights - np.array(weights)).max())
    if not moved <= MOVED:
        raise UnsolvedError(f"the limits would move the solver's answer by {moved:.1e}")
    return [weight + 0.0 for weight in weights]


def _size(problem: Problem) -> float:
    """What the objective is made of, to measure a difference by."""
    reach = np.maximum(np.abs(problem.lows), np.abs(problem.highs))
    return float(np.abs(problem.mu).max() + problem.cost.max()) * min(float(reach.sum()), problem.room.max_gross)


def _nothing(problem: Problem) -> Solution:
    """The limits leave zero alone."""
    zero = np.zeros(len(problem.mu))
    weights: Vector = zero.tolist()
    prices = Prices(buy=zero, sell=zero, high=zero, low=zero, size=zero, turnover=0.0, gross=0.0, net=0.0)
    return Solution(
        weights=weights, objective=objective(problem, weights), rule=Rule.REDUCTIONS, prices=prices, iterations=0
    )


def _may_gain(capped: Solution, problem: Problem, bounds: Bounds) -> bool:
    """Whether reducing alone could be worth more than the best within the turnover cap: never where it does not bind.

    The objective is concave, so it lies below its tangent at the solution, and below that with the prices of gross and
    net charged for their room. On the way from 0 to the present weight that bound is linear: its greatest value is at
    an end of the way, for each coin by itself.
    """
    w = np.array(capped.weights)
    if float(np.abs(w - problem.now).sum()) < bounds.turnover - MOVED:
        return False
    prices = capped.prices
    slope = problem.mu - problem.risk_aversion * (problem.sigma * w).sum(axis=1) - prices.net
    room = prices.gross * bounds.gross + _net_room(prices.net, bounds)
    smooth = capped.objective + float((problem.cost * np.abs(w - problem.now) - (slope + prices.net) * w).sum())
    most = np.full(len(w), -np.inf)
    for end in (np.zeros(len(w)), np.clip(problem.now, bounds.lows, bounds.highs)):
        worth = slope * end - prices.gross * np.abs(end) - problem.cost * np.abs(end - problem.now)
        most = np.maximum(most, worth)
    return smooth + room + float(most.sum()) > capped.objective + TOLERANCE * _size(problem)


def _net_room(price: float, bounds: Bounds) -> float:
    return price * (min(bounds.net_up, bounds.gross) if price > 0.0 else -bounds.net_down)
