"""The ledger and its commits: every change of execution's state, its outputs and its acknowledgements in one step.

A decision is a function of the ledger that is asked again whenever the ledger was not what it thought, so nothing is
ever decided on a state that Redis does not hold.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tradingbot.bus.commit import Ack, ActionStamp, Add, CommitResult, HashPut, ModeGuard, TokenTake, Verdict
from tradingbot.bus.errors import BusError
from tradingbot.bus.names import Stream, dedup_key
from tradingbot.bus.session import BusSession
from tradingbot.bus.state import StateCell
from tradingbot.domain.messages import AuditRecord, ExecutionPlan, ExecutionReport, OrderIntent, ReportStatus
from tradingbot.execution.ledger import Ledger, Order
from tradingbot.execution.orders import Event, apply, report_key
from tradingbot.runtime import metrics

DEDUP_TTL_MS = 3 * 24 * 3_600_000
"""Beyond the venue's window of two days in which a nonce counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a decision does to the ledger, and what it writes beside it."""

    ledger: Ledger
    reports: Sequence[ExecutionReport] = ()
    audits: Sequence[AuditRecord] = ()
    plan: ExecutionPlan | None = None
    intents: Sequence[OrderIntent] = ()
    stamp: ActionStamp | None = None
    guard: ModeGuard | None = None
    takes: Sequence[TokenTake] = ()


class Superseded(BusError):  # noqa: N818 - the verdict's word
    """Someone else is execution, or the entry is no longer ours: begin again from what Redis holds."""


Decide = Callable[[Ledger], Change | None]


class Book:
    """The only writer of the ledger."""

    def __init__(self, bus: BusSession, cell: StateCell[Ledger]) -> None:
        self.bus = bus
        self._cell = cell
        self._watchers: list[asyncio.Event] = []

    @property
    def ledger(self) -> Ledger:
        """The ledger as Redis holds it."""
        return self._cell.value

    @property
    def kept(self) -> bool:
        """False when Redis holds no state of ours: a first start, or all was lost."""
        return self._cell.version > 0

    async def load(self) -> None:
        """Read the ledger that Redis holds."""
        async with self._cell.lock:
            await self._cell.load()

    def watch(self) -> asyncio.Event:
        """An event that is set after each change; the watcher clears it."""
        event = asyncio.Event()
        self._watchers.append(event)
        return event

    async def change(
        self, decide: Decide, *, cycle_id: str, commit_id: str | None = None, acks: Sequence[Ack] = ()
    ) -> CommitResult | None:
        """Decide and commit; None when there is nothing to do.

        Args:
            decide: asked with the ledger; again after the ledger turned out to be stale.
            cycle_id: of the messages that are written.
            commit_id: the same at every try of the same step; None for a step that nothing names.
            acks: entries that this step finishes.

        Raises:
            BusUnavailable, Superseded: the ledger is read again before the next decision.
        """
        step_id = commit_id or self.bus.ids.uuid()
        async with self._cell.lock:
            if self._cell.stale:
                await self._cell.load()
            wanted = decide(self._cell.value)
            if wanted is None and not acks:
                return None
            change = wanted or Change(ledger=self._cell.value)
            result = await self._commit(change, cycle_id=cycle_id, commit_id=step_id, acks=acks)
        if result.verdict is Verdict.SUPERSEDED:
            raise Superseded(result.detail)
        if result.done:
            self._observe(change)
            for event in self._watchers:
                event.set()
        return result

    async def apply(self, events: Iterable[tuple[str, Event]], *, cycle_id: str) -> None:
        """Apply events of orders, by cloid."""
        named = list(events)
        await self.change(lambda ledger: changed_by(ledger, named), cycle_id=cycle_id)

    async def _commit(self, change: Change, *, cycle_id: str, commit_id: str, acks: Sequence[Ack]) -> CommitResult:
        self._cell.stale = True  # until Redis has answered
        result = await self.bus.commit(
            commit_id=commit_id,
            state=self._cell.write(change.ledger),
            acks=acks,
            adds=self._adds(change, cycle_id),
            writes=dedup_records(change),
            mode_guard=change.guard,
            takes=change.takes,
            action=change.stamp,
        )
        if result.done:
            self._cell.committed(change.ledger, version=result.version)
        elif result.verdict is not Verdict.SUPERSEDED:
            self._cell.stale = False
        return result

    def _adds(self, change: Change, cycle_id: str) -> list[Add]:
        adds = []
        if change.plan is not None:
            adds.append(self.bus.add(Stream.PLAN, change.plan, cycle_id=cycle_id, key=cycle_id))
        adds += [
            self.bus.add(
                Stream.ORDERS, each, cycle_id=cycle_id, key=f"{each.client_order_id}:{each.attempt}:{each.action}"
            )
            for each in change.intents
        ]
        adds += [
            self.bus.add(Stream.REPORTS, each, cycle_id=cycle_of(each), key=report_key(each)) for each in change.reports
        ]
        adds += [self.bus.audit(each, cycle_id=cycle_id) for each in change.audits]
        return adds

    @staticmethod
    def _observe(change: Change) -> None:
        for each in change.reports:
            if each.status is ReportStatus.REJECTED:
                metrics.order_rejects.inc()
            if each.tid is None:
                continue
            if each.latency_ms is not None:
                metrics.fill_latency.observe(each.latency_ms / 1000)
            if each.slippage_bps is not None:
                metrics.slippage.observe(each.slippage_bps)


def changed_by(ledger: Ledger, events: Iterable[tuple[str, Event]]) -> Change | None:
    """The ledger after events of its orders; None when none of them says anything new."""
    touched: dict[str, Order] = {}
    reports: list[ExecutionReport] = []
    for cloid, event in events:
        order = touched.get(cloid) or ledger.orders.get(cloid)
        if order is None:
            continue
        step = apply(order, event)
        reports.extend(step.reports)
        if step.order != order:
            touched[cloid] = step.order
    return Change(ledger=ledger.with_orders(touched.values()), reports=reports) if touched else None


def cycle_of(report: ExecutionReport) -> str:
    """The cycle that an order belongs to: its client_order_id begins with it."""
    return report.client_order_id.partition(":")[0]


def dedup_records(change: Change) -> list[HashPut]:
    """``dedup:{client_order_id}``: one record an attempt, INTENT before anything is sent."""
    records: dict[str, dict[str, str]] = {}
    for intent in change.intents:
        if intent.action == "PLACE":
            fields = records.setdefault(intent.client_order_id, {})
            fields[str(intent.attempt)] = _record("INTENT", None, intent.cloid)
    for report in change.reports:
        fields = records.setdefault(report.client_order_id, {})
        fields[str(report.attempt)] = _record(report.status, report.exchange_order_id, report.cloid)
    return [HashPut(dedup_key(name), fields, ttl_ms=DEDUP_TTL_MS) for name, fields in records.items()]


def _record(status: str, oid: str | None, cloid: str) -> str:
    return json.dumps({"status": status, "exchange_order_id": oid, "cloid": cloid}, separators=(",", ":"))
