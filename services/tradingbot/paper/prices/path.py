"""How a price moves inside a bar: open, the nearer extreme, the other extreme, close.

A bar says nothing about the order of its extremes. The nearer one first is the shorter path, hence the likelier; of
two equally near ones the one against the bar's direction comes first. Straight lines join the four prices at the
fractions 0, 1/4, 3/4 and 1 of the bar: the leg between the extremes, the longest, gets half of the time.
"""

from __future__ import annotations

from tradingbot.paper.prices.model import Candle, PriceSource, minute_of

KNOTS = (0.0, 0.25, 0.75, 1.0)
"""The fractions of a bar at which open, nearer extreme, other extreme and close stand."""


def corners(bar: Candle) -> tuple[float, float, float, float]:
    """The four prices of the path in their order."""
    return corners_of(bar.open, bar.high, bar.low, bar.close)


def corners_of(opening: float, high: float, low: float, close: float) -> tuple[float, float, float, float]:
    """``corners`` of a bar's four prices."""
    up, down = high - opening, opening - low
    low_first = down < up or (down == up and close >= opening)
    return (opening, low, high, close) if low_first else (opening, high, low, close)


def px_at(bar: Candle, fraction: float) -> float:
    """The price at a fraction (0 to 1) of a bar."""
    return path_px(bar.open, bar.high, bar.low, bar.close, fraction)


def path_px(opening: float, high: float, low: float, close: float, fraction: float) -> float:
    """``px_at`` of a bar's four prices: scalar float64 arithmetic, so that backtests compile this very function."""
    first, second, third, last = corners_of(opening, high, low, close)
    if fraction <= KNOTS[1]:
        left, right, share = first, second, fraction / KNOTS[1]
    elif fraction <= KNOTS[2]:
        left, right, share = second, third, (fraction - KNOTS[1]) / (KNOTS[2] - KNOTS[1])
    else:
        left, right, share = third, last, (fraction - KNOTS[2]) / (KNOTS[3] - KNOTS[2])
    # Rounding of the interpolation must not leave the bar.
    return right if share >= 1 else min(max(left + (right - left) * share, low), high)


def part(bar: Candle, *, bar_ms: int, start_ms: int, end_ms: int) -> Candle:
    """The part of a bar from ``start_ms`` to ``end_ms``, as a candle of its own; the volume is spread evenly."""
    from_fraction, to_fraction = (start_ms - bar.t_ms) / bar_ms, (end_ms - bar.t_ms) / bar_ms
    prices = [px_at(bar, from_fraction), px_at(bar, to_fraction)]
    prices += [px for knot, px in zip(KNOTS, corners(bar), strict=True) if from_fraction < knot < to_fraction]
    return Candle(
        t_ms=start_ms,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[1],
        volume=bar.volume * (to_fraction - from_fraction),
        still=bar.still,
    )


def candles_until(source: PriceSource, symbol: str, *, start_ms: int, end_ms: int, now_ms: int) -> list[Candle]:
    """The candles that are known at ``now_ms``: the last one is still forming, nothing later is told."""
    this_minute = minute_of(now_ms)
    found = source.candles(symbol, start_ms, min(end_ms, this_minute))
    if minute_of(start_ms) <= this_minute < end_ms and (last := source.forming(symbol, now_ms)) is not None:
        found.append(last)
    return found
