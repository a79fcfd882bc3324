"""Follows orders to their end and positions to agreement: the stream makes it fast, questions make it right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing

from tradingbot.domain.messages import AuditLevel, AuditRecord, ReportStatus
from tradingbot.execution.book import Book, Change, changed_by
from tradingbot.execution.inquiry import Questions, Timing, next_question_ms, questions
from tradingbot.execution.ledger import ZERO, Ledger, Order
from tradingbot.execution.orders import (
    Absent,
    Accepted,
    Event,
    FillsComplete,
    Final,
    absence_proven,
    fills_complete,
    may_have_vanished,
)
from tradingbot.execution.settle import Settlement, Sighting, absorb, settle
from tradingbot.execution.venue_link import VenueLink
from tradingbot.execution.waiting import woken
from tradingbot.runtime import metrics
from tradingbot.venue.errors import VenueError
from tradingbot.venue.events import Connected, OrderUpdates, UserFills
from tradingbot.venue.models import Account, Fill, OrderStatus, VenueOrder
from tradingbot.venue.statuses import refusal_of
from tradingbot.venue.stream import VenueStream

SETTLE_FILLS_MARGIN_MS = 30_000


class Tracker:
    """Keeps the ledger what the venue says."""

    def __init__(
        self, *, book: Book, venue: VenueLink, stream: VenueStream | None, universe: Sequence[str], timing: Timing
    ) -> None:
        self._book = book
        self._venue = venue
        self._stream = stream
        self.universe = tuple(universe)
        self.timing = timing
        self._clock = book.bus.clock
        self._asked_ms: dict[str, int] = {}
        self._wake = book.watch()

    # ---------------------------------------------------------------- the stream

    async def listen(self) -> None:
        """Take in order updates and fills until cancelled."""
        if self._stream is None:
            return
        async with aclosing(self._stream.events()) as events:
            async for event in events:
                match event:
                    case OrderUpdates(orders=updates):
                        await self._book.apply([_status_event(each) for each in updates], cycle_id=self._cycle_id())
                    case UserFills(fills=fills, is_snapshot=False):
                        await self.take_fills(fills)
                    case Connected():
                        # Nothing is replayed: whatever happened in between must be asked for.
                        self._asked_ms.clear()
                        self._wake.set()
                    case _:
                        pass

    async def take_fills(self, fills: Iterable[Fill]) -> None:
        """Count fills, each once."""
        found = list(fills)

        def decide(ledger: Ledger) -> Change | None:
            after, reports = absorb(ledger, found)
            return Change(ledger=after, reports=reports) if after != ledger else None

        await self._book.change(decide, cycle_id=self._cycle_id())

    # ---------------------------------------------------------------- the questions

    async def run(self) -> None:
        """Ask what is due until cancelled; a venue that does not answer is asked again."""
        while True:
            self._wake.clear()
            try:
                await self.ask()
            except VenueError as error:
                metrics.count_error(error)
                self._book.bus.process.log.warning("venue_not_read", error=str(error))
                await self._tell(error)
            due_ms = next_question_ms(self._book.ledger, now_ms=self._clock.now_ms(), timing=self.timing)
            await woken(self._wake, clock=self._clock, due_ms=due_ms)

    async def _tell(self, error: VenueError) -> None:
        details = {"error": f"{type(error).__name__}: {error}"}
        record = AuditRecord(kind="venue_not_read", level=AuditLevel.WARNING, cause="tracker", details=details)
        await self._book.change(lambda ledger: Change(ledger=ledger, audits=(record,)), cycle_id=self._cycle_id())
        self._wake.clear()  # nothing that anybody could ask about has changed

    async def ask(self) -> None:
        """One round of questions."""
        now_ms = self._clock.now_ms()
        wanted = questions(
            self._book.ledger, universe=self.universe, now_ms=now_ms, asked_ms=self._asked_ms, timing=self.timing
        )
        if wanted.statuses or wanted.fills_since_ms is not None:
            await self._ask_orders(wanted, now_ms=now_ms)
        if wanted.account:
            await self.settle_now()

    async def _ask_orders(self, wanted: Questions, *, now_ms: int) -> None:
        for each in self._book.ledger.live():
            if each in wanted.statuses or each.outcome is not None:
                self._asked_ms[each.cloid] = now_ms
        statuses, fills, resting = await asyncio.gather(
            asyncio.gather(
                *(self._venue.info.order_status(self._venue.account, each.cloid) for each in wanted.statuses)
            ),
            self._fills(wanted.fills_since_ms),
            self._open_orders() if wanted.absence else _nothing(),
        )
        events = [_status_event(each) for each in statuses if each is not None]
        silent = [each for each, status in zip(wanted.statuses, statuses, strict=True) if status is None]
        absent = _absent(silent, resting, fills, asked_ms=now_ms, timing=self.timing) if wanted.absence else []
        absent += await self._vanished(silent, asked_ms=now_ms)

        def decide(ledger: Ledger) -> Change | None:
            after, reports = absorb(ledger, fills)
            complete = [
                (each.cloid, FillsComplete(asked_ms=now_ms))
                for each in after.live()
                if wanted.fills_since_ms is not None
                and each.intent_ms >= wanted.fills_since_ms
                and fills_complete(each, asked_ms=now_ms, grace_ms=self.timing.grace_ms)
            ]
            change = changed_by(after, [*events, *complete, *absent])
            after, more = (change.ledger, change.reports) if change else (after, ())
            return Change(ledger=after, reports=[*reports, *more]) if after != ledger else None

        await self._book.change(decide, cycle_id=self._cycle_id())

    async def _vanished(self, silent: Sequence[Order], *, asked_ms: int) -> list[tuple[str, Event]]:
        """Open orders that the venue no longer knows: no status long after their end, and not resting either."""
        suspects = [
            each for each in silent if may_have_vanished(each, asked_ms=asked_ms, patience_ms=self.timing.patience_ms)
        ]
        if not suspects:
            return []
        resting = {(each.cloid or "").lower() for each in await self._open_orders()}
        now_ms = self._clock.now_ms()
        return [
            (each.cloid, Final(outcome=ReportStatus.CANCELED, at_ms=now_ms, error="vanished"))
            for each in suspects
            if each.cloid not in resting
        ]

    async def settle_now(self) -> Settlement | None:
        """Compare positions with the venue's; reads the account's fills when they alone can explain a difference."""
        asked_ms = self._clock.now_ms()
        self._asked_ms[""] = asked_ms
        account = await self._venue.info.clearinghouse_state(self._venue.account)
        self._venue.skew_ms = account.time_ms - (asked_ms + self._clock.now_ms()) // 2
        sighting = _sighting(account, asked_ms)
        found = settle(self._book.ledger, sighting, universe=self.universe)
        fills: list[Fill] = []
        if found.doubted or not self._book.ledger.marks:
            since_ms = min(self._book.ledger.settled_ms or asked_ms, asked_ms) - SETTLE_FILLS_MARGIN_MS
            fills = await self._venue.info.fills_since(self._venue.account, since_ms)
        result: list[Settlement] = []

        def decide(ledger: Ledger) -> Change | None:
            counted, reports = absorb(ledger, fills)
            result.append(settle(counted, sighting, universe=self.universe))
            return Change(ledger=result[-1].ledger, reports=reports, audits=_settle_audits(result[-1]))

        await self._book.change(decide, cycle_id=self._cycle_id())
        return result[-1] if result else None

    async def _fills(self, since_ms: int | None) -> list[Fill]:
        return [] if since_ms is None else await self._venue.info.fills_since(self._venue.account, since_ms)

    async def _open_orders(self) -> tuple[VenueOrder, ...]:
        return await self._venue.info.open_orders(self._venue.account)

    def _cycle_id(self) -> str:
        return self._book.ledger.plan.cycle_id if self._book.ledger.plan else self._book.bus.cycle_id()


async def _nothing() -> tuple[VenueOrder, ...]:
    return ()


def _sighting(account: Account, asked_ms: int) -> Sighting:
    positions = {str(symbol): each.size for symbol, each in account.positions.items()}
    return Sighting(positions=positions, equity_usd=account.equity, asked_ms=asked_ms)


def _status_event(seen: OrderStatus) -> tuple[str, Event]:
    cloid, oid = (seen.order.cloid or "").lower(), str(seen.order.oid)
    if not seen.terminal:
        return cloid, Accepted(oid=oid, at_ms=seen.status_ms, raw=seen.status)
    refusal = refusal_of(seen.status)
    return cloid, Final(
        outcome=seen.report_status,
        at_ms=seen.status_ms,
        executed=ZERO if refusal else seen.order.filled_at_most,
        oid=oid,
        error=type(refusal).__name__ if refusal else None,
        raw=seen.status,
    )


def _absent(
    silent: Sequence[Order], resting: Sequence[VenueOrder], fills: Sequence[Fill], *, asked_ms: int, timing: Timing
) -> list[tuple[str, Event]]:
    """Orders of which the venue shows no trace at a time when it would have to."""
    seen = {(each.cloid or "").lower() for each in resting} | {(each.cloid or "").lower() for each in fills}
    return [
        (each.cloid, Absent(at_ms=asked_ms))
        for each in silent
        if each.cloid not in seen and absence_proven(each, asked_ms=asked_ms, grace_ms=timing.grace_ms)
    ]


def _settle_audits(found: Settlement) -> list[AuditRecord]:
    return [
        AuditRecord(
            kind="position_adopted",
            level=AuditLevel.ERROR,
            cause=symbol,
            details={"symbol": symbol, "position": str(found.ledger.position(symbol))},
        )
        for symbol in found.adopted
    ]
