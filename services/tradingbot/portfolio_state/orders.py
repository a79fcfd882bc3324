"""Own orders from the moment that they are known until the venue says that they ended.

An order is *active* while its end is not known from the venue itself: what execution reports adds to the set, only an
answer of the venue takes away from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from tradingbot.domain.ids import is_own
from tradingbot.domain.messages import (
    AuditLevel,
    AuditRecord,
    ExecutionReport,
    OpenOrder,
    OrderAction,
    OrderIntent,
    StateEvent,
    StateEventKind,
)
from tradingbot.portfolio_state.mirror import Mirror, Step, TrackedIntent, TrackedOrder
from tradingbot.venue.models import OrderStatus, VenueOrder

UNKNOWN_AFTER_MS: Final = 60_000
"""The venue's record of an order lags by a second; an order that it does not know for this long, and does not list as
open, is one that it has forgotten."""

ROUND_AT_MOST: Final = 50
"""Orders asked for in one round."""

UNKNOWN_OID: Final = "unknownOid"
FILLED: Final = "filled"


def absorb_intents(mirror: Mirror, intents: Iterable[OrderIntent], *, cursor: str, now_ms: int) -> Mirror:
    """Learn how much of each new order may be filled; exec.orders is written before anything is sent."""
    known = dict(mirror.intents)
    for intent in intents:
        if intent.action is OrderAction.PLACE and intent.cloid and not intent.dry_run and intent.cloid not in known:
            known[intent.cloid] = TrackedIntent(
                client_order_id=intent.client_order_id, symbol=intent.symbol, qty=intent.qty, written_ms=now_ms
            )
    return mirror.model_copy(update={"intents": known, "orders_cursor": cursor})


def track_report(mirror: Mirror, report: ExecutionReport, *, now_ms: int) -> Mirror:
    """Follow the order that a report speaks of; a report never ends the following."""
    if report.dry_run:
        return mirror
    mirror = _end_intent(mirror, report.cloid, now_ms=now_ms) if report.status.terminal else mirror
    oid = report.exchange_order_id
    if oid is None or oid in mirror.active or oid in mirror.ended:
        return mirror
    order = TrackedOrder(
        symbol=report.symbol, client_order_id=report.client_order_id, cloid=report.cloid or None, since_ms=now_ms
    )
    return mirror.model_copy(update={"active": {**mirror.active, oid: order}})


def adopt_at_first(mirror: Mirror, orders: Iterable[VenueOrder], *, bot_id: str, now_ms: int) -> Mirror:
    """At the very first reading, take over own open orders from before: what fills of them is covered by themselves."""
    intents = dict(mirror.intents)
    for order in orders:
        if order.cloid is not None and order.cloid not in intents and is_own(order.cloid, bot_id=bot_id):
            intents[order.cloid] = TrackedIntent(
                client_order_id=f"adopted:{order.oid}", symbol=order.symbol, qty=order.size, written_ms=now_ms
            )
    return mirror.model_copy(update={"intents": intents})


def see_open_orders(mirror: Mirror, orders: Sequence[VenueOrder], *, bot_id: str, now_ms: int) -> Step:
    """Compare the venue's open orders with what is followed: new own ones, and orders of others."""
    step = Step(mirror=mirror)
    for order in orders:
        oid = str(order.oid)
        if is_own(order.cloid, bot_id=bot_id):
            if oid not in mirror.active:
                step = step.then(_follow(step.mirror, order, now_ms=now_ms))
        elif oid not in mirror.foreign:
            step = step.then(_foreign(step.mirror, order))
    foreign = tuple(str(order.oid) for order in orders if not is_own(order.cloid, bot_id=bot_id))
    return Step(mirror=step.mirror.model_copy(update={"foreign": foreign}), events=step.events, audits=step.audits)


def apply_status(mirror: Mirror, oid: str, answer: OrderStatus | None, *, is_open: bool, now_ms: int) -> Step:
    """Take the venue's answer about an active order; None: it does not know the order (yet, or any more)."""
    order = mirror.active.get(oid)
    if order is None:
        return Step(mirror=mirror)
    if answer is None:
        forgotten = not is_open and now_ms - order.since_ms >= UNKNOWN_AFTER_MS
        return (
            _end(mirror, oid, order, status=UNKNOWN_OID, at_ms=now_ms, now_ms=now_ms)
            if forgotten
            else Step(mirror=mirror)
        )
    if answer.terminal:
        return _end(mirror, oid, order, status=answer.status, at_ms=answer.status_ms, now_ms=now_ms, seen=answer.order)
    if answer.status == order.status and answer.order.size == order.left:
        return Step(mirror=mirror)
    changed = order.model_copy(update={"status": answer.status, "left": answer.order.size})
    event = _event(oid, changed, status=answer.status, at_ms=answer.status_ms, seen=answer.order)
    return Step(mirror=mirror.model_copy(update={"active": {**mirror.active, oid: changed}}), events=(event,))


