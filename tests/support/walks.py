"""Candles made here: seeded random walks, with gaps where they are asked for."""

from __future__ import annotations

import numpy as np

from tradingbot.replay.backtest.market import Candles

UNIVERSE = ("BTC", "ETH", "SOL", "ADA", "DOGE")
START_MS = 1_748_217_600_000
"""2025-05-26 00:00 UTC."""
PRICES = (100_000.0, 2_500.0, 150.0, 0.6, 0.2)


def walk(
    minutes: int,
    *,
    seed: int = 1,
    symbols: tuple[str, ...] = UNIVERSE,
    bar_minutes: int = 1,
    start_ms: int = START_MS,
    step: float = 0.001,
    drift: float = 0.0,
    gaps: float = 0.0,
) -> Candles:
    """Bars whose closes walk at random: ``step`` a bar, ``drift`` added, a share of ``gaps`` missing."""
    rng = np.random.default_rng(seed)
    bars, coins = minutes // bar_minutes, len(symbols)
    start = np.resize(PRICES, coins)
    close = start * np.exp(np.cumsum(rng.normal(drift, step, (bars, coins)), axis=0))
    opening = np.vstack([start, close[:-1]]) * np.exp(rng.normal(0, step / 10, (bars, coins)))
    high = np.maximum(opening, close) * np.exp(np.abs(rng.normal(0, step, (bars, coins))))
    low = np.minimum(opening, close) * np.exp(-np.abs(rng.normal(0, step, (bars, coins))))
    volume = rng.exponential(1e6, (bars, coins)) / close
    missing = rng.random((bars, coins)) < gaps
    for each in (opening, high, low, close, volume):
        each[missing] = np.nan
    return Candles(
        symbols=symbols,
        open_ms=start_ms + np.arange(bars, dtype=np.int64) * bar_minutes * 60_000,
        bar_ms=bar_minutes * 60_000,
        open=opening,
        high=high,
        low=low,
        close=close,
        volume=volume,
    )
