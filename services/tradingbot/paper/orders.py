"""An order's record, its life and the rows in which the venue shows it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from tradingbot.paper.decimals import ZERO, text


class Status(StrEnum):
    """What the venue calls the states of an order; all but OPEN and TRIGGERED are final."""

    OPEN = "open"
    FILLED = "filled"
    CANCELED = "canceled"
    TRIGGERED = "triggered"
    MARGIN_CANCELED = "marginCanceled"
    SELF_TRADE_CANCELED = "selfTradeCanceled"
    REDUCE_ONLY_CANCELED = "reduceOnlyCanceled"
    SIBLING_FILLED_CANCELED = "siblingFilledCanceled"
    DELISTED_CANCELED = "delistedCanceled"
    LIQUIDATED_CANCELED = "liquidatedCanceled"
    SCHEDULED_CANCEL = "scheduledCancel"
    REJECTED = "rejected"
    TICK_REJECTED = "tickRejected"
    MIN_TRADE_NTL_REJECTED = "minTradeNtlRejected"
    PERP_MARGIN_REJECTED = "perpMarginRejected"
    REDUCE_ONLY_REJECTED = "reduceOnlyRejected"
    BAD_ALO_PX_REJECTED = "badAloPxRejected"
    IOC_CANCEL_REJECTED = "iocCancelRejected"
    BAD_TRIGGER_PX_REJECTED = "badTriggerPxRejected"
    PERP_MAX_POSITION_REJECTED = "perpMaxPositionRejected"
    TOO_MANY_OPEN_ORDERS_REJECTED = "tooManyOpenOrdersRejected"

    @property
    def is_final(self) -> bool:
        return self is not Status.OPEN and self is not Status.TRIGGERED


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerTerms:
    """When a trigger order wakes, and as what."""

    px: Decimal
    is_market: bool
    tpsl: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One version of an order; a change makes a new version under the same oid."""

    oid: int
    user: str
    coin: str
    is_buy: bool
    limit_px: Decimal
    sz: Decimal
    """What is not filled."""
    orig_sz: Decimal
    tif: str | None
    reduce_only: bool
    cloid: str | None
    placed_ms: int
    status: Status
    status_ms: int
    visible_ms: int
    """From here on ``orderStatus`` knows it."""
    trigger: TriggerTerms | None = None
    parent_oid: int | None = None
    child_oids: tuple[int, ...] = ()
    is_position_tpsl: bool = False
    is_waiting: bool = False
    """A trigger order that has not triggered, or a child whose parent is not filled: not in the book."""

    @property
    def is_open(self) -> bool:
        return not self.status.is_final

    @property
    def rests(self) -> bool:
        """True when it stands in the book."""
        return self.is_open and not self.is_waiting

    @property
    def sign(self) -> int:
        return 1 if self.is_buy else -1

    @property
    def side(self) -> str:
        return "B" if self.is_buy else "A"

    def filled(self, sz: Decimal, *, now_ms: int) -> Order:
        """After a fill of ``sz``; final when nothing is left."""
        left = self.sz - sz
        status = self.status if left else Status.FILLED
        return replace(self, sz=left, status=status, status_ms=now_ms)

    def ended(self, status: Status, *, now_ms: int) -> Order:
        """In a final state, with what was not filled kept."""
        return replace(self, status=status, status_ms=now_ms)


def basic_row(order: Order) -> dict[str, Any]:
    """The row of ``openOrders`` and ``orderUpdates``."""
    row: dict[str, Any] = {
        "coin": order.coin,
        "side": order.side,
        "limitPx": text(order.limit_px),
        "sz": text(order.sz),
        "oid": order.oid,
        "timestamp": order.placed_ms,
        "origSz": text(order.orig_sz),
    }
    if order.cloid is not None:
        row["cloid"] = order.cloid
    if order.reduce_only:
        row["reduceOnly"] = True
    return row


def frontend_row(order: Order, children: tuple[Order, ...] = ()) -> dict[str, Any]:
    """The row of ``frontendOpenOrders``, ``orderStatus`` and ``historicalOrders``."""
    trigger = order.trigger
    return basic_row(order) | {
        "triggerCondition": _condition(order),
        "isTrigger": trigger is not None,
        "triggerPx": text(trigger.px if trigger else ZERO),
        "children": [frontend_row(child) for child in children],
        "isPositionTpsl": order.is_position_tpsl,
        "reduceOnly": order.reduce_only,
        "orderType": _kind(order),
        "tif": order.tif,
        "cloid": order.cloid,
    }


def triggers_above(order: Order) -> bool:
    """True when the order wakes at a mark at or above its trigger price."""
    return order.trigger is not None and (order.trigger.tpsl == "sl") == order.is_buy


def _condition(order: Order) -> str:
    if order.trigger is None:
        return "N/A"
    return f"Price {'above' if triggers_above(order) else 'below'} {text(order.trigger.px)}"


def _kind(order: Order) -> str:
    if order.trigger is None:
        return "Limit"
    name = "Stop" if order.trigger.tpsl == "sl" else "Take Profit"
    return f"{name} {'Market' if order.trigger.is_market else 'Limit'}"
