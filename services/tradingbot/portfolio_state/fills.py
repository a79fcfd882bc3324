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
from tradingbot.portfolio_state.mirror import OVERLAP_MS, Mirror, Step, TrackedIntent
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
    tally = _Tally(mirror, bot_id=bot_id, account=account)
    for fill in fresh:
        tally.take(fill)
    return tally.step()


def fees_today_usd(mirror: Mirror, *, now_ms: int) -> Decimal:
    """Fees of the present UTC day; rebates are negative."""
    return mirror.fees_usd if mirror.fee_day == now_ms // DAY_MS else Decimal(0)


class _Tally:
    """Sums over many fills: after an outage there may be thousands, and the mirror itself is never changed."""

    def __init__(self, mirror: Mirror, *, bot_id: str, account: str) -> None:
        self._mirror = mirror
        self._bot_id = bot_id
        self._account = account
        self._cursor_ms = mirror.fills_cursor_ms
        self._keys = list(mirror.fill_keys)
        self._fee_day, self._fees_usd = mirror.fee_day, mirror.fees_usd
        self._intents = dict(mirror.intents)
        self._beyond, self._liquidations = mirror.fills_beyond_intent, mirror.liquidations
        self._events: list[StateEvent] = []
        self._audits: list[AuditRecord] = []

    def take(self, fill: Fill) -> None:
        """Count one fill."""
        self._cursor_ms = max(self._cursor_ms, fill.time_ms)
        self._keys.append(_key(fill))
        self._add_fee(fill)
        if fill.time_ms <= self._mirror.began_ms:
            return  # From before this mirror began: its fee counts for the day, and nothing else.
        cloid = fill.cloid or self._mirror.cloid_of(str(fill.oid))
        intent = self._intents.get(cloid) if cloid else None
        known_as = intent.client_order_id if intent else None
        self._events.append(_event(fill, StateEventKind.FILL, cloid=cloid, client_order_id=known_as))
        if _liquidates(fill, self._account):
            self._liquidate(fill)
        if cloid is not None and is_own(cloid, bot_id=self._bot_id):
            self._charge(fill, cloid, intent)

    def step(self) -> Step:
        """The mirror after all of them."""
        kept = tuple(key for key in self._keys if _time_of(key) >= self._cursor_ms - OVERLAP_MS)
        update = {
            "fills_cursor_ms": self._cursor_ms,
            "fill_keys": kept,
            "fee_day": self._fee_day,
            "fees_usd": self._fees_usd,
            "intents": self._intents,
            "fills_beyond_intent": self._beyond,
            "liquidations": self._liquidations,
        }
        mirror = self._mirror.model_copy(update=update)
        return Step(mirror=mirror, events=tuple(self._events), audits=tuple(self._audits))

    def _charge(self, fill: Fill, cloid: str, intent: TrackedIntent | None) -> None:
        if intent is None:
            self._go_beyond(fill, cloid, None, why="no intent is known")
            return
        grown = intent.model_copy(update={"filled": intent.filled + fill.size})
        self._intents[cloid] = grown
        if grown.filled > intent.qty:
            why = f"{grown.filled} filled of an intent of {intent.qty}"
            self._go_beyond(fill, cloid, intent.client_order_id, why=why)

    def _go_beyond(self, fill: Fill, cloid: str, client_order_id: str | None, *, why: str) -> None:
        self._beyond += 1
        kind = StateEventKind.FILL_BEYOND_INTENT
        self._events.append(_event(fill, kind, cloid=cloid, client_order_id=client_order_id, detail=why))
        details = {"symbol": fill.symbol, "oid": fill.oid, "tid": fill.tid, "size": str(fill.size), "why": why}
        cause = f"{client_order_id or cloid}:{fill.tid}"
        self._audits.append(
            AuditRecord(kind="fill_beyond_intent", level=AuditLevel.ERROR, cause=cause, details=details)
        )

    def _liquidate(self, fill: Fill) -> None:
        self._liquidations += 1
        self._events.append(_event(fill, StateEventKind.LIQUIDATION, detail=fill.direction))
        details = {"symbol": fill.symbol, "size": str(fill.signed_size), "px": str(fill.px)}
        self._audits.append(
            AuditRecord(kind="liquidation", level=AuditLevel.ERROR, cause=f"{fill.oid}:{fill.tid}", details=details)
        )

    def _add_fee(self, fill: Fill) -> None:
        day = fill.time_ms // DAY_MS
        if day < self._fee_day:
            return
        self._fees_usd = fill.fee + (self._fees_usd if day == self._fee_day else Decimal(0))
        self._fee_day = day


def _liquidates(fill: Fill, account: str) -> bool:
    """Whether this account was liquidated; the other side of a liquidation bears the mark as well."""
    if not fill.liquidation:
        return False
    return fill.liquidated_user is None or fill.liquidated_user.lower() == account.lower()


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
