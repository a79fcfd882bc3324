"""Execution's own stops: a mirror that is too old, or clocks that differ too much. They write no key."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import Key
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import AuditLevel, AuditRecord, StateSnapshot
from tradingbot.domain.modes import Mode
from tradingbot.execution.book import Book, Change
from tradingbot.execution.gate import Gate
from tradingbot.execution.ledger import Ledger
from tradingbot.execution.venue_link import VenueLink
from tradingbot.execution.worker import Worker
from tradingbot.runtime.clock import guard_against_real_slowness
from tradingbot.venue.errors import VenueError

SNAPSHOT_AGE_MS = 30_000
SKEW_MS = 1000
LOOK_EVERY_S = 1.0
BUDGET_EVERY_MS = 300_000
ACTIONS_RESERVE = 200
"""Actions of the account's budget that are kept for reductions; cancels have a higher limit of their own."""


class Watchdog:
    """Looks each real second."""

    def __init__(self, *, book: Book, venue: VenueLink, gate: Gate, worker: Worker) -> None:
        self._book = book
        self._bus = book.bus
        self._venue = venue
        self._gate = gate
        self._worker = worker
        self._clock = book.bus.clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._look("snapshot", await self._snapshot_trouble())
            await self._look("skew", self._skew_trouble())
            await self._clock.sleep_real(LOOK_EVERY_S)

    async def watch_actions(self) -> None:
        """Let only reductions pass while the account's action budget is nearly used up, until cancelled."""
        while True:
            try:
                if self._venue.account:
                    await self._look("action_budget", await self._budget_trouble(), mode=Mode.REDUCE_ONLY)
            except VenueError as error:  # what was known of it still counts
                self._bus.process.log.warning("venue_not_read", error=str(error))
            await self._clock.sleep(self._scaled(BUDGET_EVERY_MS, 10_000) / 1000)

    async def _budget_trouble(self) -> str | None:
        budget = await self._venue.info.user_rate_limit(self._venue.account)
        if budget.left < ACTIONS_RESERVE:
            return f"{budget.left} actions are left of the account's budget ({budget.used} of {budget.cap} used)"
        return None

    async def _look(self, name: str, trouble: str | None, *, mode: Mode = Mode.HALT) -> None:
        changed = self._gate.stop(name, trouble, mode=mode) if trouble else self._gate.lift(name)
        if not changed:
            return
        record = AuditRecord(
            kind="local_stop",
            level=AuditLevel.WARNING if trouble else AuditLevel.INFO,
            cause=name,
            details={"stop": name, "reason": trouble or "over"},
        )
        self._worker.wake.set()
        await self._tell(record)

    async def _tell(self, record: AuditRecord) -> None:
        def decide(ledger: Ledger) -> Change:
            return Change(ledger=ledger, audits=(record,))

        await self._book.change(decide, cycle_id=self._bus.cycle_id())

    async def _snapshot_trouble(self) -> str | None:
        with bus_errors():
            raw: Any = await self._bus.redis.get(Key.LATEST_SNAPSHOT)
        if raw is None:
            return "there is no snapshot"
        try:
            snapshot = Message[StateSnapshot].read(raw).data
        except ValidationError:
            return "the snapshot is no valid message"
        self._worker.held_marks = {symbol: each.mark_px for symbol, each in snapshot.positions.items()}
        age_ms = self._clock.now_ms() - snapshot.asof_ms
        if abs(age_ms) > self._scaled(SNAPSHOT_AGE_MS, 6000):
            return f"the snapshot is {age_ms / 1000:.0f} s old"
        return None

    def _skew_trouble(self) -> str | None:
        skew_ms = self._venue.skew_ms
        return f"the venue's clock is {skew_ms} ms off" if abs(skew_ms) > self._scaled(SKEW_MS, 250) else None

    def _scaled(self, value_ms: int, real_ms: int) -> int:
        return guard_against_real_slowness(value_ms=value_ms, real_ms=real_ms, speed=self._clock.speed)
