"""What a thin or wide book does to a symbol's plan.

A book is *thin* for an order when its liquidity score is below ``thin_book_score`` and the order is more than a
hundredth of what rests there: a deep book that flickers is no reason to wait. θ = score / thin_book_score is then how
much of the wanted depth is there. Two things follow, and both only when the features tell: without a score or a spread
everything is as ever.

* A growing position grows slower: only θ of the cycle's increase is planned, a quarter at least, and one slice worth
  the minimum at least. The rest is no order of this cycle; the next decision asks for it again. Whatever reduces
  keeps its full size: getting out is never slowed down.
* The guard widens, for reductions too, because the same size then reaches deeper into the book:
  guard = max(px_guard, min(max_guard, max(px_guard / θ, spread))).
"""

from __future__ import annotations

import math

from tradingbot.domain.messages import PlanBook
from tradingbot.domain.params import ExecutionParams
from tradingbot.execution.sizing import MIN_SLICE_USD

LEAST_SHARE = 0.25
"""Of an increase, however thin the book: a target is still reached within a few cycles."""

SMALL_OF_DEPTH = 0.01
"""An order up to this part of the thinner side's depth meets no thin book."""


def depth_share(book: PlanBook | None, *, thin_book_score: float, order_usd: float) -> float:
    """θ: how much of the wanted depth is there for an order, from ``LEAST_SHARE`` to 1; 1 without a score."""
    if book is None or book.liquidity_score is None or book.liquidity_score >= thin_book_score:
        return 1.0
    if book.depth_usd is not None and order_usd <= SMALL_OF_DEPTH * book.depth_usd:
        return 1.0
    return max(book.liquidity_score / thin_book_score, LEAST_SHARE)


def increase_lots(lots: int, *, share: float, lot_usd: float) -> int:
    """What of an increase is planned in this cycle: its share, but one slice worth the minimum at least."""
    if share >= 1.0:
        return lots
    one_slice = math.ceil(MIN_SLICE_USD / lot_usd)
    return min(lots, max(int(lots * share), one_slice))


def guard_bps(book: PlanBook | None, params: ExecutionParams, *, share: float) -> float:
    """How far beyond the mid a slice may be priced, in basis points, θ being ``share``; at least ``px_guard_bps``."""
    spread_bps = 0.0 if book is None or book.spread_bps is None else book.spread_bps
    return max(params.px_guard_bps, min(params.max_guard_bps, max(params.px_guard_bps / share, spread_bps)))
