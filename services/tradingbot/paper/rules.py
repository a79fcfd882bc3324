"""Checks of an order before it may trade: the venue's texts, and what kind of record a refusal leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tradingbot.paper.actions import OrderSpec
from tradingbot.paper.assets import Asset, Universe
from tradingbot.paper.orders import Status

MIN_NOTIONAL_USD = Decimal(10)
PRICE_BAND = Decimal("0.8")
MAX_ENTRIES = 200
"""Orders or cancels in one signed action."""

OPEN_ORDERS_BASE = 1_000
OPEN_ORDERS_MAX = 5_000
VOLUME_PER_OPEN_ORDER_USD = 5_000_000

TEXTS = {
    Status.TICK_REJECTED: "Price must be divisible by tick size.",
    Status.MIN_TRADE_NTL_REJECTED: "Order must have minimum value of $10.",
    Status.PERP_MARGIN_REJECTED: "Insufficient margin to place order.",
    Status.REDUCE_ONLY_REJECTED: "Reduce only order would increase position.",
    Status.IOC_CANCEL_REJECTED: "Order could not immediately match against any resting orders.",
    Status.BAD_TRIGGER_PX_REJECTED: "Invalid TP/SL price.",
    Status.PERP_MAX_POSITION_REJECTED: ("Order would cause position to exceed margin tier limit at current leverage"),
    Status.TOO_MANY_OPEN_ORDERS_REJECTED: "Too many open orders.",
}
POST_ONLY_PERIOD = "Only post-only orders allowed immediately after a network upgrade"
DUPLICATE_CLOID = "Order with this client order id is already open."


@dataclass(frozen=True, slots=True)
class Refusal:
    """An order that is not taken: its final state and the text of its status entry."""

    status: Status
    text: str


def refusal(status: Status, asset: Asset, *, text: str | None = None) -> Refusal:
    """The venue's text with the tail that live answers carry."""
    return Refusal(status, f"{text or TEXTS[status]} asset={asset.index}")


def prevalidate(specs: Sequence[OrderSpec], universe: Universe, marks: dict[str, Decimal]) -> str | None:
    """What refuses a whole batch with one text, leaving no record of any of its orders."""
    if not specs:
        return "Orders are empty."
    for spec in specs:
        asset = universe.get(spec.a)
        if asset is None or asset.delisted:
            return f"Order has invalid asset. asset={spec.a}"
        if (text := _malformed(spec, asset, marks.get(asset.name))) is not None:
            return text
    return None


def _malformed(spec: OrderSpec, asset: Asset, reference: Decimal | None) -> str | None:
    if spec.s == 0:
        return "Order has zero size."
    if not asset.is_legal_size(spec.s):
        return "Order has invalid size."
    if spec.p == 0:
        return "Order has invalid price."
    if spec.tif is None and not spec.r:
        return "Trigger order must be reduce only."
    if reference is not None and abs(spec.p - reference) > PRICE_BAND * reference:
        return "Order price cannot be more than 80% away from the reference price"
    return None


def open_order_limit(volume_usd: Decimal) -> int:
    """1000 + 1 per 5M USDC of volume, at most 5000."""
    return min(OPEN_ORDERS_MAX, OPEN_ORDERS_BASE + int(volume_usd // VOLUME_PER_OPEN_ORDER_USD))
