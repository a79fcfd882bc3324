"""The price of an order, and whether the mid that it is made from can still be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from tradingbot.domain.messages import Side
from tradingbot.domain.params import OrderTif
from tradingbot.venue.precision import AssetSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Mid:
    """A mid price and when it was seen, virtual Unix milliseconds."""

    px: Decimal
    at_ms: int


def fresh(mids: Mapping[str, Mid], *, now_ms: int, oldest_ms: int) -> dict[str, Decimal]:
    """The mids that are at most ``oldest_ms`` old; one from before a clock's step back lies as much ahead of it."""
    return {symbol: mid.px for symbol, mid in mids.items() if abs(now_ms - mid.at_ms) <= oldest_ms}


def limit_price(mid: Decimal, *, side: Side, guard_bps: float, tif: OrderTif, spec: AssetSpec) -> Decimal:
    """mid·(1 ± guard), rounded never beyond the guard; a post-only order rests at the mid on its own side."""
    guard = Decimal(0) if tif is OrderTif.ALO else Decimal(str(guard_bps))
    return spec.guarded_price(mid, side=side, guard_bps=guard)
