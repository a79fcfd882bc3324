"""The slice loop: places what is due, cancels what is timed out, replaces what is left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tradingbot.bus.commit import Verdict
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import Key
from tradingbot.domain.messages import AuditRecord
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import ExecutionParams
from tradingbot.execution.actions import (
    Terms,
    anything_due,
    cancel,
    drop_late,
    give_up,
    limited,
    without_takes,
    work_due,
)
from tradingbot.execution.book import Book, Change
from tradingbot.execution.gate import Gate
from tradingbot.execution.intents import Desk
from tradingbot.execution.ledger import Ledger, Order
from tradingbot.execution.mode_reader import ModeReader
from tradingbot.execution.pricing import Mid, fresh
from tradingbot.execution.schedule import finished, next_wake_ms, timed_out
from tradingbot.execution.summary import plan_summary
from tradingbot.execution.venue_link import VenueLink
from tradingbot.execution.waiting import woken
from tradingbot.runtime.clock import guard_against_real_slowness
from tradingbot.venue.budget import MAX_BATCH

MID_AGE_MS = 5000
CANCEL_RETRY_MS = 2000
"""A cancellation that has not ended its order is asked for again after this."""


class Worker:
    """Works on the current plan."""

    def __init__(self, *, book: Book, venue: VenueLink, gate: Gate, modes: ModeReader, dry_run: bool) -> None:
        self._book = book
        self._bus = book.bus
        self._venue = venue
        self._gate = gate
        self._modes = modes
        self._dry_run = dry_run
        self._clock = book.bus.clock
        self.wake = book.watch()
        """Set by each change of the ledger, and by whoever lifts a restriction."""
        self.held_marks: dict[str, Decimal] = {}
        """The positions' marks of the last snapshot: what a held coin without a mid (delisted, say) is valued at."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.wake.clear()
            await self.step()
            due_ms = next_wake_ms(self._book.ledger, now_ms=self._clock.now_ms())
            retry_ms = self._clock.now_ms() + self._scaled(CANCEL_RETRY_MS, 250) if self._book.ledger.live() else None
            soonest_ms = min((each for each in (due_ms, retry_ms) if each is not None), default=None)
            await woken(self.wake, clock=self._clock, due_ms=soonest_ms)

    async def step(self) -> None:
        """Everything that is due now."""
        await self._drop_late()
        await self.cancel(self._timed_out(), reason="timeout", forced=True)
        for reductions in (True, False):
            await self._place_due(reductions=reductions)
        await self._summarise()

    def terms(self) -> Terms:
        """What the actions of this moment need."""
        return Terms(
            specs=self._venue.specs,
            speed=self._clock.speed,
            skew_ms=self._venue.skew_ms,
            min_nonce=self._venue.min_nonce,
            file_mode=self._modes.file_mode,
            lease_token=self._bus.lease.token,
        )

    async def desk(self) -> Desk:
        """Mids and marks of this moment."""
        with bus_errors():
            kept: Any = await self._bus.redis.hgetall(Key.LATEST_MIDS)
        mids = {symbol: _mid(text) for symbol, text in kept.items()}
        now_ms = self._clock.now_ms()
        return Desk(
            bot_id=self._bus.bot_id,
            lease_token=self._bus.lease.token,
            now_ms=now_ms,
            specs=self._venue.specs,
            mids=fresh(mids, now_ms=now_ms, oldest_ms=self._scaled(MID_AGE_MS, 1000)),
            marks=self.held_marks | {symbol: mid.px for symbol, mid in mids.items()},
            dry_run=self._dry_run,
        )

    async def cancel(self, orders: Sequence[Order], *, reason: str, forced: bool) -> None:
        """Ask for the cancellation of orders; ``forced`` ones are not delayed by the bucket, only counted.

        Without a key none is asked for: nothing could be sent, and an order that stays open would be asked about for
        ever (``strays`` tells a person).
        """
        if self._venue.signer is None:
            return
        wanted = [each for each in orders if not self._venue.first.holds(each.cloid)]
        for start in range(0, len(wanted), MAX_BATCH):
            await self._cancel(wanted[start : start + MAX_BATCH], reason=reason, forced=forced)

    async def _cancel(self, orders: Sequence[Order], *, reason: str, forced: bool) -> None:
        names = {each.cloid for each in orders}
        params = self._book.ledger.plan.execution if self._book.ledger.plan else ExecutionParams()

        def decide(ledger: Ledger, *, paid: bool) -> Change | None:
            still = [each for each in ledger.live() if each.cloid in names]
            if not still:
                return None
            now_ms = self._clock.now_ms()
            change = cancel(ledger, still, reason=reason, now_ms=now_ms, params=params, terms=self.terms())
            return change if paid else without_takes(change, count=len(still))

        result = await self._book.change(lambda ledger: decide(ledger, paid=True), cycle_id=self._cycle_id())
        if result is not None and result.verdict is Verdict.RATE_LIMITED and forced:
            await self._book.change(lambda ledger: decide(ledger, paid=False), cycle_id=self._cycle_id())

    def _timed_out(self) -> list[Order]:
        retry_ms = self._scaled(CANCEL_RETRY_MS, 250)
        return timed_out(self._book.ledger.live(), now_ms=self._clock.now_ms(), retry_ms=retry_ms)

    async def _drop_late(self) -> None:
        await self._book.change(
            lambda ledger: drop_late(ledger, now_ms=self._clock.now_ms()), cycle_id=self._cycle_id()
        )

    async def _place_due(self, *, reductions: bool) -> None:
        if self._gate.refusal(at_most=Mode.REDUCE_ONLY if reductions else Mode.NORMAL) is not None:
            return
        if not anything_due(self._book.ledger, now_ms=self._clock.now_ms(), reductions=reductions):
            return
        desk = await self.desk()
        verdict = await self._place(desk, reductions=reductions, most=None)
        if verdict is not Verdict.RATE_LIMITED:
            return
        while (verdict := await self._place(desk, reductions=reductions, most=1)) is Verdict.DONE:
            pass  # the bucket holds too little for all of them: as many as it holds, one by one
        if verdict is Verdict.RATE_LIMITED:
            await self._skip_limited(desk, reductions=reductions)

    async def _place(self, desk: Desk, *, reductions: bool, most: int | None) -> Verdict | None:
        result = await self._book.change(
            lambda ledger: work_due(ledger, desk, terms=self.terms(), reductions=reductions, most=most),
            cycle_id=self._cycle_id(),
        )
        return None if result is None else result.verdict

    async def _skip_limited(self, desk: Desk, *, reductions: bool) -> None:
        """The bucket does not hold them all: give up what it lacks and say so."""

        def decide(ledger: Ledger) -> Change | None:
            wanted = work_due(ledger, desk, terms=self.terms(), reductions=reductions)
            if wanted is None or not wanted.intents:
                return wanted
            names = [each.client_order_id for each in wanted.intents]
            change = give_up(ledger, dict.fromkeys(names, "rate_limited"))
            return (
                replace(change, audits=(*change.audits, limited("orders", len(names), cause=names[0])))
                if change
                else None
            )

        await self._book.change(decide, cycle_id=self._cycle_id())

    async def _summarise(self) -> None:
        """One audit record a plan, once all of it is over."""

        def decide(ledger: Ledger) -> Change | None:
            if ledger.plan is None or ledger.plan.summarised or not finished(ledger):
                return None
            plan = ledger.plan.model_copy(update={"summarised": True})
            record = AuditRecord(kind="exec.reports", cause=plan.key, details=plan_summary(ledger))
            return Change(ledger=ledger.model_copy(update={"plan": plan}), audits=(record,))

        await self._book.change(decide, cycle_id=self._cycle_id())

    def _scaled(self, value_ms: int, real_ms: int) -> int:
        return guard_against_real_slowness(value_ms=value_ms, real_ms=real_ms, speed=self._clock.speed)

    def _cycle_id(self) -> str:
        return self._book.ledger.plan.cycle_id if self._book.ledger.plan else self._bus.cycle_id()


def _mid(text: str) -> Mid:
    fields = json.loads(text)
    return Mid(px=Decimal(fields["px"]), at_ms=int(fields["at_ms"]))
