"""The compiled kernel is the interpreted one to the last bit: a million random cases, and whole runs.

Live the kernel is called with lists of Python's floats, in a backtest with arrays: here each side gets its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from support.walks import walk
from tradingbot.ai_decision import baseline, equal, inverse_vol
from tradingbot.ai_decision.baseline import strength
from tradingbot.ai_decision.budgets import Moves, Terms
from tradingbot.ai_decision.stabilize import Ground, Smoothing, steady
from tradingbot.domain.params import AiParams, ExecutionParams, Params, RiskParams
from tradingbot.domain.portfolio import weight_of
from tradingbot.domain.weights import Limits, Room, Scratch, low_of
from tradingbot.execution.sizing import change_lots, inside_band, slice_count, slice_share, target_lots
from tradingbot.market_data.features import HOUR, realised_vol, simple_return
from tradingbot.paper.prices.path import path_px
from tradingbot.replay.backtest.compiled import bound, compiled
from tradingbot.replay.backtest.engine import Engine, interpreted_kernels
from tradingbot.replay.backtest.options import BacktestOptions
from tradingbot.replay.backtest.seen import Sums, volatilities
from tradingbot.risk_engine.limits import cut

pytestmark = pytest.mark.xdist_group("compiled")

CASES = 120_000
"""Of each of the scalar functions, together with the vectors more than a million."""
VECTORS = 6_000
COINS = 5


def scalars(a, b, c, d, e, out):
    for i in range(len(a)):
        out[i] = strength(a[i], b[i], 5.0)
        out[len(a) + i] = weight_of(qty=a[i], px=b[i], equity_usd=c[i])
        out[2 * len(a) + i] = path_px(b[i], max(b[i], c[i], d[i]), min(b[i], c[i], d[i]), c[i], e[i])


def lots(weights, equities, mids, per_coin, positions, targets, out):
    size = len(weights)
    for i in range(size):
        out[i] = target_lots(weights[i], equity_usd=equities[i], mid=mids[i], lots_per_coin=per_coin[i])
        close = targets[i] % 3 == 0
        reduction, growth = change_lots(positions[i], 0 if close else targets[i], close=close)
        out[size + i], out[2 * size + i] = reduction, growth
        lot_usd = mids[i] / per_coin[i]
        count = slice_count(growth + 1, lot_usd=lot_usd, most_slices=1 + i % 20)
        out[3 * size + i] = count
        out[4 * size + i] = slice_share(growth + 1, count=max(count, 1), index=i % 5)
        out[5 * size + i] = 1 if inside_band(targets[i], lot_usd=lot_usd, band_usd=equities[i] * 0.005) else 0


def prices(px, out):
    for i in range(len(px)):
        out[2 * i] = simple_return(px, i, 5)
        out[2 * i + 1] = realised_vol(px, i)


def blocks(px, squares, known, vols):
    volatilities(px, Sums(squares, known, vols))


def weighed(fast, slow, vols, caps, totals, shorts, weights, signals, out):
    for i in range(len(totals)):
        out[i] = weigh(Moves(fast[i], slow[i], vols[i]), Terms(caps[i], totals[i], shorts[i]), weights[i], signals[i])


def decided(weights, now, previous, caps, lows, numbers, rows, before, why, out):
    for i in range(len(weights)):
        of = numbers[i]
        shorts = of[0] > 0.0
        for k in range(len(caps[i])):
            lows[i][k] = low_of(caps[i][k], shorts)
        room = Room(of[1], of[2], of[3], of[4], of[5])
        limits = Limits(lows[i], caps[i], shorts, room)
        steady(
            weights[i],
            Ground(now[i], previous[i], limits, Smoothing(of[6], of[7], of[8])),
            of[9],
            rows[i],
            Scratch(before[i], why[i]),
        )
        for k in range(len(caps[i])):
            out[i][k] = rows[i][4][k]
            why[i][k] = 0
        cut(out[i], now[i], limits, Scratch(before[i], why[i]), reduces=of[9] < 0.3)


weigh = baseline.weigh


def both(driver: Callable[..., None], *arrays: Any, interpreted: Callable[..., None] | None = None) -> None:
    """Run a driver over lists interpreted and over arrays compiled; everything that it wrote has the same bits."""
    lists = [each.tolist() for each in arrays]
    (interpreted or driver)(*lists)
    machine = driver if interpreted else compiled(driver)
    machine(*arrays)
    for written, array in zip(lists, arrays, strict=True):
        assert same_bits(np.array(written, dtype=array.dtype).reshape(array.shape), array)


def same_bits(one: Any, other: Any) -> bool:
    if one.dtype == np.float64:
        equal_bits = (one.view(np.int64) == other.view(np.int64)) | (np.isnan(one) & np.isnan(other))
        return bool(np.all(equal_bits))
    return bool(np.array_equal(one, other))


def extremes(rng: np.random.Generator, count: int) -> Any:
    """Ordinary and extreme numbers of both signs: zeros of either sign, denormals, 1e±300, equal ones."""
    odd = np.array([0.0, -0.0, 5e-324, -5e-324, 1e-310, 2.2e-308, 1e-300, -1e-150, 1e150, 1e300, -1e300, 1.0, -1.0])
    mixed = np.where(rng.random(count) < 0.5, rng.normal(0, 1, count), rng.choice(odd, count))
    return np.where(rng.random(count) < 0.3, mixed * 10.0 ** rng.integers(-6, 6, count), mixed)


def above_zero(rng: np.random.Generator, count: int) -> Any:
    return np.maximum(np.abs(extremes(rng, count)), 5e-324)


def test_scalar_functions_have_the_same_bits_on_ordinary_and_extreme_numbers():
    rng = np.random.default_rng(1)
    a, b, c, d = extremes(rng, CASES), above_zero(rng, CASES), above_zero(rng, CASES), above_zero(rng, CASES)
    b, c = np.clip(b, 1e-300, 1e100), np.clip(c, 1e-100, 1e100)  # a divisor that rounds to zero raises: see below
    e = np.where(rng.random(CASES) < 0.3, rng.choice([0.0, 0.25, 0.75, 1.0, 1 / 3, 2 / 3], CASES), rng.random(CASES))

    both(scalars, a, b, c, np.clip(d, 1e-100, 1e100), e, np.zeros(3 * CASES))


def test_whole_lots_are_the_same_up_to_the_largest():
    rng = np.random.default_rng(2)
    size = CASES
    sizes = 10.0 ** rng.uniform(-3, 9, size)
    positions = (rng.integers(-1, 2, size) * 10.0 ** rng.uniform(0, 17, size)).astype(np.int64)
    targets = (rng.integers(-1, 2, size) * 10.0 ** rng.uniform(0, 17, size)).astype(np.int64)
    mids = np.where(rng.random(size) < 0.05, 0.0, 10.0 ** rng.uniform(-4, 6, size))
    per_coin = 10 ** rng.integers(0, 7, size)

    both(lots, rng.normal(0, 0.3, size), sizes, mids, per_coin, positions, targets, np.zeros(6 * size, np.int64))


@pytest.mark.parametrize("scale", [1e-312, 1e-12, 1.0, 1e12, 1e300])
def test_features_have_the_same_bits_with_prices_missing(scale):
    rng = np.random.default_rng(3)
    px = scale * np.exp(np.cumsum(rng.normal(0, 0.01, 4_000)))
    px[rng.random(4_000) < 0.1] = 0.0
    px[1_000:1_100] = 0.0
    px[2_000:2_200] = px[1_999]

    both(prices, px, np.zeros(8_000))


def test_sums_built_side_by_side_are_realised_vol_to_the_last_bit():
    rng = np.random.default_rng(4)
    px = np.exp(np.cumsum(rng.normal(0, 0.01, 3_000)))
    px[rng.random(3_000) < 0.2] = 0.0
    vols = np.full(3_000, np.nan)

    compiled(blocks)(px, np.zeros(3_000), np.zeros(3_000, np.int64), vols)

    alone = np.array([realised_vol(px.tolist(), i) for i in range(HOUR, 3_000)])
    assert same_bits(alone, vols[HOUR:])


@pytest.mark.parametrize("strategy", [baseline, equal, inverse_vol], ids=lambda each: each.__name__.split(".")[-1])
def test_strategies_have_the_same_bits_in_any_market(strategy):
    rng = np.random.default_rng(5)
    shape = (VECTORS, COINS)
    fast, slow = rng.normal(0, 1, shape) * 10.0 ** rng.uniform(-9, 3, shape), rng.normal(0, 0.02, shape)
    vols = np.where(rng.random(shape) < 0.1, 0.0, rng.exponential(0.6, shape))
    caps, totals = rng.uniform(0, 0.5, shape), rng.uniform(0, 1, VECTORS)
    arrays = (fast, slow, vols, caps, totals, rng.random(VECTORS) < 0.5, np.zeros(shape), np.zeros(shape))

    both(
        compiled(weighed, weigh=strategy.weigh),
        *arrays,
        np.zeros(VECTORS),
        interpreted=bound(weighed, weigh=strategy.weigh),
    )


@pytest.mark.parametrize("extreme", [False, True])
def test_stabilizer_and_gate_have_the_same_bits(extreme):
    rng = np.random.default_rng(6)
    shape = (VECTORS, COINS)

    def some(low: float, high: float) -> Any:
        drawn = rng.uniform(low, high, shape)
        return np.where(rng.random(shape) < 0.2, rng.choice([low, high, 0.0, -0.0, 5e-324], shape), drawn)

    spread = 1.0 if extreme else 0.15
    numbers = np.column_stack(
        [
            rng.normal(0, 1, VECTORS),
            np.where(rng.random(VECTORS) < 0.5, 0.0, rng.uniform(0, spread, VECTORS)),
            np.where(rng.random(VECTORS) < 0.5, 0.0, rng.uniform(-spread, spread, VECTORS)),
            *(rng.uniform(0.01, 1.0, VECTORS) for _ in range(2)),
            rng.uniform(0.001, 0.3, VECTORS),
            *(rng.uniform(0.0, 1.0, VECTORS) for _ in range(4)),
        ]
    )
    weights, now, previous = some(-spread, spread), some(-spread, spread), some(-spread, spread)
    ints = np.zeros(shape, np.int64)

    both(
        decided,
        weights,
        now,
        previous,
        np.abs(some(-spread, spread)),
        np.zeros(shape),
        numbers,
        np.zeros((VECTORS, 5, COINS)),
        np.zeros(shape),
        ints,
        np.zeros(shape),
    )


def _scale_by(numbers):
    return strength(1.0, numbers[0], 5.0)


def test_a_division_by_zero_raises_in_both():
    with pytest.raises(ZeroDivisionError):
        _scale_by([0.0])
    with pytest.raises(ZeroDivisionError):
        compiled(_scale_by)(np.zeros(1))


RUNS = {
    "as it is": (Params(), BacktestOptions()),
    "shorts, five minutes, one slice": (
        Params(
            risk=RiskParams(allow_short=True, max_gross=1.0, turnover_cap=0.03, caps={"BTC": 0.3}),
            execution=ExecutionParams(twap_slices=1, min_rebalance_weight=0.001),
            ai=AiParams(smooth_alpha=0.9, min_confidence=0.6),
        ),
        BacktestOptions(cycle_minutes=5, funding=0.001),
    ),
    "losing: reduce-only, halt, flatten, clear": (
        Params.model_validate(
            {
                "risk": {"drawdown_reduce_only": 0.001, "drawdown_halt": 0.002, "halt_action": "Flatten"},
                "execution": {"twap_slices": 7, "slice_interval_s": 9},
            }
        ),
        BacktestOptions(taker_fee_bps=50.0, clear_after_minutes=45, impact_bps=400.0),
    ),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("strategy", ["baseline", "equal", "inverse_vol"])
def test_a_whole_run_has_the_same_bits(name, strategy):
    params, options = RUNS[name]
    candles = walk(260, seed=7, gaps=0.03, step=0.003, drift=-0.0005)

    interpreted = Engine(candles, options, kernels=interpreted_kernels()).run(strategy, params)
    machine = Engine(candles, options).run(strategy, params)

    for field in dataclasses.fields(machine):
        value = getattr(machine, field.name)
        if isinstance(value, np.ndarray):
            assert same_bits(getattr(interpreted, field.name), value), field.name
    assert machine.end_equity_usd == interpreted.end_equity_usd
    assert machine.orders.sum() > 0
