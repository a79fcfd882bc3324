"""Fills: counted once, however often and in whatever pages they are read; fees by UTC day; attribution to intents.

A fill is the account's own when its order bears this bot's tag. It is *beyond an intent* when it raises what is filled
of its order above the intent's size, or when no intent is known for it at all: then something traded for us that the
log does not know, which is the gravest thing that the mirror can see.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from tradingbot.domain.ids import is_own
from tradingbot.domain.messages import AuditLevel, AuditRecord, StateEvent, StateEventKind
from tradingbot.portfolio_state.mirror import OVERLAP_MS, Mirror, Step
from tradingbot.venue.models import Fill

DAY_MS: Final = 86_400_000


def fills_start_ms(mirror: Mirror, *, now_ms: int) -> int:
    """From when fills must be read: since the overlap before the newest one, at first since UTC midnight."""
    if mirror.fills_cursor_ms == 0:
        return now_ms - now_ms % DAY_MS
    return max(0, mirror.fills_cursor_ms - OVERLAP_MS)


def fresh_fills(mirror: Mirror, fills: Iterable[Fill]) -> list[Fill]:
    """Those that were not seen before, oldest first, each once."""
    seen = set(mirror.fill_keys)
    floor_ms = mirror.fills_cursor_ms - OVERLAP_MS
    fresh: dict[str, Fill] = {}
    for fill in fills:
        key = _key(fill)
        if fill.time_ms >= floor_ms and key not in seen:
            fresh[key] = fill
    return sorted(fresh.values(), key=lambda fill: (fill.time_ms, fill.tid))


def absorb_fills(mirror: Mirror, fresh: Iterable[Fill], *, bot_id: str, account: str) -> Step:
    """Take fresh fills in, oldest first."""
    step = Step(mirror=mirror)
    for fill in fresh:
        step = step.then(_absorb(step.mirror, fill, bot_id=bot_id, account=account))
    return step


def fees_today_usd(mirror: Mirror, *, now_ms: int) -> Decimal:
    """Fees of the present UTC day; rebates are negative."""
    return mirror.fees_usd if mirror.fee_day == now_ms // DAY_MS else Decimal(0)


def _absorb(mirror: Mirror, fill: Fill, *, bot_id: str, account: str) -> Step:
    mirror = _remember(_add_fee(mirror, fill), fill)
    if fill.time_ms <= mirror.began_ms:
        return Step(mirror=mirror)  # From before this mirror began: its fee counts for the day, and nothing else.
    cloid = fill.cloid or mirror.cloid_of(str(fill.oid))
    event = _event(fill, StateEventKind.FILL, cloid=cloid, client_order_id=mirror.client_order_id_of(cloid))
    step = Step(mirror=mirror, events=(event,))
    if _liquidates(fill, account):
        step = step.then(_liquidation(step.mirror, fill))
    return step.then(_attribute(step.mirror, fill, cloid=cloid, bot_id=bot_id))


def _attribute(mirror: Mirror, fill: Fill, *, cloid: str | None, bot_id: str) -> Step:
    intent = mirror.intents.get(cloid) if cloid else None
    if cloid is None or intent is None:
        return _beyond(mirror, fill, cloid=cloid, why="no intent is known") if is_own(cloid, bot_id=bot_id) else Step(
            mirror=mirror
        )
    filled = intent.filled + fill.size
    grown = intent.model_copy(update={"filled": filled})
    mirror = mirror.model_copy(update={"intents": {**mirror.intents, cloid: grown}})
    if filled <= intent.qty:
        return Step(mirror=mirror)
    return _beyond(mirror, fill, cloid=cloid, why=f"{filled} filled of an intent of {intent.qty}")


def _beyond(mirror: Mirror, fill: Fill, *, cloid: str | None, why: str) -> Step:
    client_order_id = mirror.client_order_id_of(cloid)
    event = _event(
        fill, StateEventKind.FILL_BEYOND_INTENT, cloid=cloid, client_order_id=client_order_id, detail=why
    )
    audit = AuditRecord(
        kind="fill_beyond_intent",
        level=AuditLevel.ERROR,
        cause=client_order_id or cloid or "",
        details={"symbol": fill.symbol, "oid": fill.oid, "tid": fill.tid, "size": str(fill.size), "why": why},
    )
    counted = mirror.model_copy(update={"fills_beyond_intent": mirror.fills_beyond_intent + 1})
    return Step(mirror=counted, events=(event,), audits=(audit,))


def _liquidation(mirror: Mirror, fill: Fill) -> Step:
    event = _event(fill, StateEventKind.LIQUIDATION, detail=fill.direction)
    audit = AuditRecord(
        kind="liquidation",
        level=AuditLevel.ERROR,
        cause=str(fill.oid),
        details={"symbol": fill.symbol, "size": str(fill.signed_size), "px": str(fill.px)},
    )
    counted = mirror.model_copy(update={"liquidations": mirror.liquidations + 1})
    return Step(mirror=counted, events=(event,), audits=(audit,))


def _liquidates(fill: Fill, account: str) -> bool:
    """Whether this account was liquidated; the other side of a liquidation bears the mark as well."""
    if not fill.liquidation:
        return False
    return fill.liquidated_user is None or fill.liquidated_user.lower() == account.lower()


def _add_fee(mirror: Mirror, fill: Fill) -> Mirror:
    day = fill.time_ms // DAY_MS
    if day < mirror.fee_day:
        return mirror
    before = mirror.fees_usd if day == mirror.fee_day else Decimal(0)
    return mirror.model_copy(update={"fee_day": day, "fees_usd": before + fill.fee})


def _remember(mirror: Mirror, fill: Fill) -> Mirror:
    cursor_ms = max(mirror.fills_cursor_ms, fill.time_ms)
    keys = [*mirror.fill_keys, _key(fill)]
    kept = tuple(key for key in keys if _time_of(key) >= cursor_ms - OVERLAP_MS)
    return mirror.model_copy(update={"fills_cursor_ms": cursor_ms, "fill_keys": kept})


def _key(fill: Fill) -> str:
    return f"{fill.time_ms}:{fill.symbol}:{fill.tid}"


def _time_of(key: str) -> int:
    return int(key.partition(":")[0])


def _event(
    fill: Fill,
    kind: StateEventKind,
    *,
    cloid: str | None = None,
    client_order_id: str | None = None,
    detail: str = "",
) -> StateEvent:
    return StateEvent(
        kind=kind,
        symbol=fill.symbol,
        exchange_order_id=str(fill.oid),
        client_order_id=client_order_id,
        cloid=cloid,
        qty=fill.signed_size,
        px=fill.px,
        fee=fill.fee,
        tid=str(fill.tid),
        at_ms=fill.time_ms,
        detail=detail,
    )
