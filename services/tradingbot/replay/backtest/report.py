"""The figures of a backtest as one record: what the page shows and what is written as JSON.

The run ends at its last decision: the trades of that decision, which nobody has valued yet, are not counted.
``pnl_usd`` of a coin is what it earned with all its costs taken off, so that the coins add up to the whole, and

    prices − fees − slippage − funding = end equity − start equity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import pairwise

import numpy as np

from tradingbot.domain.cautions import cautions
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.model import Model
from tradingbot.domain.params import Params
from tradingbot.replay.backtest import figures
from tradingbot.replay.backtest.market import Candles, FloatArray, IntArray
from tradingbot.replay.backtest.options import BacktestOptions, Result
from tradingbot.replay.backtest.rivals import Rival, rivals_of
from tradingbot.replay.data.candles import Loaded

_MODES = ("NORMAL", "REDUCE_ONLY", "HALT")
_PERIODS = {figures.DAY_MS: "days", figures.HOUR_MS: "hours"}


class Drawdown(Model):
    """The deepest fall from a peak."""

    depth: float
    """Fraction of the peak."""
    peak_at: str
    bottom_at: str
    recovered_at: str | None
    days: float
    """From the peak to the recovery, or to the end."""


class Performance(Model):
    """An equity curve in figures (``figures`` has the formulas)."""

    name: str
    end_equity_usd: float
    total_return: float
    annual_return: float | None
    volatility: float | None
    sharpe: float | None
    sharpe_error: float | None
    """Its standard error: below twice as much nothing is shown."""
    skill_probability: float | None
    """That the true Sharpe ratio is above 0 (the PSR)."""
    sortino: float | None
    calmar: float | None
    drawdown: Drawdown
    hit_rate: float | None
    best: float | None
    worst: float | None
    skewness: float | None
    kurtosis: float | None
    periods: int
    period: str
    """What the ratios are taken of: days or hours."""


class Costs(Model):
    """From what prices gave to what is left, USD."""

    prices: float
    fees: float
    slippage: float
    funding: float
    net: float


class Activity(Model):
    """What was traded."""

    traded_usd: float
    turnover: float
    """Σ traded / equity."""
    turnover_a_day: float
    orders: int
    orders_a_day: float
    cost_bps: float | None
    """Fees and slippage, in basis points of what was traded."""


class Exposure(Model):
    """Weights held, fractions of equity."""

    gross_mean: float
    gross_max: float
    net_mean: float
    net_min: float
    net_max: float


class CoinShare(Model):
    """One coin's part."""

    symbol: str
    pnl_usd: float
    """All costs taken off; the coins add up to the whole, to the cent."""
    traded_usd: float
    weight_mean: float
    weight_max: float
    """The largest |w|."""
    hit_rate: float | None
    """Of the decisions since which the coin was held."""


class Month(Model):
    """A calendar month (UTC) or the part of it that the run covers; the returns compound to the whole."""

    month: str
    pnl_usd: float
    total_return: float
    drawdown: float
    fees_usd: float
    turnover: float


class DataFacts(Model):
    """What the run was fed with."""

    files: tuple[str, ...]
    bar_minutes: int
    bars: int
    missing: dict[str, int]
    """Bars by coin."""
    longest_gap: dict[str, int]
    """Bars by coin."""
    left_out: tuple[str, ...]
    """What a coin that begins late or ends early costs the others."""


class Report(Model):
    """A backtest, in figures."""

    made_with: str
    strategy: str
    symbols: tuple[str, ...]
    first_at: str
    last_at: str
    days: float
    decisions: int
    warm_up_minutes: int
    start_equity_usd: float
    cautions: tuple[str, ...]
    """A strategy that failed, and parameters that keep the bot from trading (``domain.cautions``)."""
    data: DataFacts
    performance: Performance
    rivals: tuple[Performance, ...]
    costs: Costs
    activity: Activity
    exposure: Exposure
    modes: dict[str, float]
    """The part of the decisions in each mode."""
    first_restricted_at: str | None
    """When the breaker first held the bot back."""
    coins: tuple[CoinShare, ...]
    months: tuple[Month, ...]
    params: Params
    options: dict[str, object]


