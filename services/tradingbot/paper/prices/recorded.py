"""Recorded candles as a price source, with their own dates.

A missing bar means that the market stands still: a candle at the last close, volume 0, marked ``still``. Nothing is
invented beyond that. A five-minute bar is repeated minute by minute along its own path.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tradingbot.paper.prices.candle_files import CandleTable, find_file, read_candles
from tradingbot.paper.prices.model import MINUTE_MS, Candle, Depth, PricesError, minute_of
from tradingbot.paper.prices.path import part, px_at
from tradingbot.runtime.clock import Clock


class _Series:
    """One coin's bars in constant time: a slot a bar length, each pointing at its row or the last one before it."""

    def __init__(self, table: CandleTable) -> None:
        self._table = table
        self.bar_ms = table.bar_ms
        self.start_ms = table.t_ms[0]
        self.end_ms = table.t_ms[-1] + table.bar_ms
        rows = array("l")
        for row, (t_ms, following) in enumerate(zip(table.t_ms, [*table.t_ms[1:], self.end_ms], strict=True)):
            rows.extend([row] * ((following - t_ms) // self.bar_ms))
        self._row_of_slot = rows

    def bar(self, at_ms: int) -> Candle:
        """The bar that contains ``at_ms``, inside the span."""
        table, slot = self._table, (at_ms - self.start_ms) // self.bar_ms
        row, t_ms = self._row_of_slot[slot], self.start_ms + slot * self.bar_ms
        close = table.close[row]
        if table.t_ms[row] != t_ms:
            return Candle(t_ms=t_ms, open=close, high=close, low=close, close=close, volume=0.0, still=True)
        return Candle(
            t_ms=t_ms,
            open=table.open[row],
            high=table.high[row],
            low=table.low[row],
            close=close,
            volume=table.volume[row],
        )


class RecordedPrices:
    """Recorded candles of one or more coins over the span that all of them share."""

    label: Final = "recorded"

    def __init__(self, tables: dict[str, CandleTable]) -> None:
        """``tables``: coin → its checked file.

        Raises:
            PricesError: the files share no minute.
        """
        self._series = {symbol: _Series(table) for symbol, table in tables.items()}
        self.symbols = tuple(tables)
        self.start_ms: int | None = max(series.start_ms for series in self._series.values())
        self.end_ms: int | None = min(series.end_ms for series in self._series.values())
        self._span = range(self.start_ms, self.end_ms)
        self._last_bar: dict[str, Candle] = {}
        if not self._span:
            raise PricesError("the candle files share no minute: " + ", ".join(str(t.path) for t in tables.values()))

    @classmethod
    def load(cls, place: Path, *, symbols: Sequence[str]) -> RecordedPrices:
        """Read one file a coin from a folder, or a single coin's file.

        Raises:
            PricesError: a file is absent, ambiguous or faulty.
        """
        return cls({symbol: read_candles(find_file(place, symbol)) for symbol in symbols})

    def candle(self, symbol: str, minute_ms: int) -> Candle | None:
        """The whole minute that contains ``minute_ms``."""
        if (bar := self._bar(symbol, minute_ms)) is None:
            return None
        bar_ms = self._series[symbol].bar_ms
        if bar_ms == MINUTE_MS:
            return bar
        start = minute_of(minute_ms)
        return part(bar, bar_ms=bar_ms, start_ms=start, end_ms=start + MINUTE_MS)

    def mid(self, symbol: str, at_ms: int) -> float | None:
        """The price on the bar's path."""
        bar = self._bar(symbol, at_ms)
        return None if bar is None else px_at(bar, (at_ms - bar.t_ms) / self._series[symbol].bar_ms)

    def candles(self, symbol: str, start_ms: int, end_ms: int) -> list[Candle]:
        """The minutes inside both the recording and the time asked for."""
        if symbol not in self._series:
            return []
        first, last = max(minute_of(start_ms), self._span.start), min(end_ms, self._span.stop)
        found = (self.candle(symbol, minute) for minute in range(first, last, MINUTE_MS))
        return [candle for candle in found if candle is not None]

    def forming(self, symbol: str, now_ms: int) -> Candle | None:
        """The minute so far, cut out of the bar's path."""
        if (bar := self._bar(symbol, now_ms)) is None:
            return None
        return part(bar, bar_ms=self._series[symbol].bar_ms, start_ms=minute_of(now_ms), end_ms=now_ms)

    def depth(self, symbol: str, at_ms: int) -> Depth | None:  # noqa: ARG002 - candles hold no book
        """None: the book is modelled."""
        return None

    async def run(self, *, clock: Clock, stop: asyncio.Event) -> None:
        """Nothing to fetch."""

    def _bar(self, symbol: str, at_ms: int) -> Candle | None:
        series = self._series.get(symbol)
        if series is None or at_ms not in self._span:
            return None
        bar = self._last_bar.get(symbol)
        if bar is None or not bar.t_ms <= at_ms < bar.t_ms + series.bar_ms:
            bar = self._last_bar[symbol] = series.bar(at_ms)
        return bar
