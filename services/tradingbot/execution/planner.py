"""The consumer of risk.approved: from approved weights to a plan and its first orders, in one commit.

When nothing is open and every symbol was settled a moment ago, planning asks the venue nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tradingbot.bus.commit import CommitResult, Verdict
from tradingbot.bus.entries import Entry, Outcome
from tradingbot.bus.names import Stream
from tradingbot.bus.params import read_params
from tradingbot.domain.cycles import start_ms_of, to_ms
from tradingbot.domain.ids import digest
from tradingbot.domain.in_force import params_record
from tradingbot.domain.messages import (
    ApprovedTargetPortfolio,
    AuditLevel,
    AuditRecord,
    ExecutionPlan,
    FeatureSnapshot1m,
    PlanBook,
)
from tradingbot.domain.modes import Mode, strictest
from tradingbot.domain.params import Params, VersionedParams
from tradingbot.execution.actions import work_due
from tradingbot.execution.book import Book, Change
from tradingbot.execution.gate import Gate
from tradingbot.execution.intents import Desk
from tradingbot.execution.ledger import ZERO, Ledger, current_plan
from tradingbot.execution.mode_reader import ModeReader
from tradingbot.execution.plan import Market, PlanRequest, make_plan, slice_id
from tradingbot.execution.recovery import Recovery
from tradingbot.execution.settle import unplannable
from tradingbot.execution.tracker import Tracker
from tradingbot.execution.waiting import woken
from tradingbot.execution.worker import Worker
from tradingbot.runtime.clock import guard_against_real_slowness
from tradingbot.venue.errors import VenueError

SETTLED_AGE_MS = 15_000
"""A settlement older than this is made anew before planning."""
SUPERSEDE_WITHIN_MS = 5000
"""How long the superseded orders' ends are waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An approval with everything that was read beside it."""

    entry: Entry[ApprovedTargetPortfolio]
    desk: Desk
    mode: Mode
    params: VersionedParams
    books: Mapping[str, PlanBook]

    @property
    def cycle_id(self) -> str:
        return self.entry.message.env.cycle_id

    @property
    def targets(self) -> dict[str, float]:
        return targets_of(self.entry)


