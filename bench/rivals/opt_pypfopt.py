"""PyPortfolioOpt: ``EfficientFrontier.convex_objective`` without its rule that weights sum to one, plus constraints.

Its own ``max_quadratic_utility`` insists on fully invested weights and its ``transaction_cost`` knows one rate for all
coins, so objective, gross, net and turnover are cvxpy expressions handed to it. It has nothing to update: each solve is
a new object.
"""

from __future__ import annotations

from importlib.metadata import version

import cvxpy as cp
import numpy as np
from problem import TIGHT, Array, Series, Solve, main
from pypfopt import EfficientFrontier


def prepare(series: Series) -> Solve:
    """Nothing can be prepared."""

    def solve(i: int) -> Array:
        now = series.now[i]
        bounds = list(zip(series.lows, series.highs, strict=True))
        frontier = EfficientFrontier(
            series.mu[i], series.sigma[i], weight_bounds=bounds, solver="CLARABEL", solver_options=dict(TIGHT)
        )
        frontier.add_constraint(lambda w: cp.norm1(w) <= series.gross)
        frontier.add_constraint(lambda w: cp.abs(cp.sum(w)) <= series.net)
        frontier.add_constraint(lambda w: cp.norm1(w - now) <= series.turnover)
        frontier.convex_objective(loss, weights_sum_to_one=False, series=series, i=i)
        return np.asarray(frontier.weights)

    return solve


def loss(w: cp.Variable, series: Series, i: int) -> cp.Expression:
    """What is minimised."""
    risk = cp.quad_form(w, series.sigma[i], assume_PSD=True)
    return series.gamma / 2 * risk - series.mu[i] @ w + series.cost[i] @ cp.abs(w - series.now[i])


if __name__ == "__main__":
    main(prepare, {"pyportfolioopt": version("pyportfolioopt"), "cvxpy": cp.__version__, "numpy": np.__version__})
