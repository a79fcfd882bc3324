"""The portfolio's quadratic program in Clarabel's form, set up once and updated.

Over the weights w, the sizes of the trades t ≥ |w − now| and, where shorts are possible, the sizes s ≥ |w|:

    minimise   γ/2·wᵀΣw − μᵀw + costᵀt
    subject to w − t ≤ now,  −w − t ≤ −now,  w ≤ highs,  −w ≤ −lows,
               [w − s ≤ 0,  −w − s ≤ 0,]  Σt ≤ turnover,
               long only: Σw ≤ total;   with shorts: Σs ≤ gross,  Σw ≤ net up,  −Σw ≤ net down

Long only, gross and net are the same sum, so that one row and no s carries both. The matrix of the constraints never
changes; γΣ, μ, the costs and every bound are vectors that ``update`` hands over. Nothing of an earlier solve is
reused but the structure: weights are measured in the largest bound and the objective in its largest coefficient, which
depends on the problem alone, and Clarabel's own equilibration, which would remember the first problem, is off. An
updated solver so gives the same last bit as a fresh one (QDLDL: scalar code, one thread), and replay depends on that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import clarabel
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

GAP = 1e-9
"""Largest duality gap and residual, of a program whose coefficients are about 1."""
MAX_ITERATIONS = 40
"""Of an attempt; about 10 are needed."""


class Care(NamedTuple):
    """How an attempt at a program goes about it."""

    step: float
    """The part of the way to the boundary that a step may go."""
    refines: bool
    """Whether every step's linear system is solved again for what its rounding left over."""


ATTEMPTS = (Care(step=0.99, refines=False), Care(step=0.9, refines=True))
"""Long and rough steps are fastest and nearly always enough: residuals and gap are measured on the program itself, so
that ``GAP`` holds all the same. About once in ten thousand programs with shorts they go round in a circle."""


class UnsolvedError(Exception):
    """The program has no solution, or the solver found none that can be trusted."""


class InfeasibleError(UnsolvedError):
    """No portfolio keeps all bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The right-hand sides, in weights."""

    now: Array
    lows: Array
    highs: Array
    turnover: float
    gross: float
    net_up: float
    """Σw at most."""
    net_down: float
    """−Σw at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What one more unit of weight would be worth to the objective at each bound: the dual values, ≥ 0.

    At the optimum μ − γΣw = (buy − sell) + (high − low) + size + net for every coin, with buy + sell = cost + turnover.
    """

    buy: Array
    sell: Array
    high: Array
    low: Array
    size: Array
    """Of Σ|w| ≤ gross, with the weight's sign."""
    turnover: float
    gross: float
    net: float
    """Of Σw ≤ net up, less that of −Σw ≤ net down. Long only, the tighter one of gross and net up has the price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """What the solver found."""

    weights: Array
    value: float
    """The least value of the program: minus the greatest of the objective."""
    prices: Prices
    iterations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A sparse matrix, column after column, with what Clarabel asks one of scipy's for: scipy itself would cost 14 MB.
    An entry that is 0 is kept, because it must have its place when it is not."""

    data: Array
    indices: npt.NDArray[np.int64]
    indptr: npt.NDArray[np.int64]
    shape: tuple[int, ...]
    has_canonical_format: bool = True


