"""Candles for backtests: seeded synthetic minutes as arrays and as files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tradingbot.paper.prices import SyntheticPrices
from tradingbot.replay.backtest.market import Candles

START_MS = 1_771_430_400_000
"""2026-02-18 16:00 UTC."""
MINUTE_MS = 60_000
NAMES = ("timestamp_ms", "open", "high", "low", "close", "volume")


def synthetic_candles(
    minutes: int, *, symbols: Sequence[str] = ("BTC", "ETH", "SOL"), seed: int = 7, start_ms: int = START_MS
) -> Candles:
    """Minutes that nobody ever paid for."""
    prices = SyntheticPrices(symbols=symbols, seed=seed)
    bars = [prices.candles(symbol, start_ms, start_ms + minutes * MINUTE_MS) for symbol in symbols]
    columns = {name: np.array([[getattr(each, name) for each in coin] for coin in bars]).T.copy() for name in NAMES[1:]}
    times = np.arange(start_ms, start_ms + minutes * MINUTE_MS, MINUTE_MS, dtype=np.int64)
    return Candles(symbols=tuple(symbols), open_ms=times, bar_ms=MINUTE_MS, **columns)


def rows_of(candles: Candles, symbol: str) -> list[list[float]]:
    """A coin's bars as rows of a file; bars that are missing are left out."""
    n = candles.symbols.index(symbol)
    columns = [getattr(candles, name)[:, n] for name in NAMES[1:]]
    table = zip(candles.open_ms.tolist(), *(column.tolist() for column in columns), strict=True)
    return [list(row) for row in table if not np.isnan(row[4])]


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    """As a candle file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NAMES)
        writer.writerows(rows)
    return path


def write_folder(folder: Path, candles: Candles) -> Path:
    """One CSV file a coin."""
    folder.mkdir(parents=True, exist_ok=True)
    for symbol in candles.symbols:
        write_csv(folder / f"{symbol}_1m.csv", rows_of(candles, symbol))
    return folder
