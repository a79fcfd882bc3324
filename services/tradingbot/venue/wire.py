"""Actions as the venue hashes them.

The signature covers the msgpack of the action, which keeps insertion order: the order of keys is part of the message,
and an absent option is a key left out, never null. (Venue documentation, "Signing"; the official SDK.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from tradingbot.domain.ids import Cloid
from tradingbot.domain.messages import Side
from tradingbot.venue.budget import MAX_BATCH
from tradingbot.venue.precision import to_wire

Action = dict[str, Any]
EntryT = TypeVar("EntryT")


@dataclass(frozen=True, slots=True, kw_only=True)
class WireOrder:
    """A limit order, rounded already: nothing here changes a price or a size."""

    asset_id: int
    side: Side
    px: Decimal
    size: Decimal
    tif: str
    """Gtc, Ioc or Alo."""
    reduce_only: bool = False
    cloid: Cloid | None = None

    def fields(self) -> dict[str, Any]:
        """The order's keys in the venue's order."""
        wire: dict[str, Any] = {
            "a": self.asset_id,
            "b": self.side is Side.BUY,
            "p": to_wire(self.px),
            "s": to_wire(self.size),
            "r": self.reduce_only,
            "t": {"limit": {"tif": self.tif}},
        }
        return wire | {"c": self.cloid.lower()} if self.cloid else wire


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """The exact bytes of an /exchange request: the same action, nonce and expiry always give the same bytes."""

    kind: str
    """The action's type."""
    body: bytes
    nonce: int
    expires_after_ms: int | None
    batch: int
    """How many statuses the answer has."""


def order_action(orders: Sequence[WireOrder]) -> Action:
    """Place limit orders; each is answered by a status of its own."""
    return {"type": "order", "orders": [order.fields() for order in _checked(orders)], "grouping": "na"}


def cancel_by_cloid_action(cancels: Sequence[tuple[int, Cloid]]) -> Action:
    """Cancel orders by (asset id, cloid)."""
    entries = [{"asset": asset_id, "cloid": cloid.lower()} for asset_id, cloid in _checked(cancels)]
    return {"type": "cancelByCloid", "cancels": entries}


def cancel_action(cancels: Sequence[tuple[int, int]]) -> Action:
    """Cancel orders by (asset id, oid)."""
    return {"type": "cancel", "cancels": [{"a": asset_id, "o": oid} for asset_id, oid in _checked(cancels)]}


def update_leverage_action(asset_id: int, *, is_cross: bool, leverage: int) -> Action:
    """Set a coin's leverage and margin mode; repeating the same values is allowed."""
    return {"type": "updateLeverage", "asset": asset_id, "isCross": is_cross, "leverage": leverage}


def schedule_cancel_action(at_ms: int | None) -> Action:
    """The venue's dead-man switch: cancel all at a time; None clears it. Not open to accounts of little volume."""
    return {"type": "scheduleCancel"} if at_ms is None else {"type": "scheduleCancel", "time": at_ms}


def noop_action() -> Action:
    """Burn a nonce, so that an action in flight with the same nonce can no longer be admitted."""
    return {"type": "noop"}


def batch_size(action: Action) -> int:
    """How many statuses the action's answer has."""
    entries = action.get("orders") or action.get("cancels") or action.get("modifies")
    return len(entries) if entries else 1


def _checked(entries: Sequence[EntryT]) -> Sequence[EntryT]:
    if not 0 < len(entries) <= MAX_BATCH:
        raise ValueError(f"an action has 1 to {MAX_BATCH} entries, was {len(entries)}")
    return entries
