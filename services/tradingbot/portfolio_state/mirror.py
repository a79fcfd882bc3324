"""What portfolio_state remembers between two readings of the venue, kept in Redis with every commit.

It is small on purpose, since it is written with every step: cursors, sums, and the orders and intents that can still
change. The account itself is never kept here: it is read anew each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from tradingbot.domain.messages import AuditRecord, StateEvent
from tradingbot.domain.model import Model

OVERLAP_MS: Final = 120_000
"""Fills and ledger updates are read again from this long before the newest one seen, because the venue may show one
late; also how long an intent is remembered whose order ended while fills of it may be missing."""

ENDED_MS: Final = 30_000
"""How long an ended order is remembered, so that a late report does not revive it."""

INTENT_LIFE_MS: Final = 3_600_000
"""An intent that never became an order is forgotten after this."""


class TrackedIntent(Model):
    """An intent of ours by its cloid: how much of it may be filled, and how much is."""

    client_order_id: str
    symbol: str
    qty: Decimal
    filled: Decimal = Decimal(0)
    written_ms: int
    executed: Decimal | None = None
    """What the venue says was executed of it, once its order has ended."""
    ended_ms: int | None = None
    """When its order was last said to be terminal."""

    @property
    def settled(self) -> bool:
        """Its order has ended and all of its fills are here: any further fill is beyond it, known or forgotten."""
        return self.executed is not None and self.filled >= self.executed


class TrackedOrder(Model):
    """An order whose end the venue has not yet told."""

    symbol: str
    client_order_id: str | None = None
    cloid: str | None = None
    since_ms: int
    status: str = ""
    """The venue's word when it was last asked."""
    left: Decimal | None = None


class Refusals(Model):
    """The present run of refusals."""

    in_row: int = 0
    last_ms: int = 0
    post_only_ms: int = 0
    """When the venue last refused an order because of its post-only period."""


class Mirror(Model):
    """All of it."""

    began_ms: int = 0
    """The venue's time of the first good reconciliation; 0: there was none. Sums count from here."""
    last_ok_ms: int = 0
    """Our time of the last good reconciliation."""
    failing: bool = False
    """Whether the last reconciliation failed."""

    cash_usd: Decimal | None = None
    """The venue's raw cash when it was last read: a fill, funding or a transfer changes it."""
    unexplained_ms: int = 0
    """When cash last moved by more than fills, funding and the ledger said, or by less."""
    expected: dict[str, Decimal] = {}
    """Positions as the fills add them up."""
    suspects: tuple[str, ...] = ()
    """Symbols whose position the fills did not explain at the last reading."""

    fills_cursor_ms: int = 0
    fill_keys: tuple[str, ...] = ()
    """The fills seen within OVERLAP_MS before the cursor."""
    read_ms: int = 0
    """When fills and ledger were last read."""
    fee_day: int = 0
    """The UTC day that ``fees_usd`` is of, in days since 1970."""
    fees_usd: Decimal = Decimal(0)
    fills_beyond_intent: int = 0
    liquidations: int = 0

    ledger_cursor_ms: int = 0
    ledger_keys: tuple[str, ...] = ()
    deposits_net_usd: Decimal = Decimal(0)

    funding_read_ms: int = 0
    """The venue's time when funding was last asked for."""
    funding_cursor_ms: int = 0
    """The newest payment that was told."""
    funding_keys: tuple[str, ...] = ()
    """The payments that were told of the cursor's stamp."""

    orders_cursor: str = "0-0"
    """The last entry of exec.orders that was read."""
    intents: dict[str, TrackedIntent] = {}
    active: dict[str, TrackedOrder] = {}
    """By the venue's order id."""
    ended: dict[str, int] = {}
    """Orders that ended lately, with the time, so that a late report does not revive them."""
    foreign: tuple[str, ...] = ()
    """Open orders of others, by the venue's order id."""
    refusals: Refusals = Refusals()

    def cloid_of(self, oid: str) -> str | None:
        """The cloid of an order by the venue's id, as far as it is tracked."""
        order = self.active.get(oid)
        return order.cloid if order else None

    def client_order_id_of(self, cloid: str | None) -> str | None:
        """Our id of an order by its cloid, as far as the log knows it."""
        intent = self.intents.get(cloid) if cloid else None
        return intent.client_order_id if intent else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A pure step's result: the mirror after it, and what it has to tell."""

    mirror: Mirror
    events: tuple[StateEvent, ...] = ()
    audits: tuple[AuditRecord, ...] = ()

    def then(self, other: Step) -> Step:
        """This step followed by another, which started from this one's mirror."""
        return Step(mirror=other.mirror, events=self.events + other.events, audits=self.audits + other.audits)


def forget(mirror: Mirror, *, open_oids: Sequence[str], open_cloids: Sequence[str], now_ms: int) -> Mirror:
    """Drop intents and ended orders that can no longer matter, so that the mirror stays small."""
    held = set(open_cloids) | {order.cloid for order in mirror.active.values() if order.cloid}
    intents = {
        cloid: intent for cloid, intent in mirror.intents.items() if cloid in held or _may_matter(intent, now_ms=now_ms)
    }
    ended = {oid: at_ms for oid, at_ms in mirror.ended.items() if oid in open_oids or now_ms - at_ms <= ENDED_MS}
    return mirror.model_copy(update={"intents": intents, "ended": ended})


def _may_matter(intent: TrackedIntent, *, now_ms: int) -> bool:
    if intent.settled:
        return False
    if intent.ended_ms is not None:
        return now_ms - intent.ended_ms <= OVERLAP_MS
    return now_ms - intent.written_ms <= INTENT_LIFE_MS