class Planner:
    """Plans each cycle once."""

    def __init__(
        self, *, book: Book, gate: Gate, tracker: Tracker, worker: Worker, recovery: Recovery, modes: ModeReader
    ) -> None:
        self._book = book
        self._bus = book.bus
        self._gate = gate
        self._tracker = tracker
        self._worker = worker
        self._recovery = recovery
        self._modes = modes
        self._clock = book.bus.clock
        self._cycle_ms = book.bus.cycle_seconds * 1000
        self._changed = book.watch()
        self.params: VersionedParams | None = None
        """Those of the newest cycle."""

    def stale(self, entry: Entry[ApprovedTargetPortfolio]) -> str | None:
        """Why an approval counts no more."""
        delay_s = (self.params.params if self.params else Params()).execution.max_start_delay_s
        late_ms = self._clock.now_ms() - start_ms_of(entry.message.env.cycle_id)
        allowed_ms = min(round(delay_s * 1000), self._cycle_ms)
        return f"{late_ms} ms after its cycle's start" if late_ms > allowed_ms else None

    async def handle(self, entry: Entry[ApprovedTargetPortfolio]) -> Outcome[Ledger]:
        """Plan a cycle; the handler commits its whole step itself."""
        cycle_id = entry.message.env.cycle_id
        plan = self._book.ledger.plan
        if plan is not None and plan.cycle_id >= cycle_id:
            return Outcome(audits=(_told(cycle_id, "the cycle is planned already"),))
        if cycle_id < self._recovery.not_before:
            return Outcome(audits=(_told(cycle_id, "no state was found: planning begins with the next cycle"),))
        mode, self.params, desk, books = await asyncio.gather(
            self._modes.read(), read_params(self._bus.redis), self._worker.desk(), self._books(cycle_id)
        )
        own = Mode.REDUCE_ONLY if self._gate.reduces_only else Mode.NORMAL
        strict = strictest(mode.mode, entry.data.mode, self._gate.mode.mode, own)
        if self.params is None:
            return Outcome(audits=(_told(cycle_id, "there are no parameters yet", level=AuditLevel.ERROR),))
        if strict is Mode.HALT:
            return Outcome(audits=(_told(cycle_id, f"HALT by {mode.source}: {mode.reason}"),))
        if await self._prepare(targets_of(entry)):
            desk = await self._worker.desk()
        await self._commit(Approval(entry=entry, desk=desk, mode=strict, params=self.params, books=books))
        return Outcome(committed=True)

    async def _books(self, cycle_id: str) -> dict[str, PlanBook]:
        """The books of the cycle's own features; none when the newest features are of another minute."""
        newest = await self._bus.newest(Stream.FEATURES, FeatureSnapshot1m)
        if newest is None or to_ms(newest.data.asof_minute) != start_ms_of(cycle_id):
            return {}
        return books_of(newest.data)

    # ---------------------------------------------------------------- settling first

    async def _prepare(self, targets: Mapping[str, float]) -> bool:
        """End what earlier plans left open and settle; False when everything was settled already."""
        if not self._blocked(targets):
            return False
        if rest := [each for each in self._book.ledger.live() if each.symbol in targets]:
            await self._worker.cancel(rest, reason="superseded", forced=False)
            await self._ended({each.cloid for each in rest})
        try:
            await self._tracker.settle_now()
        except VenueError as error:
            self._bus.process.log.warning("not_settled", error=str(error))
        return True

    def _blocked(self, targets: Mapping[str, float]) -> dict[str, str]:
        """Symbols that must not be planned now, and why."""
        now_ms, oldest_ms = self._clock.now_ms(), self._scaled(SETTLED_AGE_MS, 6000)
        ledger = self._book.ledger
        reasons = {each: unplannable(ledger, each, now_ms=now_ms, oldest_ms=oldest_ms) for each in targets}
        return {symbol: reason for symbol, reason in reasons.items() if reason is not None}

    async def _ended(self, cloids: set[str]) -> None:
        deadline_ms = self._clock.now_ms() + self._scaled(SUPERSEDE_WITHIN_MS, 500)
        while self._clock.now_ms() < deadline_ms and any(each.cloid in cloids for each in self._book.ledger.live()):
            self._changed.clear()
            await woken(self._changed, clock=self._clock, due_ms=deadline_ms)

    # ---------------------------------------------------------------- the plan

    async def _commit(self, approval: Approval) -> None:
        """The plan with its first orders in one step; the plan alone when mode or bucket refuse the orders."""
        may_place = self._gate.refusal(at_most=Mode.REDUCE_ONLY) is None
        result = await self._change(approval, orders=may_place)
        if result is not None and result.verdict in (Verdict.MODE, Verdict.RATE_LIMITED):
            await self._change(approval, orders=False)

    async def _change(self, approval: Approval, *, orders: bool) -> CommitResult | None:
        return await self._book.change(
            lambda ledger: self._decide(ledger, approval, orders=orders),
            cycle_id=approval.cycle_id,
            acks=[approval.entry.ack],
        )

    def _decide(self, ledger: Ledger, approval: Approval, *, orders: bool) -> Change:
        plan = make_plan(self._request(ledger, approval))
        work = current_plan(
            plan,
            start_ms=approval.desk.now_ms,
            cycle_end_ms=start_ms_of(plan.cycle_id) + self._cycle_ms,
            equity_usd=ledger.equity_usd or ZERO,
            client_order_ids=[slice_id(plan, each) for each in plan.slices],
            execution=approval.params.params.execution,
            risk=approval.params.params.risk,
        )
        begun = ledger.model_copy(update={"plan": work}).pruned()
        alone = Change(ledger=begun, plan=plan, audits=[*self._params_news(ledger, approval), *plan_audits(plan)])
        if not orders:
            return alone
        now_ms = approval.desk.now_ms
        reduces = any(each.reduce_only and each.start_ms <= now_ms for each in plan.slices)
        first = work_due(begun, approval.desk, terms=self._worker.terms(), reductions=reduces)
        return alone if first is None else replace(first, plan=plan, audits=[*alone.audits, *first.audits])

    def _params_news(self, ledger: Ledger, approval: Approval) -> list[AuditRecord]:
        last, params, cycle_id = ledger.plan, approval.params, approval.cycle_id
        if last is not None and (last.params_label, last.cycle_id[:8]) == (params.label, cycle_id[:8]):
            return []
        record = params_record(
            params, cycle_id=cycle_id, cycle_seconds=self._bus.cycle_seconds, universe=self._tracker.universe
        )
        return [record]

    def _request(self, ledger: Ledger, approval: Approval) -> PlanRequest:
        entry, desk, targets = approval.entry, approval.desk, approval.targets
        blocked = dict(self._blocked(targets))
        for stop, reason in self._gate.stops.items():
            blocked = dict.fromkeys(targets, f"{stop}: {reason}")
        read = {"approved_id": entry.id, "approved_digest": digest(entry.raw), "params": approval.params.label}
        return PlanRequest(
            cycle_id=approval.cycle_id,
            start_ms=desk.now_ms,
            targets=targets,
            positions={symbol: mark.position for symbol, mark in ledger.marks.items()},
            unplannable=blocked,
            market=Market(specs=desk.specs, mids=desk.mids, equity_usd=ledger.equity_usd or ZERO, books=approval.books),
            mode=approval.mode,
            params=approval.params.params.execution,
            inputs=entry.data.inputs.model_copy(update=read),
            dry_run=desk.dry_run,
        )

    def _scaled(self, value_ms: int, real_ms: int) -> int:
        return guard_against_real_slowness(value_ms=value_ms, real_ms=real_ms, speed=self._clock.speed)