class Program:
    """One program of a size, solved again and again with other numbers."""

    def __init__(self, n: int, *, shorts: bool) -> None:
        self._n = n
        self._shorts = shorts
        self._upper = _upper_triangle(n)
        self._solvers: dict[Care, Any] = {}

    def solve(self, *, mu: Array, risk: Array, cost: Array, bounds: Bounds) -> Optimum:
        """The optimum for these numbers.

        Args:
            mu: expected returns.
            risk: γΣ, symmetric and positive semidefinite.
            cost: of one unit of each weight traded, ≥ 0.
            bounds: the right-hand sides; a bound that leaves no room is allowed as long as some portfolio keeps it.

        Raises:
            InfeasibleError: no portfolio keeps them.
            UnsolvedError: not solved to ``GAP``.
        """
        unit = max(float(np.abs(bounds.highs).max()), float(np.abs(bounds.lows).max()), 1e-3)
        quadratic = risk[self._upper] * (unit * unit)
        linear = np.concatenate([-mu, cost, np.zeros(self._n if self._shorts else 0)]) * unit
        worth = max(float(np.abs(linear).max()), float(np.abs(quadratic).max()), 1e-12)
        solution, iterations = self._run(quadratic / worth, linear / worth, self._right(bounds) / unit)
        return Optimum(
            weights=np.array(solution.x[: self._n]) * unit,
            value=float(solution.obj_val) * worth,
            prices=self._prices(np.array(solution.z) * (worth / unit), bounds),
            iterations=iterations,
        )

    def _run(self, quadratic: Array, linear: Array, right: Array) -> tuple[Any, int]:
        """The solution and all iterations that it took."""
        iterations, status = 0, ""
        for care in ATTEMPTS:
            if care in self._solvers:
                self._solvers[care].update(P=quadratic, q=linear, b=right)
            else:
                self._solvers[care] = self._fresh(quadratic, linear, right, care=care)
            solution = self._solvers[care].solve()
            iterations += int(solution.iterations)
            status = str(solution.status)
            if status == "Solved":
                return solution, iterations
            if status == "PrimalInfeasible":
                raise InfeasibleError("no portfolio keeps the limits")
        raise UnsolvedError(f"the solver says {status} after {iterations} iterations")

    def _fresh(self, quadratic: Array, linear: Array, right: Array, *, care: Care) -> Any:
        size = len(linear)
        columns = np.minimum(np.arange(size + 1), self._n)
        p = Columns(data=quadratic, indices=self._upper[0], indptr=columns * (columns + 1) // 2, shape=(size, size))
        a = _columns(_matrix(self._n, shorts=self._shorts))
        cones = [clarabel.NonnegativeConeT(len(right))]
        return clarabel.DefaultSolver(p, linear, a, right, cones, _settings(care))

    def _right(self, bounds: Bounds) -> Array:
        sides = [bounds.now, -bounds.now, bounds.highs, -bounds.lows]
        if self._shorts:
            sums = [bounds.turnover, bounds.gross, bounds.net_up, bounds.net_down]
            return np.concatenate([*sides, np.zeros(2 * self._n), sums])
        return np.concatenate([*sides, [bounds.turnover, min(bounds.gross, bounds.net_up)]])

    def _prices(self, duals: Array, bounds: Bounds) -> Prices:
        n = self._n
        trades = {"buy": duals[:n], "sell": duals[n : 2 * n], "high": duals[2 * n : 3 * n], "low": duals[3 * n : 4 * n]}
        if self._shorts:
            sizes, sums = duals[4 * n : 5 * n] - duals[5 * n : 6 * n], duals[6 * n :]
            gross, net = float(sums[1]), float(sums[2] - sums[3])
        else:
            sums = duals[4 * n :]
            total, is_gross = float(sums[1]), bounds.gross < bounds.net_up
            gross, net = (total, 0.0) if is_gross else (0.0, total)
            sizes = np.full(n, gross)
        return Prices(**trades, size=sizes, turnover=float(sums[0]), gross=gross, net=net)


def _upper_triangle(n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and columns of the upper triangle, column after column as a CSC matrix stores it."""
    columns, rows = np.tril_indices(n)
    return rows.astype(np.int64), columns.astype(np.int64)


def _matrix(n: int, *, shorts: bool) -> Array:
    each, none, ones, zeros = np.identity(n), np.zeros((n, n)), np.ones((1, n)), np.zeros((1, n))
    trades = [[each, -each], [-each, -each], [each, none], [-each, none]]
    if not shorts:
        return np.block([*trades, [zeros, ones], [ones, zeros]])
    sizes = [[each, none, -each], [-each, none, -each]]
    sums = [[zeros, ones, zeros], [zeros, zeros, ones], [ones, zeros, zeros], [-ones, zeros, zeros]]
    return np.block([*([*row, none] for row in trades), *sizes, *sums])


def _columns(dense: Array) -> Columns:
    columns, rows = np.nonzero(dense.T)
    ends = np.searchsorted(columns, np.arange(dense.shape[1] + 1))
    return Columns(data=dense[rows, columns], indices=rows, indptr=ends, shape=dense.shape)


def _settings(care: Care) -> Any:
    settings = clarabel.DefaultSettings()
    settings.max_step_fraction = care.step
    settings.iterative_refinement_enable = care.refines
    settings.verbose = False
    settings.max_threads = 1
    settings.max_iter = MAX_ITERATIONS
    settings.direct_solve_method = "qdldl"
    settings.equilibrate_enable = False
    settings.presolve_enable = False  # it would take rows away, and then nothing may be updated
    settings.chordal_decomposition_enable = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = GAP
    return settings
