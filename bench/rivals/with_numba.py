"""The floor: nothing but the arithmetic of the job, one compiled loop."""

from __future__ import annotations

import numba
import numpy as np
from job import Outcome, arguments, load, measure
from numpy.typing import NDArray

Array = NDArray[np.float64]


@numba.njit
def rebalance(close: Array, target: Array, equity: float, fee: float, curve: Array) -> int:
    """Write the equity after each bar, return the orders."""
    bars, coins = close.shape
    cash, orders = equity, 0
    sizes = np.zeros(coins)
    for t in range(bars):
        value = cash
        for i in range(coins):
            value += sizes[i] * close[t, i]
        for i in range(coins):
            size = target[t, i] * value / close[t, i]
            traded = (size - sizes[i]) * close[t, i]
            cash -= traded + fee * abs(traded)
            orders += traded != 0.0
            sizes[i] = size
        value = cash
        for i in range(coins):
            value += sizes[i] * close[t, i]
        curve[t] = value
    return orders


def main() -> None:
    """Measure."""
    given = arguments()
    job = load(given)
    curve = np.empty(len(job.close))

    def run() -> int:
        return int(rebalance(job.close, job.target, job.equity_usd, job.fee, curve))

    def judge(orders: int) -> Outcome:
        return Outcome(equity_usd=float(curve[-1]), orders=orders)

    versions = {"numba": numba.__version__, "numpy": np.__version__}
    measure(lambda: run, judge, repeats=given.repeats, versions=versions)


if __name__ == "__main__":
    main()
