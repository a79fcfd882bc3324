"""The features of a whole table of candles, by the functions that compute them live.

``volatilities`` sums the squares of ``features.realised_vol`` in the same order, oldest first, but for a block of
minutes side by side: the sums do not wait for one another, and each one is equal to the last bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from tradingbot.market_data.features import HOUR, annualised, has_move, simple_return, squared_move
from tradingbot.paper.prices.path import path_px
from tradingbot.replay.backtest.shapes import Facts, FloatArray, IntArray

BLOCK = 128
"""Minutes whose sums are built side by side: 1 kB, which stays in the nearest cache."""
AT_ONCE = 4
"""Squares added to a sum each time that it is read and written; divides the hour."""


def look(opening: FloatArray, close: FloatArray, seen: FloatArray, px: FloatArray) -> None:
    """The price at each minute's start, what market_data would tell: ``seen`` (T, N) and, by coin, ``px`` (N, T).

    The close of the bar that ends there, else the open of the one that begins there, as ``market_data.history`` fills
    its gaps; 0.0 where there is none. Nothing of the minute's own bar is known but its first price.
    """
    for i in range(opening.shape[0]):
        for n in range(opening.shape[1]):
            price = close[i - 1, n] if i > 0 else math.nan
            if math.isnan(price):
                price = opening[i, n]
            seen[i, n] = 0.0 if math.isnan(price) else price
            px[n, i] = seen[i, n]


class Sums(NamedTuple):
    """Vectors of T minutes that are written for each coin in turn."""

    squares: FloatArray
    known: IntArray
    """How many minutes up to this one have a move."""
    vols: FloatArray


def tell(px: FloatArray, first: int, step: int, sums: Sums, facts: Facts) -> None:
    """Every decision's features; ``px`` is by coin, (N, T), the first decision's minute is ``first``."""
    ret_5m, ret_1h, vol_1h = facts.ret_5m, facts.ret_1h, facts.vol_1h
    for n in range(px.shape[0]):
        column = px[n]
        volatilities(column, sums)
        for d in range(ret_5m.shape[1]):
            i = first + d * step
            ret_5m[n, d] = simple_return(column, i, 5)
            ret_1h[n, d] = simple_return(column, i, HOUR)
            vol_1h[n, d] = sums.vols[i]


def volatilities(px: FloatArray, sums: Sums) -> None:
    """``realised_vol(px, i)`` of every minute i from HOUR on, in ``sums.vols``."""
    squares, known, vols, count = sums.squares, sums.known, sums.vols, len(px)
    squares[0] = 0.0
    known[0] = 0
    for k in range(1, count):
        there = has_move(px, k)
        squares[k] = squared_move(px, k) if there else 0.0
        known[k] = known[k - 1] + (1 if there else 0)
    for start in range(HOUR, count, BLOCK):
        stop = min(start + BLOCK, count)
        block = vols[start:stop]
        block[:] = 0.0
        for k in range(start - HOUR + 1, start + 1, AT_ONCE):
            one, two, three, four = squares[k:], squares[k + 1 :], squares[k + 2 :], squares[k + 3 :]
            for j in range(len(block)):
                block[j] = (((block[j] + one[j]) + two[j]) + three[j]) + four[j]
        for i in range(start, stop):
            vols[i] = annualised(vols[i], known[i] - known[i - HOUR]) if px[i] > 0.0 else math.nan


def cut_bars(bars: FloatArray, minutes: FloatArray, count: int) -> None:
    """Bars of ``count`` minutes cut into minutes along the path that the paper exchange walks.

    Both are (5, rows, N): open, high, low, close, volume.
    """
    for t in range(bars.shape[1]):
        for n in range(bars.shape[2]):
            opening, high, low, close = bars[0, t, n], bars[1, t, n], bars[2, t, n], bars[3, t, n]
            for k in range(count):
                begin = path_px(opening, high, low, close, k / count)
                end = path_px(opening, high, low, close, (k + 1) / count)
                most, least = max(begin, end), min(begin, end)
                for knot in (0.25, 0.75):
                    if k < knot * count < k + 1:
                        corner = path_px(opening, high, low, close, knot)
                        most, least = max(most, corner), min(least, corner)
                row = t * count + k
                minutes[0, row, n], minutes[1, row, n] = begin, most
                minutes[2, row, n], minutes[3, row, n] = least, end
                minutes[4, row, n] = bars[4, t, n] / count
