"""Sizes in whole lots: scalar float64 arithmetic, the same to the last bit wherever it runs.

Everything is rounded towards less risk: a target towards zero, a slice never above its share.
"""

from __future__ import annotations

MIN_SLICE_USD = 12.0
"""1.2 × the venue's minimum of 10 USD: a slice must still be worth the minimum after the price has moved."""


def target_lots(weight: float, *, equity_usd: float, mid: float, lots_per_coin: int) -> int:
    """weight·equity / mid in whole lots, towards zero; 0 without equity or price."""
    if equity_usd <= 0.0 or mid <= 0.0:
        return 0
    return int(weight * equity_usd / mid * lots_per_coin)


def slice_lots(lots: int, *, lot_usd: float, most_slices: int) -> tuple[int, ...]:
    """Split a positive number of lots into the most slices of which each is worth ``MIN_SLICE_USD``.

    Earlier slices take the odd lots. Empty when even one slice would be too small.
    """
    for count in range(most_slices, 0, -1):
        share, odd = divmod(lots, count)
        if share * lot_usd >= MIN_SLICE_USD:
            return tuple(share + 1 if index < odd else share for index in range(count))
    return ()
