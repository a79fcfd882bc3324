"""What a backtest is asked, what a strategy of one's own sees, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tradingbot.domain.params import Params
from tradingbot.replay.backtest.market import BacktestError, FloatArray, IntArray

SZ_DECIMALS: Mapping[str, int] = {"BTC": 5, "ETH": 4, "SOL": 2, "ADA": 0, "DOGE": 0}
"""Hyperliquid's mainnet lots of the usual universe, as the paper exchange lists them."""


_NEVER_NEGATIVE: Final = ("taker_fee_bps", "half_spread_bps", "impact_bps", "maker_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestOptions:
    """How the world treats the bot; what the bot itself does is in ``Params``."""

    start_equity_usd: float = 10_000.0
    cycle_minutes: int = 1
    """Minutes between decisions; divides a day and is a multiple of the bar."""
    taker_fee_bps: float = 4.5
    maker_fee_bps: float = 1.5
    maker_share: float = 0.0
    """The part of what is traded that pays the maker's fee: an assumption, candles cannot tell."""
    funding: float | FloatArray = 0.0000125
    """What a long pays each hour, as a fraction: one rate, or (H, N) from the hour that contains the first bar on.
    Default: the venue's interest of 0.01 % in 8 hours without any premium."""
    half_spread_bps: float = 0.5
    impact_bps: float = 10.0
    """Slippage = half spread + impact · √(order in USD / the minute's volume in USD)."""
    sz_decimals: Mapping[str, int] = field(default_factory=lambda: dict(SZ_DECIMALS))
    """A lot is 10^−decimals coins."""
    default_sz_decimals: int = 2
    clear_after_minutes: int | None = None
    """A drawdown's REDUCE_ONLY or HALT is cleared (peak = present equity, as a person does with CLEAR_BREAKER) after so
    many minutes; None: never, as live when nobody comes."""

    def __post_init__(self) -> None:
        """Refuse numbers that no market has, before they turn every figure into no number.

        Raises:
            BacktestError: one is not finite, or below what can be.
        """
        numbers = (*_NEVER_NEGATIVE, "start_equity_usd", "maker_fee_bps")
        for name in (name for name in numbers if not np.isfinite(getattr(self, name))):
            raise BacktestError(f"{name}: {getattr(self, name)} is no number to count with")
        for name in (name for name in _NEVER_NEGATIVE if getattr(self, name) < 0):
            raise BacktestError(f"{name}: {getattr(self, name)} is below 0")
        if self.start_equity_usd <= 0:
            raise BacktestError(f"start_equity_usd: {self.start_equity_usd} is nothing to begin with")
        if not np.all(np.isfinite(self.funding)):
            raise BacktestError("funding: a rate is no number to count with")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a strategy of one's own sees at a decision: nothing that comes after it. Arrays are by coin."""

    index: int
    at_ms: int
    symbols: tuple[str, ...]
    px: FloatArray
    """(minutes so far, N); the last row is now; 0.0 where there was no price. Read only."""
    ret_5m: FloatArray
    ret_1h: FloatArray
    vol_1h: FloatArray
    usable: NDArray[bool]  # type: ignore[type-var]
    """Coins with whole features; the others are held whatever is answered."""
    present: FloatArray
    """Present weights."""
    previous: FloatArray
    """The last target; NaN where it had none."""
    equity_usd: float
    params: Params


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Weights by coin, NaN holds; and how sure the strategy is, 0 to 1."""

    weights: FloatArray
    confidence: float = 1.0


class WeightFunction(Protocol):
    """A strategy of one's own."""

    def __call__(self, moment: Moment) -> Answer | FloatArray:
        """The weights wanted at a moment."""
        ...


@runtime_checkable
class Stumbles(Protocol):
    """A strategy that cannot always answer, and says after a run how often it did not."""

    def stumbled(self) -> str | None:
        """A sentence for the report; None: it always answered."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run, decision by decision: row t tells what was known at ``at_ms[t]`` and what followed from it."""

    symbols: tuple[str, ...]
    strategy: str
    params: Params
    options: BacktestOptions
    at_ms: IntArray
    equity: FloatArray
    """Before the decision's trades, USD."""
    cash: FloatArray
    """equity − Σ position · price."""
    weights: FloatArray
    """(T, N): held when the decision was made."""
    target: FloatArray
    """(T, N): after the stabilizer; NaN: held."""
    approved: FloatArray
    """(T, N): after the risk gate; NaN: held, or HALT."""
    turnover: FloatArray
    """What was traded, as a fraction of equity."""
    fees_usd: FloatArray
    """Of the trades of this decision."""
    funding_usd: FloatArray
    """Paid (−: received) since the decision before."""
    slippage_usd: FloatArray
    """What fills cost against the price at their moment, of this decision; fees apart."""
    traded_usd: FloatArray
    """(T, N): the value of this decision's fills."""
    pnl_usd: FloatArray
    """(T, N): earned since the decision before, all costs taken off; a row's sum is the change of equity."""
    mode: IntArray
    """0 NORMAL, 1 REDUCE_ONLY, 2 HALT."""
    orders: IntArray
    """Slices of this decision that were sent."""
    end_equity_usd: float
    """After the last decision's trades, at the last close."""
    end_qty: FloatArray
    """Positions at the end, in coins."""
    warm_up_minutes: int
    """Minutes of candles before the first decision."""
