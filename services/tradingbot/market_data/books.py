"""Each coin's newest book, and what the last hour says is usual for it.

Books come over the venue's WebSocket, about two a second, and from a question a minute before where the stream is
away. One that is too old says nothing: its features are absent until the next one comes. Prices do not depend on it.
A clock that steps back makes what is stamped ahead of it unknown, not fresh.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import median

from tradingbot.domain.messages import BookFacts
from tradingbot.market_data.liquidity import BAND_BPS
from tradingbot.venue.models import Book, Level

MAX_AGE_MS = 10_000
"""A book older than this, in virtual time, says nothing; the venue sends one every half second to five seconds."""
MAX_AGE_REAL_MS = 2_000
SAMPLE_EVERY_MS = 1_000
USUAL_OVER_MS = 3_600_000
LEAST_SAMPLES = 60
"""Fewer say nothing of what is usual: the first minute of a stream."""
CHURN_OVER_MS = 60_000
NEVER_MS = 0

Side = dict[Decimal, float]
"""Price → USD resting there, within the band."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """When a coin's newest book was received, and when the venue made it."""

    at_ms: int
    time_ms: int


@dataclass(slots=True, kw_only=True)
class _Coin:
    book: Book
    at_ms: int
    bids: Side
    asks: Side
    depths: deque[tuple[int, float]] = field(default_factory=deque)
    """When, and the thinner side's USD."""
    churns: deque[tuple[int, float]] = field(default_factory=deque)
    """When, and the USD that came or went since the book before."""
    since_ms: int = 0
    """Since when churn is known without a gap."""


class Books:
    """The newest book of each coin of the universe."""

    def __init__(self, universe: Sequence[str], *, max_age_ms: int = MAX_AGE_MS) -> None:
        self._universe = frozenset(universe)
        self._max_age_ms = max_age_ms
        self._heard: dict[str, _Heard] = {}
        self._coins: dict[str, _Coin] = {}

    def put(self, book: Book, *, at_ms: int) -> bool:
        """Take a book, received at a virtual time; False when it is refused.

        Refused are coins outside the universe and what the venue made before the newest book, as a late answer is. One
        with an empty or crossed side is taken, but says nothing of liquidity.
        """
        if book.symbol not in self._universe or self._outdated(book, at_ms):
            return False
        self._heard[book.symbol] = _Heard(at_ms, book.time_ms)
        self._learn(book, at_ms)
        return True

    def _outdated(self, book: Book, at_ms: int) -> bool:
        """A newest book that is old itself refuses nothing: the venue's time may have gone back."""
        newest = self._heard.get(book.symbol)
        return newest is not None and self._fresh(newest, at_ms) and book.time_ms < newest.time_ms

    def _learn(self, book: Book, at_ms: int) -> None:
        before = self._coins.get(book.symbol)
        if not book.bids or not book.asks or book.bids[0].px >= book.asks[0].px:
            if before is not None:
                before.at_ms = NEVER_MS
            return
        mid = (book.bids[0].px + book.asks[0].px) / 2
        bids, asks = _within_band(book.bids, mid), _within_band(book.asks, mid)
        coin = _Coin(book=book, at_ms=at_ms, bids=bids, asks=asks, since_ms=at_ms)
        if before is not None and before.depths[-1][0] <= at_ms:  # else the clock went back: samples are in order
            coin.depths = before.depths
            if self._fresh(before, at_ms):
                coin.churns, coin.since_ms = before.churns, before.since_ms
                coin.churns.append((at_ms, _changed_usd(before.bids, bids) + _changed_usd(before.asks, asks)))
        if not coin.depths or at_ms - coin.depths[-1][0] >= SAMPLE_EVERY_MS:
            coin.depths.append((at_ms, min(sum(bids.values()), sum(asks.values()))))
        _forget(coin.depths, at_ms - USUAL_OVER_MS)
        _forget(coin.churns, at_ms - CHURN_OVER_MS)
        self._coins[book.symbol] = coin

    def facts(self, symbol: str, *, now_ms: int) -> BookFacts | None:
        """What is known of a coin's book at a moment; None without a fresh one."""
        coin = self._coins.get(symbol)
        if coin is None or not self._fresh(coin, now_ms):
            return None
        whole_minute = now_ms - coin.since_ms >= CHURN_OVER_MS
        return BookFacts(
            bid_px=coin.book.bids[0].px,
            ask_px=coin.book.asks[0].px,
            bid_usd=sum(coin.bids.values()),
            ask_usd=sum(coin.asks.values()),
            typical_usd=median(usd for _, usd in coin.depths) if len(coin.depths) >= LEAST_SAMPLES else None,
            churn_usd=sum(usd for _, usd in coin.churns) if whole_minute else None,
            at_ms=coin.at_ms,
        )

    def missing(self, universe: Sequence[str], *, now_ms: int) -> tuple[str, ...]:
        """The coins of which no book came lately; a crossed or an empty one is news too."""
        fresh = {symbol for symbol, heard in self._heard.items() if self._fresh(heard, now_ms)}
        return tuple(symbol for symbol in universe if symbol not in fresh)

    def _fresh(self, what: _Heard | _Coin, now_ms: int) -> bool:
        return 0 <= now_ms - what.at_ms <= self._max_age_ms


def _within_band(levels: Sequence[Level], mid: Decimal) -> Side:
    reach = mid * Decimal(BAND_BPS) / 10_000
    return {each.px: float(each.px * each.size) for each in levels if abs(each.px - mid) <= reach}


def _changed_usd(before: Side, after: Side) -> float:
    return sum(abs(after.get(px, 0.0) - before.get(px, 0.0)) for px in sorted({*before, *after}))


def _forget(samples: deque[tuple[int, float]], before_ms: int) -> None:
    while samples and samples[0][0] < before_ms:
        samples.popleft()
