"""Does a strategy know the future? What comes after a moment is altered; nothing up to it may change.

First, every decision is a moment: the table that a strategy has been given is made to hold false bars beyond each one
(``unfolding``), and the run must be the same bit for bit. Then what a strategy has prepared beforehand is looked at: a
run on the candles as they are and a run on candles whose bars from a moment on are others must agree on every decision
up to that moment, for several moments, in each stretch of time the one where the target changes most. Prices, volumes
a hundred times as large or small, which bars are missing and how many there are all change; the price that opens the
moment's own bar is left where it is known as the first price of that minute when the decision is made.

What it cannot find: something copied from later bars beforehand that reaches the result seldom, and none of these
moments. And knowledge that is in the strategy itself: a model trained on these months, parameters tuned on them, a
file of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from tradingbot.domain.cycles import MINUTE_MS, from_ms
from tradingbot.domain.params import Params
from tradingbot.replay.backtest.engine import Engine, Kernels
from tradingbot.replay.backtest.figures import DAY_MS
from tradingbot.replay.backtest.market import Candles, FloatArray
from tradingbot.replay.backtest.options import BacktestOptions, Result
from tradingbot.replay.backtest.unfolding import StrategyFor, futures, unfolding
from tradingbot.replay.data.candles import between

MOMENTS = 10
GAP_BARS = 3
"""Bars that are made to miss after every other moment."""

_KNOWN = ("equity", "cash", "weights", "target", "approved", "pnl_usd", "mode", "funding_usd")
"""Told before or by a decision."""
_FOLLOWING = ("traded_usd", "fees_usd", "slippage_usd", "orders", "turnover")
"""What a decision's trades brought: known only when its cycle is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A decision that knew what came later."""

    changed_from_ms: int
    """Bars from here on were altered."""
    at_ms: int
    """The first decision that differs."""
    field: str
    symbol: str | None
    before: float
    after: float

    def __str__(self) -> str:
        coin = f" of {self.symbol}" if self.symbol else ""
        return (
            f"{self.field}{coin} at {from_ms(self.at_ms):%Y-%m-%d %H:%M} was {self.before:.9g} and becomes "
            f"{self.after:.9g} when bars from {from_ms(self.changed_from_ms):%Y-%m-%d %H:%M} on are others"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAhead:
    """What was looked at."""

    moments: int
    decisions: int
    """Compared, over all moments and false futures."""
    leaks: tuple[Leak, ...]

    @property
    def clean(self) -> bool:
        return not self.leaks


def check_lookahead(
    candles: Candles,
    *,
    strategy_for: StrategyFor,
    params: Params,
    options: BacktestOptions,
    moments: int = MOMENTS,
    kernels: Kernels | None = None,
) -> LookAhead:
    """Run once as it is, once for each false future, and once for each of several moments."""
    engine = Engine(candles, options, kernels=kernels)
    whole = engine.run(strategy_for(candles), params)
    unfolded, leaks = _leaks_unfolding(engine, candles, whole, strategy_for=strategy_for)
    places = _places(whole, moments)
    for turn, place in enumerate(places):
        t_ms = int(whole.at_ms[place])
        other = altered(candles, from_ms=t_ms, turn=turn)
        if np.ndim(options.funding) == 0:  # funding by hour would not fit a shorter time
            other = _shortened(other, from_ms=t_ms, cycle_ms=options.cycle_minutes * MINUTE_MS)
        again = Engine(other, options, kernels=kernels).run(strategy_for(other), params)
        if leak := first_difference(whole, again, place=place):
            leaks.append(replace(leak, changed_from_ms=t_ms))
    compared = unfolded * len(whole.at_ms) + sum(place + 1 for place in places)
    return LookAhead(moments=len(places), decisions=compared, leaks=tuple(leaks))


def _leaks_unfolding(
    engine: Engine, candles: Candles, whole: Result, *, strategy_for: StrategyFor
) -> tuple[int, list[Leak]]:
    """How many false futures there were, and the first leak in each; no run where there is no table to look into."""
    runs, leaks = 0, []
    for future in futures(candles, altered(candles, from_ms=int(candles.open_ms[0]))):
        strategy = unfolding(strategy_for, candles, future)
        if strategy is None:
            break
        runs += 1
        if leak := first_difference(whole, engine.run(strategy, whole.params), place=len(whole.at_ms) - 1):
            leaks.append(leak)
    return runs, leaks


def _places(whole: Result, moments: int) -> list[int]:
    """In each of so many even stretches the decision at which the target moves most, the last one of those alike."""
    moves = np.nansum(np.abs(np.diff(whole.target, axis=0, prepend=np.nan)), axis=1)
    edges = np.linspace(1, max(len(moves) - 1, 1), moments + 1).astype(int)
    return [b - 1 - int(np.argmax(moves[a:b][::-1])) for a, b in pairwise(edges.tolist()) if a < b]


def altered(candles: Candles, *, from_ms: int, turn: int = 0) -> Candles:
    """The same bars before a moment, others from it on: prices a quarter up or down, volumes times or by a hundred.

    Bars that are missing stay missing; the open of the bar that begins at the moment is left. In odd turns the next
    bars are missing of the coins whose price at the moment the bar before tells. Each turn alters in another way.
    """
    first = int(np.searchsorted(candles.open_ms, from_ms))
    shape = candles.close[first:].shape
    k = np.arange(shape[0] * shape[1]).reshape(shape) + 1.0 + turn
    factor = 0.75 + 0.5 * np.modf(k * 0.6180339887498949)[0]
    opening = candles.open[first:] * factor
    if len(opening) and int(candles.open_ms[first]) == from_ms:
        opening[0] = candles.open[first]
    close = candles.close[first:] * factor[::-1, ::-1]
    bars = {
        "open": opening,
        "high": np.maximum(opening, close) * 1.001,
        "low": np.minimum(opening, close) * 0.999,
        "close": close,
        "volume": candles.volume[first:] * factor * np.where(factor > 1.0, 100.0, 0.01) + 1.0,
    }
    if turn % 2 and first:
        for new in bars.values():
            new[:GAP_BARS, ~np.isnan(candles.close[first - 1])] = np.nan
    joined = {name: np.concatenate((getattr(candles, name)[:first], new)) for name, new in bars.items()}
    return Candles(symbols=candles.symbols, open_ms=candles.open_ms, bar_ms=candles.bar_ms, **joined)


def _shortened(candles: Candles, *, from_ms: int, cycle_ms: int) -> Candles:
    """Without the later half of what follows a moment, a day of it at most; the moment's own cycle stays whole."""
    end_ms = min((from_ms + int(candles.open_ms[-1]) + candles.bar_ms) // 2, from_ms + DAY_MS)
    return between(candles, start_ms=int(candles.open_ms[0]), end_ms=max(end_ms, from_ms + cycle_ms))


def first_difference(one: Result, other: Result, *, place: int) -> Leak | None:
    """The earliest decision up to ``place`` whose bits differ; what its trades brought counts before it only."""
    found: list[tuple[int, Leak]] = []
    for names, stop in ((_KNOWN, place + 1), (_FOLLOWING, place)):
        for name in names:
            before, after = getattr(one, name)[:stop], getattr(other, name)[:stop]
            if (at := _first_row(before, after)) is not None:
                found.append((at, _leak(one, name, at, before, after)))
    return min(found, key=lambda each: each[0])[1] if found else None


def _first_row(before: FloatArray, after: FloatArray) -> int | None:
    differs = before.view(np.int64) != after.view(np.int64)
    rows = np.flatnonzero(differs.reshape(len(before), -1).any(axis=1))
    return int(rows[0]) if len(rows) else None


def _leak(one: Result, name: str, at: int, before: FloatArray, after: FloatArray) -> Leak:
    old, new = np.atleast_1d(before[at]), np.atleast_1d(after[at])
    n = int(np.flatnonzero(old.view(np.int64) != new.view(np.int64))[0])
    return Leak(
        changed_from_ms=int(one.at_ms[at]),
        at_ms=int(one.at_ms[at]),
        field=name,
        symbol=one.symbols[n] if before.ndim > 1 else None,
        before=float(old[n]),
        after=float(new[n]),
    )
