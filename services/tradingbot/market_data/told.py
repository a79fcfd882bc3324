"""What the snapshots so far have told of each minute's price, so that each tells only what they have not.

A snapshot's features look at a window of minute prices. Its own minute is in ``mid_px``; earlier minutes were in the
snapshots before, unless they were back-filled since, or nobody ran. Whoever reads all snapshots in their order and
overwrites what they tell has the whole window, to the last bit, gaps included: a gap is told as null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from tradingbot.domain.messages import FeatureSnapshot1m
from tradingbot.market_data.history import History, window_minutes

Prices = dict[int, Decimal | None]


@dataclass(frozen=True, slots=True)
class Told:
    """Prices by coin and minute, as the snapshots before tell them. An empty one makes the next snapshot tell all."""

    prices: Mapping[str, Mapping[int, Decimal | None]] = field(default_factory=lambda: MappingProxyType({}))

    def news(self, history: History, symbols: Iterable[str], *, minute_ms: int) -> dict[str, Prices]:
        """The minutes before ``minute_ms`` of the coins' windows that were not told as they are."""
        found = {symbol: self._news(symbol, history, minute_ms) for symbol in symbols}
        return {symbol: prices for symbol, prices in found.items() if prices}

    def after(self, snapshot: FeatureSnapshot1m, *, minute_ms: int) -> Told:
        """What is told once this snapshot is written too."""
        prices = dict(self.prices)
        for symbol, px in snapshot.mid_px.items():
            told = {**prices.get(symbol, {}), **snapshot.history.get(symbol, {}), minute_ms: px}
            prices[symbol] = {minute: told[minute] for minute in window_minutes(minute_ms) if minute in told}
        return Told(prices)

    def window(self, symbol: str, newest_ms: int) -> list[float] | None:
        """``History.window`` from what was told; None while not all of it was."""
        told = self.prices.get(symbol, {})
        minutes = window_minutes(newest_ms)
        return [float(told[each] or 0) for each in minutes] if all(each in told for each in minutes) else None

    def _news(self, symbol: str, history: History, minute_ms: int) -> Prices:
        told = self.prices.get(symbol, {})
        present = {each: history.at(symbol, each) for each in window_minutes(minute_ms) if each < minute_ms}
        return {each: px for each, px in present.items() if each not in told or told[each] != px}
