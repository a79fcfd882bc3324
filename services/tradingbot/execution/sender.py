"""The consumer of exec.orders: each action is sent once, with all of its intents.

Nothing is decided here that could change what is sent: nonce, expiry and order were fixed when the intents were
committed, so the bytes can be rebuilt after a crash and are the same. An action that waits holds back only later
PLACEs of its own symbols; cancels and other symbols pass it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from tradingbot.bus.entries import Entry, InvalidEntry, Reader
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import Group, Stream, action_key
from tradingbot.domain.errors import Temporary
from tradingbot.domain.ids import Cloid
from tradingbot.domain.messages import AuditLevel, AuditRecord, OrderAction, OrderIntent, ReportStatus
from tradingbot.domain.modes import Mode
from tradingbot.execution.book import Book, Change, changed_by
from tradingbot.execution.gate import Gate
from tradingbot.execution.intents import FLATTEN
from tradingbot.execution.ledger import ZERO, Ledger
from tradingbot.execution.orders import Accepted, Event, Final, Lost, Refused
from tradingbot.execution.venue_link import VenueLink
from tradingbot.runtime import metrics
from tradingbot.venue.errors import (
    AlreadyAdmitted,
    IocNoMatch,
    OutcomeUnknown,
    PostOnlyWouldMatch,
    Retryable,
    VenueError,
)
from tradingbot.venue.errors import (
    Refused as VenueRefused,
)
from tradingbot.venue.exchange import ActionResult, Failed, Filled, Resting, Status, Success
from tradingbot.venue.wire import Action, SignedRequest, WireOrder, cancel_by_cloid_action, order_action

BACK_OFF_S = (0.1, 0.3, 1.0, 2.0)
LONGEST_TTL_MS = 60_000
"""No order can be admitted later than this after now, whatever its action said (ORDER_TTL_MS is at most this)."""
RESENDS = 2
"""How often the same bytes of a PLACE are sent again after a lost answer, before the venue is asked instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """``action:{id}``: what the commit fixed."""

    nonce: int
    expires_after_ms: int | None
    lease_token: int
    asset_ids: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Work:
    """An action on its way: the entries that have been read so far."""

    action_id: str
    size: int
    place: bool
    entries: dict[int, Entry[OrderIntent]] = field(default_factory=dict)
    started: bool = False

    @property
    def complete(self) -> bool:
        return len(self.entries) == self.size

    @property
    def intents(self) -> list[OrderIntent]:
        """In the order of the action."""
        return [self.entries[index].data for index in sorted(self.entries)]

    @property
    def symbols(self) -> set[str]:
        return {each.symbol for each in self.intents}

    @property
    def at_most(self) -> Mode:
        """The strictest mode in which it may be sent."""
        if all(each.reason == FLATTEN for each in self.intents):
            return Mode.HALT
        return Mode.REDUCE_ONLY if all(each.reduce_only for each in self.intents) else Mode.NORMAL


