"""From stream entries to a page: what the monitor knows, and how it is shown.

``Board.absorb`` takes entries as they come, ``Board.page`` makes a page of what is known at a moment. Nothing here
reads a clock or a socket, and every collection is bounded.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from tradingbot.bus.names import Stream
from tradingbot.domain.audit_words import audit_words
from tradingbot.domain.cycles import to_ms
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import (
    ApprovedTargetPortfolio,
    AuditLevel,
    AuditRecord,
    ExecutionPlan,
    ExecutionReport,
    FeatureSnapshot1m,
    OrderAction,
    OrderIntent,
    Position,
    ReportStatus,
    StateSnapshot,
    TargetPortfolio,
)
from tradingbot.monitor.cycles import CycleBook
from tradingbot.monitor.language_model import asks_a_model, llm_of, regime_of
from tradingbot.monitor.models import (
    Alert,
    AppliedView,
    BusView,
    CycleRow,
    Figures,
    LlmView,
    ModeView,
    Page,
    PositionRow,
)

MINUTE_MS: Final = 60_000
ALERT_TEXT_CHARS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What never changes while the bot runs."""

    bot_id: str
    network: str
    account: str | None
    dry_run: bool
    prices: str
    universe: tuple[str, ...]
    speed: float
    may_command: bool
    needs_token: bool


@dataclass(slots=True)
class Control:
    """What the monitor last read of the control keys and of the bus itself."""

    mode: ModeView | None = None
    spend_usd: Decimal | None = None
    applied: AppliedView = field(default_factory=AppliedView)
    bus: BusView = field(default_factory=lambda: BusView(connected=False, why="not connected yet"))


class Board:
    """All that the monitor knows."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.control = Control()
        self._cycles = CycleBook()
        self._llm: LlmView | None = None
        self._features: FeatureSnapshot1m | None = None
        self._snapshot: StateSnapshot | None = None
        self._prices = facts.prices
        self._equity: deque[tuple[int, float]] = deque(maxlen=360)
        self._alerts: deque[Alert] = deque(maxlen=50)
        self._orders_ms: deque[int] = deque(maxlen=1000)
        self._cancels_ms: deque[int] = deque(maxlen=1000)
        self._rejects_ms: deque[int] = deque(maxlen=1000)
        self._final: deque[ReportStatus] = deque(maxlen=500)
        self._fill_latency_ms: deque[float] = deque(maxlen=500)
        self._slippage_bps: deque[float] = deque(maxlen=500)
        self._approved_lag_s: float | None = None
        self._readers: Mapping[Stream, tuple[Any, Callable[[Message[Any]], None]]] = {
            Stream.FEATURES: (Message[FeatureSnapshot1m], self._on_features),
            Stream.TARGET: (Message[TargetPortfolio], self._on_target),
            Stream.APPROVED: (Message[ApprovedTargetPortfolio], self._on_approved),
            Stream.PLAN: (Message[ExecutionPlan], self._on_plan),
            Stream.ORDERS: (Message[OrderIntent], self._on_order),
            Stream.REPORTS: (Message[ExecutionReport], self._on_report),
            Stream.SNAPSHOT: (Message[StateSnapshot], self._on_snapshot),
            Stream.AUDIT: (Message[AuditRecord], self._on_audit),
        }

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that the page is made of."""
        return tuple(self._readers)

    @property
    def asks_a_model(self) -> bool:
        """Whether the newest decision was one of a strategy that asks a language model."""
        return self._llm is not None

    def absorb(self, stream: Stream, raw: str) -> None:
        """Take an entry's field ``p`` in.

        Raises:
            pydantic.ValidationError: it is not a valid message of that stream.
        """
        model, take = self._readers[stream]
        take(model.read(raw))

    def page(self, *, now_ms: int) -> Page:
        """Everything as it is known at ``now_ms``."""
        snapshot, cycle, facts = self._snapshot, self._cycles.newest(), self.facts
        rows = _position_rows(snapshot, cycle, self._features, universe=facts.universe)
        return Page(
            bot_id=facts.bot_id,
            network=facts.network,
            account=facts.account,
            dry_run=facts.dry_run,
            prices=self._prices,
            price_label=self._prices.upper(),
            now_ms=now_ms,
            speed=facts.speed,
            mode=self.control.mode,
            applied=self.control.applied,
            snapshot_age_s=(now_ms - snapshot.asof_ms) / 1000 if snapshot else None,
            equity_usd=snapshot.equity_usd if snapshot else None,
            cash_usd=snapshot.cash_usd if snapshot else None,
            gross=sum(abs(row.weight) for row in rows) if snapshot else None,
            net=sum(row.weight for row in rows) if snapshot else None,
            health=snapshot.health if snapshot else None,
            positions=rows,
            open_orders=snapshot.open_orders if snapshot else (),
            equity_curve=tuple(self._equity),
            cycles=self._cycles.rows(),
            alerts=tuple(reversed(self._alerts)),
            figures=self.figures(now_ms=now_ms),
            regime=cycle.regime if cycle else None,
            llm=self._llm.model_copy(update={"spend_usd": self.control.spend_usd}) if self._llm else None,
            bus=self.control.bus,
            may_command=facts.may_command,
            needs_token=facts.needs_token,
        )

    def figures(self, *, now_ms: int) -> Figures:
        """Trading in figures."""
        since_ms = now_ms - MINUTE_MS
        rejected = sum(1 for status in self._final if status is ReportStatus.REJECTED)
        latencies = sorted(self._fill_latency_ms)
        return Figures(
            orders_per_min=_count_since(self._orders_ms, since_ms),
            cancels_per_min=_count_since(self._cancels_ms, since_ms),
            rejects_per_min=_count_since(self._rejects_ms, since_ms),
            reject_ratio=rejected / len(self._final) if self._final else 0.0,
            fill_latency_p50_ms=_quantile(latencies, 0.5),
            fill_latency_p99_ms=_quantile(latencies, 0.99),
            slippage_mean_bps=statistics.fmean(self._slippage_bps) if self._slippage_bps else None,
            cycle_lag_s=self._approved_lag_s,
            fallback_ratio=self._cycles.fallback_ratio(),
        )

    def _on_features(self, message: Message[FeatureSnapshot1m]) -> None:
        self._features = message.data
        self._see_prices(message.data.prices)

    def _on_target(self, message: Message[TargetPortfolio]) -> None:
        self._cycles.target(message.env.cycle_id, message.data)

    def _on_approved(self, message: Message[ApprovedTargetPortfolio]) -> None:
        self._cycles.approved(message.env.cycle_id, message.data)
        newest = self._cycles.newest()
        if newest is not None and newest.cycle_id == message.env.cycle_id:
            self._approved_lag_s = (to_ms(message.env.ts) - newest.started_ms) / 1000

    def _on_plan(self, message: Message[ExecutionPlan]) -> None:
        self._cycles.plan(message.env.cycle_id, message.data)

    def _on_order(self, message: Message[OrderIntent]) -> None:
        at_ms = to_ms(message.env.ts)
        self._cycles.intent(message.env.cycle_id, message.data, at_ms=at_ms)
        (self._cancels_ms if message.data.action is OrderAction.CANCEL else self._orders_ms).append(at_ms)

    def _on_report(self, message: Message[ExecutionReport]) -> None:
        report = message.data
        self._cycles.report(message.env.cycle_id, report)
        if report.status.terminal:
            self._final.append(report.status)
        if report.status is ReportStatus.REJECTED:
            self._rejects_ms.append(to_ms(message.env.ts))
        if report.status in {ReportStatus.FILLED, ReportStatus.PARTIAL}:
            if report.latency_ms is not None:
                self._fill_latency_ms.append(report.latency_ms)
            if report.slippage_bps is not None:
                self._slippage_bps.append(report.slippage_bps)

    def _on_snapshot(self, message: Message[StateSnapshot]) -> None:
        snapshot = message.data
        self._snapshot = snapshot
        self._see_prices(snapshot.prices)
        if snapshot.health.reconcile_ok and (not self._equity or snapshot.asof_ms > self._equity[-1][0]):
            self._equity.append((snapshot.asof_ms, float(snapshot.equity_usd)))

    def _on_audit(self, message: Message[AuditRecord]) -> None:
        record = message.data
        if record.level is not AuditLevel.INFO:
            self._alerts.append(_alert(message))
        if record.kind == Stream.TARGET:
            self._on_decision(message.env.cycle_id, record.details)

    def _on_decision(self, cycle_id: str, details: Mapping[str, Any]) -> None:
        if error := details.get("error"):
            self._cycles.fell_back(cycle_id, str(error))
        if regime := regime_of(details):
            self._cycles.regime(cycle_id, regime)
        if "strategy" in details:  # else there was no decision
            self._llm = (llm_of(details) or self._llm) if asks_a_model(details) else None

    def _see_prices(self, label: str) -> None:
        if label != "unknown":
            self._prices = label


