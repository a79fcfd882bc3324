"""Prices that nobody ever paid: a seeded generator, labelled synthetic wherever it is shown.

What it imitates of real one-minute returns, with parameters fitted to a month of recorded candles of five coins:
correlation through one market factor, heavy tails (Student's t with 4 degrees of freedom), volatility that clusters
(GARCH(1,1) inside four hours, a slow log-volatility beyond), volume that follows volatility.

A price is a function of (seed, coin, minute) alone: any minute can be had without the ones before it, so that a run
goes on where it stopped and an hour of back-fill exists before any start. That is done by bridges on three levels.
Each *era* (30 days) ends at a level drawn from its own hash; a random walk of four-hour *blocks* is bent to join two
eras; a random walk of minutes is bent to join two blocks. Bending adds a drift of a small part of a standard deviation
to each step.

Not imitated: jumps on news, funding, the book's own dynamics, lead and lag between coins.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final

from tradingbot.paper.prices.model import MINUTE_MS, Candle, Depth, minute_of
from tradingbot.paper.prices.path import part, px_at
from tradingbot.runtime.clock import Clock, Ids

BLOCK_MINUTES = 240
BLOCK_MS = BLOCK_MINUTES * MINUTE_MS
ERA_BLOCKS = 180
MINUTES_PER_YEAR = 525_600

GARCH_ALPHA, GARCH_BETA = 0.10, 0.87
"""Weight of the last squared shock and of the last variance; half of a burst is gone after 23 minutes."""
SHOCK_FELT = 9.0
"""The most of a squared shock that later volatility feels; without it a single extreme would rule for hours."""
LOG_VOL_PERSISTENCE, LOG_VOL_STEP, LOG_VOL_ERA = 0.8, 0.22, 0.25
"""The slow volatility: AR(1) of its logarithm over blocks, and the deviation it has between eras."""
TAIL_LIMIT = 12.0
"""Shocks are cut there, in standard deviations: Student's t with 4 degrees of freedom has no fourth moment."""
WICK = 0.25
"""Mean length of a wick, in standard deviations of a one-minute return."""
VOLUME_LOG_SD = 0.7


@dataclass(frozen=True, slots=True)
class CoinModel:
    """What is peculiar to a coin."""

    base_px: float
    """USD; eras lie around it."""
    vol: float
    """Annualised volatility of returns."""
    market: float
    """Correlation with the market factor."""
    volume_usd: float
    """Median volume a minute."""


COINS = {
    "BTC": CoinModel(108_000.0, 0.38, 0.84, 1_700_000.0),
    "ETH": CoinModel(3_900.0, 0.68, 0.90, 2_000_000.0),
    "SOL": CoinModel(180.0, 0.73, 0.90, 1_000_000.0),
    "ADA": CoinModel(0.78, 0.74, 0.90, 40_000.0),
    "DOGE": CoinModel(0.21, 0.79, 0.92, 60_000.0),
}
OTHER_COINS = CoinModel(10.0, 0.85, 0.85, 50_000.0)


