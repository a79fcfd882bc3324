"""market_data: one snapshot of features a minute, at the minute, and the mids that slices are priced by.

Loops that do not wait for one another: polling brings prices in, back-filling mends gaps from the venue's candles, the
minute loop tells each minute what is known by then, even when that is nothing, and one watches the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tradingbot.bus.buckets import WeightBudget
from tradingbot.bus.entries import Outcome
from tradingbot.bus.errors import BusError
from tradingbot.bus.names import Stream
from tradingbot.bus.session import BusSession, open_session
from tradingbot.bus.state import StateCell
from tradingbot.domain.cycles import MINUTE_MS, cycle_id_at, minute_id
from tradingbot.domain.messages import BookFacts
from tradingbot.market_data import books
from tradingbot.market_data.clock_watch import ClockWatch, StepBack
from tradingbot.market_data.feed import MAX_AGE_MS, MAX_AGE_REAL_MS, Feed
from tradingbot.market_data.history import History
from tradingbot.market_data.minute import MinuteState, due_minute, tell
from tradingbot.market_data.poll import (
    BACK_FILL_AFTER_MS,
    BOOKS_LEAD_MS,
    HTTP_TIMEOUT,
    Poller,
    mids_timing,
    next_turn_ms,
)
from tradingbot.market_data.settings import MarketDataSettings
from tradingbot.market_data.told import Told
from tradingbot.runtime import metrics
from tradingbot.runtime.clock import guard_against_real_slowness
from tradingbot.runtime.process import Process
from tradingbot.runtime.tracing import span
from tradingbot.venue.events import Connected, Disconnected, Event, L2Book, StreamError
from tradingbot.venue.http import open_http
from tradingbot.venue.info import InfoClient
from tradingbot.venue.network import urls
from tradingbot.venue.polling import PollingBudget
from tradingbot.venue.stream import Subscription, VenueStream

FIRST_LOOK_S = 5.0
"""Real seconds that the first snapshot waits for mids and back-fill."""
BOOKS = "l2Book stream"
SILENCE_S = 30.0
"""Real seconds without any book after which the connection is taken for dead."""
CLOCK_LOOK_S = 1.0
"""Real seconds between two looks at the clock."""
RETRY_S = 0.1
"""Real seconds before a minute that the bus did not take is tried again."""


async def run(process: Process) -> None:
    """Run the service until the process is told to stop."""
    settings = MarketDataSettings.load(process.environ)
    endpoints = urls(settings.hl_network, settings.hl_http_url, settings.hl_ws_url)
    async with open_session(process, settings) as bus, open_http(endpoints.http_url, timeout=HTTP_TIMEOUT) as http:
        per_min = settings.ip_weight_per_min
        shared = WeightBudget(bus.redis, capacity_per_min=per_min, clock=process.clock)
        budget = PollingBudget(shared, per_min=per_min, in_force=lambda: shared.per_min)
        await MarketData(process, settings, bus, InfoClient(http, budget, attempts=1), endpoints.ws_url).run()


class MarketData:
    """The loops, wired."""

    def __init__(
        self,
        process: Process,
        settings: MarketDataSettings,
        bus: BusSession,
        info: InfoClient,
        ws_url: str,
    ) -> None:
        self._ws_url = ws_url
        self._process, self._settings, self._bus = process, settings, bus
        self._clock = process.clock
        self._universe: tuple[str, ...] = tuple(settings.universe)
        max_age_ms = guard_against_real_slowness(
            value_ms=MAX_AGE_MS, real_ms=MAX_AGE_REAL_MS, speed=process.clock.speed
        )
        self._feed = Feed(self._universe, max_age_ms=max_age_ms)
        self._history = History(self._universe, max_age_ms=max_age_ms)
        book_age_ms = guard_against_real_slowness(
            value_ms=books.MAX_AGE_MS, real_ms=books.MAX_AGE_REAL_MS, speed=process.clock.speed
        )
        self._books = books.Books(self._universe, max_age_ms=book_age_ms)
        self._poller = Poller(
            info=info,
            redis=bus.redis,
            clock=process.clock,
            feed=self._feed,
            history=self._history,
            books=self._books,
        )
        self._so_far = Told()
        self._cell: StateCell[MinuteState] = bus.cell(MinuteState, MinuteState())

    async def run(self) -> None:
        """All loops, until the process is told to stop or one of them fails for good."""
        every_ms, lead_ms = mids_timing(self._clock.speed)
        poller, back_fill_lead_ms = self._poller, MINUTE_MS - BACK_FILL_AFTER_MS
        async with asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(self._each("mids", poller.mids, every_ms=every_ms, before_ms=lead_ms)),
                tasks.create_task(self._each("books", poller.books, every_ms=MINUTE_MS, before_ms=BOOKS_LEAD_MS)),
                tasks.create_task(
                    self._each("back_fill", poller.back_fill, every_ms=MINUTE_MS, before_ms=back_fill_lead_ms)
                ),
                tasks.create_task(self._stream_books()),
                tasks.create_task(self._minutes()),
                tasks.create_task(self._watch_clock()),
            ]
            await self._process.stop.wait()
            for loop in loops:
                loop.cancel()

    async def _each(self, name: str, turn: Callable[[], Awaitable[None]], *, every_ms: int, before_ms: int) -> None:
        while not self._process.stop.is_set():
            await self._clock.sleep_until_ms(next_turn_ms(self._clock.now_ms(), every_ms=every_ms, before_ms=before_ms))
            await turn()
            self._process.health.beat(name, max_age_s=60.0 + 2 * every_ms / 1000 / self._clock.speed)

    async def _stream_books(self) -> None:
        """Listen to the books of the coins that the venue has: it closes a connection that asks for another one."""
        stream = VenueStream(self._ws_url, self._channels, clock=self._clock, ids=self._process.ids)
        await stream.run(self._on_event)

    def _channels(self) -> list[Subscription]:
        return [Subscription("l2Book", coin=each, max_silence_s=SILENCE_S) for each in self._feed.known]

    async def _on_event(self, event: Event) -> None:
        """Books make features better; without them nothing stops, so whatever goes wrong is only said."""
        match event:
            case L2Book(book):
                self._poller.take_book(book)
            case Connected():
                self._poller.failures.pop(BOOKS, None)
            case Disconnected(reason=reason):
                self._poller.failures[BOOKS] = reason
                self._process.log.warning("books_away", reason=reason)
            case StreamError(text):
                self._process.log.warning("books_refused", detail=text)
            case _:
                pass

    async def _first_look(self) -> None:
        try:
            async with asyncio.timeout(FIRST_LOOK_S):
                while True:
                    minute_ms = _minute_of(self._clock.now_ms())
                    await self._poller.mids()
                    await self._poller.back_fill()
                    if _minute_of(self._clock.now_ms()) == minute_ms:  # else the new minute's price is still a gap
                        return
        except TimeoutError:
            self._process.log.warning("first_look_timed_out", limit_s=FIRST_LOOK_S)

    async def _minutes(self) -> None:
        await self._first_look()
        away = False
        while not self._process.stop.is_set():
            try:
                await self._tell_if_due()
                away = False
            except BusError as error:
                if not away:
                    self._process.log.warning("waiting_for_redis", error=str(error))
                away = True
                metrics.count_error(error)
                self._process.health.ready(is_ready=False, why=str(error))
                await self._clock.sleep_real(RETRY_S)

    async def _watch_clock(self) -> None:
        """Say once, in log, audit and readiness, that the clock went back; nothing else would explain the silence."""
        watch, untold = ClockWatch(speed=self._clock.speed), list[StepBack]()
        while not self._process.stop.is_set():
            now_ms, last_minute_ms = self._clock.now_ms(), self._cell.value.last_minute_ms
            if step := watch.look(now_ms=now_ms, last_minute_ms=last_minute_ms):
                self._process.log.error("clock_went_back", detail=step.text)
                self._process.health.hinder("clock", step.text)
                untold.append(step)
            elif now_ms >= last_minute_ms:
                self._process.health.hinder("clock", None)
            if untold and await self._told(untold[0]):
                untold.pop(0)
            await self._clock.sleep_real(CLOCK_LOOK_S)

    async def _told(self, step: StepBack) -> bool:
        outcome: Outcome[MinuteState] = Outcome(audits=(step.record(),))
        try:
            result = await self._bus.commit_step(None, outcome, commit_id=f"clock:{step.at_ms}")
        except BusError as error:
            metrics.count_error(error)
            return False
        return result.done

    async def _tell_if_due(self) -> None:
        if self._cell.stale:
            await self._cell.load()
        minute_ms = due_minute(self._cell.value, now_ms=self._clock.now_ms())
        if minute_ms is None:
            await self._clock.sleep_until_ms(next_turn_ms(self._clock.now_ms(), every_ms=MINUTE_MS))
            return
        await self._tell(minute_ms)

    async def _tell(self, minute_ms: int) -> None:
        bus, now_ms = self._bus, self._clock.now_ms()
        cycle_id = cycle_id_at(minute_ms, cycle_seconds=self._settings.cycle_seconds)
        async with self._cell.lock:
            with span("market_data.minute", bot_id=bus.bot_id, cycle_id=cycle_id), metrics.measured("minute"):
                telling = tell(
                    self._cell.value,
                    minute_ms=minute_ms,
                    now_ms=now_ms,
                    universe=self._universe,
                    feed=self._feed,
                    history=self._history,
                    prices=self._settings.price_source,
                    books=self._known_books(now_ms),
                    told=self._so_far,
                    failures=self._poller.failures,
                )
                add = bus.add(Stream.FEATURES, telling.snapshot, cycle_id=cycle_id, key=minute_id(minute_ms))
                outcome = Outcome(state=telling.state, adds=(add,), audits=(telling.record,))
                so_far, self._so_far = self._so_far, Told()  # until Redis has answered nobody knows what was told
                result = await bus.commit_step(
                    self._cell, outcome, commit_id=f"minute:{minute_id(minute_ms)}", cycle_id=cycle_id
                )
        if not result.done:
            self._process.log.warning("minute_superseded", minute=minute_id(minute_ms), detail=result.detail)
            await self._clock.sleep_real(RETRY_S)
            return
        self._so_far = so_far.after(telling.snapshot, minute_ms=minute_ms)
        metrics.cycle_lag.set((self._clock.now_ms() - minute_ms) / 1000)
        self._process.health.beat("minute", max_age_s=60.0 + 2 * MINUTE_MS / 1000 / self._clock.speed)
        self._process.health.ready(bool(telling.snapshot.mid_px), "no coin has a usable price")
        self._process.log.info("minute_told", minute=minute_id(minute_ms), **telling.record.details)

    def _known_books(self, now_ms: int) -> dict[str, BookFacts]:
        found = {symbol: self._books.facts(symbol, now_ms=now_ms) for symbol in self._universe}
        return {symbol: facts for symbol, facts in found.items() if facts is not None}


def _minute_of(at_ms: int) -> int:
    return at_ms - at_ms % MINUTE_MS