def books_of(features: FeatureSnapshot1m) -> dict[str, PlanBook]:
    """What the features tell of each symbol's book."""
    scores, spreads = features.liquidity_score or {}, features.spread_bps or {}
    depths = {symbol: min(facts.bid_usd, facts.ask_usd) for symbol, facts in features.books.items()}
    return {
        symbol: PlanBook(
            liquidity_score=scores.get(symbol), spread_bps=spreads.get(symbol), depth_usd=depths.get(symbol)
        )
        for symbol in sorted({*scores, *spreads})
    }


def targets_of(entry: Entry[ApprovedTargetPortfolio]) -> dict[str, float]:
    """Approved weights by symbol; a symbol that is missing is held."""
    return {each.symbol: each.weight for each in entry.data.approved_targets}


def plan_audits(plan: ExecutionPlan) -> list[AuditRecord]:
    """The plan in the audit log: slices, orders and what was left out; a record of its own for unsettled symbols."""
    skipped = {each.symbol: each.reason for each in plan.skipped}
    details: dict[str, object] = {
        "slices": len(plan.slices),
        "orders": len({(e.symbol, e.slice_idx) for e in plan.slices}),
    }
    if plan.basis is not None and plan.basis.books:
        details["books"] = {symbol: book.model_dump() for symbol, book in plan.basis.books.items()}
    records = [AuditRecord(kind="exec.plan", cause=plan.idempotency_key, details={**details, "skipped": skipped})]
    unsettled = sorted(symbol for symbol, reason in skipped.items() if reason == "unsettled")
    if unsettled:
        records.append(
            AuditRecord(
                kind="unsettled", level=AuditLevel.WARNING, cause=plan.idempotency_key, details={"symbols": unsettled}
            )
        )
    return records


def _told(cycle_id: str, why: str, *, level: AuditLevel = AuditLevel.INFO) -> AuditRecord:
    return AuditRecord(kind="exec.plan", level=level, cause=cycle_id, details={"slices": 0, "orders": 0, "why": why})