def _alert(message: Message[AuditRecord]) -> Alert:
    record, env = message.data, message.env
    text = audit_words(record)
    return Alert(
        at_ms=to_ms(env.ts),
        source=env.source,
        cycle_id=env.cycle_id,
        kind=record.kind,
        level=record.level.value,
        text=text if len(text) <= ALERT_TEXT_CHARS else f"{text[: ALERT_TEXT_CHARS - 1]}…",
    )


def _position_rows(
    snapshot: StateSnapshot | None,
    cycle: CycleRow | None,
    features: FeatureSnapshot1m | None,
    *,
    universe: tuple[str, ...],
) -> tuple[PositionRow, ...]:
    """The universe first, in its order, then whatever else is held."""
    held = snapshot.positions if snapshot else {}
    equity = snapshot.equity_usd if snapshot else Decimal(0)
    mids = snapshot.mids if snapshot else {}
    symbols = [*universe, *sorted(set(held) - set(universe))]
    return tuple(
        _position_row(symbol, held.get(symbol), cycle, mid=mids.get(symbol), equity=equity).model_copy(
            update=_book(symbol, features)
        )
        for symbol in symbols
    )


def _book(symbol: str, features: FeatureSnapshot1m | None) -> dict[str, float | None]:
    if features is None:
        return {}
    named = {
        "spread_bps": features.spread_bps,
        "book_imbalance": features.book_imbalance,
        "liquidity_score": features.liquidity_score,
    }
    return {name: (values or {}).get(symbol) for name, values in named.items()}


def _position_row(
    symbol: str, position: Position | None, cycle: CycleRow | None, *, mid: Decimal | None, equity: Decimal
) -> PositionRow:
    value = position.qty * position.mark_px if position else Decimal(0)
    return PositionRow(
        symbol=symbol,
        qty=position.qty if position else Decimal(0),
        mark_px=position.mark_px if position else mid,
        entry_px=position.entry_px if position else None,
        value_usd=value,
        unreal_pnl=position.unreal_pnl if position else Decimal(0),
        weight=float(value / equity) if equity > 0 else 0.0,
        target=cycle.targets.get(symbol) if cycle else None,
        approved=cycle.approved.get(symbol) if cycle else None,
        external=position.external if position else False,
    )


def _count_since(times_ms: deque[int], since_ms: int) -> int:
    return sum(1 for at_ms in times_ms if at_ms > since_ms)


def _quantile(ordered: list[float], q: float) -> float | None:
    """The nearest-rank quantile of sorted values."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
