"""cvxpy with Clarabel: one problem with parameters (DPP), compiled once, solved again with other values."""

from __future__ import annotations

import clarabel
import cvxpy as cp
import numpy as np
from problem import TIGHT, Array, Series, Solve, main


def prepare(series: Series) -> Solve:
    """The problem; its quadratic term by a Cholesky factor, since a parameter may only enter affinely."""
    n = len(series.lows)
    w = cp.Variable(n)
    mu, cost, now, factor = cp.Parameter(n), cp.Parameter(n, nonneg=True), cp.Parameter(n), cp.Parameter((n, n))
    change = cp.Variable(n)  # |w − now| times a parameter would not be affine in the parameters
    worth = mu @ w - series.gamma / 2 * cp.sum_squares(factor @ w) - cost @ cp.abs(change)
    limits = [
        w >= series.lows,
        w <= series.highs,
        cp.norm1(w) <= series.gross,
        cp.abs(cp.sum(w)) <= series.net,
        cp.norm1(change) <= series.turnover,
        change == w - now,
    ]
    problem = cp.Problem(cp.Maximize(worth), limits)

    def solve(i: int) -> Array:
        mu.value, cost.value, now.value = series.mu[i], series.cost[i], series.now[i]
        factor.value = np.linalg.cholesky(series.sigma[i]).T
        problem.solve(solver=cp.CLARABEL, enforce_dpp=True, **TIGHT)
        return w.value

    return solve


if __name__ == "__main__":
    main(prepare, {"cvxpy": cp.__version__, "clarabel": clarabel.__version__, "numpy": np.__version__})
