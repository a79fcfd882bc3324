"""Sizes in whole lots: scalar float64 and integer arithmetic, the same to the last bit wherever it runs.

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


def change_lots(position: int, target: int, *, close: bool) -> tuple[int, int]:
    """What leads from a position to a target: lots to reduce by, then lots to increase by, both ≥ 0.

    The reduction goes against the position, the increase to the target's side; a reduction of the whole position
    closes it. ``close``: the weight is exactly 0, so that nothing may be left.
    """
    size, wanted = max(position, -position), max(target, -target)
    if position != 0 and (close or position < 0 < target or target < 0 < position):
        return size, 0 if close else wanted
    return max(size - wanted, 0), max(wanted - size, 0)


def inside_band(lots: int, *, lot_usd: float, band_usd: float) -> bool:
    """Whether a change is too small to be worth its fees."""
    return max(lots, -lots) * lot_usd < band_usd


def slice_count(lots: int, *, lot_usd: float, most_slices: int) -> int:
    """The most slices of a positive number of lots of which each is worth ``MIN_SLICE_USD``; 0: one is too small."""
    for count in range(most_slices, 0, -1):
        if lots // count * lot_usd >= MIN_SLICE_USD:
            return count
    return 0


def slice_share(lots: int, *, count: int, index: int) -> int:
    """The lots of one slice of ``count``; earlier ones take the odd lots."""
    return lots // count + 1 if index < lots % count else lots // count


def slice_lots(lots: int, *, lot_usd: float, most_slices: int) -> tuple[int, ...]:
    """Split a positive number of lots into the most slices of which each is worth ``MIN_SLICE_USD``.

    Earlier slices take the odd lots. Empty when even one slice would be too small.
    """
    count = slice_count(lots, lot_usd=lot_usd, most_slices=most_slices)
    return tuple(slice_share(lots, count=count, index=index) for index in range(count))