def report_of(
    result: Result,
    candles: Candles,
    *,
    loaded: Loaded | None = None,
    others: Sequence[Rival] = (),
    remarks: Sequence[str] = (),
) -> Report:
    """All figures of a run; ``others``: other curves at the same moments; ``remarks``: cautions about the strategy."""
    days = _days(result.at_ms)
    exposure = exposure_of(result)
    rivals = [*others, *curves_beside(result, candles)]
    restricted = np.flatnonzero(result.mode > 0)
    return Report(
        made_with=f"tradingbot {version('tradingbot')}",
        strategy=result.strategy,
        symbols=result.symbols,
        first_at=iso(result.at_ms[0]),
        last_at=iso(result.at_ms[-1]),
        days=days,
        decisions=len(result.at_ms),
        warm_up_minutes=result.warm_up_minutes,
        start_equity_usd=result.options.start_equity_usd,
        cautions=(
            *remarks,
            *cautions(result.params, coins=result.symbols, equity_usd=result.options.start_equity_usd),
        ),
        data=_data(candles, loaded or Loaded(candles=candles, gaps=(), files=())),
        performance=performance_of(result.strategy, result.at_ms, result.equity),
        rivals=tuple(performance_of(each.name, result.at_ms, each.equity) for each in rivals),
        costs=costs_of(result),
        activity=_activity(result, days),
        exposure=exposure,
        modes={name: float((result.mode == k).mean()) for k, name in enumerate(_MODES)},
        first_restricted_at=iso(result.at_ms[restricted[0]]) if len(restricted) else None,
        coins=tuple(_coins(result)),
        months=tuple(_months(result)),
        params=result.params,
        options=_options(result.options),
    )


def curves_beside(result: Result, candles: Candles) -> list[Rival]:
    """Bought and held, at the run's moments."""
    exposure = exposure_of(result).gross_mean
    return list(rivals_of(candles, at_ms=result.at_ms, start_usd=result.options.start_equity_usd, exposure=exposure))


def performance_of(name: str, at_ms: IntArray, equity: FloatArray) -> Performance:
    """One curve's figures."""
    returns = figures.returns_of(at_ms, equity)
    values, fall = returns.values, figures.deepest_fall(equity)
    ratio = figures.period_sharpe(values)
    skew, kurt = figures.skewness(values), figures.kurtosis(values)
    end = len(at_ms) - 1 if fall.recovered is None else fall.recovered
    return Performance(
        name=name,
        end_equity_usd=float(equity[-1]),
        total_return=figures.total_return(equity),
        annual_return=figures.annual_return(at_ms, equity),
        volatility=figures.volatility(returns),
        sharpe=figures.sharpe(returns),
        sharpe_error=figures.sharpe_error(returns),
        skill_probability=None
        if ratio is None
        else figures.probabilistic_sharpe(ratio, beat=0.0, count=len(values), skew=skew or 0.0, kurt=kurt or 3.0),
        sortino=figures.sortino(returns),
        calmar=figures.calmar(at_ms, equity),
        drawdown=Drawdown(
            depth=fall.depth,
            peak_at=iso(at_ms[fall.peak]),
            bottom_at=iso(at_ms[fall.bottom]),
            recovered_at=None if fall.recovered is None else iso(at_ms[fall.recovered]),
            days=float(at_ms[end] - at_ms[fall.peak]) / figures.DAY_MS,
        ),
        hit_rate=figures.hit_rate(values),
        best=float(values.max()) if len(values) else None,
        worst=float(values.min()) if len(values) else None,
        skewness=skew,
        kurtosis=kurt,
        periods=len(values),
        period=_PERIODS[returns.period_ms],
    )


def costs_of(result: Result) -> Costs:
    """What prices gave, and what it cost to be there."""
    net = float(result.equity[-1] - result.options.start_equity_usd)
    fees, slippage = float(result.fees_usd[:-1].sum()), float(result.slippage_usd[:-1].sum())
    funding = float(result.funding_usd.sum())
    return Costs(prices=net + fees + slippage + funding, fees=fees, slippage=slippage, funding=funding, net=net)


