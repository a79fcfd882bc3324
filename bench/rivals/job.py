"""What every engine is given and how it is measured; numpy and the standard library only.

The work: at each bar's close bring every coin to its target weight of present equity, at that close, in fractions of a
coin, for a fee on what is traded. No spread, no funding, no least order.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Job:
    """Arrays of (bars, coins); the first bar's targets are 0."""

    symbols: tuple[str, ...]
    open_ms: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    target: NDArray[np.float64]
    equity_usd: float
    fee: float
    """Of what is traded."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    equity_usd: float
    orders: int


def arguments() -> argparse.Namespace:
    """The command line of every engine."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("--bars", type=int, required=True)
    parser.add_argument("--coins", type=int, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--option", default="")
    return parser.parse_args()


def load(given: argparse.Namespace) -> Job:
    """The first bars and coins of the job's file."""
    with np.load(given.job) as file:
        columns = {
            name: np.ascontiguousarray(file[name][: given.bars, : given.coins])
            for name in ("open", "high", "low", "close", "volume", "target")
        }
        return Job(
            symbols=tuple(str(each) for each in file["symbols"][: given.coins]),
            open_ms=file["open_ms"][: given.bars],
            equity_usd=float(file["equity_usd"]),
            fee=float(file["fee"]),
            **columns,
        )


def measure(
    prepare: Callable[[], Callable[[], Any]],
    judge: Callable[[Any], Outcome],
    *,
    repeats: int,
    versions: Mapping[str, str],
    more: Callable[[Any], Mapping[str, object]] = lambda _: {},
) -> None:
    """Run once to warm up, then ``repeats`` times; print the figures as one line of JSON.

    Only the run that ``prepare`` hands over is timed, not what leads to it nor what is made of its result. The peak of
    memory is that of the first run.
    """
    imported_s, imported_mb = process_age_s(), process_peak_mb()
    (warm_s, _), result = _timed(prepare())
    peak_mb = process_peak_mb()
    outcome = judge(result)
    further = more(result)
    del result
    taken = [_timed(prepare())[0] for _ in range(repeats)]
    figures = {
        "versions": dict(versions),
        "equity_usd": outcome.equity_usd,
        "orders": outcome.orders,
        "import_s": imported_s,
        "warm_s": warm_s,
        "wall_s": [wall_s for wall_s, _ in taken],
        "cpu_s": [cpu_s for _, cpu_s in taken],
        "imported_mb": imported_mb,
        "peak_mb": peak_mb,
        **further,
    }
    print(json.dumps(figures))


def _timed(run: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Seconds by the clock and of this process' own work, and the result."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = run()
    return (time.perf_counter() - wall_s, time.process_time() - cpu_s), result


def process_age_s() -> float:
    """Seconds since this process began: the interpreter's start, the imports, and loading the job."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def process_peak_mb() -> float:
    """The greatest resident set of this process since its program was loaded."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
