"""Execution: from approved targets to orders at the venue, and back to reports. Wiring and loops only.

Everything runs under one lease and ends together: whatever goes wrong with the bus ends all loops, the gate closes,
open orders are cancelled at the venue when Redis stays away, and all begins anew from what Redis holds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from tradingbot.bus.buckets import WeightBudget
from tradingbot.bus.client import connect
from tradingbot.bus.errors import BusError
from tradingbot.bus.lease import Lease
from tradingbot.bus.names import Group, Stream
from tradingbot.bus.session import BusSession, open_session
from tradingbot.domain.messages import ApprovedTargetPortfolio, ControlCommand
from tradingbot.execution.book import Book
from tradingbot.execution.cancels_first import CancelsFirst, Exhaustible, NoWait
from tradingbot.execution.control import Control
from tradingbot.execution.failclosed import cancel_without_bus, known_cancels
from tradingbot.execution.flatten import Flattener
from tradingbot.execution.gate import Gate
from tradingbot.execution.inquiry import Timing
from tradingbot.execution.ledger import Ledger
from tradingbot.execution.mode_reader import ModeReader
from tradingbot.execution.planner import Planner
from tradingbot.execution.preflight_task import PreflightTask
from tradingbot.execution.recovery import Recovery
from tradingbot.execution.sender import Sender
from tradingbot.execution.settings import ExecutionSettings
from tradingbot.execution.strays import Strays
from tradingbot.execution.tracker import Tracker
from tradingbot.execution.venue_link import VenueLink
from tradingbot.execution.watchdog import Watchdog
from tradingbot.execution.worker import Worker
from tradingbot.runtime import metrics
from tradingbot.runtime.process import Process
from tradingbot.runtime.stopping import Stopped, end, unless_stopped
from tradingbot.venue.errors import VenueError
from tradingbot.venue.exchange import ExchangeClient
from tradingbot.venue.http import open_http
from tradingbot.venue.info import InfoClient
from tradingbot.venue.network import urls
from tradingbot.venue.precision import AssetSpec
from tradingbot.venue.signing import Signer
from tradingbot.venue.stream import Subscription, VenueStream

BUS_GRACE_S = 1.0
"""Redis may be away this long, real seconds, before open orders are cancelled without it."""
STOP_WITHIN_S = 5.0


class LeaseLost(BusError):  # noqa: N818 - the verdict's word
    """Another process may be execution now."""


class Stopping(Exception):  # noqa: N818 - not a failure
    """The process was told to stop, and open orders are cancelled."""


async def run(process: Process) -> None:
    """Trade until the process is told to stop."""
    settings = ExecutionSettings.load(process.environ)
    waiting = asyncio.create_task(_close_while_bus_is_away(process, settings))
    try:
        with contextlib.suppress(Stopped):
            async with open_session(process, settings) as bus:
                await end(waiting)
                budget = WeightBudget(bus.redis, capacity_per_min=settings.ip_weight_per_min, clock=process.clock)
                async with _venue(process, settings, budget) as (venue, stream):
                    execution = Execution(process=process, settings=settings, bus=bus, venue=venue, stream=stream)
                    await execution.run()
    finally:
        await end(waiting)


async def _close_while_bus_is_away(process: Process, settings: ExecutionSettings) -> None:
    """A start that finds no Redis: whoever placed orders before may be gone with it, so they are cancelled."""
    if settings.dry_run:
        return
    async with connect(settings.redis_url, client_name=f"{process.service}-start") as redis:
        lease, back = Lease(redis, service=process.service, clock=process.clock), asyncio.Event()
        watcher = asyncio.create_task(_set_when_back(back, process=process, lease=lease))
        try:
            await _within(BUS_GRACE_S, back)
            if not back.is_set():
                async with _venue(process, settings, NoWait()) as (venue, _):
                    sent = await cancel_without_bus(
                        venue, bot_id=settings.bot_id, clock=process.clock, until=back, stop=process.stop
                    )
                process.log.warning("cancelled_without_bus", sent=sent)
        finally:
            await end(watcher)


async def _within(real_s: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(real_s):
            await event.wait()


async def _set_when_back(back: asyncio.Event, *, process: Process, lease: Lease) -> None:
    """Set ``back`` once Redis takes writes again."""
    while True:
        try:
            await lease.confirm()
        except BusError as error:
            process.health.ready(is_ready=False, why=f"redis: {error}")
            await process.clock.sleep_real(0.1)
        else:
            back.set()
            return


@contextlib.asynccontextmanager
async def _venue(
    process: Process, settings: ExecutionSettings, budget: Exhaustible
) -> AsyncIterator[tuple[VenueLink, VenueStream | None]]:
    """The venue's clients; waits until it tells its coins.

    What a HALT needs has connections of its own: polls that a slow venue holds up must not hold up a cancel.
    """
    endpoints = urls(settings.hl_network, settings.hl_http_url, settings.hl_ws_url)
    async with open_http(endpoints.http_url) as polls, open_http(endpoints.http_url) as http:
        first = CancelsFirst(budget)
        info = InfoClient(polls, first)
        key = settings.key()
        account = settings.hl_account_address or ""
        venue = VenueLink(
            info=info,
            urgent=InfoClient(http, NoWait(), attempts=1),
            exchange=ExchangeClient(http),
            first=first,
            signer=Signer(key, settings.hl_network, settings.hl_vault_address) if key else None,
            account=account,
            specs=await unless_stopped(process.stop, _specs(process, info)),
        )
        channels = [Subscription("orderUpdates", user=account), Subscription("userFills", user=account)]
        stream = VenueStream(endpoints.ws_url, channels, clock=process.clock, ids=process.ids) if account else None
        yield venue, stream


async def _specs(process: Process, info: InfoClient) -> dict[str, AssetSpec]:
    while True:
        try:
            return {str(symbol): spec for symbol, spec in (await info.meta()).items()}
        except VenueError as error:
            process.log.warning("venue_not_read", error=str(error))
            await process.clock.sleep_real(1.0)


class Execution:
    """All parts of execution, and the loop that begins them anew after trouble."""

    def __init__(
        self,
        *,
        process: Process,
        settings: ExecutionSettings,
        bus: BusSession,
        venue: VenueLink,
        stream: VenueStream | None,
    ) -> None:
        self._process = process
        self._settings = settings
        self._bus = bus
        self._venue = venue
        self.gate = Gate()
        self.preflight = PreflightTask(bus=bus, venue=venue, gate=self.gate, settings=settings)
        self.book = Book(bus, bus.cell(Ledger, Ledger()))
        self._control_redis = connect(settings.redis_url, client_name=f"{process.service}-control")
        modes = ModeReader(self._control_redis, mode_file=settings.mode_file)
        self.sender = Sender(book=self.book, venue=venue, gate=self.gate)
        self.tracker = Tracker(
            book=self.book,
            venue=venue,
            stream=stream,
            universe=settings.universe,
            timing=Timing.at_speed(process.clock.speed),
        )
        self.worker = Worker(book=self.book, venue=venue, gate=self.gate, modes=modes, dry_run=settings.dry_run)
        self.strays = Strays(book=self.book, venue=venue, gate=self.gate, worker=self.worker)
        self.control = Control(
            redis=self._control_redis,
            book=self.book,
            gate=self.gate,
            sender=self.sender,
            worker=self.worker,
            strays=self.strays,
            flattener=Flattener(book=self.book, tracker=self.tracker, worker=self.worker, universe=settings.universe),
            modes=modes,
        )
        self.recovery = Recovery(
            book=self.book,
            gate=self.gate,
            sender=self.sender,
            tracker=self.tracker,
            worker=self.worker,
            strays=self.strays,
        )
        self.planner = Planner(
            book=self.book,
            gate=self.gate,
            tracker=self.tracker,
            worker=self.worker,
            recovery=self.recovery,
            modes=modes,
        )
        self.watchdog = Watchdog(book=self.book, venue=venue, gate=self.gate, worker=self.worker)

    async def run(self) -> None:
        """Until the process stops."""
        try:
            while not self._process.stop.is_set():
                await unless_stopped(self._process.stop, self._bus.lease.wait_held())
                await self._once()
        finally:
            await self._control_redis.aclose()

    async def _once(self) -> None:
        """One life under one lease."""
        self.gate.stop("starting", "earlier orders are not accounted for yet")
        try:
            # A group that fails leaves its task marked as cancelled, and before Python 3.11.3 every time-out in that
            # task raises CancelledError from then on: so the group has a task of its own, and failing closed another.
            await asyncio.create_task(self._live())
        except* Stopping:
            self._process.log.info("stopped_clean", open_orders=len(self.book.ledger.live()))
        except* BusError as trouble:
            errors = _leaves(trouble)
            for error in errors:
                metrics.count_error(error)
            why = "; ".join(dict.fromkeys(str(error) for error in errors))
            self._process.log.warning("bus_lost", errors=why)
            self.gate.stop("redis", "the bus or the lease is lost")
            self._process.health.ready(is_ready=False, why=f"redis: {why}")
            await self._fail_closed()

    async def _live(self) -> None:
        await self.book.load()
        self.gate.lift("redis")
        await self.control.begin()
        async with asyncio.TaskGroup() as tasks:
            for loop in self._loops():
                tasks.create_task(loop)

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        consume = self._bus.consume
        return [
            self.sender.run(),
            self.tracker.listen(),
            self.tracker.run(),
            self.worker.run(),
            self.control.watch(),
            self.control.enforce(),
            self.control.follow(),
            self.watchdog.run(),
            self.watchdog.watch_actions(),
            self.strays.watch(),
            self.recovery.run(),
            self.preflight.run(),
            self._watch_lease(),
            self._watch_stop(),
            consume(
                stream=Stream.APPROVED,
                group=Group.EXEC,
                model=ApprovedTargetPortfolio,
                handle=self.planner.handle,
                freshness=self.planner.stale,
                latest_only=True,
            ),
            consume(stream=Stream.COMMANDS, group=Group.EXEC_CTL, model=ControlCommand, handle=self.control.handle),
        ]

    async def _watch_lease(self) -> None:
        token = self._bus.lease.token
        while self._bus.lease.held and self._bus.lease.token == token:
            self._process.health.beat("execution", max_age_s=15.0)
            self._process.health.ready(not self.gate.stops, "; ".join(self.gate.stops.values()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._bus.lease.lost.wait()
        raise LeaseLost(f"lease {token} is lost")

    async def _watch_stop(self) -> None:
        """Leave nothing open: control cancels what a stop forbids; a venue that does not answer ends the wait."""
        await self._process.stop.wait()
        self.gate.stop("stopping", "the process was told to stop")
        self.control.hurry()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN_S):
                while self.book.ledger.live() or not self.sender.idle:
                    await self._process.clock.sleep_real(0.05)
        raise Stopping

    async def _fail_closed(self) -> None:
        """Redis is away or the lease is another's: cancel what is open when Redis stays away."""
        over = asyncio.Event()
        watchers = [
            asyncio.create_task(_set_when_back(over, process=self._process, lease=self._bus.lease)),
            asyncio.create_task(self._set_when_stopped(over)),
        ]
        try:
            await _within(BUS_GRACE_S, over)
            if not over.is_set():
                sent = await cancel_without_bus(
                    self._venue,
                    bot_id=self._bus.bot_id,
                    clock=self._process.clock,
                    until=over,
                    stop=self._process.stop,
                    known=known_cancels(self.book.ledger.live(), self._venue.specs),
                )
                self._process.log.warning("cancelled_without_bus", sent=sent)
        finally:
            for each in watchers:
                await end(each)

    async def _set_when_stopped(self, over: asyncio.Event) -> None:
        """A stop waits for the cancels too, but not for ever."""
        await self._process.stop.wait()
        await self._process.clock.sleep_real(STOP_WITHIN_S)
        over.set()


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found
