"""The consumer of exec.orders: works on actions, each sent once with all of its intents.

An action that waits holds back only later PLACEs of its own symbols; cancels and other symbols pass it. What cannot be
sent at all becomes a dead letter, and its orders are settled: unsent where that is sure, unknown where it is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tradingbot.bus.client import BLOCK_MS
from tradingbot.bus.entries import PAGE, Entry, InvalidEntry
from tradingbot.bus.errors import BusError, bus_errors
from tradingbot.bus.names import Group, Stream, action_key
from tradingbot.domain.errors import Permanent
from tradingbot.domain.messages import AuditLevel, AuditRecord, OrderAction, OrderIntent
from tradingbot.execution.book import Book, Change, changed_by
from tradingbot.execution.gate import Gate
from tradingbot.execution.ledger import Ledger, Order, Stage
from tradingbot.execution.orders import Lost
from tradingbot.execution.sending import ActionSender, Events
from tradingbot.execution.venue_link import VenueLink
from tradingbot.execution.work import BadAction, Record, Work
from tradingbot.runtime import metrics


class Unworkable(Permanent):
    """An action that this version cannot turn into a request or cannot read the answer of; trying again is no help."""


class Sender:
    """Reads intents, gathers them into actions, and records what became of each."""

    def __init__(self, *, book: Book, venue: VenueLink, gate: Gate) -> None:
        self._book = book
        self._bus = book.bus
        self._first = venue.first
        self._actions = ActionSender(bus=book.bus, venue=venue, gate=gate)
        self._works: dict[str, Work] = {}
        self.caught_up = asyncio.Event()
        """Set once all that an earlier life left unfinished has been read."""
        self._buried = False
        """Whether entries were put aside whose orders nobody has settled yet."""
        self._reader = self._bus.reader(stream=Stream.ORDERS, group=Group.EXEC_ORDERS, model=OrderIntent)

    @property
    def idle(self) -> bool:
        """True when no request is in flight and no PLACE is known here whose fate is not recorded."""
        return self._actions.in_flight == 0 and not any(work.place for work in self._works.values())

    @property
    def starved(self) -> bool:
        """True while the venue refuses a cancel for want of weight: whatever else wants some must wait."""
        return self._first.starved

    async def run(self) -> None:
        """Read and send until cancelled; entries that an earlier life left come first.

        Raises:
            ExceptionGroup: of BusError, when Redis or the lease is lost; what was under way is read again by the
                next run.
        """
        self._works.clear()
        self.caught_up.clear()
        async with asyncio.TaskGroup() as tasks:
            await self._take(await self._reader.pending(), tasks, more=False)
            self.caught_up.set()
            while True:
                suspects = self._orphans() if self._buried else []
                page = await self._reader.new(block_ms=None if self._buried else BLOCK_MS)
                more = len(page) == PAGE
                self._buried = self._buried and more
                await self._take(page, tasks, more=more)
                if not more:
                    await self._settle(suspects)

    def _orphans(self) -> list[Order]:
        """Intents of this lease that no known action will send; those of earlier ones are settled by the recovery."""
        token = self._bus.lease.token
        return [
            each
            for each in self._book.ledger.live()
            if each.stage is Stage.INTENT and each.lease_token == token and each.action_id not in self._works
        ]

    async def _settle(self, suspects: Sequence[Order]) -> None:
        """End the orders whose entries were put aside: they were orphans before all that is written was read."""
        left = {each.cloid for each in self._orphans()}
        events = [self._actions.orphaned(each) for each in suspects if each.cloid in left]
        if events:
            await self._book.apply(events, cycle_id=self._bus.cycle_id())

    async def _take(
        self, entries: Sequence[Entry[OrderIntent] | InvalidEntry], tasks: asyncio.TaskGroup, *, more: bool
    ) -> None:
        for entry in entries:
            if isinstance(entry, InvalidEntry):
                await self._bus.dead_letter(entry, reason=entry.error, error_type="InvalidMessage")
                self._buried = True
                continue
            intent = entry.data
            place = intent.action is OrderAction.PLACE
            work = self._works.setdefault(
                intent.action_id, Work(action_id=intent.action_id, size=intent.action_size, place=place)
            )
            work.entries[intent.action_index] = entry
        if not more:
            await self._bury_fragments()
        self._start_ready(tasks)

    async def _bury_fragments(self) -> None:
        """One commit writes all entries of an action: what has no more to come will never be whole."""
        for work in [each for each in self._works.values() if not each.complete]:
            await self._bury(work, BadAction(f"{len(work.entries)} of {work.size} entries of {work.action_id}"))
            self._buried = True
            del self._works[work.action_id]

    def _start_ready(self, tasks: asyncio.TaskGroup) -> None:
        held: set[str] = set()
        for work in self._works.values():
            if not work.complete:
                continue
            if not work.started and not (work.place and work.symbols & held):
                work.started = True
                tasks.create_task(self._work(work, tasks), name=work.action_id)
            if work.place:
                held |= work.symbols

    async def _work(self, work: Work, tasks: asyncio.TaskGroup) -> None:
        """Send one action and write what became of it."""
        record: Record | None = None
        try:
            record = await self._record(work.action_id)
            events = await self._send(work, record)
            await self._finish(work, events)
        except Permanent as error:
            metrics.count_error(error)
            if work.place:
                events = self._actions.unsent(work, record, reason=type(error).__name__)
                await self._book.apply(events, cycle_id=self._cycle_id(work))
            await self._bury(work, error)
        del self._works[work.action_id]
        self._actions.forget(work)
        self._start_ready(tasks)

    async def _send(self, work: Work, record: Record) -> Events:
        """What became of each order.

        Raises:
            Permanent: it can never be sent; also for whatever nobody has foreseen: ending the process would not help,
                because the same entry would end the next one too.
            BusError: Redis or the lease is lost.
        """
        send = self._actions.place if work.place else self._actions.cancel
        try:
            return await send(work, record)
        except (Permanent, BusError):
            raise
        except Exception as error:
            raise Unworkable(f"{type(error).__name__}: {error}") from error

    async def _record(self, action_id: str) -> Record:
        with bus_errors():
            fields: Any = await self._bus.redis.hgetall(action_key(action_id))
        return Record.of(fields)

    async def _finish(self, work: Work, events: Events) -> None:
        """n reports, n dedup records and n acks in one commit; a cancel without news is only acked."""

        def decide(ledger: Ledger) -> Change | None:
            change = changed_by(ledger, events)
            return replace(change, audits=(*change.audits, *_doubts(work, events))) if change else None

        acks = [each.ack for each in work.in_order]
        await self._book.change(decide, cycle_id=self._cycle_id(work), commit_id=f"sent:{work.action_id}", acks=acks)

    async def _bury(self, work: Work, error: Permanent) -> None:
        for each in work.in_order:
            await self._bus.dead_letter(each, reason=str(error), error_type=type(error).__name__)

    @staticmethod
    def _cycle_id(work: Work) -> str:
        return work.in_order[0].message.env.cycle_id


def _doubts(work: Work, events: Events) -> list[AuditRecord]:
    """One record for an action whose outcome is unknown."""
    lost = [cloid for cloid, event in events if isinstance(event, Lost)]
    if not lost:
        return []
    details = {"action_id": work.action_id, "cloids": lost, "symbols": sorted(work.symbols)}
    return [AuditRecord(kind="unknown_outcome", level=AuditLevel.WARNING, cause=work.action_id, details=details)]
