"""vectorbt: ``Portfolio.from_orders`` to target percents, in one group that shares its cash, on a plain range index.

``--option`` is the engine, numba or rust; with ``+value`` the equity curve is part of the time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import vectorbt as vbt
from job import Outcome, arguments, load, measure


def main() -> None:
    """Measure."""
    given = arguments()
    job = load(given)
    engine, _, with_value = given.option.partition("+")
    close = pd.DataFrame(job.close, columns=list(job.symbols))
    target = pd.DataFrame(job.target, columns=list(job.symbols))

    def run() -> vbt.Portfolio:
        portfolio = vbt.Portfolio.from_orders(
            close,
            size=target,
            size_type="targetpercent",
            fees=job.fee,
            init_cash=job.equity_usd,
            cash_sharing=True,
            group_by=True,
            call_seq="auto",
            freq="1min",
            engine=engine,
        )
        if with_value:
            portfolio.value()
        return portfolio

    def prepare() -> Callable[[], vbt.Portfolio]:
        return run

    def judge(portfolio: vbt.Portfolio) -> Outcome:
        return Outcome(equity_usd=float(portfolio.final_value()), orders=len(portfolio.order_records))

    versions = {"vectorbt": vbt.__version__, "numpy": np.__version__, "pandas": pd.__version__}
    measure(prepare, judge, repeats=given.repeats, versions=versions)


if __name__ == "__main__":
    main()
