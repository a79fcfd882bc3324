"""What the loops of a backtest work on: arrays and rules, as named tuples that numba knows.

Shapes: T minutes of candles, D decisions, N coins. Decision d is made at minute ``first_minute + d · step``.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tradingbot.ai_decision.stabilize import STEPS, Smoothing

FloatArray: TypeAlias = Any
IntArray: TypeAlias = Any
"""float64 and int64 arrays. The kernel's functions know vectors as lists, which is what they are live."""

PEAK, HALTED, SINCE, DAY, FEES, FEE_DAY, HOUR = range(7)
"""The places of ``Account.memory``: the breaker's peak (USD), 1.0 when latched, the minute since which a drawdown
restricts (−1: it does not), the UTC day, its fees (USD), the day whose fees passed their limit, the last hour whose
funding was paid."""


class Market(NamedTuple):
    """One-minute candles; NaN where a bar is missing."""

    seen: FloatArray
    """The price known at each minute's start; 0.0 where there is none."""
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    funding: FloatArray
    """What a long pays at each full hour, as a fraction of its value; row 0 is the hour that contains minute 0."""


class Facts(NamedTuple):
    """The features at each decision by coin, (N, D); NaN where they are absent."""

    ret_5m: FloatArray
    ret_1h: FloatArray
    vol_1h: FloatArray


class Coins(NamedTuple):
    """What is known of each coin."""

    caps: FloatArray
    lots_per_coin: IntArray


class Limit(NamedTuple):
    """The limits of the whole portfolio and the breaker's."""

    max_gross: float
    max_net: float
    turnover_cap: float
    allow_short: bool
    drawdown_reduce_only: float
    drawdown_halt: float
    max_daily_fee_bps: float
    flattens: bool
    clear_after: int
    """Minutes after which a drawdown's restriction is taken to be cleared by a person; −1: never."""


class Trading(NamedTuple):
    """How targets become fills, and what they cost."""

    twap_slices: int
    slice_interval_s: float
    min_rebalance_weight: float
    px_guard_bps: float
    flatten_guard_bps: float
    max_orders_per_min: int
    fee_bps: float
    half_spread_bps: float
    impact_bps: float


class Rules(NamedTuple):
    """Everything that does not change during a run."""

    start_equity_usd: float
    epoch_minute: int
    """Minute 0 of the candles, since 1970."""
    first_minute: int
    """The minute of the first decision."""
    step: int
    """Minutes between decisions."""
    limit: Limit
    smoothing: Smoothing
    trading: Trading


class Account(NamedTuple):
    """What a run remembers from minute to minute, by coin."""

    lots: IntArray
    qty: FloatArray
    """The same in coins."""
    paid: FloatArray
    """Cash that trades, fees and funding have brought (+) or cost (−), USD."""
    worth: FloatArray
    """paid + position at the last decision's price: what the coin has earned so far."""
    px: FloatArray
    """The last price known."""
    previous: FloatArray
    """The last target; NaN where it had none."""
    memory: FloatArray


class Work(NamedTuple):
    """Vectors that the loops write to; they hold nothing from one decision to the next."""

    index: IntArray
    weights: FloatArray
    signals: FloatArray
    now: FloatArray
    previous: FloatArray
    caps: FloatArray
    lows: FloatArray
    held: FloatArray
    before: FloatArray
    why: IntArray
    rows: FloatArray
    moves: FloatArray
    """(3, N): features of the usable coins."""
    reduce: IntArray
    """Signed lots, by place in ``index``."""
    grow: IntArray
    reduce_slices: IntArray
    grow_slices: IntArray


class Out(NamedTuple):
    """What a run tells of each decision: the fields of ``Result``."""

    equity: FloatArray
    cash: FloatArray
    weights: FloatArray
    target: FloatArray
    approved: FloatArray
    fees_usd: FloatArray
    funding_usd: FloatArray
    slippage_usd: FloatArray
    traded_usd: FloatArray
    turnover: FloatArray
    pnl_usd: FloatArray
    mode: IntArray
    orders: IntArray


class Run(NamedTuple):
    """All of it."""

    market: Market
    coins: Coins
    rules: Rules
    account: Account
    work: Work
    out: Out


class Order(NamedTuple):
    """One slice."""

    coin: int
    lots: int
    """Signed."""
    minute: int
    fraction: float
    """Of the minute."""
    guard_bps: float


def new_account(coins: int, *, start_equity_usd: float) -> Account:
    """An account in cash."""
    memory = np.array([start_equity_usd, 0.0, -1.0, -1.0, 0.0, -1.0, -1.0])
    return Account(
        lots=np.zeros(coins, np.int64),
        qty=np.zeros(coins),
        paid=np.zeros(coins),
        worth=np.zeros(coins),
        px=np.zeros(coins),
        previous=np.full(coins, np.nan),
        memory=memory,
    )


def new_work(coins: int) -> Work:
    """Fresh vectors."""
    floats = {
        name: np.zeros(coins) for name in ("weights", "signals", "now", "previous", "caps", "lows", "held", "before")
    }
    ints = {
        name: np.zeros(coins, np.int64) for name in ("index", "why", "reduce", "grow", "reduce_slices", "grow_slices")
    }
    return Work(**floats, **ints, rows=np.zeros((len(STEPS), coins)), moves=np.zeros((3, coins)))


def new_out(decisions: int, coins: int) -> Out:
    """Room for every decision, in one piece: the system then gives it in few and large pages."""
    one = ("equity", "cash", "turnover", "fees_usd", "funding_usd", "slippage_usd")
    many = ("weights", "target", "approved", "traded_usd", "pnl_usd")
    whole = np.zeros(decisions * (len(one) + len(many) * coins + 2))
    parts = iter(np.split(whole, np.cumsum([decisions] * len(one) + [decisions * coins] * len(many) + [decisions])))
    fields = {name: next(parts) for name in one} | {name: next(parts).reshape(decisions, coins) for name in many}
    return Out(**fields, mode=next(parts).view(np.int64), orders=next(parts).view(np.int64))