def exposure_of(result: Result) -> Exposure:
    """Gross and net over the whole run."""
    gross, net = np.abs(result.weights).sum(axis=1), result.weights.sum(axis=1)
    return Exposure(
        gross_mean=float(gross.mean()),
        gross_max=float(gross.max()),
        net_mean=float(net.mean()),
        net_min=float(net.min()),
        net_max=float(net.max()),
    )


def to_cents(values: Sequence[float], *, total: float) -> list[float]:
    """Rounded to cents so that they add up to the rounded total; the largest takes up what rounding leaves."""
    cents = [round(value * 100) for value in values]
    if cents:
        largest = max(range(len(cents)), key=lambda k: abs(values[k]))
        cents[largest] += round(total * 100) - sum(cents)
    return [each / 100 for each in cents]


def iso(at_ms: int | np.int64) -> str:
    """UTC, to the minute."""
    return f"{from_ms(int(at_ms)):%Y-%m-%dT%H:%MZ}"


def _coins(result: Result) -> Iterator[CoinShare]:
    earned = result.pnl_usd.sum(axis=0)
    told = to_cents(earned.tolist(), total=costs_of(result).net)
    for n, symbol in enumerate(result.symbols):
        held = np.flatnonzero(result.weights[:-1, n]) + 1
        yield CoinShare(
            symbol=symbol,
            pnl_usd=told[n],
            traded_usd=float(result.traded_usd[:-1, n].sum()),
            weight_mean=float(result.weights[:, n].mean()),
            weight_max=float(np.abs(result.weights[:, n]).max()),
            hit_rate=figures.hit_rate(result.pnl_usd[held, n]),
        )


def _months(result: Result) -> Iterator[Month]:
    months = result.at_ms.astype("datetime64[ms]").astype("datetime64[M]")
    edges = [0, *(np.flatnonzero(months[1:] != months[:-1]) + 1).tolist(), len(months) - 1]
    # A month ends where the next begins, on the same value of equity, so that nothing falls between two.
    for first, last in pairwise(edges):
        if last <= first:
            continue
        curve = result.equity[first : last + 1]
        yield Month(
            month=str(months[first]),
            pnl_usd=float(curve[-1] - curve[0]),
            total_return=figures.total_return(curve),
            drawdown=figures.deepest_fall(curve).depth,
            fees_usd=float(result.fees_usd[first:last].sum()),
            turnover=float(result.turnover[first:last].sum()),
        )


def _activity(result: Result, days: float) -> Activity:
    traded, orders = float(result.traded_usd[:-1].sum()), int(result.orders[:-1].sum())
    turnover, costs = float(result.turnover[:-1].sum()), costs_of(result)
    return Activity(
        traded_usd=traded,
        turnover=turnover,
        turnover_a_day=turnover / days if days else 0.0,
        orders=orders,
        orders_a_day=orders / days if days else 0.0,
        cost_bps=(costs.fees + costs.slippage) / traded * 10_000 if traded else None,
    )


def _data(candles: Candles, loaded: Loaded) -> DataFacts:
    return DataFacts(
        files=loaded.files,
        bar_minutes=candles.minutes_per_bar,
        bars=len(candles.open_ms),
        missing={each.symbol: each.missing for each in loaded.gaps},
        longest_gap={each.symbol: each.longest for each in loaded.gaps},
        left_out=loaded.left_out,
    )


def _options(options: BacktestOptions) -> dict[str, object]:
    told = {name: getattr(options, name) for name in options.__dataclass_fields__}
    funding = told["funding"]
    return told | {
        "funding": funding if isinstance(funding, float) else "by hour and coin",
        "sz_decimals": dict(options.sz_decimals),
    }


def _days(at_ms: IntArray) -> float:
    return float(at_ms[-1] - at_ms[0]) / figures.DAY_MS
