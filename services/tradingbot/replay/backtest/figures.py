"""The figures of an equity curve: pure functions of arrays, each with its formula and where it comes from.

Ratios are taken of the returns of whole days counted from the first decision (of hours, where there are fewer than
``LEAST_DAYS`` days), not of single decisions: minutes are correlated with one another, so that scaling their deviation
by √525,600 would promise too much. A year has 365 days, as the market never closes; the riskless rate is taken as 0.
What cannot be told (no returns, no deviation) is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tradingbot.replay.backtest.market import FloatArray, IntArray

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YEAR_MS = 365 * DAY_MS
LEAST_DAYS = 20
"""Fewer days than this say nothing about a deviation; hours are taken then."""
EULER = 0.5772156649015329
LEAST_DEVIATION = 1e-12
"""A smaller standard deviation of returns is rounding, not risk."""

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Returns:
    """Simple returns of equal periods."""

    values: FloatArray
    period_ms: int

    @property
    def per_year(self) -> float:
        return YEAR_MS / self.period_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """The deepest fall from a peak."""

    depth: float
    """Fraction of the peak, 0 or more."""
    peak: int
    """Where the fall began, an index of the curve."""
    bottom: int
    recovered: int | None
    """Where the peak was reached again; None: not within the curve."""


def returns_of(at_ms: IntArray, equity: FloatArray, *, period_ms: int | None = None) -> Returns:
    """Equity from period to period; a rest that is shorter than a period is left out.

    Args:
        at_ms: when each value of equity stood, ascending.
        equity: USD.
        period_ms: None: days, or hours where there are fewer than LEAST_DAYS days.
    """
    span_ms = int(at_ms[-1] - at_ms[0]) if len(at_ms) else 0
    if period_ms is None:
        period_ms = DAY_MS if span_ms >= LEAST_DAYS * DAY_MS else HOUR_MS
    marks = at_ms[0] + period_ms * np.arange(span_ms // period_ms + 1) if len(at_ms) else np.empty(0)
    sampled = equity[np.searchsorted(at_ms, marks, side="right") - 1] if len(marks) else np.empty(0)
    sound = sampled[:-1] > 0
    return Returns(values=sampled[1:][sound] / sampled[:-1][sound] - 1.0, period_ms=period_ms)


def total_return(equity: FloatArray) -> float:
    """E_T / E_0 − 1."""
    return float(equity[-1] / equity[0] - 1.0)


def annual_return(at_ms: IntArray, equity: FloatArray) -> float | None:
    """Compound annual growth, (E_T / E_0)^(year / span) − 1; None below LEAST_DAYS, of which a year says nothing."""
    span_ms = int(at_ms[-1] - at_ms[0])
    if span_ms < LEAST_DAYS * DAY_MS or equity[-1] <= 0:
        return None
    growth = math.log(equity[-1] / equity[0]) * YEAR_MS / span_ms
    return math.expm1(growth) if growth < 700 else None


def volatility(returns: Returns) -> float | None:
    """Standard deviation of the returns (n − 1) · √(periods a year)."""
    deviation = _deviation(returns.values)
    return None if deviation is None else deviation * math.sqrt(returns.per_year)


def sharpe(returns: Returns) -> float | None:
    """Mean / standard deviation (n − 1) · √(periods a year): Sharpe 1994, riskless rate 0."""
    ratio = period_sharpe(returns.values)
    return None if ratio is None else ratio * math.sqrt(returns.per_year)


def period_sharpe(values: FloatArray) -> float | None:
    """Mean / standard deviation (n − 1) of one period's returns, not annualised."""
    deviation = _deviation(values)
    return None if deviation is None else float(values.mean()) / deviation


def sharpe_error(returns: Returns) -> float | None:
    """The standard error of the annualised Sharpe ratio: √((1 − γ3·SR + (γ4 − 1)/4·SR²) / (n − 1)), SR of one period.

    Mertens 2002, as Bailey and López de Prado 2012 use it: skewness γ3 and kurtosis γ4 (3 is normal) count.
    """
    ratio = period_sharpe(returns.values)
    if ratio is None:
        return None
    spread = _spread(ratio, skewness(returns.values) or 0.0, kurtosis(returns.values) or 3.0)
    return math.sqrt(spread / (len(returns.values) - 1) * returns.per_year)


