"""Price-time matching of the accounts' own orders against one another and the modelled book. Pure.

At an equal price the modelled size stands first in the queue: it was there before any of ours, and a maker's fill is
never told sooner than the market would have given it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from tradingbot.paper.decimals import ZERO
from tradingbot.paper.market import Book, Level
from tradingbot.paper.orders import Order


@dataclass(frozen=True, slots=True)
class Quote:
    """Something to trade with: a modelled level (oid None) or an account's resting order."""

    px: Decimal
    sz: Decimal
    oid: int | None


def crosses(px: Decimal, *, limit_px: Decimal, is_buy: bool) -> bool:
    """True when a taker with this limit may trade at ``px``."""
    return px <= limit_px if is_buy else px >= limit_px


def quotes(book: Book, resting: Iterable[Order], *, is_buy: bool, limit_px: Decimal) -> list[Quote]:
    """What a taker may trade with, best price first, then first come."""
    sign = 1 if is_buy else -1
    modelled = [Quote(level.px, level.sz, None) for level in book.side(asks=is_buy)]
    orders = [Quote(order.limit_px, order.sz, order.oid) for order in resting if order.is_buy != is_buy]
    found = [quote for quote in modelled + orders if crosses(quote.px, limit_px=limit_px, is_buy=is_buy)]
    return sorted(found, key=lambda quote: (sign * quote.px, quote.oid or 0))


def volume_through(levels: Iterable[Level], *, limit_px: Decimal, is_buy: bool) -> Decimal:
    """How much of the opposite modelled side has come to a resting order's price or through it."""
    return sum((level.sz for level in levels if crosses(level.px, limit_px=limit_px, is_buy=is_buy)), ZERO)


def reduce_only_trim(orders: Iterable[Order], szi: Decimal) -> list[tuple[Order, Decimal]]:
    """What resting reduce-only orders of one position may keep: the newest first, 0 when it must go."""
    left = abs(szi)
    trimmed = []
    for order in sorted(orders, key=lambda each: -each.oid):
        reduces = order.sign * szi < 0
        kept = min(order.sz, left) if reduces and (order.sz <= left or left == abs(szi)) else ZERO
        left -= kept
        if kept != order.sz:
            trimmed.append((order, kept))
    return trimmed
