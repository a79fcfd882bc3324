"""The book around the mid, modelled from the last half hour's volume and volatility (docs/prices.md has the figures).

With V = mean volume in USD a minute and σ = root mean square one-minute return, in bps, over the last 30 minutes::

    tick       the venue's price step: 5 significant figures, at most 6 − szDecimals decimals, never above 1 USD
    spread     = max(1 tick, SPREAD·σ / √(V in millions of USD)), in whole ticks
    D(d)       = V·(TOUCH + SLOPE·(d / σ)^POWER)     USD on one side within d bps of the mid
    level k    stands at touch ± k·step, step = max(1 tick, spread / 2), and holds D(d_k) − D(d_{k−1})

Only minutes that are over are used: the model never looks ahead. A standing market keeps the floors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tradingbot.paper.prices.model import MINUTE_MS, Depth, PriceSource, minute_of

WINDOW_MINUTES = 30
LEVELS = 20
SPREAD = 0.03
TOUCH = 0.3
SLOPE = 7.0
POWER = 1.25
MIN_VOLUME_USD = 1_000.0
MIN_SIGMA_BPS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Liquidity:
    """What the model needs of the past."""

    volume_usd: float
    """Mean USD a minute, at least MIN_VOLUME_USD."""
    sigma_bps: float
    """Root mean square one-minute return, at least MIN_SIGMA_BPS."""

    @property
    def spread_bps(self) -> float:
        """The spread before it is rounded up to ticks."""
        return SPREAD * self.sigma_bps / math.sqrt(self.volume_usd / 1e6)

    def within_usd(self, distance_bps: float) -> float:
        """USD on one side within a distance of the mid."""
        return self.volume_usd * (TOUCH + SLOPE * math.pow(distance_bps / self.sigma_bps, POWER))


class BookModel:
    """Books of one source; remembers each coin's liquidity for the minute."""

    def __init__(self, source: PriceSource) -> None:
        self._source = source
        self._known: dict[str, tuple[int, Liquidity]] = {}

    def book(self, symbol: str, at_ms: int, *, sz_decimals: int = 0) -> Depth | None:
        """The book at a moment; None where the source has no mid."""
        if (real := self._source.depth(symbol, at_ms)) is not None:
            return real
        mid = self._source.mid(symbol, at_ms)
        if mid is None:
            return None
        return modelled(mid, self._liquidity(symbol, minute_of(at_ms)), sz_decimals=sz_decimals)

    def _liquidity(self, symbol: str, minute_ms: int) -> Liquidity:
        known = self._known.get(symbol)
        if known is None or known[0] != minute_ms:
            known = self._known[symbol] = (minute_ms, liquidity(self._source, symbol, minute_ms))
        return known[1]


def book(source: PriceSource, symbol: str, at_ms: int, *, sz_decimals: int = 0) -> Depth | None:
    """The book at a moment; callers that ask often keep a :class:`BookModel`."""
    return BookModel(source).book(symbol, at_ms, sz_decimals=sz_decimals)


def liquidity(source: PriceSource, symbol: str, minute_ms: int) -> Liquidity:
    """Volume and volatility over the WINDOW_MINUTES whole minutes before ``minute_ms``."""
    past = source.candles(symbol, minute_ms - WINDOW_MINUTES * MINUTE_MS, minute_ms)
    traded = [candle.volume * candle.close for candle in past]
    squares = [math.log(candle.close / candle.open) ** 2 for candle in past]
    return Liquidity(
        volume_usd=max(MIN_VOLUME_USD, math.fsum(traded) / max(1, len(past))),
        sigma_bps=max(MIN_SIGMA_BPS, 1e4 * math.sqrt(math.fsum(squares) / max(1, len(past)))),
    )


def modelled(mid: float, known: Liquidity, *, sz_decimals: int) -> Depth:
    """LEVELS levels a side around a mid; prices are exact multiples of the tick, sizes are in coins."""
    decimals = tick_decimals(mid, sz_decimals=sz_decimals)
    tick = 10.0**-decimals
    spread = max(1, round(mid * known.spread_bps / 1e4 / tick))
    step = max(1, spread // 2)
    best_bid = math.floor(mid / tick - spread / 2 + 0.5)
    return Depth(
        bids=_side(mid, known, first=best_bid, step=-step, decimals=decimals),
        asks=_side(mid, known, first=best_bid + spread, step=step, decimals=decimals),
        tick=tick,
    )


def tick_decimals(px: float, *, sz_decimals: int) -> int:
    """Decimals of a legal price near ``px``: 5 significant figures, at most 6 − szDecimals, integers always."""
    return max(0, min(4 - math.floor(math.log10(px)), 6 - sz_decimals))


def _side(mid: float, known: Liquidity, *, first: int, step: int, decimals: int) -> tuple[tuple[float, float], ...]:
    levels, inside_usd = [], 0.0
    for index in range(LEVELS):
        ticks = first + index * step
        if ticks <= 0:
            break
        px = round(ticks / 10**decimals, decimals)
        within_usd = known.within_usd(abs(px - mid) / mid * 1e4)
        levels.append((px, max(0.0, within_usd - inside_usd) / px))
        inside_usd = max(inside_usd, within_usd)
    return tuple(levels)
