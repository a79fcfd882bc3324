"""Ours: from candles to the result, the whole pipeline that decides live.

Features, the baseline strategy, stabilizer, risk gate, breaker, whole lots, slices, fills, fees, funding, each coin
result. The others get the approved weights that come out here (``--option same,FILE`` writes them) and only trade them.

``same`` trades as they do: at once at the bar's price, without spread, impact or funding, with no no-trade band, in
lots of cents. ``default`` is what a bot does by default: slices, whole lots of the venue, band, spread, impact,
funding. In both a drawdown never stops trading, which would make the rest of the run free of work.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from job import Job, Outcome, arguments, load, measure

from tradingbot.domain.params import AiParams, ExecutionParams, Params, RiskParams
from tradingbot.replay.backtest.engine import Engine, Kernels, compiled_kernels
from tradingbot.replay.backtest.market import Candles
from tradingbot.replay.backtest.options import BacktestOptions, Result

MINUTE_MS = 60_000
NEVER = 1e9


def candles_of(job: Job) -> Candles:
    """The job's bars."""
    bars = {name: getattr(job, name) for name in ("open", "high", "low", "close", "volume")}
    return Candles(symbols=job.symbols, open_ms=job.open_ms, bar_ms=MINUTE_MS, **bars)


def terms(job: Job, *, same: bool) -> tuple[Params, BacktestOptions]:
    """How it trades."""
    risk = RiskParams(drawdown_reduce_only=1.0, drawdown_halt=1.0, max_daily_fee_bps=NEVER)
    fee_bps = job.fee * 10_000
    if not same:
        execution = ExecutionParams(max_orders_per_min=1000)
        options = BacktestOptions(start_equity_usd=job.equity_usd, taker_fee_bps=fee_bps)
        return Params(risk=risk, execution=execution), options
    execution = ExecutionParams(twap_slices=1, min_rebalance_weight=0.0, max_orders_per_min=1000)
    options = BacktestOptions(
        start_equity_usd=job.equity_usd,
        taker_fee_bps=fee_bps,
        funding=0.0,
        half_spread_bps=0.0,
        impact_bps=0.0,
        sz_decimals={symbol: 6 if close > 1000 else 3 for symbol, close in zip(job.symbols, job.close[0], strict=True)},
    )
    return Params(risk=risk, execution=execution, ai=AiParams()), options


def write_targets(path: str, job: Job, result: Result) -> None:
    """The approved weights at the bar whose close the decision saw; a held coin keeps its last one."""
    first = len(job.close) - len(result.at_ms) - 1
    rows = np.zeros_like(job.close)
    for t, approved in enumerate(result.approved):
        rows[first + t] = np.where(np.isnan(approved), rows[first + t - 1], approved)
    rows[-1] = rows[-2]
    np.save(path, rows)


def main() -> None:
    """Measure."""
    given = arguments()
    job = load(given)
    kind, _, path = given.option.partition(",")
    candles = candles_of(job)
    params, options = terms(job, same=kind == "same")

    def run() -> Result:
        return Engine(candles, options).run("baseline", params)

    def prepare() -> Callable[[], Result]:
        return run

    def judge(result: Result) -> Outcome:
        if path:
            write_targets(path, job, result)
        return Outcome(equity_usd=result.end_equity_usd, orders=int(result.orders.sum()))

    def more(result: Result) -> dict[str, object]:
        read = sum(each.nbytes for each in (job.open, job.high, job.low, job.close, job.volume))
        values = [getattr(result, each.name) for each in dataclasses.fields(result)]
        return {
            "decisions": len(result.at_ms),
            "read_bytes": read,
            "written_bytes": sum(each.nbytes for each in values if isinstance(each, np.ndarray)),
            "stages_s": stages(lambda kernels: Engine(candles, options, kernels=kernels).run("baseline", params)),
        }

    versions = {"numba": version("numba"), "numpy": np.__version__}
    measure(prepare, judge, repeats=given.repeats, versions=versions, more=more)


def stages(run: Callable[[Kernels], Result]) -> dict[str, float]:
    """CPU seconds of each compiled part and of the rest, of the fastest of five runs."""
    best: dict[str, float] = {}
    for _ in range(5):
        taken: dict[str, float] = {}
        started = time.process_time()
        run(_watched(compiled_kernels(), taken))
        taken["rest"] = time.process_time() - started - sum(taken.values())
        best = min(best or taken, taken, key=lambda each: sum(each.values()))
    return best


def _watched(kernels: Kernels, taken: dict[str, float]) -> Kernels:
    def watch(name: str, kernel: Callable[..., None]) -> Callable[..., None]:
        def timed(*given: object) -> None:
            started = time.process_time()
            kernel(*given)
            taken[name] = taken.get(name, 0.0) + time.process_time() - started

        return timed

    parts = {name: watch(name, getattr(kernels, name)) for name in ("look", "tell", "simulate")}
    return dataclasses.replace(kernels, **parts, propose={"baseline": watch("propose", kernels.propose["baseline"])})


if __name__ == "__main__":
    main()