class Sender:
    """Works on the actions of exec.orders."""

    def __init__(self, *, redis: Redis, book: Book, venue: VenueLink, gate: Gate) -> None:
        self._redis = redis
        self._book = book
        self._bus = book.bus
        self._venue = venue
        self._gate = gate
        self._works: dict[str, Work] = {}
        self._left: set[str] = set()
        """Actions whose bytes may have left this process; known across a loss of the bus."""
        self.caught_up = asyncio.Event()
        """Set once all that an earlier life left unfinished has been read."""
        self.in_flight = 0
        """Requests that have left and are not answered."""
        self._reader = Reader(
            redis, stream=Stream.ORDERS, group=Group.EXEC_ORDERS, consumer=self._bus.service, model=OrderIntent
        )

    @property
    def idle(self) -> bool:
        """True when no request is in flight and no PLACE is known here that is not written off."""
        return self.in_flight == 0 and not any(work.place for work in self._works.values())

    async def run(self) -> None:
        """Read and send until cancelled; entries that an earlier life left come first.

        Raises:
            ExceptionGroup: of BusError, when Redis or the lease is lost; what was under way is read again by the
                next run.
        """
        self._works.clear()
        self.caught_up.clear()
        async with asyncio.TaskGroup() as tasks:
            await self._take(await self._reader.pending(), tasks)
            self.caught_up.set()
            while True:
                await self._take(await self._reader.new(), tasks)

    async def _take(self, entries: Iterable[Entry[OrderIntent] | InvalidEntry], tasks: asyncio.TaskGroup) -> None:
        for entry in entries:
            if isinstance(entry, InvalidEntry):
                await self._bus.dead_letter(entry, reason=entry.error, error_type="InvalidMessage")
                continue
            intent = entry.data
            work = self._works.setdefault(
                intent.action_id,
                Work(action_id=intent.action_id, size=intent.action_size, place=intent.action is OrderAction.PLACE),
            )
            work.entries[intent.action_index] = entry
        self._start_ready(tasks)

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
        record = await self._record(work.action_id)
        if record is None:
            expired = Lost(expires_after_ms=self._now_ms() + LONGEST_TTL_MS, at_ms=self._now_ms())
            await self._finish(work, self._each(work, expired), audit=f"no record of action {work.action_id}")
        elif work.place:
            await self._finish(work, await self._place(work, record))
        else:
            await self._finish(work, await self._cancel(work, record))
        del self._works[work.action_id]
        self._left.discard(work.action_id)
        self._start_ready(tasks)

    async def _record(self, action_id: str) -> Record | None:
        with bus_errors():
            fields: Any = await self._redis.hgetall(action_key(action_id))
        if not fields:
            return None
        expires = fields.get("expires_after", "")
        return Record(
            nonce=int(fields["nonce"]),
            expires_after_ms=int(expires) if expires else None,
            lease_token=int(fields["lease_token"]),
            asset_ids=tuple(int(each) for each in fields["asset_ids"].split(",")),
        )

    # ---------------------------------------------------------------- PLACE

    async def _place(self, work: Work, record: Record) -> list[tuple[str, Event]]:
        """Send the orders, or say why they were not sent; every path ends in an event per order."""
        assert record.expires_after_ms is not None
        request = self._signed(order_action(_wire_orders(work.intents, record)), record)
        # An earlier life may have sent these bytes: then only the venue knows.
        maybe_sent = record.lease_token != self._bus.lease.token
        for tries in range(RESENDS + 1):
            if (reason := self._not_to_be_sent(work, record)) or maybe_sent or request is None:
                return self._unsent(
                    work, record, reason=reason or "dry_run", maybe_sent=maybe_sent or work.action_id in self._left
                )
            try:
                result = await self._send(request, work=work, resend=work.action_id in self._left)
            except AlreadyAdmitted:
                break
            except OutcomeUnknown:
                await self._pause(tries)
            except Retryable as error:
                self._left.discard(work.action_id)
                await self._pause(tries, error)
            except VenueRefused as error:
                return self._each(work, self._refused(error))
            else:
                return [
                    (each.cloid, self._placed(status, result.raw))
                    for each, status in zip(work.intents, result.statuses, strict=True)
                ]
        return self._unsent(work, record, reason="not answered", maybe_sent=work.action_id in self._left)

    def _not_to_be_sent(self, work: Work, record: Record) -> str | None:
        if self._venue.signer is None:
            return "dry_run"
        if record.expires_after_ms is not None and self._now_ms() > record.expires_after_ms:
            return "expired"
        if not self._bus.lease.held:
            return "lease_lost"
        return self._gate.refusal(at_most=work.at_most)

    def _unsent(self, work: Work, record: Record, *, reason: str, maybe_sent: bool) -> list[tuple[str, Event]]:
        """Orders whose bytes may have left are unknown; those whose bytes provably did not are over."""
        assert record.expires_after_ms is not None
        now_ms = self._now_ms()
        if maybe_sent:
            return self._each(work, Lost(expires_after_ms=record.expires_after_ms, at_ms=now_ms))
        return self._each(work, Final(outcome=ReportStatus.CANCELED, at_ms=now_ms, executed=ZERO, error=reason))

    def _placed(self, status: Status, raw: str) -> Event:
        match status:
            case Resting(oid=oid) | Filled(oid=oid):
                return Accepted(oid=str(oid), at_ms=self._now_ms(), raw=raw)
            case Failed(error=error):
                return self._refused(error)
            case _:
                return Refused(error="UnexpectedStatus", at_ms=self._now_ms(), raw=raw)

    def _refused(self, error: VenueError) -> Event:
        name, raw = type(error).__name__, str(error)
        if isinstance(error, PostOnlyWouldMatch | IocNoMatch):
            # A missed slice, not a refusal: the market was elsewhere.
            return Final(outcome=ReportStatus.CANCELED, at_ms=self._now_ms(), executed=ZERO, error=name, raw=raw)
        return Refused(error=name, at_ms=self._now_ms(), raw=raw)

    # ---------------------------------------------------------------- CANCEL

    async def _cancel(self, work: Work, record: Record) -> list[tuple[str, Event]]:
        """Carried out until the venue answers: a cancel has no expiry and is never dropped for age."""
        cancels = [(asset, Cloid(each.cloid)) for each, asset in zip(work.intents, record.asset_ids, strict=True)]
        request = self._signed(cancel_by_cloid_action(cancels), record)
        if request is None:
            return []
        tries = 0
        while True:
            try:
                result = await self._send(request, work=work, resend=work.action_id in self._left)
            except (AlreadyAdmitted, VenueRefused):
                # Admitted before, or its nonce is stale: if the order still stands, it is asked for again.
                return []
            except (OutcomeUnknown, Retryable) as error:
                await self._pause(tries, error if isinstance(error, Retryable) else None)
                tries += 1
            else:
                # Any other answer says that it does not rest, not how it ended: the tracker asks.
                return [
                    (each.cloid, Final(outcome=ReportStatus.CANCELED, at_ms=self._now_ms()))
                    for each, status in zip(work.intents, result.statuses, strict=True)
                    if isinstance(status, Success)
                ]

    # ---------------------------------------------------------------- both

    def _signed(self, action: Action, record: Record) -> SignedRequest | None:
        if self._venue.signer is None:
            return None
        return self._venue.signer.sign(action, nonce=record.nonce, expires_after_ms=record.expires_after_ms)

    async def _send(self, request: SignedRequest, *, work: Work, resend: bool) -> ActionResult:
        self.in_flight += 1
        self._venue.used(request.nonce)
        self._left.add(work.action_id)
        try:
            return await self._venue.exchange.send(request, resend=resend)
        finally:
            self.in_flight -= 1
            metrics.orders.labels(action="PLACE" if work.place else "CANCEL").inc(work.size)

    async def _finish(self, work: Work, events: list[tuple[str, Event]], *, audit: str = "") -> None:
        """n reports, n dedup records and n acks in one commit."""

        def decide(ledger: Ledger) -> Change | None:
            change = changed_by(ledger, events)
            if not audit:
                return change
            record = AuditRecord(
                kind="exec.orders", level=AuditLevel.ERROR, cause=work.action_id, details={"error": audit}
            )
            return Change(ledger=ledger, audits=(record,))

        cycle_id = work.entries[0].message.env.cycle_id
        acks = [work.entries[index].ack for index in sorted(work.entries)]
        await self._book.change(decide, cycle_id=cycle_id, commit_id=f"sent:{work.action_id}", acks=acks)

    async def _pause(self, tries: int, error: Temporary | None = None) -> None:
        least_s = error.delay_s if error is not None and error.delay_s is not None else 0.0
        base_s = BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)]
        await self._bus.clock.sleep_real(max(least_s, base_s * self._bus.ids.uniform(0.5, 1.0)))

    def _each(self, work: Work, event: Event) -> list[tuple[str, Event]]:
        return [(each.cloid, event) for each in work.intents]

    def _now_ms(self) -> int:
        return self._bus.clock.now_ms()


def _wire_orders(intents: Iterable[OrderIntent], record: Record) -> list[WireOrder]:
    return [
        WireOrder(
            asset_id=asset_id,
            side=each.side,
            px=each.limit_px,
            size=each.qty,
            tif=each.tif,
            reduce_only=each.reduce_only,
            cloid=Cloid(each.cloid),
        )
        for each, asset_id in zip(intents, record.asset_ids, strict=True)
    ]
