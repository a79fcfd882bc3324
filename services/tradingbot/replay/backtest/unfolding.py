"""A table of candles whose future is another one until it has come: every decision is a moment of the look-ahead check.

A strategy prepares itself from the true table. From its second decision on whatever lies ahead in that very table is
false, bar by bar made true when it is over, the open when it begins. Who reads a later bar out of it, once an hour or
once a year, decides otherwise than in the true run, unless the false bar happens to say the same: so there are several
false futures. Who has copied later bars beforehand is not seen through like this; ``lookahead`` alters the table
before the strategy prepares itself too, at some moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tradingbot.replay.backtest.market import Candles, FloatArray
from tradingbot.replay.backtest.options import Answer, Moment, WeightFunction

BARS = ("open", "high", "low", "close", "volume")
StrategyFor = Callable[[Candles], "str | WeightFunction"]
"""Makes the strategy for a run's candles: one that prepares itself from them is looked through too."""
_STEP = 0.01
"""How far a bar of a rising or falling future moves."""
_TOOTH_BARS = 500
"""After so many it begins anew, so that prices stay numbers."""


def futures(candles: Candles, shuffled: Candles) -> Iterator[Candles]:
    """False tables: all later prices far above and rising, far below and falling, missing, and without an order."""
    yield _moving(candles, upwards=True)
    yield _moving(candles, upwards=False)
    yield _table(candles, {name: np.full(candles.close.shape, np.nan) for name in BARS})
    yield shuffled


def unfolding(strategy_for: StrategyFor, candles: Candles, future: Candles) -> WeightFunction | None:
    """The strategy on a table that unfolds from a false future to the true past; None when it sees no table."""
    table = _table(candles, {name: getattr(candles, name).copy() for name in BARS})
    strategy = strategy_for(table)
    if isinstance(strategy, str):
        return None
    known = -1

    def asked(moment: Moment) -> Answer | FloatArray:
        nonlocal known
        now = int(np.searchsorted(candles.open_ms, moment.at_ms))
        if moment.index > 0:  # what it prepares when it is first asked, it prepares from the truth
            _unfold(table, candles, future, known=known, now=now)
            known = now
        return strategy(moment)

    return asked


def _unfold(table: Candles, truth: Candles, future: Candles, *, known: int, now: int) -> None:
    for name in BARS:
        row, true, false = (getattr(each, name) for each in (table, truth, future))
        if known < 0:
            row[now:] = false[now:]
        else:
            row[known:now] = true[known:now]
    if now < len(truth.open_ms):
        table.open[now] = truth.open[now]


def _moving(candles: Candles, *, upwards: bool) -> Candles:
    """Bars that lead away from all true prices, volumes a hundred times as large or small."""
    steps = np.arange(len(candles.open_ms) + 1.0) % _TOOTH_BARS
    highest, lowest = _extreme(np.fmax, candles.high), _extreme(np.fmin, candles.low)
    start, factor = (2 * highest, 1 + _STEP) if upwards else (lowest / 2, 1 - _STEP)
    path = np.outer(factor**steps, start)
    opening, close = path[:-1], path[1:]
    bars = {
        "open": opening,
        "high": np.maximum(opening, close) * 1.001,
        "low": np.minimum(opening, close) * 0.999,
        "close": close,
        "volume": candles.volume * (100.0 if upwards else 0.01) + (1.0 if upwards else 0.0),
    }
    return _table(candles, bars)


def _extreme(better: np.ufunc, prices: FloatArray) -> FloatArray:
    """Each coin's, missing bars aside; 1 for one that has none."""
    found: FloatArray = better.reduce(prices, axis=0)
    return np.where(np.isnan(found), 1.0, found)


def _table(candles: Candles, bars: dict[str, FloatArray]) -> Candles:
    return Candles(symbols=candles.symbols, open_ms=candles.open_ms, bar_ms=candles.bar_ms, **bars)
