"""What the live table shows: a fold of the bus's messages into one row a cycle."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tradingbot.bus.names import Stream
from tradingbot.domain.cycles import CycleId, is_boundary, to_ms
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import (
    ApprovedTargetPortfolio,
    ExecutionPlan,
    ExecutionReport,
    FeatureSnapshot1m,
    OrderAction,
    OrderIntent,
    ReportStatus,
    StateSnapshot,
    TargetPortfolio,
)
from tradingbot.domain.modes import Mode

STREAMS: tuple[Stream, ...] = (
    Stream.FEATURES,
    Stream.TARGET,
    Stream.APPROVED,
    Stream.PLAN,
    Stream.ORDERS,
    Stream.REPORTS,
    Stream.SNAPSHOT,
)
_MAX_ROWS = 200


@dataclass(slots=True)
class CycleRow:
    """One cycle, as far as it has come."""

    cycle_id: CycleId
    featured: bool = False
    targets: dict[str, float] | None = None
    used: str = ""
    """Which strategy decided."""
    approved: dict[str, float] | None = None
    mode: Mode | None = None
    clamps: list[str] = field(default_factory=list)
    slices: int | None = None
    skipped: int = 0
    orders: set[tuple[str, int]] = field(default_factory=set)
    reports: dict[tuple[str, int], ExecutionReport] = field(default_factory=dict)
    equity_usd: Decimal | None = None

    @property
    def happened(self) -> bool:
        """Features, target, approval and plan bear its id; in HALT there is no plan."""
        planned = self.slices is not None or self.mode is Mode.HALT
        return self.featured and self.targets is not None and self.approved is not None and planned

    @property
    def fills(self) -> int:
        """Orders of which anything was filled."""
        return sum(1 for report in self.reports.values() if report.filled_qty > 0)

    @property
    def rejected(self) -> int:
        """Orders that the venue refused."""
        return sum(1 for report in self.reports.values() if report.status is ReportStatus.REJECTED)

    @property
    def fees_usd(self) -> Decimal:
        """What its fills cost."""
        return sum((report.fee for report in self.reports.values()), Decimal(0))


class Board:
    """The newest cycles, and the account as it was last seen."""

    def __init__(self, *, cycle_seconds: int) -> None:
        self._cycle_seconds = cycle_seconds
        self._rows: OrderedDict[CycleId, CycleRow] = OrderedDict()
        self._readers: Mapping[Stream, Callable[[str], None]] = {
            Stream.FEATURES: self._features,
            Stream.TARGET: self._target,
            Stream.APPROVED: self._approved,
            Stream.PLAN: self._plan,
            Stream.ORDERS: self._order,
            Stream.REPORTS: self._report,
            Stream.SNAPSHOT: self._snapshot,
        }
        self._happened: set[CycleId] = set()
        self.snapshot: StateSnapshot | None = None
        self.prices = "unknown"

    @property
    def rows(self) -> list[CycleRow]:
        """Oldest first."""
        return list(self._rows.values())

    @property
    def happened(self) -> int:
        """How many cycles have happened since the board began."""
        return len(self._happened)

    @property
    def decided_by(self) -> str:
        """Which strategy decided last; empty before the first target."""
        return next((row.used for row in reversed(self._rows.values()) if row.used), "")

    @property
    def first_fill(self) -> bool:
        """Whether anything has been filled since the board began."""
        return any(row.fills for row in self._rows.values())

    def see(self, stream: Stream, raw: str) -> None:
        """Take in an entry's field ``p``."""
        self._readers[stream](raw)

    def _row(self, message: Message[Any]) -> CycleRow:
        cycle_id = message.env.cycle_id
        row = self._rows.setdefault(cycle_id, CycleRow(cycle_id))
        if len(self._rows) > _MAX_ROWS:
            self._rows.popitem(last=False)
        return row

    def _note(self, row: CycleRow) -> None:
        if row.happened:
            self._happened.add(row.cycle_id)
        if self.snapshot is not None and row.equity_usd is None:
            row.equity_usd = self.snapshot.equity_usd

    def _features(self, raw: str) -> None:
        message = Message[FeatureSnapshot1m].read(raw)
        self.prices = message.data.prices
        if is_boundary(to_ms(message.data.asof_minute), cycle_seconds=self._cycle_seconds):
            row = self._row(message)
            row.featured = True
            self._note(row)

    def _target(self, raw: str) -> None:
        message = Message[TargetPortfolio].read(raw)
        row = self._row(message)
        row.targets = {each.symbol: each.weight for each in message.data.targets}
        row.used = message.data.used
        self._note(row)

    def _approved(self, raw: str) -> None:
        message = Message[ApprovedTargetPortfolio].read(raw)
        row = self._row(message)
        row.mode = message.data.mode
        row.approved = {each.symbol: each.weight for each in message.data.approved_targets}
        row.clamps = [f"{each.symbol} {each.reason}" for each in message.data.rejections]
        self._note(row)

    def _plan(self, raw: str) -> None:
        message = Message[ExecutionPlan].read(raw)
        row = self._row(message)
        row.slices, row.skipped = len(message.data.slices), len(message.data.skipped)
        self._note(row)

    def _order(self, raw: str) -> None:
        message = Message[OrderIntent].read(raw)
        if message.data.action is not OrderAction.CANCEL:
            self._row(message).orders.add((message.data.client_order_id, message.data.attempt))

    def _report(self, raw: str) -> None:
        message = Message[ExecutionReport].read(raw)
        row = self._row(message)
        row.reports[message.data.client_order_id, message.data.attempt] = message.data
        self._note(row)

    def _snapshot(self, raw: str) -> None:
        message = Message[StateSnapshot].read(raw)
        self.snapshot = message.data
        if message.data.prices != "unknown":
            self.prices = message.data.prices
        newest = next(reversed(self._rows.values()), None)
        if newest is not None:
            newest.equity_usd = message.data.equity_usd
