"""Ours: Clarabel directly, each program set up once and updated, the risk gate's arithmetic as the last step."""

from __future__ import annotations

import clarabel
import numpy as np
from problem import Array, Series, Solve, main

from tradingbot.ai_decision.optimizer import Optimizer, Problem
from tradingbot.domain.weights import Room


def prepare(series: Series) -> Solve:
    """One optimizer for all."""
    optimizer = Optimizer(len(series.lows))
    room = Room(0.0, 0.0, series.gross, series.net, series.turnover)

    def solve(i: int) -> Array:
        problem = Problem(
            mu=series.mu[i],
            sigma=series.sigma[i],
            risk_aversion=series.gamma,
            cost=series.cost[i],
            now=series.now[i],
            lows=series.lows,
            highs=series.highs,
            room=room,
        )
        return np.array(optimizer.solve(problem).weights)

    return solve


if __name__ == "__main__":
    main(prepare, {"clarabel": clarabel.__version__, "numpy": np.__version__})
