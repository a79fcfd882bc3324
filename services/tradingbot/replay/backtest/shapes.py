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

QTY, PAID, WORTH, PX, PREVIOUS = range(5)
"""The rows of ``Account.by_coin``: the position in coins; the cash that its trades, fees and funding have brought (+)
or cost (−), USD; paid + position at the last decision's price, which is what the coin has earned; the last price
known; the last target, NaN where it had none."""

PEAK, HALTED, SINCE, DAY, FEES, FEE_DAY, HOUR = range(7)
"""The places of ``Account.memory``: the breaker's peak (USD), 1.0 when latched, the minute since which a drawdown
restricts (−1: it does not), the UTC day, its fees (USD), the day whose fees passed their limit, the last hour whose
funding was paid."""

WEIGHT, NOW, BEFORE, LAST, CAP, LOW, HELD, SIGNAL, FAST, SLOW, VOL, STEP = range(12)
"""The rows of ``Work.floats``; from STEP on the stabilizer's rows. TARGET is its last one."""
TARGET = STEP + len(STEPS) - 1
INDEX, WHY, REDUCE, REDUCE_SLICES, GROW, GROW_SLICES = range(6)
"""The rows of ``Work.ints``: which coin stands at a place, its reasons' bits, signed lots and their slices."""

EQUITY, CASH, TURNOVER, FEES_USD, FUNDING_USD, SLIPPAGE_USD = range(6)
"""The rows of ``Out.one``."""
WEIGHTS, TARGETS, APPROVED, TRADED_USD, PNL_USD = range(5)
"""The tables of ``Out.many``."""
MODE, ORDERS = range(2)
"""The rows of ``Out.count``."""


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
    fee_rate: float
    """Of what is traded."""
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
    """What a run remembers from minute to minute."""

    lots: IntArray
    by_coin: FloatArray
    memory: FloatArray


class Work(NamedTuple):
    """Vectors that the loops write to; they hold nothing from one decision to the next."""

    floats: FloatArray
    ints: IntArray


class Out(NamedTuple):
    """What a run tells of each decision: the fields of ``Result``."""

    one: FloatArray
    """(6, D)"""
    many: FloatArray
    """(5, D, N)"""
    count: IntArray
    """(2, D)"""


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
    by_coin = np.zeros((5, coins))
    by_coin[PREVIOUS] = np.nan
    memory = np.array([start_equity_usd, 0.0, -1.0, -1.0, 0.0, -1.0, -1.0])
    return Account(lots=np.zeros(coins, np.int64), by_coin=by_coin, memory=memory)


def new_work(coins: int) -> Work:
    """Fresh vectors."""
    return Work(floats=np.zeros((TARGET + 1, coins)), ints=np.zeros((6, coins), np.int64))


def new_out(decisions: int, coins: int) -> Out:
    """Room for every decision."""
    return Out(
        one=np.zeros((6, decisions)), many=np.zeros((5, decisions, coins)), count=np.zeros((2, decisions), np.int64)
    )
