"""skfolio: ``MeanRisk`` with maximum utility, costs and box of its own; gross, net and turnover as added constraints.

It expects returns and estimates from them; here a prior that hands over μ and Σ. It has nothing to update: each fit
builds a new problem.
"""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import skfolio
from problem import TIGHT, Array, Series, Solve, main
from skfolio import RiskMeasure
from skfolio.optimization import MeanRisk, ObjectiveFunction
from skfolio.prior import BasePrior, ReturnDistribution


class Given(BasePrior):
    """μ and Σ that are known."""

    def __init__(self, mu: Array | None = None, sigma: Array | None = None) -> None:
        self.mu = mu
        self.sigma = sigma

    def fit(self, X: Array, y: None = None, **_: object) -> Given:  # noqa: ARG002, N803 - scikit-learn's names
        """Hand them over."""
        self.return_distribution_ = ReturnDistribution(mu=self.mu, covariance=self.sigma, returns=X)
        return self


def prepare(series: Series) -> Solve:
    """Nothing can be prepared."""
    nothing = np.zeros((2, len(series.lows)))

    def solve(i: int) -> Array:
        model = MeanRisk(
            objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
            risk_measure=RiskMeasure.VARIANCE,
            risk_aversion=series.gamma / 2,
            prior_estimator=Given(series.mu[i], series.sigma[i]),
            min_weights=series.lows,
            max_weights=series.highs,
            budget=None,
            transaction_costs=series.cost[i],
            previous_weights=series.now[i],
            add_constraints=lambda w: [
                cp.norm1(w) <= series.gross,
                cp.abs(cp.sum(w)) <= series.net,
                cp.norm1(w - series.now[i]) <= series.turnover,
            ],
            solver="CLARABEL",
            solver_params=dict(TIGHT),
        )
        return np.asarray(model.fit(nothing).weights_)

    return solve


if __name__ == "__main__":
    main(prepare, {"skfolio": skfolio.__version__, "cvxpy": cp.__version__, "numpy": np.__version__})
