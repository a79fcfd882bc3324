"""The same rebalancing on the same candles: ours, vectorbt, nautilus_trader, backtesting.py, and a bare loop.

Each engine runs in a process of its own on one core, in a virtual environment of its own with pinned versions (made
below ``~/.cache/tradingbot-bench`` at the first run; what cannot be installed is named and left out). One run warms up,
then the median of ``--repeats`` runs counts, in CPU seconds of the process, so that other work on the machine counts
little; seconds by the clock are beside it. Ours is the whole pipeline, from candles to the
result. The weights that its risk gate approved are what the others are given: they only trade them. A decision is one
minute of all coins, a candle one minute of one coin.

That all do the same work is checked: the final equity of each against that of the bare loop over the same minutes.

    python bench/backtest.py [--coins 5] [--bars 525600] [--data FOLDER] [--repeats 5] [--only vectorbt]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from candles import Candles, recorded, synthetic
from sandbox import MissingError, Rival, run
from stack import machine

EQUITY_USD = 10_000_000.0
FEE = 0.00002
"""Of what is traded: so low that a year of trading every minute leaves an account to trade with."""
SEED = 7
OPENS_APART = 1e-3
"""Ours fills at the next bar's open, the others at the close before it; recordings have two prices there."""
COPY_BYTES = 256 * 2**20
STAGES = {"look": "prices seen", "tell": "features", "propose": "strategy", "simulate": "account, limits and fills"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the table."""

    rival: Rival
    option: str = ""
    most_bars: int = 10**9
    """Slow engines get the first part of the candles only."""
    one_coin: bool = False
    goal: float = 0.0
    """Ours is to be so many times as fast."""
    tolerance: float = 1e-6
    """Of the final equity, against the bare loop; 0: its fills are others, the difference is shown only."""


OURS = Rival("ours", "with_ours.py")
FLOOR = Rival("bare loop", "with_numba.py")
VECTORBT = Rival("vectorbt", "with_vectorbt.py", "vectorbt.txt")
NAUTILUS = Rival("nautilus", "with_nautilus.py", "nautilus.txt", ("python3.13", "python3.12"))
NAUTILUS_311 = Rival("nautilus", "with_nautilus.py", "nautilus-py311.txt", ("python3.11",))
BACKTESTING = Rival("backtesting", "with_backtesting.py", "backtesting.txt")

REFERENCE = "ours, whole pipeline"
ENTRIES = {
    REFERENCE: Entry(rival=OURS, option="same"),
    "ours, fills as by default": Entry(rival=OURS, option="default", tolerance=0),
    "vectorbt (numba)": Entry(rival=VECTORBT, option="numba", goal=10),
    "vectorbt (numba) and its equity": Entry(rival=VECTORBT, option="numba+value", goal=10),
    "vectorbt (rust)": Entry(rival=VECTORBT, option="rust", goal=10),
    "nautilus_trader": Entry(rival=NAUTILUS, most_bars=2_000, goal=1000),
    "nautilus_trader for 3.11": Entry(rival=NAUTILUS_311, most_bars=2_000, goal=1000),
    "backtesting.py, one coin": Entry(rival=BACKTESTING, most_bars=20_000, one_coin=True, goal=100),
    "bare loop, nothing but trades": Entry(rival=FLOOR),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one engine did."""

    entry: Entry
    bars: int
    coins: int
    figures: dict[str, Any]

    @property
    def seconds(self) -> float:
        """CPU seconds of the median run."""
        return statistics.median(self.figures["cpu_s"])

    @property
    def decisions_s(self) -> float:
        """Decisions a second."""
        return float(self.figures.get("decisions", self.bars)) / self.seconds


class Bench:
    """Candles, the weights to trade, and everybody's figures."""

    def __init__(self, candles: Candles, folder: Path, *, repeats: int) -> None:
        self.candles, self.folder, self.repeats = candles, folder, repeats
        self.job = folder / "job.npz"
        self.bars, self.coins = candles.close.shape
        self.opens_apart = bool((candles.open[1:] != candles.close[:-1]).any())
        self._write(np.zeros_like(candles.close))

    def _write(self, target: np.ndarray) -> None:
        columns = {name: getattr(self.candles, name) for name in ("open_ms", "open", "high", "low", "close", "volume")}
        symbols = np.array(self.candles.symbols)
        np.savez(self.job, **columns, symbols=symbols, target=target, equity_usd=EQUITY_USD, fee=FEE)

    def make_targets(self) -> dict[str, Any]:
        """Let our own risk gate approve the weights that everybody trades; what the run from an empty cache took."""
        path = self.folder / "targets.npy"
        figures = self._run(OURS, self.bars, self.coins, option=f"same,{path}", repeats=1)
        self._write(np.load(path))
        return figures

    def line(self, entry: Entry) -> Line:
        """Measure one engine."""
        bars, coins = min(self.bars, entry.most_bars), 1 if entry.one_coin else self.coins
        figures = self._run(entry.rival, bars, coins, option=entry.option, repeats=self.repeats)
        return Line(entry=entry, bars=bars, coins=coins, figures=figures)

    def expected_usd(self, line: Line) -> float:
        """The bare loop's equity after the same minutes and coins."""
        figures = self._run(FLOOR, line.bars, line.coins, option="", repeats=1)
        return float(figures["equity_usd"])

    def _run(self, rival: Rival, bars: int, coins: int, *, option: str, repeats: int) -> dict[str, Any]:
        given = ("--bars", str(bars), "--coins", str(coins), "--repeats", str(repeats), "--option", option)
        return run(rival, str(self.job), *given)


def copy_gb_s() -> float:
    """Bytes read and written by a plain copy on one core, the best of ten: what memory allows."""
    source = np.ones(COPY_BYTES // 8)
    target = np.empty_like(source)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - started)
    return 2 * COPY_BYTES / min(seconds) / 1e9


HEAD = (
    f"{'':<32} {'minutes x coins':>12} {'decisions/s':>12} {'candles/s':>12} {'CPU s':>8} {'wall s':>8} {'warm s':>7}"
    f" {'start s':>7} {'MB at start':>11} {'MB':>5} {'orders':>9}"
)


def shown(name: str, line: Line) -> str:
    """A line of the table."""
    figures, speed, wall_s = line.figures, line.decisions_s, statistics.median(line.figures["wall_s"])
    return (
        f"{name:<32} {line.bars:>10} x {line.coins:<2} {speed:>12,.0f} {speed * line.coins:>12,.0f}"
        f" {line.seconds:>8.4f} {wall_s:>8.4f} {figures['warm_s']:>7.2f}"
        f" {figures['import_s']:>7.2f} {figures['imported_mb']:>11.0f} {figures['peak_mb']:>5.0f}"
        f" {figures['orders']:>9}"
    )


def same_work(name: str, line: Line, expected_usd: float, *, opens_apart: bool) -> str:
    """How far an engine's final equity is from the bare loop's."""
    off = abs(line.figures["equity_usd"] / expected_usd - 1)
    allowed = OPENS_APART if opens_apart and line.entry.option == "same" else line.entry.tolerance
    verdict = "no comparison, other fills" if not allowed else "the same" if off <= allowed else "NOT THE SAME"
    return f"{name:<32} {line.figures['equity_usd']:>16,.2f} {expected_usd:>16,.2f} {off:>9.1e} {verdict}"


def goals(lines: dict[str, Line]) -> Iterator[str]:
    """How many times as fast ours is."""
    if REFERENCE not in lines:
        return
    ours = lines[REFERENCE].decisions_s
    for name, line in lines.items():
        if line.entry.goal:
            times = ours / line.decisions_s
            verdict = "met" if times >= line.entry.goal else "missed"
            yield f"goal ours >= {line.entry.goal:g} x {name}: {verdict} ({times:,.1f} x)"


def where_time_goes(line: Line) -> str:
    """The compiled parts of ours, and how long candles and result alone would take to pass through memory once."""
    figures = line.figures
    each = figures["decisions"] / 1e9
    parts = ", ".join(f"{STAGES.get(name, name)} {taken / each:.0f}" for name, taken in figures["stages_s"].items())
    gb_s = copy_gb_s()
    read, written = figures["read_bytes"], figures["written_bytes"]
    limit_s = (read + written) / gb_s / 1e9
    return (
        f"ns a decision, the fastest of five runs: {parts}\n"
        f"memory: a copy moves {gb_s:.1f} GB/s on one core; {read / 1e6:.0f} MB of candles in and {written / 1e6:.0f}"
        f" MB of result out need {limit_s / each:.1f} ns a decision, the run takes "
        f"{line.seconds / limit_s:.0f} times that"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coins", type=int, default=5)
    parser.add_argument("--bars", type=int, default=525_600)
    parser.add_argument("--data", type=Path, help="a folder of COIN_1m.parquet files, in place of the seeded generator")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="only lines whose name contains this; ours always runs")
    given = parser.parse_args()
    candles = recorded(given.data, bars=given.bars) if given.data else None
    made = candles or synthetic(coins=given.coins, bars=given.bars, seed=SEED)
    source = f"recorded, {given.data}" if candles else f"synthetic, seed {SEED}"
    print(f"{machine()}; {len(made.symbols)} coins x {len(made.open_ms)} minutes, {source}")
    with tempfile.TemporaryDirectory(prefix="tradingbot-bench-") as folder:
        os.environ["NUMBA_CACHE_DIR"] = str(Path(folder) / "numba")  # so that the first run compiles
        measure(Bench(made, Path(folder), repeats=given.repeats), only=given.only)


def measure(bench: Bench, *, only: str) -> None:
    """Every engine in turn."""
    cold = bench.make_targets()
    print(f"ours, first run ever (compiles, then keeps the machine code on disk): {cold['warm_s']:.1f} s")
    print(HEAD)
    lines: dict[str, Line] = {}
    for name, entry in ENTRIES.items():
        if name != REFERENCE and only not in name:
            continue
        try:
            lines[name] = bench.line(entry)
        except MissingError as missing:
            print(f"{name:<32} left out: {missing}")
            continue
        print(shown(name, lines[name]), flush=True)
    print("\nthe same work: final equity, USD, against the bare loop's over the same minutes")
    for name, line in lines.items():
        print(same_work(name, line, bench.expected_usd(line), opens_apart=bench.opens_apart))
    print("\nversions: " + "; ".join(f"{name}: {_named(line)}" for name, line in lines.items()))
    print(where_time_goes(lines[REFERENCE]))
    for text in goals(lines):
        print(text)


def _named(line: Line) -> str:
    return ", ".join(f"{package} {version}" for package, version in line.figures["versions"].items())


if __name__ == "__main__":
    main()
