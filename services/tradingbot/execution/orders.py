"""The life of an order: what each word of the venue makes of it.

Pure. The rules that keep I1, I11 and I14:

* what the venue has called final stays final; only fills may still be counted;
* a lost answer makes an order UNKNOWN, and only the venue's own words (an answer, a status, a fill) or a proof of
  absence end that;
* fills are counted once, by tid, and an order has ended only when its fills are complete.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tradingbot.domain.messages import ExecutionReport, ReportStatus
from tradingbot.execution.ledger import ZERO, Order, Stage

RAW_LIMIT = 500
"""Characters of the venue's answer that a report keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The venue took the order; whether it rests or has filled, fills and statuses say."""

    oid: str
    at_ms: int
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The venue refused it for good, or it provably never left us."""

    error: str
    at_ms: int
    raw: str = ""
    outcome: ReportStatus = ReportStatus.REJECTED
    """CANCELED when nobody refused it: it was never sent, or the market was elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Its bytes may have left and no answer came."""

    expires_after_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """We asked for its cancellation."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The venue named a final status."""

    outcome: ReportStatus
    at_ms: int
    executed: Decimal | None = None
    """What was executed in all, when the status says it."""
    oid: str | None = None
    error: str | None = None
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """One fill, by tid."""

    tid: str
    qty: Decimal
    px: Decimal
    fee: Decimal
    at_ms: int
    oid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FillsComplete:
    """All fills of the account were read at a time when the venue had long shown those of the final order."""

    asked_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """It has expired, and the venue shows no trace of it: it was never placed."""

    at_ms: int


