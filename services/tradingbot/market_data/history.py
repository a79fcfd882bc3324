"""Each coin's price at each minute of the last hour.

The price at a minute is the newest mid received at or before it and not older than the feed's limit; where there is
none, the venue's own candles are asked: the close of the candle that ends there, else the open of the one that begins
there. What the venue does not tell stays a gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tradingbot.domain.cycles import MINUTE_MS
from tradingbot.market_data.features import WINDOW
from tradingbot.market_data.feed import MAX_AGE_MS, Mid

LATE_MS = 2 * MINUTE_MS
"""The venue may tell a candle this much late."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What back-filling needs of a one-minute candle."""

    open_ms: int
    open: Decimal
    close: Decimal | None
    """None while the minute is not over."""


class History:
    """Minute prices in USD, ``WINDOW`` of each coin."""

    def __init__(self, universe: Sequence[str], *, max_age_ms: int = MAX_AGE_MS) -> None:
        self._max_age_ms = max_age_ms
        self._prices: dict[str, dict[int, Decimal]] = {symbol: {} for symbol in universe}
        self._told_absent: dict[str, set[int]] = {symbol: set() for symbol in universe}

    def sample(self, mids: Mapping[str, Mid]) -> None:
        """Take mids for the minute that follows them."""
        for symbol, mid in mids.items():
            minute = next_minute_ms(mid.at_ms)
            if minute - mid.at_ms <= self._max_age_ms:
                self._prices[symbol][minute] = mid.px

    def discard(self, symbol: str, minute_ms: int) -> None:
        """Forget the price at a minute: its book turned out crossed."""
        self._prices[symbol].pop(minute_ms, None)

    def fill(self, symbol: str, bars: Sequence[Bar], *, newest_ms: int) -> None:
        """Take the venue's candles for the minutes up to ``newest_ms`` that have no price.

        A minute that they do not tell, though it is over for a while, is never asked for again.
        """
        told = {bar.open_ms: bar.open for bar in bars}
        told |= {bar.open_ms + MINUTE_MS: bar.close for bar in bars if bar.close is not None}
        for minute in self.gaps(symbol, newest_ms=newest_ms):
            if minute in told:
                self._prices[symbol][minute] = told[minute]
            elif minute < newest_ms - LATE_MS:
                self._told_absent[symbol].add(minute)

    def gaps(self, symbol: str, *, newest_ms: int) -> list[int]:
        """The minutes of the window that ends at ``newest_ms`` without a price, but for those the venue has none of."""
        prices, absent = self._prices[symbol], self._told_absent[symbol]
        return [minute for minute in window_minutes(newest_ms) if minute not in prices and minute not in absent]

    def at(self, symbol: str, minute_ms: int) -> Decimal | None:
        """The price at a minute."""
        return self._prices[symbol].get(minute_ms)

    def window(self, symbol: str, newest_ms: int) -> list[float]:
        """The prices of the window that ends at ``newest_ms``, oldest first; 0.0 where there is none."""
        prices = self._prices[symbol]
        return [float(prices.get(minute, 0)) for minute in window_minutes(newest_ms)]

    def keep_around(self, newest_ms: int) -> None:
        """Drop what is older than the window that ends at ``newest_ms``, and what a clock that went back left ahead.

        The minute after it stays: mids are sampled for the minute that follows them.
        """
        kept = range(window_minutes(newest_ms).start, newest_ms + MINUTE_MS + 1)
        for symbol, prices in self._prices.items():
            self._prices[symbol] = {minute: px for minute, px in prices.items() if minute in kept}
            self._told_absent[symbol] = {minute for minute in self._told_absent[symbol] if minute in kept}


def next_minute_ms(at_ms: int) -> int:
    """The first minute at or after a moment."""
    return -(-at_ms // MINUTE_MS) * MINUTE_MS


def window_minutes(newest_ms: int) -> range:
    """The minutes of the window that ends at ``newest_ms``, oldest first, in Unix milliseconds."""
    return range(newest_ms - (WINDOW - 1) * MINUTE_MS, newest_ms + 1, MINUTE_MS)
