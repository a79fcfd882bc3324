"""One-minute candles for a bench: from a seeded generator, or recorded ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

START_MS = 1_735_689_600_000  # 2025-01-01
MINUTE_MS = 60_000
COINS = {"BTC": (95_000.0, 1), "ETH": (3_300.0, 2), "SOL": (190.0, 3), "ADA": (0.85, 5), "DOGE": (0.32, 6)}
"""First price and decimals of the usual five; further coins are called X05, X06, …"""
STEPS_A_MINUTE = 4
MINUTES_A_YEAR = 525_600


@dataclass(frozen=True, slots=True)
class Candles:
    """Bars of several coins over the same minutes: arrays of (bars, coins)."""

    symbols: tuple[str, ...]
    open_ms: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]


def synthetic(*, coins: int, bars: int, seed: int) -> Candles:
    """Random walks of 40 to 90 % a year with a common part, four steps a minute; volume is log-normal."""
    random = np.random.default_rng(seed)
    usual = dict(list(COINS.items())[:coins])
    listed = usual | {f"X{i:02d}": (10.0, 4) for i in range(len(usual), coins)}
    first, decimals = (np.array(column) for column in zip(*listed.values(), strict=True))
    step = np.linspace(0.4, 0.9, coins) / np.sqrt(MINUTES_A_YEAR * STEPS_A_MINUTE)
    common = random.standard_normal((bars * STEPS_A_MINUTE, 1))
    moves = step * (0.7 * common + np.sqrt(1 - 0.7**2) * random.standard_normal((bars * STEPS_A_MINUTE, coins)))
    moves -= moves.mean(axis=0)  # a year ends where it began: no coin dies
    path = (first * np.exp(np.cumsum(moves, axis=0))).reshape(bars, STEPS_A_MINUTE, coins)
    path = np.round(path * 10.0**decimals) / 10.0**decimals
    close = path[:, -1]
    opened = np.vstack([first[None, :], close[:-1]])
    return Candles(
        symbols=tuple(listed),
        open_ms=START_MS + MINUTE_MS * np.arange(bars, dtype=np.int64),
        open=opened,
        high=np.maximum(path.max(axis=1), opened),
        low=np.minimum(path.min(axis=1), opened),
        close=np.ascontiguousarray(close),
        volume=2e6 / first * random.lognormal(0.0, 1.0, (bars, coins)),
    )


def recorded(folder: Path, *, bars: int) -> Candles:
    """The last minutes, at most ``bars``, that all ``COIN_1m.parquet`` files of a folder share."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - only for recorded candles

    files = {path.name.removesuffix("_1m.parquet"): path for path in sorted(folder.glob("*_1m.parquet"))}
    if not files:
        raise SystemExit(f"{folder}: no COIN_1m.parquet files")
    tables = {coin: pq.read_table(path) for coin, path in files.items()}
    times = {coin: table["timestamp_ms"].to_numpy() for coin, table in tables.items()}
    start, end = max(each[0] for each in times.values()), min(each[-1] for each in times.values())
    minutes = np.arange(start, end + 1, MINUTE_MS, dtype=np.int64)[-bars:]
    rows = {coin: np.searchsorted(each, minutes) for coin, each in times.items()}
    if any((times[coin][rows[coin]] != minutes).any() for coin in files):
        raise SystemExit(f"{folder}: a minute is missing")
    columns = {
        name: np.column_stack([tables[coin][name].to_numpy()[rows[coin]] for coin in files])
        for name in ("open", "high", "low", "close", "volume")
    }
    return Candles(symbols=tuple(files), open_ms=minutes, **columns)