Event = Accepted | Refused | Lost | Asked | Final | Filled | FillsComplete | Absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An order after an event, and what is to be reported of it."""

    order: Order
    reports: tuple[ExecutionReport, ...] = ()


def apply(order: Order, event: Event) -> Step:
    """What an event makes of an order; an event that says nothing new changes nothing."""
    handler: Callable[[Order, Any], Step] = _HANDLERS[type(event)]
    return handler(order, event)


def absence_proven(order: Order, *, asked_ms: int, grace_ms: int) -> bool:
    """True when questions asked at ``asked_ms`` that found no trace of an unknown order prove that it never was.

    ``grace_ms`` covers the venue's lag between admitting an order and showing it.
    """
    expires_ms = order.expires_after_ms
    return order.stage is Stage.UNKNOWN and expires_ms is not None and asked_ms > expires_ms + grace_ms


def may_have_vanished(order: Order, *, asked_ms: int, patience_ms: int) -> bool:
    """True when an open order should have ended so long before ``asked_ms`` that no word of it means it is gone.

    The venue's record can lose an order that it has acknowledged; nobody will ever name its end. Its fills are still
    read before it counts as ended.
    """
    return order.stage is Stage.OPEN and order.outcome is None and asked_ms > order.end_ms + patience_ms


def fills_complete(order: Order, *, asked_ms: int, grace_ms: int) -> bool:
    """True when fills read at ``asked_ms`` are all that a final order will ever have.

    A reduce-only order that the venue has shrunk never fills what its status suggests; only time can tell that. Any
    other has ended when its fills make what the status says: fills that show late must not be ordered again.
    """
    if order.executed is not None and order.filled_qty < order.executed and not order.reduce_only:
        return False
    return order.live and order.final_ms is not None and asked_ms > order.final_ms + grace_ms


def _accepted(order: Order, event: Accepted) -> Step:
    if order.stage not in (Stage.INTENT, Stage.UNKNOWN):
        return Step(order=order)
    known = _change(order, stage=Stage.OPEN, oid=event.oid)
    return Step(order=known, reports=(report(known, ReportStatus.ACK, at_ms=event.at_ms, raw=event.raw),))


def _refused(order: Order, event: Refused) -> Step:
    if order.stage not in (Stage.INTENT, Stage.UNKNOWN):
        return Step(order=order)
    return _end(order, event.outcome, at_ms=event.at_ms, error=event.error, raw=event.raw)


def _lost(order: Order, event: Lost) -> Step:
    if order.stage is not Stage.INTENT:
        return Step(order=order)
    return Step(order=_change(order, stage=Stage.UNKNOWN, expires_after_ms=event.expires_after_ms))


def _asked(order: Order, event: Asked) -> Step:
    if not order.live:
        return Step(order=order)
    return Step(order=_change(order, cancel_asked_ms=event.at_ms, cancel_tries=order.cancel_tries + 1))


def _final(order: Order, event: Final) -> Step:
    if order.outcome is not None and (order.executed is not None or event.executed is None):
        return Step(order=order)
    known = _change(
        order,
        stage=Stage.OPEN if order.live else Stage.ENDED,
        outcome=order.outcome or event.outcome,
        final_ms=order.final_ms or event.at_ms,
        executed=event.executed,
        oid=order.oid or event.oid,
        error=order.error or event.error,
    )
    return _settle(known, at_ms=event.at_ms, raw=event.raw)


def _filled(order: Order, event: Filled) -> Step:
    if event.tid in order.tids:
        return Step(order=order)
    counted = _change(
        order,
        stage=Stage.OPEN if order.live else Stage.ENDED,
        oid=order.oid or event.oid,
        tids=(*order.tids, event.tid),
        filled_qty=order.filled_qty + event.qty,
        notional=order.notional + event.qty * event.px,
        fee=order.fee + event.fee,
    )
    if counted.filled_qty >= counted.qty and counted.live:
        return _end(counted, ReportStatus.FILLED, at_ms=event.at_ms, tid=event.tid)
    partial = report(counted, ReportStatus.PARTIAL, at_ms=event.at_ms, tid=event.tid)
    after = _settle(counted, at_ms=event.at_ms)
    return Step(order=after.order, reports=(partial, *after.reports))


def _fills_complete(order: Order, event: FillsComplete) -> Step:
    if order.outcome is None or not order.live:
        return Step(order=order)
    return _end(order, order.outcome, at_ms=event.asked_ms)


def _absent(order: Order, event: Absent) -> Step:
    if order.stage is not Stage.UNKNOWN:
        return Step(order=order)
    return _end(order, ReportStatus.CANCELED, at_ms=event.at_ms, error="absent")


def _settle(order: Order, *, at_ms: int, raw: str = "") -> Step:
    """End a final order whose fills add up to what the venue says was executed."""
    complete = order.executed is not None and order.filled_qty >= order.executed
    if order.live and order.outcome is not None and complete:
        return _end(order, order.outcome, at_ms=at_ms, raw=raw)
    return Step(order=order)


def _end(
    order: Order, status: ReportStatus, *, at_ms: int, error: str | None = None, raw: str = "", tid: str | None = None
) -> Step:
    if order.filled_qty >= order.qty:
        status = ReportStatus.FILLED
    elif status is ReportStatus.FILLED:
        # The venue calls a partly filled Ioc or a shrunk reduce-only order "filled".
        status = ReportStatus.CANCELED
    ended = _change(
        order, stage=Stage.ENDED, outcome=status, executed=order.filled_qty, ended_ms=at_ms, error=error or order.error
    )
    return Step(order=ended, reports=(report(ended, status, at_ms=at_ms, raw=raw, tid=tid),))


def report(order: Order, status: ReportStatus, *, at_ms: int, raw: str = "", tid: str | None = None) -> ExecutionReport:
    """The report of an order's present state."""
    return ExecutionReport(
        client_order_id=order.client_order_id,
        exchange_order_id=order.oid,
        status=status,
        filled_qty=order.filled_qty,
        avg_px=order.avg_px,
        fee=order.fee,
        latency_ms=float(at_ms - order.intent_ms),
        raw=raw[:RAW_LIMIT],
        truncated=len(raw) > RAW_LIMIT,
        attempt=order.attempt,
        cloid=order.cloid,
        symbol=order.symbol,
        side=order.side,
        qty=order.qty,
        tid=tid,
        reduce_only=order.reduce_only,
        reference_mid=order.reference_mid,
        slippage_bps=slippage_bps(order),
        error=order.error,
        reason=order.reason,
        at_ms=at_ms,
        dry_run=order.dry_run,
    )


def slippage_bps(order: Order) -> float | None:
    """How much worse than the reference mid its fills were, in basis points; None without fills."""
    if order.avg_px is None or order.reference_mid <= ZERO:
        return None
    return float(order.side.sign * (order.avg_px - order.reference_mid) / order.reference_mid * 10_000)


def report_key(each: ExecutionReport) -> str:
    """The key of a report's event_id: client_order_id, attempt, status, tid."""
    return f"{each.client_order_id}:{each.attempt}:{each.status}:{each.tid or ''}"


def _change(order: Order, **changes: Any) -> Order:
    return order.model_copy(update=changes)


_HANDLERS: dict[type, Callable[[Order, Any], Step]] = {
    Accepted: _accepted,
    Refused: _refused,
    Lost: _lost,
    Asked: _asked,
    Final: _final,
    Filled: _filled,
    FillsComplete: _fills_complete,
    Absent: _absent,
}