class SyntheticPrices:
    """Candles and mids of a seeded random market, without beginning or end."""

    label: Final = "synthetic"
    start_ms: int | None = None
    end_ms: int | None = None

    def __init__(self, *, symbols: Sequence[str], seed: int) -> None:
        self.symbols = tuple(symbols)
        self.seed = seed
        self._block = lru_cache(maxsize=6 * len(self.symbols))(self._make_block)
        self._market = lru_cache(maxsize=8)(self._make_market)
        self._era = lru_cache(maxsize=4 * len(self.symbols))(self._make_era)
        self._log_vol = lru_cache(maxsize=4)(self._make_log_vol)

    def candle(self, symbol: str, minute_ms: int) -> Candle | None:
        """The whole minute that contains ``minute_ms``."""
        if symbol not in self.symbols:
            return None
        block, offset_ms = divmod(minute_ms, BLOCK_MS)
        return self._block(symbol, block)[offset_ms // MINUTE_MS]

    def mid(self, symbol: str, at_ms: int) -> float | None:
        """The price on the minute's path."""
        candle = self.candle(symbol, at_ms)
        return None if candle is None else px_at(candle, (at_ms - candle.t_ms) / MINUTE_MS)

    def candles(self, symbol: str, start_ms: int, end_ms: int) -> list[Candle]:
        """The minutes of the time asked for."""
        found = (self.candle(symbol, minute) for minute in range(minute_of(start_ms), end_ms, MINUTE_MS))
        return [candle for candle in found if candle is not None]

    def forming(self, symbol: str, now_ms: int) -> Candle | None:
        """The minute so far, cut out of its path."""
        candle = self.candle(symbol, now_ms)
        return candle and part(candle, bar_ms=MINUTE_MS, start_ms=candle.t_ms, end_ms=now_ms)

    def depth(self, symbol: str, at_ms: int) -> Depth | None:  # noqa: ARG002 - nothing but prices is generated
        """None: the book is modelled."""
        return None

    async def run(self, *, clock: Clock, stop: asyncio.Event) -> None:
        """Nothing to fetch."""

    # ------------------------------------------------------------------ minutes

    def _make_block(self, symbol: str, block: int) -> tuple[Candle, ...]:
        coin, draws = _coin(symbol), self._draws("minute", symbol, block)
        sigma = coin.vol / math.sqrt(MINUTES_PER_YEAR)
        own = math.sqrt(1 - coin.market**2)
        market = self._market(block)
        steps = [sigma * scale * (coin.market * shock + own * heavy(draws)) for shock, scale in market]
        logs = bridge(self._log_px(symbol, block), self._log_px(symbol, block + 1), steps)
        wicks = self._draws("wick", symbol, block)
        candles = []
        for minute, (_, scale) in enumerate(market):
            spread = sigma * scale
            candles.append(
                _candle(
                    t_ms=block * BLOCK_MS + minute * MINUTE_MS,
                    open_=coin.base_px * math.exp(logs[minute]),
                    close=coin.base_px * math.exp(logs[minute + 1]),
                    wicks=(spread * WICK * exponential(wicks), spread * WICK * exponential(wicks)),
                    volume_usd=coin.volume_usd * scale * math.exp(VOLUME_LOG_SD * normal(wicks)),
                )
            )
        return tuple(candles)

    def _make_market(self, block: int) -> tuple[tuple[float, float], ...]:
        """For each minute the market's shock (mean 0, variance 1) and the scale of all coins' returns (about 1)."""
        draws = self._draws("market", block)
        slow, following = self._log_vol_at(block), self._log_vol_at(block + 1)
        variance, found = 1.0, []
        for minute in range(BLOCK_MINUTES):
            shock = heavy(draws)
            level = math.exp(slow + (following - slow) * minute / BLOCK_MINUTES)
            found.append((shock, level * math.sqrt(variance)))
            felt = min(shock * shock, SHOCK_FELT)
            variance = (1 - GARCH_ALPHA - GARCH_BETA) + (GARCH_ALPHA * felt + GARCH_BETA) * variance
        return tuple(found)

    # ------------------------------------------------------------------ blocks and eras

    def _log_px(self, symbol: str, block: int) -> float:
        era, index = divmod(block, ERA_BLOCKS)
        return self._era(symbol, era)[index]

    def _make_era(self, symbol: str, era: int) -> list[float]:
        """Log price, relative to the coin's base, at each block's start and at the era's end."""
        coin, draws, market = _coin(symbol), self._draws("block", symbol, era), self._draws("market block", era)
        sigma, own = coin.vol * math.sqrt(BLOCK_MINUTES / MINUTES_PER_YEAR), math.sqrt(1 - coin.market**2)
        steps = [sigma * (coin.market * heavy(market) + own * heavy(draws)) for _ in range(ERA_BLOCKS)]
        return bridge(self._era_end(symbol, era), self._era_end(symbol, era + 1), steps)

    def _era_end(self, symbol: str, era: int) -> float:
        coin = _coin(symbol)
        # Half of an era's variance at each of its ends, so that their difference has the coin's volatility.
        sigma = coin.vol * math.sqrt(ERA_BLOCKS * BLOCK_MINUTES / MINUTES_PER_YEAR / 2)
        shared, own = normal(self._draws("market era", era)), normal(self._draws("era", symbol, era))
        return sigma * (coin.market * shared + math.sqrt(1 - coin.market**2) * own)

    def _log_vol_at(self, block: int) -> float:
        era, index = divmod(block, ERA_BLOCKS)
        return self._log_vol(era)[index]

    def _make_log_vol(self, era: int) -> list[float]:
        draws, level, steps = self._draws("volatility", era), 0.0, []
        for _ in range(ERA_BLOCKS):
            following = LOG_VOL_PERSISTENCE * level + LOG_VOL_STEP * normal(draws)
            steps.append(following - level)
            level = following
        start, end = (LOG_VOL_ERA * normal(self._draws("volatility era", each)) for each in (era, era + 1))
        return bridge(start, end, steps)

    def _draws(self, *names: str | int) -> Ids:
        text = "\x1f".join(map(str, (self.seed, *names)))
        return Ids(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def bridge(start: float, end: float, steps: Sequence[float]) -> list[float]:
    """The walk of the steps from ``start``, bent evenly so that it ends at ``end``; one value more than steps."""
    drift = (end - start - math.fsum(steps)) / len(steps)
    walk = list(accumulate((step + drift for step in steps), initial=start))
    walk[-1] = end
    return walk


def normal(draws: Ids) -> float:
    """A standard normal number (Box and Muller)."""
    return math.sqrt(-2 * math.log(_unit(draws))) * math.cos(2 * math.pi * draws.uniform(0, 1))


def exponential(draws: Ids) -> float:
    """An exponential number of mean 1."""
    return -math.log(_unit(draws))


def heavy(draws: Ids) -> float:
    """Student's t with 4 degrees of freedom scaled to variance 1, cut at TAIL_LIMIT.

    t = z / sqrt(χ²(4) / 4), and χ²(4) = −2·ln(u·v) of two uniform numbers; the variance of t is 4 / (4 − 2) = 2.
    """
    chi_squared = -2 * math.log(_unit(draws) * _unit(draws))
    shock = normal(draws) / math.sqrt(chi_squared / 4) / math.sqrt(2) if chi_squared > 0 else TAIL_LIMIT
    return min(max(shock, -TAIL_LIMIT), TAIL_LIMIT)


def _unit(draws: Ids) -> float:
    return 1.0 - min(draws.uniform(0, 1), 1.0 - 2**-53)  # in (0, 1], so that its logarithm exists


def _coin(symbol: str) -> CoinModel:
    return COINS.get(symbol, OTHER_COINS)


def _candle(*, t_ms: int, open_: float, close: float, wicks: tuple[float, float], volume_usd: float) -> Candle:
    up, down = wicks
    return Candle(
        t_ms=t_ms,
        open=open_,
        high=max(open_, close) * math.exp(up),
        low=min(open_, close) * math.exp(-down),
        close=close,
        volume=volume_usd / close,
    )