def probabilistic_sharpe(ratio: float, *, beat: float, count: int, skew: float = 0.0, kurt: float = 3.0) -> float:
    """The probability that the true Sharpe ratio exceeds ``beat``, both of one period, not annualised.

    PSR = Φ((SR − SR*)·√(n − 1) / √(1 − γ3·SR + (γ4 − 1)/4·SR²)): Bailey and López de Prado, "The Sharpe Ratio
    Efficient Frontier", 2012.

    Args:
        ratio: observed, SR.
        beat: SR*.
        count: returns that it was observed on, n.
        skew: γ3 of the returns.
        kurt: γ4 of the returns; 3 is normal.
    """
    return _NORMAL.cdf((ratio - beat) * math.sqrt(max(count - 1, 0)) / math.sqrt(_spread(ratio, skew, kurt)))


def luckiest_sharpe(*, variance: float, trials: int) -> float:
    """The Sharpe ratio that the best of so many trials without skill is expected to show.

    SR₀ = √V·((1 − γ)·Φ⁻¹(1 − 1/N) + γ·Φ⁻¹(1 − 1/(N·e))), V the variance of the trials' ratios, γ Euler's constant:
    Bailey and López de Prado, "The Deflated Sharpe Ratio", 2014. 0 for a single trial.
    """
    if trials < 2:
        return 0.0
    first, second = _NORMAL.inv_cdf(1.0 - 1.0 / trials), _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * ((1.0 - EULER) * first + EULER * second)


def deflated_sharpe(ratios: FloatArray, best: FloatArray) -> float | None:
    """The probability that the best of many trials has any skill: the PSR against ``luckiest_sharpe``.

    Bailey and López de Prado 2014. Every trial counts as independent: similar ones make the answer too strict.

    Args:
        ratios: one Sharpe ratio a trial, of one period, not annualised.
        best: the best trial's returns.
    """
    ratio = period_sharpe(best)
    if ratio is None or len(ratios) == 0:
        return None
    variance = float(ratios.var(ddof=1)) if len(ratios) > 1 else 0.0
    return probabilistic_sharpe(
        ratio,
        beat=luckiest_sharpe(variance=variance, trials=len(ratios)),
        count=len(best),
        skew=skewness(best) or 0.0,
        kurt=kurtosis(best) or 3.0,
    )


def sortino(returns: Returns) -> float | None:
    """Mean / √(mean of min(r, 0)²) · √(periods a year): Sortino and Price 1994, target 0, over all periods."""
    values = returns.values
    if len(values) < 2:
        return None
    downside = math.sqrt(float(np.square(np.minimum(values, 0.0)).mean()))
    return float(values.mean()) / downside * math.sqrt(returns.per_year) if downside > LEAST_DEVIATION else None


def calmar(at_ms: IntArray, equity: FloatArray) -> float | None:
    """Compound annual growth / deepest fall: Young 1991, over the whole run instead of three years."""
    growth, depth = annual_return(at_ms, equity), deepest_fall(equity).depth
    return None if growth is None or depth <= 0 else growth / depth


def underwater(equity: FloatArray) -> FloatArray:
    """E_t / max(E_0 … E_t) − 1: 0 at a peak, below 0 else."""
    curve: FloatArray = equity / np.maximum.accumulate(equity) - 1.0
    return curve


def deepest_fall(equity: FloatArray) -> Fall:
    """The deepest fall, the first of equally deep ones."""
    curve = underwater(equity)
    bottom = int(np.argmin(curve))
    peak = int(np.argmax(equity[: bottom + 1]))
    after = np.flatnonzero(equity[bottom:] >= equity[peak])
    return Fall(
        depth=float(-curve[bottom]) + 0.0,
        peak=peak,
        bottom=bottom,
        recovered=bottom + int(after[0]) if len(after) else None,
    )


def hit_rate(values: FloatArray) -> float | None:
    """The part of the periods that gained, of those in which anything changed."""
    moved = values[values != 0]
    return float((moved > 0).mean()) if len(moved) else None


def skewness(values: FloatArray) -> float | None:
    """γ3 = mean((r − m)³) / s³, s with n."""
    return _moment(values, 3)


def kurtosis(values: FloatArray) -> float | None:
    """γ4 = mean((r − m)⁴) / s⁴, s with n: 3 is normal."""
    return _moment(values, 4)


def _deviation(values: FloatArray) -> float | None:
    if len(values) < 2:
        return None
    deviation = float(values.std(ddof=1))
    return deviation if deviation > LEAST_DEVIATION else None


def _moment(values: FloatArray, order: int) -> float | None:
    if _deviation(values) is None:
        return None
    return float(((values - values.mean()) ** order).mean() / float(values.std()) ** order)


def _spread(ratio: float, skew: float, kurt: float) -> float:
    """1 − γ3·SR + (γ4 − 1)/4·SR², which is never below 0 as γ4 ≥ γ3² + 1; kept off 0."""
    return max(1.0 - skew * ratio + (kurt - 1.0) / 4.0 * ratio * ratio, 1e-12)
