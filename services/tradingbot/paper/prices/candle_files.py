"""Reading recorded candles: one Parquet or CSV file a coin, checked row by row before anything trades on it."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tradingbot.paper.prices.model import MINUTE_MS, PricesError

COLUMNS = ("timestamp_ms", "open", "high", "low", "close", "volume")
BAR_LENGTHS_MS = (MINUTE_MS, 5 * MINUTE_MS)
SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleTable:
    """A checked file: sorted, without duplicates, every bar sound; bars may be missing."""

    path: Path
    bar_ms: int
    t_ms: array[int]
    open: array[float]
    high: array[float]
    low: array[float]
    close: array[float]
    volume: array[float]


def find_file(place: Path, symbol: str) -> Path:
    """The coin's file: ``place`` itself, or the one file in it whose name starts with ``COIN_`` or ``COIN.``.

    Raises:
        PricesError: there is none, or more than one.
    """
    candidates = [place] if place.is_file() else sorted(place.iterdir()) if place.is_dir() else []
    prefixes = (f"{symbol}_", f"{symbol}.")
    found = [each for each in candidates if each.name.startswith(prefixes) and each.suffix.lower() in SUFFIXES]
    if not found:
        raise PricesError(
            f"{place}: no candles for {symbol}; wanted a file like {symbol}_1m.parquet or {symbol}_1m.csv"
        )
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise PricesError(f"{place}: more than one file for {symbol} ({names}); keep one")
    return found[0]


def read_candles(path: Path) -> CandleTable:
    """Read and check a file of one-minute or five-minute candles.

    Raises:
        PricesError: naming the file and the row (1 is the first candle).
    """
    columns = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    times = [int(t_ms) for t_ms in columns[0]]
    bar_ms = _bar_length(path, times)
    for row, values in enumerate(zip(*columns, strict=True), start=1):
        if fault := _fault_of(values, bar_ms=bar_ms):
            raise PricesError(f"{path}, row {row}: {fault}")
    o, h, l, c, v = (array("d", column) for column in columns[1:])  # noqa: E741 - the field's letters
    return CandleTable(path=path, bar_ms=bar_ms, t_ms=array("q", times), open=o, high=h, low=l, close=c, volume=v)


def _bar_length(path: Path, times: Sequence[int]) -> int:
    if len(times) < 2:
        raise PricesError(f"{path}: {len(times)} rows; a recording needs two at least")
    shortest = times[1] - times[0]
    for row, (before, after) in enumerate(pairwise(times), start=2):
        if after <= before:
            raise PricesError(
                f"{path}, row {row}: timestamp_ms {after} after {before}; rows must be sorted, without duplicates"
            )
        shortest = min(shortest, after - before)
    if shortest not in BAR_LENGTHS_MS:
        raise PricesError(f"{path}: bars of {shortest} ms; only one-minute and five-minute candles can be used")
    return shortest


def _fault_of(values: Sequence[float], *, bar_ms: int) -> str | None:
    t_ms, open_, high, low, close, volume = values
    if t_ms % bar_ms:
        return f"timestamp_ms {t_ms} is not the start of a bar of {bar_ms} ms"
    if not all(math.isfinite(px) and px > 0 for px in (open_, high, low, close)):
        return f"prices must be positive numbers, were open {open_}, high {high}, low {low}, close {close}"
    if not low <= min(open_, close) <= max(open_, close) <= high:
        return f"open {open_} and close {close} must lie between low {low} and high {high}"
    if not (math.isfinite(volume) and volume >= 0):
        return f"volume must be 0 or more, was {volume}"
    return None


def _read_parquet(path: Path) -> list[list[float]]:
    import pyarrow.parquet  # noqa: PLC0415 - heavy, and only recordings in Parquet need it

    try:
        table = pyarrow.parquet.read_table(path, columns=list(COLUMNS))
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise PricesError(f"{path}: not a readable Parquet file: {error}") from error
    if absent := [name for name in COLUMNS if name not in table.column_names]:
        raise PricesError(f"{path}: no column {', '.join(absent)}; wanted {', '.join(COLUMNS)}")
    columns: list[list[float]] = [table.column(name).to_pylist() for name in COLUMNS]
    for name, column in zip(COLUMNS, columns, strict=True):
        if None in column:
            raise PricesError(f"{path}, row {column.index(None) + 1}: {name} is empty")  # type: ignore[arg-type]
    return columns


def _read_csv(path: Path) -> list[list[float]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(_csv_rows(path, csv.DictReader(file)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PricesError(f"{path}: not a readable CSV file: {error}") from error
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in COLUMNS]


def _csv_rows(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[float, ...]]:
    names = reader.fieldnames or ()
    if absent := [name for name in COLUMNS if name not in names]:
        raise PricesError(f"{path}: no column {', '.join(absent)}; the first line must name {','.join(COLUMNS)}")
    for row, record in enumerate(reader, start=1):
        try:
            yield (int(record["timestamp_ms"]), *(float(record[name]) for name in COLUMNS[1:]))
        except (TypeError, ValueError) as error:
            raise PricesError(f"{path}, row {row}: {error}") from error
