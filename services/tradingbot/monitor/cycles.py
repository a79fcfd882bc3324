"""The last trading cycles, put together from the streams of decisions, intents and reports.

Bounded: the newest cycles only, and of each a bounded number of orders; an entry of a cycle that has been let go is
passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from tradingbot.domain.cycles import start_ms_of
from tradingbot.domain.messages import (
    ApprovedTargetPortfolio,
    ExecutionPlan,
    ExecutionReport,
    OrderAction,
    OrderIntent,
    ReportStatus,
    TargetPortfolio,
)
from tradingbot.monitor.models import CycleRow, OrderRow, RegimeView

MAX_ORDERS_A_CYCLE = 200
_TERMINAL = frozenset(status.value for status in ReportStatus if status.terminal)


@dataclass(slots=True)
class _Cycle:
    row: CycleRow
    orders: dict[tuple[str, int], OrderRow] = field(default_factory=dict)


class CycleBook:
    """Collects cycles as their messages arrive, in whatever order the streams are read."""

    def __init__(self, *, keep: int = 20) -> None:
        self._keep = keep
        self._cycles: dict[str, _Cycle] = {}

    def rows(self) -> tuple[CycleRow, ...]:
        """The cycles, newest first."""
        return tuple(_total(self._cycles[cycle_id]) for cycle_id in sorted(self._cycles, reverse=True))

    def newest(self) -> CycleRow | None:
        """The newest cycle with a decision of the risk gate."""
        decided = [cycle_id for cycle_id, cycle in self._cycles.items() if cycle.row.mode is not None]
        return self._cycles[max(decided)].row if decided else None

    def fallback_ratio(self) -> float | None:
        """Cycles in which the baseline stepped in / cycles decided; None before the first decision."""
        decided = [cycle.row for cycle in self._cycles.values() if cycle.row.used]
        return sum(1 for row in decided if row.fallback) / len(decided) if decided else None

    def target(self, cycle_id: str, message: TargetPortfolio) -> None:
        """What the decision asked for."""
        self._change(
            cycle_id,
            targets={each.symbol: each.weight for each in message.targets},
            used=message.used,
            confidence=message.confidence,
        )

    def fell_back(self, cycle_id: str, error: str) -> None:
        """Why the baseline decided in another strategy's place."""
        self._change(cycle_id, fallback=error)

    def regime(self, cycle_id: str, regime: RegimeView) -> None:
        """What the regime strategy's weights rest on."""
        self._change(cycle_id, regime=regime)

    def approved(self, cycle_id: str, message: ApprovedTargetPortfolio) -> None:
        """What the risk gate let through."""
        self._change(
            cycle_id,
            mode=message.mode,
            mode_reason=message.mode_reason,
            approved={each.symbol: each.weight for each in message.approved_targets},
            rejections=message.rejections,
            flags=message.risk_summary.flags,
            gross=message.risk_summary.gross,
            net=message.risk_summary.net,
            turnover=message.risk_summary.turnover,
        )

    def plan(self, cycle_id: str, message: ExecutionPlan) -> None:
        """How execution means to get there."""
        self._change(cycle_id, planned=len(message.slices), skipped=message.skipped)

    def intent(self, cycle_id: str, message: OrderIntent, *, at_ms: int) -> None:
        """An order that execution means to send, or to cancel."""
        cycle = self._cycle(cycle_id)
        if cycle is None:
            return
        if message.action is OrderAction.CANCEL:
            cycle.row = cycle.row.model_copy(update={"cancels": cycle.row.cancels + 1})
            return
        key = (message.client_order_id, message.attempt)
        if key not in cycle.orders and len(cycle.orders) < MAX_ORDERS_A_CYCLE:
            cycle.orders[key] = _row_of_intent(message, at_ms=at_ms)

    def report(self, cycle_id: str, message: ExecutionReport) -> None:
        """What became of an order."""
        cycle = self._cycles.get(cycle_id)
        key = (message.client_order_id, message.attempt)
        row = cycle.orders.get(key) if cycle else None
        if cycle is None or row is None or (row.status in _TERMINAL and not message.status.terminal):
            return
        cycle.orders[key] = row.model_copy(
            update={
                "status": message.status.value,
                "filled_qty": message.filled_qty,
                "avg_px": message.avg_px,
                "fee": message.fee,
                "slippage_bps": message.slippage_bps,
                "latency_ms": message.latency_ms,
                "error": message.error,
            }
        )

    def _cycle(self, cycle_id: str) -> _Cycle | None:
        if cycle_id in self._cycles:
            return self._cycles[cycle_id]
        if len(self._cycles) >= self._keep:
            oldest = min(self._cycles)
            if cycle_id < oldest:
                return None
            del self._cycles[oldest]
        cycle = _Cycle(row=CycleRow(cycle_id=cycle_id, started_ms=start_ms_of(cycle_id)))
        self._cycles[cycle_id] = cycle
        return cycle

    def _change(self, cycle_id: str, **values: object) -> None:
        cycle = self._cycle(cycle_id)
        if cycle is not None:
            cycle.row = cycle.row.model_copy(update=values)


def _row_of_intent(intent: OrderIntent, *, at_ms: int) -> OrderRow:
    return OrderRow(
        client_order_id=intent.client_order_id,
        attempt=intent.attempt,
        symbol=intent.symbol,
        side=intent.side,
        qty=intent.qty,
        limit_px=intent.limit_px,
        reason=intent.reason,
        at_ms=at_ms,
        dry_run=intent.dry_run,
    )


def _total(cycle: _Cycle) -> CycleRow:
    orders = tuple(cycle.orders.values())
    filled = [order for order in orders if order.filled_qty > 0 and order.avg_px is not None]
    return cycle.row.model_copy(
        update={
            "orders": orders,
            "filled_orders": len(filled),
            "filled_usd": sum((order.filled_qty * (order.avg_px or 0) for order in filled), start=Decimal(0)),
            "fees_usd": sum((order.fee for order in orders), start=Decimal(0)),
        }
    )
