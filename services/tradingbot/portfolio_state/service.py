"""portfolio_state's wiring and loops: reconcile, follow orders, read reports, listen to the venue, keep the bus small.

The venue's stream is only ever a nudge: what it tells is never taken over, it makes the next reading come sooner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from tradingbot.bus.buckets import WeightBudget
from tradingbot.bus.entries import Entry, Outcome
from tradingbot.bus.errors import BusError
from tradingbot.bus.memory import read_memory
from tradingbot.bus.names import Group, Stream
from tradingbot.bus.session import BusSession, open_session
from tradingbot.bus.trim import trim_streams
from tradingbot.domain.cycles import cycle_id_at
from tradingbot.domain.messages import AuditLevel, AuditRecord, ExecutionReport, ReportStatus, StateSnapshot
from tradingbot.portfolio_state.health import count_refusal
from tradingbot.portfolio_state.mirror import Mirror, Step
from tradingbot.portfolio_state.orders import apply_status, end_filled, poll_order, track_report
from tradingbot.portfolio_state.outputs import memory_record, outcome_of
from tradingbot.portfolio_state.reader import read_intents, read_venue
from tradingbot.portfolio_state.reconcile import Facts, failed, reconcile
from tradingbot.portfolio_state.settings import PortfolioStateSettings
from tradingbot.runtime.metrics import count_error, measured, redis_memory_ratio
from tradingbot.runtime.process import Process
from tradingbot.venue.errors import VenueError
from tradingbot.venue.events import Connected, Disconnected, Event, OrderUpdates, UserFills
from tradingbot.venue.http import open_http
from tradingbot.venue.info import InfoClient
from tradingbot.venue.models import OrderStatus
from tradingbot.venue.network import urls
from tradingbot.venue.polling import PollingBudget
from tradingbot.venue.stream import Subscription, VenueStream

READ_ATTEMPTS: Final = 2
"""Tries per read; the loop itself is the retry, and a failure has to be told soon."""
RETRY_S: Final = 3.0
"""Virtual seconds after a failed reconciliation."""
BUS_RETRY_S: Final = 0.5
TRIM_EVERY_S: Final = 60.0
STOP_WITHIN_S: Final = 3.0


async def run(process: Process) -> None:
    """Mirror the account until the process stops."""
    settings = PortfolioStateSettings.load(process.environ)
    account = settings.account
    endpoints = urls(settings.hl_network, settings.hl_http_url, settings.hl_ws_url)
    subscriptions = [Subscription("orderUpdates", user=account), Subscription("userFills", user=account)]
    async with open_session(process, settings) as bus, open_http(endpoints.http_url) as http:
        per_min = settings.ip_weight_per_min
        shared = WeightBudget(bus.redis, capacity_per_min=per_min, clock=process.clock)
        budget = PollingBudget(shared, per_min=per_min, in_force=lambda: shared.per_min)
        service = PortfolioState(
            bus,
            InfoClient(http, budget, attempts=READ_ATTEMPTS),
            budget,
            VenueStream(endpoints.ws_url, subscriptions, clock=process.clock, ids=process.ids),
            settings=settings,
        )
        await service.run()


class PortfolioState:
    """The loops around one mirror."""

    def __init__(
        self,
        bus: BusSession,
        venue: InfoClient,
        budget: PollingBudget,
        stream: VenueStream,
        *,
        settings: PortfolioStateSettings,
    ) -> None:
        self._bus = bus
        self._process = bus.process
        self._clock = bus.clock
        self._venue = venue
        self._budget = budget
        self._stream = stream
        self._settings = settings
        self._facts = Facts(
            bot_id=bus.bot_id,
            account=settings.account,
            universe=settings.universe,
            prices=settings.price_source.value,
        )
        self._cell = bus.cell(Mirror, Mirror())
        self._last: StateSnapshot | None = None
        self._nudge = asyncio.Event()
        self._short_of_memory = False
        self._gap = False
        """The venue's stream was away: what it would have told must be read now, rich or not."""

    async def run(self) -> None:
        """Run all loops until the process stops; any of them failing ends the service."""
        await self._cell.load()
        await self._restore_last()
        async with asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(self._read_reports(), name="reports"),
                tasks.create_task(self._keep("reconcile", self._reconcile_in_turn), name="reconcile"),
                tasks.create_task(self._keep("orders", self._poll_in_turn), name="orders"),
                tasks.create_task(self._keep("trim", self._trim_in_turn), name="trim"),
                tasks.create_task(self._stream.run(self._on_event), name="stream"),
            ]
            await self._process.stop.wait()
            loops[-1].cancel()  # the stream only nudges; nothing of it is worth waiting for
            _, late = await asyncio.wait(loops, timeout=STOP_WITHIN_S)
            for task in late:
                task.cancel()

    async def reconcile_once(self) -> bool:
        """Read the venue and publish what it said, or that it could not be read; True when it could."""
        with measured("reconcile"):
            try:
                reading = await read_venue(
                    self._venue, self._cell.value, account=self._settings.account, clock=self._clock
                )
            except VenueError as error:
                count_error(error)
                await self._publish_failure(error)
                return False
            async with self._cell.lock:
                before, now_ms = self._cell.value, self._clock.now_ms()
                informed = await read_intents(self._bus.redis, before, now_ms=now_ms)
                result = reconcile(informed, reading, facts=self._facts, now_ms=now_ms)
                name = f"reconcile:{reading.asked_ms}"
                done = await self._commit(name, before, result.step, snapshot=result.snapshot)
            if done:
                self._last = result.snapshot
                self._process.health.ready(is_ready=True)
            return done

    async def poll_orders(self) -> None:
        """Ask the venue how each active order stands, as far as the budget reaches."""
        open_oids = [order.exchange_order_id for order in self._last.open_orders] if self._last else []
        answers: dict[str, OrderStatus | None] = {}
        audits: tuple[AuditRecord, ...] = ()
        for oid in poll_order(self._cell.value, open_oids=open_oids):
            try:
                answers[oid] = await self._venue.order_status(self._settings.account, int(oid))
            except VenueError as error:
                count_error(error)
                details = {"oid": oid, "error": str(error)}
                cause = f"{oid}:{self._clock.now_ms()}"
                record = AuditRecord(kind="order_poll_failed", level=AuditLevel.WARNING, cause=cause, details=details)
                audits = (record,)
                break
        async with self._cell.lock:
            before, now_ms = self._cell.value, self._clock.now_ms()
            step = Step(mirror=before, audits=audits).then(end_filled(before, now_ms=now_ms))
            for oid, answer in answers.items():
                step = step.then(apply_status(step.mirror, oid, answer, is_open=oid in open_oids, now_ms=now_ms))
            if step.events or step.audits:
                await self._commit(f"orders:{now_ms}", before, step)

    async def _publish_failure(self, error: VenueError) -> None:
        self._process.log.warning("reconcile_failed", error=str(error))
        async with self._cell.lock:
            before, now_ms = self._cell.value, self._clock.now_ms()
            step, snapshot = failed(before, self._last, str(error), now_ms=now_ms)
            await self._commit(f"failed:{now_ms}", before, step, snapshot=snapshot)
        self._process.health.ready(is_ready=False, why=str(error))

    async def _commit(
        self, step_name: str, before: Mirror, step: Step, *, snapshot: StateSnapshot | None = None
    ) -> bool:
        """Write a step decided on ``before``; False: the state had changed, decide anew."""
        cycle_id = cycle_id_at(self._clock.now_ms(), cycle_seconds=self._settings.cycle_seconds)
        outcome = outcome_of(self._bus, before, step, cycle_id=cycle_id, snapshot=snapshot)
        commit_id = f"{step_name}:{self._cell.version}"
        result = await self._bus.commit_step(self._cell, outcome, commit_id=commit_id, cycle_id=cycle_id)
        return result.done

    async def _restore_last(self) -> None:
        """After a restart, the figures that a failed reconciliation would have to repeat."""
        entry = await self._bus.newest(Stream.SNAPSHOT, StateSnapshot)
        self._last = entry.data if entry is not None and self._cell.value.began_ms else None

    async def _read_reports(self) -> None:
        await self._bus.consume(
            stream=Stream.REPORTS,
            group=Group.STATE_REPORTS,
            model=ExecutionReport,
            handle=self._on_report,
            cell=self._cell,
        )

    async def _on_report(self, entry: Entry[ExecutionReport]) -> Outcome[Mirror]:
        before, now_ms, report = self._cell.value, self._clock.now_ms(), entry.data
        mirror = track_report(before, report, now_ms=now_ms)
        mirror = mirror.model_copy(update={"refusals": count_refusal(before.refusals, report, now_ms=now_ms)})
        if report.status is not ReportStatus.ACK and not report.dry_run:
            self._nudge.set()
        return outcome_of(self._bus, before, Step(mirror=mirror), cycle_id=entry.message.env.cycle_id)

    async def _on_event(self, event: Event) -> None:
        match event:
            case Connected(first=first):
                self._gap = self._gap or not first
                self._nudge.set()
            case UserFills(is_snapshot=False) | OrderUpdates():
                self._nudge.set()
            case Disconnected(reason=reason):
                self._process.log.info("venue_stream_lost", reason=reason)
            case _:
                pass

    async def _reconcile_in_turn(self) -> None:
        started_ms = self._clock.now_ms()
        good = await self.reconcile_once()
        interval_s = self._settings.reconcile_interval_s if good else RETRY_S
        await self._wait_for_turn(started_ms, due_ms=started_ms + round(interval_s * 1000))

    async def _wait_for_turn(self, started_ms: int, *, due_ms: int) -> None:
        """Wait until a reconciliation is due, or sooner when the venue nudges and the budget allows it."""
        soonest_ms = min(due_ms, started_ms + round(self._settings.nudge_gap_s * 1000))
        while self._clock.now_ms() < due_ms and not self._process.stop.is_set():
            await self._first_of(self._clock.sleep_until_ms(due_ms), self._nudge.wait())
            if not self._nudge.is_set():
                continue
            await self._first_of(self._clock.sleep_until_ms(soonest_ms))
            self._nudge.clear()
            if self._gap or await self._budget.is_rich():
                self._gap = False
                return

    async def _poll_in_turn(self) -> None:
        started_ms = self._clock.now_ms()
        await self.poll_orders()
        interval_ms = round(self._settings.order_poll_interval_s * 1000)
        await self._first_of(self._clock.sleep_until_ms(started_ms + interval_ms))

    async def _trim_in_turn(self) -> None:
        await trim_streams(self._bus.redis)
        await self._watch_memory()
        await self._first_of(self._clock.sleep_real(TRIM_EVERY_S))

    async def _watch_memory(self) -> None:
        """Tell, once each time, that the server runs short of memory and that it does no more."""
        memory = await read_memory(self._bus.redis)
        redis_memory_ratio.set(memory.ratio)
        if memory.runs_short == self._short_of_memory:
            return
        record = memory_record(memory)
        self._process.log.warning(record.kind, **record.details)
        commit_id = f"{record.kind}:{self._clock.now_ms()}"
        result = await self._bus.commit_step(None, Outcome(audits=(record,)), commit_id=commit_id)
        if result.done:
            self._short_of_memory = memory.runs_short

    async def _keep(self, name: str, turn: Callable[[], Awaitable[None]]) -> None:
        """Take turns until the process stops; an outage of Redis only makes a turn late."""
        while not self._process.stop.is_set():
            self._process.health.beat(name, max_age_s=120.0)
            try:
                await turn()
            except BusError as error:
                count_error(error)
                self._process.health.ready(is_ready=False, why=str(error))
                await self._first_of(self._clock.sleep_real(BUS_RETRY_S))

    async def _first_of(self, *waits: Coroutine[Any, Any, object]) -> None:
        """Wait for the first of these, or for the process to stop."""
        tasks = [asyncio.ensure_future(wait) for wait in (*waits, self._process.stop.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
