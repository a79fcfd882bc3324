"""Parameters and options as the loops take them: plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tradingbot.ai_decision.stabilize import Smoothing
from tradingbot.domain.params import HaltAction, Params, RiskParams
from tradingbot.replay.backtest.options import BacktestOptions
from tradingbot.replay.backtest.shapes import Coins, Limit, Rules, Trading


class Calendar(NamedTuple):
    """When decisions are made."""

    epoch_minute: int
    first_minute: int
    step: int


def coins_of(symbols: Sequence[str], params: Params, options: BacktestOptions) -> Coins:
    """Each coin's cap and lot."""
    decimals = (options.sz_decimals.get(symbol, options.default_sz_decimals) for symbol in symbols)
    return Coins(
        caps=np.array([params.risk.cap(symbol) for symbol in symbols], np.float64),
        lots_per_coin=np.array([10**each for each in decimals], np.int64),
    )


def rules_of(params: Params, options: BacktestOptions, calendar: Calendar) -> Rules:
    """Everything that does not change during a run."""
    ai = params.ai
    return Rules(
        start_equity_usd=float(options.start_equity_usd),
        epoch_minute=calendar.epoch_minute,
        first_minute=calendar.first_minute,
        step=calendar.step,
        limit=_limit(params.risk, options),
        smoothing=Smoothing(float(ai.smooth_alpha), float(ai.min_confidence), float(ai.low_conf_scale)),
        trading=_trading(params, options),
    )


def _limit(risk: RiskParams, options: BacktestOptions) -> Limit:
    clear_after = options.clear_after_minutes
    return Limit(
        max_gross=float(risk.max_gross),
        max_net=float(risk.max_net),
        turnover_cap=float(risk.turnover_cap),
        allow_short=risk.allow_short,
        drawdown_reduce_only=float(risk.drawdown_reduce_only),
        drawdown_halt=float(risk.drawdown_halt),
        max_daily_fee_bps=float(risk.max_daily_fee_bps),
        flattens=risk.halt_action is HaltAction.FLATTEN,
        clear_after=-1 if clear_after is None else clear_after,
    )


def _trading(params: Params, options: BacktestOptions) -> Trading:
    execution, share = params.execution, options.maker_share
    return Trading(
        twap_slices=execution.twap_slices,
        slice_interval_s=float(execution.slice_interval_s),
        min_rebalance_weight=float(execution.min_rebalance_weight),
        px_guard_bps=float(execution.px_guard_bps),
        flatten_guard_bps=float(execution.flatten_guard_bps),
        max_orders_per_min=execution.max_orders_per_min,
        fee_rate=(options.taker_fee_bps * (1.0 - share) + options.maker_fee_bps * share) / 10_000.0,
        half_spread_bps=float(options.half_spread_bps),
        impact_bps=float(options.impact_bps),
    )
