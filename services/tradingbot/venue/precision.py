"""The venue's rules for prices and sizes, in exact decimals.

A perpetual's price has at most 5 significant figures and at most 6 − szDecimals decimals; an integer price is always
legal. A size has at most szDecimals decimals. Sizes are rounded down and prices never beyond the guard, so that
rounding can only lessen risk. (Venue documentation, "Tick and lot size".)
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Context, Decimal
from enum import StrEnum

from tradingbot.domain.ids import Symbol
from tradingbot.domain.messages import Side

MIN_NOTIONAL_USD = Decimal(10)
MAX_PRICE_DECIMALS = 6
SIGNIFICANT_FIGURES = 5
WIRE_DECIMALS = 8
_BPS = Decimal(10_000)
_EXACT = Context(prec=60)


class Direction(StrEnum):
    """Which way a price is rounded."""

    DOWN = "down"
    UP = "up"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetSpec:
    """What the venue says of a coin; read at start, never hard-coded, and different on each network."""

    symbol: Symbol
    asset_id: int
    sz_decimals: int
    max_leverage: int
    delisted: bool = False
    only_isolated: bool = False

    def size_down(self, size: Decimal) -> Decimal:
        """``round_size_down`` by this coin's decimals."""
        return round_size_down(size, sz_decimals=self.sz_decimals)

    def guarded_price(self, mid: Decimal, *, side: Side, guard_bps: Decimal) -> Decimal:
        """``guarded_price`` by this coin's decimals."""
        return guarded_price(mid, side=side, guard_bps=guard_bps, sz_decimals=self.sz_decimals)


def round_size_down(size: Decimal, *, sz_decimals: int) -> Decimal:
    """The greatest legal size that is not above ``size`` (in magnitude; the sign stays)."""
    return size.quantize(_unit(sz_decimals), rounding=ROUND_DOWN, context=_EXACT)


def tick_size(px: Decimal, *, sz_decimals: int) -> Decimal:
    """The distance of neighbouring legal prices at ``px`` (towards higher prices).

    Raises:
        ValueError: the price is not a positive number.
    """
    if not px.is_finite() or px <= 0:
        raise ValueError(f"a price must be a positive number, was {px}")
    by_figures = px.adjusted() - SIGNIFICANT_FIGURES + 1
    return Decimal(1).scaleb(max(min(by_figures, 0), sz_decimals - MAX_PRICE_DECIMALS))


def round_price(px: Decimal, *, sz_decimals: int, direction: Direction) -> Decimal:
    """The nearest legal price that is not above (DOWN) or not below (UP) ``px``.

    Raises:
        ValueError: not a positive number, or DOWN would leave 0.
    """
    rounding = ROUND_FLOOR if direction is Direction.DOWN else ROUND_CEILING
    rounded = px.quantize(tick_size(px, sz_decimals=sz_decimals), rounding=rounding, context=_EXACT)
    if rounded <= 0:
        raise ValueError(f"no legal price at or below {px} with {sz_decimals} size decimals")
    return rounded


def guarded_price(mid: Decimal, *, side: Side, guard_bps: Decimal, sz_decimals: int) -> Decimal:
    """The most aggressive legal limit price within ``mid``·(1 ± guard): a BUY at most above, a SELL at least below.

    A guard of 0 gives the mid rounded to the order's own side, as a post-only order wants it.
    """
    exact = _EXACT.multiply(mid, 1 + side.sign * guard_bps / _BPS)
    direction = Direction.DOWN if side is Side.BUY else Direction.UP
    return round_price(exact, sz_decimals=sz_decimals, direction=direction)


def is_legal_price(px: Decimal, *, sz_decimals: int) -> bool:
    """True when the venue's tick rule admits the price."""
    if not px.is_finite() or px <= 0:
        return False
    return px == px.quantize(tick_size(px, sz_decimals=sz_decimals), rounding=ROUND_DOWN, context=_EXACT)


def is_legal_size(size: Decimal, *, sz_decimals: int) -> bool:
    """True when the venue's lot rule admits the size."""
    return size.is_finite() and size > 0 and size == round_size_down(size, sz_decimals=sz_decimals)


def meets_minimum(size: Decimal, px: Decimal) -> bool:
    """True when an order is worth the venue's minimum; the close of a whole position is exempt from it."""
    return _EXACT.multiply(size, px) >= MIN_NOTIONAL_USD


def size_to_lots(size: Decimal, *, sz_decimals: int) -> int:
    """A size as a whole number of lots.

    Raises:
        ValueError: the size is not a multiple of the lot.
    """
    return _whole(size, sz_decimals, "size")


def lots_to_size(lots: int, *, sz_decimals: int) -> Decimal:
    """The inverse of ``size_to_lots``."""
    return Decimal(lots).scaleb(-sz_decimals)


def price_to_ticks(px: Decimal, *, sz_decimals: int) -> int:
    """A price as a whole number of the coin's smallest price steps, 10^−(6 − szDecimals).

    Raises:
        ValueError: the price has more decimals than that.
    """
    return _whole(px, MAX_PRICE_DECIMALS - sz_decimals, "price")


def ticks_to_price(ticks: int, *, sz_decimals: int) -> Decimal:
    """The inverse of ``price_to_ticks``."""
    return Decimal(ticks).scaleb(sz_decimals - MAX_PRICE_DECIMALS)


def to_wire(number: Decimal) -> str:
    """A number as requests bear it: plain notation, no exponent, no trailing zeros, at most 8 decimals.

    Raises:
        ValueError: negative, not finite, or more than 8 decimals.
    """
    if not number.is_finite() or number < 0:
        raise ValueError(f"the venue takes no such number: {number}")
    text = f"{number:f}"
    whole, point, decimals = text.partition(".")
    decimals = decimals.rstrip("0")
    if len(decimals) > WIRE_DECIMALS:
        raise ValueError(f"{text} has more than {WIRE_DECIMALS} decimals")
    return f"{whole}{point}{decimals}" if decimals else whole


def _unit(decimals: int) -> Decimal:
    return Decimal(1).scaleb(-decimals)


def _whole(number: Decimal, decimals: int, what: str) -> int:
    scaled = _EXACT.scaleb(number, decimals)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{what} {number} has more than {decimals} decimals")
    return int(scaled)
