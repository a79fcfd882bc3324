"""``run``: a strategy over candles, through the pipeline that decides live.

What is the same as live, to the last bit given the same prices and account: features, the three deterministic
strategies, stabilizer, risk gate, whole lots, band and slices. What is modelled: fills (each slice at the price's path
within its minute, worse by half the spread and the impact of its size), the loss class of the breaker with one reading
a decision, funding at each full hour, orders a minute. What is not: the health class of the breaker, resting and
replaced orders, ticks, liquidation, and books (candles hold none; live a thin book holds back part of an increase).
Prices are seen as the last bar's close; live they are the newest mid, a second or two older than the minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from tradingbot.ai_decision import baseline, equal, inverse_vol
from tradingbot.domain.cycles import MINUTE_MS, check_cycle_seconds
from tradingbot.domain.params import OrderTif, Params
from tradingbot.market_data.features import HOUR
from tradingbot.replay.backtest import loops, seen
from tradingbot.replay.backtest.compiled import bound, compiled
from tradingbot.replay.backtest.market import BacktestError, Candles, FloatArray, IntArray
from tradingbot.replay.backtest.options import Answer, BacktestOptions, Moment, Result, WeightFunction
from tradingbot.replay.backtest.rules import Calendar, coins_of, rules_of
from tradingbot.replay.backtest.shapes import (
    APPROVED,
    CASH,
    EQUITY,
    FEES_USD,
    FUNDING_USD,
    MODE,
    ORDERS,
    PAID,
    PNL_USD,
    PREVIOUS,
    PX,
    QTY,
    SLIPPAGE_USD,
    TARGETS,
    TRADED_USD,
    TURNOVER,
    WEIGHTS,
    Facts,
    Market,
    Run,
    new_account,
    new_out,
    new_work,
)

WEIGH: Final = {"baseline": baseline.weigh, "equal": equal.weigh, "inverse_vol": inverse_vol.weigh}
"""The strategies that are kernels."""

_BARS = ("open", "high", "low", "close", "volume")


def run(
    candles: Candles,
    *,
    strategy: str | WeightFunction,
    params: Params | None = None,
    options: BacktestOptions | None = None,
) -> Result:
    """One backtest; to try many strategies or parameters on the same candles, keep an ``Engine``.

    Raises:
        BacktestError: it cannot be run as asked.
    """
    return Engine(candles, options).run(strategy, params)


@dataclass(frozen=True)
class Kernels:
    """The loops, compiled or as they are written."""

    look: Callable[..., None]
    tell: Callable[..., None]
    cut_bars: Callable[..., None]
    settle: Callable[..., None]
    act: Callable[..., None]
    simulate: Callable[..., None]
    propose: dict[str, Callable[..., None]]


@lru_cache
def compiled_kernels() -> Kernels:
    """Machine code, made at the first call and kept on disk."""
    return Kernels(
        look=compiled(seen.look),
        tell=compiled(seen.tell),
        cut_bars=compiled(seen.cut_bars),
        settle=compiled(loops.settle),
        act=compiled(loops.act),
        simulate=compiled(loops.simulate),
        propose={name: compiled(loops.propose, weigh=weigh) for name, weigh in WEIGH.items()},
    )


def interpreted_kernels() -> Kernels:
    """The same loops by the Python interpreter, some hundred times slower: what the compiled ones must equal."""
    return Kernels(
        look=seen.look,
        tell=seen.tell,
        cut_bars=seen.cut_bars,
        settle=loops.settle,
        act=loops.act,
        simulate=loops.simulate,
        propose={name: bound(loops.propose, weigh=weigh) for name, weigh in WEIGH.items()},
    )


class Engine:
    """Candles made ready once: minutes, the prices seen and the features of every decision."""

    def __init__(
        self, candles: Candles, options: BacktestOptions | None = None, *, kernels: Kernels | None = None
    ) -> None:
        """Prepare.

        Raises:
            BacktestError: the candles are too short, or the cycle is shorter than a bar.
        """
        self.options = options or BacktestOptions()
        self.symbols = candles.symbols
        self._kernels = kernels or compiled_kernels()
        step = self._step(candles)
        self.candles = self._by_minute(candles)
        self._market, px = self._market_of(self.candles)
        self._first = _first_minute(int(self.candles.open_ms[0]), step=step)
        self._step_minutes = step
        decisions = max((len(self.candles.open_ms) - self._first) // step, 0)
        if decisions == 0:
            raise BacktestError(f"{len(self.candles.open_ms)} minutes of candles leave none after the first hour")
        self.at_ms: IntArray = self.candles.open_ms[self._first :: step][:decisions]
        self._facts = self._tell(px, decisions)

    def run(self, strategy: str | WeightFunction, params: Params | None = None) -> Result:
        """The whole run; thread-safe: many may go on side by side.

        Raises:
            BacktestError: the strategy is not known, or answers what cannot be meant.
        """
        params = params or Params()
        if params.execution.order_tif is OrderTif.ALO and self.options.maker_share == 0:
            raise BacktestError(
                "orders that only rest (Alo) cannot be filled from candles; set maker_share if you dare"
            )
        decisions, coins = len(self.at_ms), len(self.symbols)
        calendar = Calendar(int(self.candles.open_ms[0]) // MINUTE_MS, self._first, self._step_minutes)
        prepared = Run(
            market=self._market,
            coins=coins_of(self.symbols, params, self.options),
            rules=rules_of(params, self.options, calendar),
            account=new_account(coins, start_equity_usd=self.options.start_equity_usd),
            work=new_work(coins),
            out=new_out(decisions, coins),
        )
        if isinstance(strategy, str):
            self._run_kernel(strategy, prepared)
        else:
            self._run_function(strategy, prepared, params)
        return self._result(strategy, params, prepared)

    # ---------------------------------------------------------------- the two ways

    def _run_kernel(self, strategy: str, prepared: Run) -> None:
        if strategy not in self._kernels.propose:
            raise BacktestError(f"{strategy}: no such strategy for backtests; one of {', '.join(WEIGH)}")
        wanted = np.empty((len(self.at_ms), len(self.symbols)))
        confidence = np.empty(len(self.at_ms))
        self._kernels.propose[strategy](prepared, self._facts, wanted, confidence)
        self._kernels.simulate(prepared, wanted, confidence)

    def _run_function(self, function: WeightFunction, prepared: Run, params: Params) -> None:
        # What comes later is not yet in the table that the function sees: its memory holds nothing to read ahead.
        told, row = np.full_like(self._market.seen, np.nan), 0
        for d in range(len(self.at_ms)):
            self._kernels.settle(d, prepared)
            now = self._first + d * self._step_minutes + 1
            told[row:now], row = self._market.seen[row:now], now
            answer = _checked(function(self._moment(d, prepared, params, px=told[:now])), at_ms=int(self.at_ms[d]))
            usable = self._usable(d)
            wanted = np.where(usable, answer.weights, np.nan)
            self._kernels.act(d, prepared, wanted, answer.confidence)

    def _moment(self, d: int, prepared: Run, params: Params, *, px: FloatArray) -> Moment:
        return Moment(
            index=d,
            at_ms=int(self.at_ms[d]),
            symbols=self.symbols,
            px=px,
            ret_5m=self._facts.ret_5m[:, d],
            ret_1h=self._facts.ret_1h[:, d],
            vol_1h=self._facts.vol_1h[:, d],
            usable=self._usable(d),
            present=prepared.out.many[WEIGHTS, d].copy(),
            previous=prepared.account.by_coin[PREVIOUS].copy(),
            equity_usd=float(prepared.out.one[EQUITY, d]),
            params=params,
        )

    def _usable(self, d: int) -> Any:
        facts = self._facts
        whole = ~(np.isnan(facts.ret_5m[:, d]) | np.isnan(facts.ret_1h[:, d]) | np.isnan(facts.vol_1h[:, d]))
        return whole & (self._market.seen[self._first + d * self._step_minutes] > 0.0)

    # ---------------------------------------------------------------- preparation

    def _step(self, candles: Candles) -> int:
        minutes = self.options.cycle_minutes
        try:
            check_cycle_seconds(minutes * 60)
        except ValueError as error:
            raise BacktestError(f"cycle_minutes is {minutes}: a day must be a whole number of cycles") from error
        if minutes % candles.minutes_per_bar:
            raise BacktestError(
                f"cycle_minutes is {minutes} and a bar lasts {candles.minutes_per_bar} minutes: nobody may decide "
                "within a bar, whose path already knows where it ends"
            )
        return minutes

    def _by_minute(self, candles: Candles) -> Candles:
        count = candles.minutes_per_bar
        if count == 1:
            return candles
        bars = np.stack([getattr(candles, name) for name in _BARS])
        minutes = np.empty((len(_BARS), bars.shape[1] * count, bars.shape[2]))
        self._kernels.cut_bars(bars, minutes, count)
        start = int(candles.open_ms[0])
        times = np.arange(start, start + minutes.shape[1] * MINUTE_MS, MINUTE_MS, dtype=np.int64)
        return Candles(
            symbols=candles.symbols, open_ms=times, bar_ms=MINUTE_MS, **dict(zip(_BARS, minutes, strict=True))
        )

    def _market_of(self, candles: Candles) -> tuple[Market, FloatArray]:
        if len(candles.open_ms) == 0:
            raise BacktestError("there are no candles")
        bars = {name: np.ascontiguousarray(getattr(candles, name)) for name in _BARS}
        seen_at, px = np.empty(candles.open.shape), np.empty(candles.open.shape[::-1])
        self._kernels.look(bars["open"], bars["close"], seen_at, px)
        return Market(seen=seen_at, **bars, funding=self._funding(candles)), px

    def _funding(self, candles: Candles) -> FloatArray:
        hours = int(candles.open_ms[-1]) // 3_600_000 - int(candles.open_ms[0]) // 3_600_000 + 1
        rates = np.asarray(self.options.funding, dtype=np.float64)
        if rates.ndim == 0:
            return np.full((hours, len(candles.symbols)), float(rates))
        if rates.shape != (hours, len(candles.symbols)):
            raise BacktestError(f"funding has shape {rates.shape}, the candles {(hours, len(candles.symbols))}")
        return np.ascontiguousarray(rates)

    def _tell(self, px: FloatArray, decisions: int) -> Facts:
        coins, minutes = px.shape
        facts = Facts(*np.empty((3, coins, decisions)))
        self._kernels.tell(
            px,
            self._first,
            self._step_minutes,
            seen.Sums(np.empty(minutes), np.empty(minutes, np.int64), np.full(minutes, np.nan)),
            facts,
        )
        return facts

    def _result(self, strategy: str | WeightFunction, params: Params, done: Run) -> Result:
        out, account = done.out, done.account
        qty, paid = account.by_coin[QTY], account.by_coin[PAID]
        last = np.where(np.isnan(self.candles.close[-1]), account.by_coin[PX], self.candles.close[-1])
        return Result(
            symbols=self.symbols,
            strategy=strategy if isinstance(strategy, str) else getattr(strategy, "__name__", type(strategy).__name__),
            params=params,
            options=self.options,
            at_ms=self.at_ms,
            end_equity_usd=float(self.options.start_equity_usd + np.sum(paid + qty * last)),
            end_qty=qty,
            warm_up_minutes=self._first,
            equity=out.one[EQUITY],
            cash=out.one[CASH],
            weights=out.many[WEIGHTS],
            target=out.many[TARGETS],
            approved=out.many[APPROVED],
            turnover=out.one[TURNOVER],
            fees_usd=out.one[FEES_USD],
            funding_usd=out.one[FUNDING_USD],
            slippage_usd=out.one[SLIPPAGE_USD],
            traded_usd=out.many[TRADED_USD],
            pnl_usd=out.many[PNL_USD],
            mode=out.count[MODE],
            orders=out.count[ORDERS],
        )


def _checked(answer: Answer | FloatArray, *, at_ms: int) -> Answer:
    told = answer if isinstance(answer, Answer) else Answer(weights=np.asarray(answer, dtype=np.float64))
    known = told.weights[~np.isnan(told.weights)]
    if np.any(np.abs(known) > 1) or not 0 <= told.confidence <= 1:
        raise BacktestError(f"at {at_ms}: weights beyond ±1 or a confidence outside 0 to 1: {told}")
    return told


def _first_minute(open_ms: int, *, step: int) -> int:
    """The first cycle's start with a whole hour of prices before it."""
    minute = open_ms // MINUTE_MS
    return -(-(minute + HOUR) // step) * step - minute
