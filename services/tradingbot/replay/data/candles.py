"""Candle files as one table: the span that all coins share, a row of NaN where a bar is missing, and every gap told.

The files are read and checked row by row by ``paper.prices.candle_files``, as the paper exchange reads them: what is
unsorted, doubled or no sound bar is refused with its file and row. Nothing is filled in or interpolated here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tradingbot.domain.cycles import from_ms
from tradingbot.domain.static import StaticSettings
from tradingbot.paper.prices.candle_files import SUFFIXES, CandleTable, find_file, read_candles
from tradingbot.paper.prices.model import PricesError
from tradingbot.replay.backtest.market import Candles, IntArray

DAY_MS = 86_400_000
FIELDS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """What one coin's file lacks within the span that is used."""

    symbol: str
    missing: int
    """Bars."""
    longest: int
    """Bars in a row."""
    longest_ms: int | None
    """When the longest gap begins, Unix milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Candles and what is to be known about them."""

    candles: Candles
    gaps: tuple[Gaps, ...]
    """One a coin, in the order of the coins."""
    files: tuple[str, ...]
    """Their names, without folders."""
    left_out: tuple[str, ...] = ()
    """What a coin that begins late or ends early costs the others, in a sentence each, from a day on."""

    @property
    def missing(self) -> int:
        return sum(each.missing for each in self.gaps)


def load_candles(
    place: Path, *, symbols: Sequence[str] = (), start_ms: int | None = None, end_ms: int | None = None
) -> Loaded:
    """Read one file a coin from a folder, or a single coin's file.

    Args:
        place: a folder, or a file.
        symbols: the coins; none: every coin that has a file there.
        start_ms: the first bar opens at this moment or later.
        end_ms: the last bar ends at this moment or earlier.

    Raises:
        PricesError: a file is absent, ambiguous or faulty (with its row), bars differ in length, or no bar is left.
    """
    tables = {symbol: read_candles(find_file(place, symbol)) for symbol in symbols or coins_in(place)}
    bar_ms = _bar_ms(tables)
    times = _shared(tables, bar_ms=bar_ms, start_ms=start_ms, end_ms=end_ms)
    columns = {name: np.full((len(times), len(tables)), np.nan) for name in FIELDS}
    gaps = []
    for n, (symbol, table) in enumerate(tables.items()):
        there = _place(table, times, columns, n)
        gaps.append(_gaps_of(symbol, there, times))
    candles = Candles(symbols=tuple(tables), open_ms=times, bar_ms=bar_ms, **columns)
    return Loaded(
        candles=candles,
        gaps=tuple(gaps),
        files=tuple(table.path.name for table in tables.values()),
        left_out=tuple(_left_out(tables, start_ms=start_ms, end_ms=end_ms)),
    )


def coins_in(place: Path) -> tuple[str, ...]:
    """The coins that have a file: those of the default universe first, in its order.

    Raises:
        PricesError: there is no candle file.
    """
    files = [place] if place.is_file() else sorted(place.iterdir()) if place.is_dir() else []
    candles = (each.name for each in files if each.suffix.lower() in SUFFIXES and not each.name.startswith("."))
    names = {name.partition(".")[0].partition("_")[0] for name in candles}
    if not names:
        raise PricesError(f"{place}: no candle files; wanted files like BTC_1m.parquet or BTC_1m.csv")
    usual = StaticSettings.model_fields["universe"].get_default(call_default_factory=True)
    return (*(name for name in usual if name in names), *sorted(names - set(usual)))


def between(candles: Candles, *, start_ms: int, end_ms: int) -> Candles:
    """The bars that open at ``start_ms`` or later and end at ``end_ms`` or earlier."""
    first, stop = np.searchsorted(candles.open_ms, (start_ms, end_ms - candles.bar_ms + 1))
    rows = slice(int(first), max(int(first), int(stop)))
    return Candles(
        symbols=candles.symbols,
        open_ms=candles.open_ms[rows],
        bar_ms=candles.bar_ms,
        **{name: getattr(candles, name)[rows] for name in FIELDS},
    )


def _bar_ms(tables: dict[str, CandleTable]) -> int:
    first = next(iter(tables.values()))
    for table in tables.values():
        if table.bar_ms != first.bar_ms:
            raise PricesError(
                f"{table.path}: bars of {table.bar_ms // 60_000} min, those of {first.path.name} last "
                f"{first.bar_ms // 60_000} min; all coins need the same"
            )
    return first.bar_ms


def _shared(tables: dict[str, CandleTable], *, bar_ms: int, start_ms: int | None, end_ms: int | None) -> IntArray:
    first = max(table.t_ms[0] for table in tables.values())
    stop = min(table.t_ms[-1] for table in tables.values()) + bar_ms
    asked = (first if start_ms is None else max(first, start_ms), stop if end_ms is None else min(stop, end_ms))
    times = np.arange(-(-asked[0] // bar_ms) * bar_ms, asked[1] - bar_ms + 1, bar_ms, dtype=np.int64)
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        raise PricesError(f"no bar is left: {_when(start_ms)} is asked for as the start and {_when(end_ms)} as the end")
    if len(times) == 0:
        raise PricesError(
            f"no bar is left: the coins share {_when(first)} to {_when(stop)}, "
            f"asked was {_when(start_ms)} to {_when(end_ms)}"
        )
    return times


def _left_out(tables: dict[str, CandleTable], *, start_ms: int | None, end_ms: int | None) -> Iterator[str]:
    """Only the time that all coins share is used: say which coin takes a day or more of it from the others."""
    begins = {symbol: table.t_ms[0] for symbol, table in tables.items()}
    ends = {symbol: table.t_ms[-1] for symbol, table in tables.items()}
    latest, earliest = max(begins, key=lambda each: begins[each]), min(ends, key=lambda each: ends[each])
    before = begins[latest] - max(min(begins.values()), start_ms or 0)
    after = min(max(ends.values()), end_ms or max(ends.values())) - ends[earliest]
    for symbol, word, at_ms, lost_ms in (
        (latest, "begins", begins[latest], before),
        (earliest, "ends", ends[earliest], after),
    ):
        if lost_ms >= DAY_MS:
            yield f"{symbol} {word} {_when(at_ms)}: {lost_ms / DAY_MS:.1f} days of other coins are not used."


def _place(table: CandleTable, times: IntArray, columns: dict[str, np.ndarray], n: int) -> np.ndarray:
    """Write a coin's column; returns which rows it has."""
    own = np.frombuffer(table.t_ms, np.int64)
    used = (own >= times[0]) & (own <= times[-1])
    rows = (own[used] - times[0]) // table.bar_ms
    for name, column in columns.items():
        column[rows, n] = np.frombuffer(getattr(table, name), np.float64)[used]
    there = np.zeros(len(times), bool)
    there[rows] = True
    return there


def _gaps_of(symbol: str, there: np.ndarray, times: IntArray) -> Gaps:
    edges = np.flatnonzero(np.diff(np.concatenate(([True], there, [True])).astype(np.int8)))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    if not len(starts):
        return Gaps(symbol=symbol, missing=0, longest=0, longest_ms=None)
    k = int(np.argmax(lengths))
    return Gaps(symbol=symbol, missing=int(lengths.sum()), longest=int(lengths[k]), longest_ms=int(times[starts[k]]))


def _when(at_ms: int | None) -> str:
    return "any time" if at_ms is None else f"{from_ms(at_ms):%Y-%m-%d %H:%M}"
