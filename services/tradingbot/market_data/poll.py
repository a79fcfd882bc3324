"""Asking the venue: mids, the tops of books, and candles for what is missing.

Each question is one try: the next turn asks again, and an answer that comes late is worth nothing. What failed last is
remembered for the minute's record. Only mids tell which coins the venue has; of another one nothing is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any

import httpx
from pydantic import ValidationError
from redis.asyncio import Redis

from tradingbot.bus.errors import BusError, bus_errors
from tradingbot.bus.names import Key
from tradingbot.domain.cycles import MINUTE_MS
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import StateSnapshot
from tradingbot.market_data.books import Books
from tradingbot.market_data.feed import Condition, Feed, Mid, latest_fields
from tradingbot.market_data.history import Bar, History, next_minute_ms
from tradingbot.runtime.clock import Clock, guard_against_real_slowness
from tradingbot.runtime.metrics import count_error, measured
from tradingbot.venue.errors import VenueError
from tradingbot.venue.info import InfoClient
from tradingbot.venue.models import Book, Candle

HTTP_TIMEOUT = httpx.Timeout(connect=2.0, read=4.0, write=2.0, pool=2.0)
"""Real seconds; shorter than the venue client's own, because the next poll is near."""
MIDS_EVERY_MS = 2_000
MIDS_LEAD_MS = 1_000
"""Polls are timed so that the last one before a minute is sent this long before it."""
BOOKS_LEAD_MS = 5_000
BACK_FILL_AFTER_MS = 10_000


class Poller:
    """Brings the venue's answers into the feed, the history and ``latest.mids``."""

    def __init__(
        self, *, info: InfoClient, redis: Redis, clock: Clock, feed: Feed, history: History, books: Books
    ) -> None:
        self._info = info
        self._redis = redis
        self._clock = clock
        self._feed = feed
        self._history = history
        self._books = books
        self.failures: dict[str, str] = {}
        """What is being asked → why its last try failed; empty when all goes well."""

    async def mids(self) -> None:
        """Poll allMids once, keep the samples, write ``latest.mids`` (without coins whose book is crossed)."""
        async with self._try("allMids"):
            answer = await self._info.all_mids()
            now_ms = self._clock.now_ms()
            taken = self._feed.put(answer, at_ms=now_ms)
            good = {
                symbol: mid
                for symbol, mid in taken.items()
                if self._feed.condition(symbol, now_ms=now_ms) is Condition.FRESH
            }
            self._history.sample(good)
            told = good | {each: Mid(answer[each], now_ms) for each in await self._held_outside() if each in answer}
            if told:
                with bus_errors():
                    await _awaited(self._redis.hset(Key.LATEST_MIDS, items=_flat(latest_fields(told))))

    async def books(self) -> None:
        """Ask for the book of each known coin of which the stream has sent none lately."""
        unknown = self._books.missing(self._feed.known, now_ms=self._clock.now_ms())
        await asyncio.gather(*(self._book(symbol) for symbol in unknown))

    def take_book(self, book: Book) -> None:
        """A book, asked for or streamed; a crossed one takes the coin out until it is crossed no more.

        One that is refused says nothing of that either: it is late, or nobody asked for it.
        """
        now_ms = self._clock.now_ms()
        if not self._books.put(book, at_ms=now_ms):
            return
        bid, ask = (side[0].px if side else None for side in (book.bids, book.asks))
        if self._feed.put_book(book.symbol, bid=bid, ask=ask):
            self._history.discard(book.symbol, next_minute_ms(now_ms))

    async def back_fill(self) -> None:
        """Ask for the candles of the known coins' minutes of the last hour that have no price."""
        newest_ms = self._clock.now_ms() // MINUTE_MS * MINUTE_MS
        self._history.keep_around(newest_ms)
        await asyncio.gather(*(self._candles(symbol, newest_ms) for symbol in self._feed.known))

    @contextlib.asynccontextmanager
    async def _try(self, what: str) -> AsyncIterator[None]:
        """One question: measured, its failure counted and remembered, its success forgetting the failure."""
        try:
            with measured(what.partition(" ")[0]):
                yield
        except (VenueError, BusError) as error:
            count_error(error)
            self.failures[what] = f"{type(error).__name__}: {error}"
        else:
            self.failures.pop(what, None)

    async def _held_outside(self) -> frozenset[str]:
        """Coins outside the universe that the account holds: they count in every limit, and may have to be closed."""
        with bus_errors():
            raw: Any = await self._redis.get(Key.LATEST_SNAPSHOT)
        try:
            positions = Message[StateSnapshot].read(raw).data.positions if raw else {}
        except ValidationError:
            return frozenset()
        return frozenset(symbol for symbol, position in positions.items() if position.external)

    async def _book(self, symbol: str) -> None:
        async with self._try(f"l2Book {symbol}"):
            self.take_book(await self._info.l2_book(symbol))

    async def _candles(self, symbol: str, newest_ms: int) -> None:
        gaps = self._history.gaps(symbol, newest_ms=newest_ms)
        if not gaps:
            return
        async with self._try(f"candleSnapshot {symbol}"):
            now_ms = self._clock.now_ms()
            candles = await self._info.candles(symbol, "1m", gaps[0] - MINUTE_MS, now_ms)
            self._history.fill(symbol, [_bar(each, now_ms=now_ms) for each in candles], newest_ms=newest_ms)


def next_turn_ms(now_ms: int, *, every_ms: int, before_ms: int = 0) -> int:
    """The first moment after ``now_ms`` on the grid of ``every_ms`` that is shifted ``before_ms`` ahead."""
    return ((now_ms + before_ms) // every_ms + 1) * every_ms - before_ms


def mids_timing(speed: float) -> tuple[int, int]:
    """How often to poll mids and how long before the minute, both in virtual milliseconds.

    At great speeds real work takes much virtual time: a poll then takes its 50 real milliseconds of a turn.
    """
    return (
        guard_against_real_slowness(value_ms=MIDS_EVERY_MS, real_ms=50, speed=speed),
        guard_against_real_slowness(value_ms=MIDS_LEAD_MS, real_ms=30, speed=speed),
    )


def _bar(candle: Candle, *, now_ms: int) -> Bar:
    over = candle.open_ms + MINUTE_MS <= now_ms
    return Bar(candle.open_ms, candle.open, candle.close if over else None)


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [text for pair in fields.items() for text in pair]


async def _awaited(call: Awaitable[int] | int) -> None:
    """redis-py types its commands for the synchronous client too."""
    if isinstance(call, Awaitable):
        await call