def end_filled(mirror: Mirror, *, now_ms: int) -> Step:
    """End the orders that are filled whole, by the venue's own fills: nothing is left to ask about them."""
    step = Step(mirror=mirror)
    for oid, order in mirror.active.items():
        if _filled_whole(mirror, order) is not None:
            ended = _end(step.mirror, oid, order, status=FILLED, at_ms=mirror.fills_cursor_ms, now_ms=now_ms)
            step = step.then(ended)
    return step


def poll_order(mirror: Mirror, *, open_oids: Iterable[str]) -> list[str]:
    """The active orders in the order in which to ask for them: those that are no longer open first, then the oldest.

    Those that the fills complete need not be asked for, and a round is bounded so that its answers are not held back.
    """
    still_open = set(open_oids)
    asked = [oid for oid, order in mirror.active.items() if _filled_whole(mirror, order) is None]
    return sorted(asked, key=lambda oid: (oid in still_open, mirror.active[oid].since_ms, oid))[:ROUND_AT_MOST]


def open_order_row(mirror: Mirror, order: VenueOrder, *, bot_id: str) -> OpenOrder:
    """An open order as the snapshot shows it."""
    own = is_own(order.cloid, bot_id=bot_id)
    return OpenOrder(
        client_order_id=mirror.client_order_id_of(order.cloid) if own else None,
        exchange_order_id=str(order.oid),
        symbol=order.symbol,
        side=order.side,
        px=order.limit_px,
        qty=order.size,
        status="PARTIAL" if order.size < order.orig_size else "ACK",
        cloid=order.cloid,
        foreign=not own,
        reduce_only=order.reduce_only,
    )


def _follow(mirror: Mirror, order: VenueOrder, *, now_ms: int) -> Step:
    oid = str(order.oid)
    tracked = TrackedOrder(
        symbol=order.symbol,
        client_order_id=mirror.client_order_id_of(order.cloid),
        cloid=order.cloid,
        since_ms=now_ms,
        status="open",
        left=order.size,
    )
    event = _event(oid, tracked, status="open", at_ms=order.timestamp_ms, seen=order)
    ended = {other: at_ms for other, at_ms in mirror.ended.items() if other != oid}
    followed = mirror.model_copy(update={"active": {**mirror.active, oid: tracked}, "ended": ended})
    return Step(mirror=followed, events=(event,))


def _foreign(mirror: Mirror, order: VenueOrder) -> Step:
    event = StateEvent(
        kind=StateEventKind.FOREIGN_ORDER,
        symbol=order.symbol,
        exchange_order_id=str(order.oid),
        cloid=order.cloid,
        status="open",
        qty=order.side.sign * order.size,
        px=order.limit_px,
        at_ms=order.timestamp_ms,
        detail="placed by someone else on this account: left alone",
    )
    audit = AuditRecord(
        kind="foreign_order",
        level=AuditLevel.WARNING,
        cause=str(order.oid),
        details={"symbol": order.symbol, "side": order.side, "qty": str(order.size), "px": str(order.limit_px)},
    )
    return Step(mirror=mirror, events=(event,), audits=(audit,))


def _end(
    mirror: Mirror,
    oid: str,
    order: TrackedOrder,
    *,
    status: str,
    at_ms: int,
    now_ms: int,
    seen: VenueOrder | None = None,
) -> Step:
    active = {other: tracked for other, tracked in mirror.active.items() if other != oid}
    mirror = mirror.model_copy(update={"active": active, "ended": {**mirror.ended, oid: now_ms}})
    event = _event(oid, order, status=status, at_ms=at_ms, seen=seen, terminal=True)
    executed = seen.filled_at_most if seen else _filled_whole(mirror, order)
    return Step(mirror=_end_intent(mirror, order.cloid, executed=executed, now_ms=now_ms), events=(event,))


def _end_intent(mirror: Mirror, cloid: str | None, *, now_ms: int, executed: Decimal | None = None) -> Mirror:
    intent = mirror.intents.get(cloid) if cloid else None
    if cloid is None or intent is None:
        return mirror
    ended = intent.model_copy(update={"ended_ms": now_ms, "executed": executed})
    return mirror.model_copy(update={"intents": {**mirror.intents, cloid: ended}})


def _filled_whole(mirror: Mirror, order: TrackedOrder) -> Decimal | None:
    """The order's size when the venue's fills add up to it."""
    intent = mirror.intents.get(order.cloid) if order.cloid else None
    return intent.qty if intent is not None and intent.filled >= intent.qty else None


def _event(
    oid: str,
    order: TrackedOrder,
    *,
    status: str,
    at_ms: int,
    seen: VenueOrder | None = None,
    terminal: bool = False,
) -> StateEvent:
    return StateEvent(
        kind=StateEventKind.ORDER_STATUS,
        symbol=order.symbol or (seen.symbol if seen else None),
        exchange_order_id=oid,
        client_order_id=order.client_order_id,
        cloid=order.cloid,
        status=status,
        terminal=terminal,
        qty=seen.size if seen else None,
        px=seen.limit_px if seen else None,
        at_ms=at_ms,
    )
