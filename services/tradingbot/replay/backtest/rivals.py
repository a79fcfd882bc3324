"""What else could have been done with the money: coins bought at the start and held, and the same with less of it.

Neither pays fees, funding or slippage, which is in their favour. The bot keeps most of its equity in cash, so buying
with all of it compares a tenth of the risk with the whole; the second kind holds the bot's own mean gross exposure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tradingbot.replay.backtest.market import Candles, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """An equity curve beside the bot's, at the same moments."""

    name: str
    equity: FloatArray
    whole: bool = False
    """All of the money is in it, which the bot never does."""


def rivals_of(candles: Candles, *, at_ms: IntArray, start_usd: float, exposure: float) -> Iterator[Rival]:
    """Equal weights and BTC (where it is there), whole and with ``exposure`` (Σ|w|) of the equity."""
    px = prices_at(candles, at_ms)
    held: list[tuple[str, Sequence[int]]] = [("hold equal weights", range(len(candles.symbols)))]
    if "BTC" in candles.symbols:
        held.append(("hold BTC", [candles.symbols.index("BTC")]))
    for name, columns in held:
        whole = bought_and_held(px[:, columns], start_usd=start_usd)
        yield Rival(name=name, equity=whole, whole=True)
        yield Rival(name=f"{name}, {exposure * 100:.1f} % of equity", equity=with_part(whole, exposure=exposure))


def prices_at(candles: Candles, at_ms: IntArray) -> FloatArray:
    """The last close known at each moment, shape (T, N); the first one that is known, before any is."""
    rows = np.where(np.isnan(candles.close), 0, np.arange(len(candles.open_ms))[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    known = np.take_along_axis(candles.close, last, axis=0)
    first = np.argmax(~np.isnan(candles.close), axis=0)
    known = np.where(np.isnan(known), candles.close[first, np.arange(known.shape[1])], known)
    ended = np.searchsorted(candles.open_ms + candles.bar_ms, at_ms, side="right") - 1
    prices: FloatArray = known[np.maximum(ended, 0)]
    return prices


def bought_and_held(px: FloatArray, *, start_usd: float) -> FloatArray:
    """The same amount in each coin at the first moment, and never touched again: USD at each moment."""
    worth: FloatArray = start_usd * np.nanmean(px / px[0], axis=1)
    return worth


def with_part(equity: FloatArray, *, exposure: float) -> FloatArray:
    """The same curve with a constant part of the money in it, the rest in cash: E₀·Π(1 + exposure·r_t)."""
    steps = equity[1:] / equity[:-1] - 1.0
    worth: FloatArray = np.concatenate(([1.0], np.cumprod(1.0 + exposure * steps))) * equity[0]
    return worth
