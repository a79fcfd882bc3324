"""backtesting.py: one coin, an order to the target weight at each bar, filled at that bar's close.

It trades whole units, so the coin is counted in millionths. It begins at the second bar and an order of the last bar is
never filled: the equity before that last fee is what it shows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import backtesting
import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy
from job import Job, Outcome, arguments, load, measure

UNITS_A_COIN = 1e6


class Rebalance(Strategy):
    """Hold the target weight."""

    target: np.ndarray | None = None

    def init(self) -> None:
        """Nothing is computed ahead."""

    def next(self) -> None:
        """Order the difference to the target."""
        wanted = self.target[len(self.data) - 1] * self.equity / self.data.Close[-1]
        change = round(wanted) - self.position.size
        if change > 0:
            self.buy(size=change)
        elif change < 0:
            self.sell(size=-change)


def bars_of(job: Job) -> pd.DataFrame:
    """The first coin's bars, in units."""
    columns = {"Open": job.open, "High": job.high, "Low": job.low, "Close": job.close}
    frame = pd.DataFrame({name: column[:, 0] / UNITS_A_COIN for name, column in columns.items()})
    frame["Volume"] = job.volume[:, 0] * UNITS_A_COIN
    return frame.set_index(pd.to_datetime(job.open_ms, unit="ms"))


def main() -> None:
    """Measure."""
    warnings.simplefilter("ignore")
    backtesting.backtesting._tqdm = lambda sequence, **_: sequence
    given = arguments()
    job = load(given)
    frame, target = bars_of(job), job.target[:, 0]

    def prepare() -> Callable[[], pd.Series]:
        test = Backtest(
            frame, Rebalance, cash=job.equity_usd, commission=job.fee, trade_on_close=True, finalize_trades=False
        )
        return lambda: test.run(target=target)

    def judge(stats: pd.Series) -> Outcome:
        equity = stats["_equity_curve"]["Equity"]
        return Outcome(equity_usd=float(equity.iloc[-1]), orders=len(job.close) - 2)

    versions = {"backtesting": backtesting.__version__, "numpy": np.__version__, "pandas": pd.__version__}
    measure(prepare, judge, repeats=given.repeats, versions=versions)


if __name__ == "__main__":
    main()
