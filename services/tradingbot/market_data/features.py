"""The features' numeric kernel: returns and realised volatility of one coin's minute prices.

Written once for live use and for backtests: scalar float64 loops over a sequence of floats, no numpy, so that numba
can compile these very functions and give the same last bit. ``px[i]`` is the price at minute i; 0.0 says that there is
none, and a feature that needs it is NaN: absent, never guessed. Nothing after ``px[i]`` is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

HOUR = 60
"""Minutes of ret_1h and vol_1h."""
WINDOW = HOUR + 1
"""Prices that the features of one minute look at."""
MIN_RETURNS = 30
"""vol_1h is absent with fewer one-minute returns: half of the hour."""
MINUTES_PER_YEAR = 525_600
"""365 days: the market never closes."""


def simple_return(px: Sequence[float], i: int, lag: int) -> float:
    """px[i] / px[i − lag] − 1, of mids; NaN where either price is absent."""
    if i < lag or px[i] <= 0.0 or px[i - lag] <= 0.0:
        return math.nan
    return px[i] / px[i - lag] - 1.0


def realised_vol(px: Sequence[float], i: int) -> float:
    """Realised volatility of the hour that ends at i, annualised: sqrt(Σ r² / n) · sqrt(525,600).

    r = ln(px[k] / px[k − 1]) for the last 60 minutes k whose two prices are there, n their number; no mean is taken
    out. NaN without px[i] or with n < MIN_RETURNS.
    """
    if px[i] <= 0.0:
        return math.nan
    total = 0.0
    n = 0
    for k in range(max(1, i - HOUR + 1), i + 1):
        if has_move(px, k):
            total += squared_move(px, k)
            n += 1
    return annualised(total, n)


def has_move(px: Sequence[float], k: int) -> bool:
    """Whether minute k and the one before it have prices."""
    return px[k] > 0.0 and px[k - 1] > 0.0


def squared_move(px: Sequence[float], k: int) -> float:
    """ln(px[k] / px[k − 1])², of prices that are there."""
    r = math.log(px[k] / px[k - 1])
    return r * r


def annualised(total: float, n: int) -> float:
    """The volatility of n squared moves that add up to ``total``; NaN with n < MIN_RETURNS."""
    if n < MIN_RETURNS:
        return math.nan
    return math.sqrt(total / n) * math.sqrt(MINUTES_PER_YEAR)
