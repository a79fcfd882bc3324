"""How a book is shown: ``l2Book`` and ``bbo``, our own resting orders among the modelled levels."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from tradingbot.paper.decimals import text, to_step
from tradingbot.paper.market import Book, Level
from tradingbot.paper.orders import Order

LEVELS = 20
FIGURES = (2, 3, 4, 5)
MANTISSAS = (2, 5)


class BadAggregation(Exception):  # noqa: N818 - the venue answers 500 with the body null
    """nSigFigs or mantissa that the venue does not take."""


def l2_book(
    book: Book, resting: Sequence[Order], *, n_sig_figs: int | None = None, mantissa: int | None = None
) -> dict[str, Any]:
    """Levels of both sides, best first, at most LEVELS; aggregated bids round down, asks up.

    Raises:
        BadAggregation: a combination that the venue refuses.
    """
    if n_sig_figs not in {None, *FIGURES} or mantissa not in {None, *MANTISSAS}:
        raise BadAggregation
    if mantissa is not None and n_sig_figs != max(FIGURES):
        raise BadAggregation
    bids = _side(book.bids, [o for o in resting if o.is_buy], asks=False, figures=n_sig_figs, mantissa=mantissa)
    asks = _side(book.asks, [o for o in resting if not o.is_buy], asks=True, figures=n_sig_figs, mantissa=mantissa)
    shown: dict[str, Any] = {"levels": [bids[:LEVELS], asks[:LEVELS]]}
    if n_sig_figs is not None and bids and asks:
        shown["spread"] = text(Decimal(asks[0]["px"]) - Decimal(bids[0]["px"]))
    return shown


def bbo(book: Book, resting: Sequence[Order]) -> list[dict[str, Any] | None]:
    """Best bid and best ask, each None when its side is empty."""
    bids, asks = l2_book(book, resting)["levels"]
    return [bids[0] if bids else None, asks[0] if asks else None]


def _side(
    levels: Sequence[Level], orders: Sequence[Order], *, asks: bool, figures: int | None, mantissa: int | None
) -> list[dict[str, Any]]:
    sizes: dict[Decimal, tuple[Decimal, int]] = {}
    everything = [(level.px, level.sz) for level in levels] + [(order.limit_px, order.sz) for order in orders]
    for exact_px, sz in everything:
        px = exact_px
        if figures is not None:
            step = Decimal(mantissa or 1).scaleb(exact_px.adjusted() - figures + 1)
            px = to_step(exact_px, step, up=asks)
        known_sz, known_n = sizes.get(px, (Decimal(0), 0))
        sizes[px] = (known_sz + sz, known_n + 1)
    ordered = sorted(sizes.items(), reverse=not asks)
    return [{"px": text(px), "sz": text(sz), "n": n} for px, (sz, n) in ordered]
