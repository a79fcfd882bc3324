"""A backtest keeps the books, the limits and the breaker, and knows nothing of the future."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

from support.walks import START_MS, UNIVERSE, walk
from tradingbot.domain.params import Params
from tradingbot.replay.backtest import loops
from tradingbot.replay.backtest.compiled import compiled, digest
from tradingbot.replay.backtest.engine import Engine, run
from tradingbot.replay.backtest.market import BacktestError, Candles
from tradingbot.replay.backtest.options import Answer, BacktestOptions, Moment
from tradingbot.risk_engine import limits

pytestmark = pytest.mark.xdist_group("compiled")

FREE = BacktestOptions(taker_fee_bps=0, funding=0.0, half_spread_bps=0, impact_bps=0)
LOOSE = {"drawdown_reduce_only": 0.9, "drawdown_halt": 0.95}


def params(**risk: object) -> Params:
    return Params.model_validate({"risk": {**LOOSE, **risk}})


def changed(candles: Candles, **arrays: object) -> Candles:
    return dataclasses.replace(candles, **arrays)


def flat(minutes: int, px: float = 100.0, symbols: tuple[str, ...] = ("BTC", "ETH")) -> Candles:
    """Prices that never move, in a deep market."""
    shape = (minutes, len(symbols))
    same = np.full(shape, px)
    return Candles(
        symbols=symbols,
        open_ms=START_MS + np.arange(minutes, dtype=np.int64) * 60_000,
        bar_ms=60_000,
        open=same,
        high=same,
        low=same,
        close=same,
        volume=np.full(shape, 1e9),
    )


def always(weight: float):
    def hold(moment: Moment) -> Answer:
        return Answer(weights=np.full(len(moment.symbols), weight))

    return hold


def test_what_coins_earned_is_what_equity_changed():
    result = run(walk(400, seed=2, gaps=0.02), strategy="baseline", params=params())

    np.testing.assert_allclose(result.pnl_usd[1:].sum(axis=1), np.diff(result.equity), atol=1e-7)
    np.testing.assert_allclose(result.turnover, result.traded_usd.sum(axis=1) / result.equity, rtol=1e-9)
    np.testing.assert_allclose(result.equity - (result.weights * result.equity[:, None]).sum(axis=1), result.cash)


def test_a_still_market_costs_fees_slippage_and_funding_and_nothing_else():
    options = BacktestOptions(funding=0.001, impact_bps=0.0)
    result = run(flat(60 * 4), strategy="equal", params=params(), options=options)

    costs = result.fees_usd.sum() + result.slippage_usd.sum() + result.funding_usd.sum()
    assert result.end_equity_usd == pytest.approx(10_000 - costs, abs=1e-9)
    traded = result.traded_usd.sum()
    assert result.fees_usd.sum() == pytest.approx(traded * 4.5e-4, rel=1e-9)
    assert result.slippage_usd.sum() == pytest.approx(traded * 0.5e-4, rel=1e-3)
    hours = np.nonzero(result.funding_usd)[0]
    assert [int(result.at_ms[each]) % 3_600_000 for each in hours] == [0] * len(hours)
    held = np.abs(result.weights[hours[-1]]).sum() * result.equity[hours[-1]]
    assert result.funding_usd[hours[-1]] == pytest.approx(0.001 * held, rel=1e-6)


def test_no_fill_is_better_than_the_price_at_its_moment_and_larger_orders_fill_worse():
    candles = walk(300, seed=4)
    thin = changed(candles, volume=candles.volume / 1e4)

    deep, shallow = (run(each, strategy="baseline", params=params()) for each in (candles, thin))

    assert np.all(deep.slippage_usd >= 0)
    assert shallow.slippage_usd.sum() / shallow.traded_usd.sum() > 2 * deep.slippage_usd.sum() / deep.traded_usd.sum()


def test_nothing_fills_beyond_the_guard():
    candles = walk(300, seed=4)
    options = BacktestOptions(impact_bps=1e4)
    result = run(candles, strategy="baseline", params=params(), options=options)

    assert result.slippage_usd.sum() <= result.traded_usd.sum() * 20.0001e-4
    assert np.abs(result.weights[-1]).sum() > 0


def test_where_half_the_spread_alone_passes_the_guard_nothing_fills():
    options = BacktestOptions(half_spread_bps=25, impact_bps=0)
    result = run(walk(130, seed=4), strategy="baseline", params=params(), options=options)

    assert result.orders.sum() > 0
    assert result.traded_usd.sum() == 0


@pytest.mark.parametrize("name", ["start_equity_usd", "taker_fee_bps", "half_spread_bps", "impact_bps", "funding"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_market_that_no_number_tells_is_refused(name, value):
    with pytest.raises(BacktestError, match=name):
        BacktestOptions(**{name: value})


@pytest.mark.parametrize("strategy", ["baseline", "equal", "inverse_vol"])
def test_targets_and_approvals_keep_every_limit(strategy):
    result = run(walk(500, seed=5, step=0.004), strategy=strategy, params=params(allow_short=True))

    for table in (result.target, result.approved):
        known = table[~np.isnan(table).any(axis=1)]
        assert len(known) > 100
        assert np.all(np.abs(known) <= np.array([0.15, 0.15, 0.1, 0.1, 0.1]) + 1e-9)
        assert np.all(np.abs(known).sum(axis=1) <= 0.4 + 1e-9)
        assert np.all(np.abs(known.sum(axis=1)) <= 0.2 + 1e-9)


def test_shifting_the_future_does_not_change_the_past():
    candles = walk(420, seed=6)
    cut = 300
    later = {name: getattr(candles, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for name, each in later.items():
        each[cut:] *= 3.0 if name != "volume" else 0.1

    one, other = (run(each, strategy="baseline", params=params()) for each in (candles, changed(candles, **later)))

    past = one.at_ms < candles.open_ms[cut]
    for name in ("equity", "weights", "target", "approved"):
        assert np.array_equal(getattr(one, name)[past], getattr(other, name)[past], equal_nan=True), name
    assert not np.array_equal(one.target, other.target, equal_nan=True)


def test_a_decision_sees_only_its_own_minute_and_those_before():
    seen: list[Moment] = []

    def look(moment: Moment) -> Answer:
        seen.append(moment)
        return Answer(weights=np.zeros(len(moment.symbols)))

    candles = walk(130, seed=6)
    result = run(candles, strategy=look)

    assert [each.at_ms for each in seen] == result.at_ms.tolist()
    for each in seen:
        minutes = (each.at_ms - int(candles.open_ms[0])) // 60_000
        assert each.px.shape == (minutes + 1, len(UNIVERSE))
        assert each.px[-1].tolist() == candles.close[minutes - 1].tolist()


def test_a_coin_without_prices_is_held_until_it_has_an_hour_again():
    candles = walk(400, seed=7)
    arrays = {name: getattr(candles, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for each in arrays.values():
        each[200:203, 0] = np.nan
    result = run(changed(candles, **arrays), strategy="equal", params=params())

    gone = [int((at - START_MS) // 60_000) for at in result.at_ms[np.isnan(result.target[:, 0])]]
    # The first missing bar's minute still has the close before it, the last one's end has the next bar's open.
    assert gone[:2] == [201, 202]
    assert set(gone) - {201, 202} == {206, 207, 261, 262}
    first = result.at_ms.tolist().index(START_MS + 201 * 60_000)
    assert result.traded_usd[first, 0] == 0
    assert result.weights[first, 0] > 0


def test_nothing_fills_in_a_minute_without_a_bar():
    """Nobody traded there, or nobody was told: a price from before is no price to trade at."""
    candles = walk(200, seed=7)
    arrays = {name: getattr(candles, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for each in arrays.values():
        each[100, 0] = np.nan
    wants = {START_MS + 99 * 60_000: 0.0, START_MS + 100 * 60_000: 0.05}

    def strategy(moment: Moment) -> Answer:
        return Answer(weights=np.full(len(moment.symbols), wants.get(moment.at_ms, 0.02)))

    calm = Params.model_validate({"risk": LOOSE, "ai": {"smooth_alpha": 1}})
    result = run(changed(candles, **arrays), strategy=strategy, params=calm)

    gap = result.at_ms.tolist().index(START_MS + 100 * 60_000)
    assert result.target[gap, 0] > 0
    assert result.orders[gap] > 0
    assert result.traded_usd[gap, 0] == 0
    assert np.all(result.traded_usd[gap, 1:] > 0)


def test_a_drawdown_reduces_then_halts_and_stays_halted():
    falling = walk(2_000, seed=8, drift=-0.0006, step=0.0005)
    result = run(falling, strategy="equal", params=Params.model_validate({"risk": {"turnover_cap": 1}}))

    first = [int(np.argmax(result.mode == mode)) for mode in (1, 2)]
    assert 0 < first[0] < first[1]
    peak = np.maximum.accumulate(result.equity)
    assert 1 - result.equity[first[0]] / peak[first[0]] >= 0.02
    assert 1 - result.equity[first[1]] / peak[first[1]] >= 0.03
    assert np.all(result.mode[first[1] :] == 2)
    assert result.orders[first[1] :].sum() == 0
    assert np.isnan(result.approved[first[1] :]).all()
    reduced = slice(first[0], first[1])
    assert np.all(np.diff(np.abs(result.approved[reduced]).sum(axis=1)) < 1e-3)


def test_a_person_who_clears_lets_it_go_on():
    falling = walk(2_000, seed=8, drift=-0.0006, step=0.0005)
    options = BacktestOptions(clear_after_minutes=60)
    result = run(falling, strategy="equal", params=Params(), options=options)

    restricted = result.mode > 0
    assert restricted.any()
    assert not restricted[-1] or np.diff(np.nonzero(~restricted)[0]).max() <= 62
    assert result.orders[np.argmax(restricted) + 61 :].sum() > 0


def test_flatten_leaves_nothing_after_a_halt():
    falling = walk(2_000, seed=8, drift=-0.0006, step=0.0005)
    result = run(falling, strategy="equal", params=Params.model_validate({"risk": {"halt_action": "Flatten"}}))

    assert result.mode[-1] == 2
    assert not result.end_qty.any()


def test_the_days_fees_restrict_the_rest_of_the_day():
    candles = walk(60 * 30, seed=9, step=0.003, start_ms=START_MS + 60_000)
    result = run(candles, strategy="baseline", params=params(max_daily_fee_bps=2))

    days = result.at_ms // 86_400_000
    for day in np.unique(days):
        modes = result.mode[days == day]
        assert modes[0] == 0
        assert np.all(np.diff(modes) >= 0)
    assert set(result.mode) == {0, 1}


def test_slices_that_would_start_too_late_are_not_placed():
    slow = params().model_copy(
        update={"execution": Params().execution.model_copy(update={"slice_interval_s": 30.0, "twap_slices": 3})}
    )
    result = run(flat(90), strategy=always(0.1), params=slow, options=FREE)

    assert result.orders.max() == 2 * 2


def test_small_changes_and_small_orders_wait():
    options = dataclasses.replace(FREE, start_equity_usd=100.0, sz_decimals={"BTC": 5, "ETH": 5})
    result = run(flat(200), strategy=always(0.05), params=params(), options=options)
    assert result.orders.sum() == 0  # 5 % of 100 USD is less than the least order

    result = run(
        flat(200), strategy=always(0.1), params=params(), options=dataclasses.replace(options, start_equity_usd=1e4)
    )
    assert result.orders[60:].sum() == 0  # at target: no order is worth its fees
    assert result.weights[-1] == pytest.approx([0.1, 0.1], abs=0.005)


def test_an_explicit_zero_closes_to_the_last_lot():
    def in_and_out(moment: Moment) -> Answer:
        return Answer(weights=np.full(len(moment.symbols), 0.1 if moment.index < 30 else 0.0))

    whole = params(turnover_cap=1).model_copy(update={"ai": Params().ai.model_copy(update={"smooth_alpha": 1.0})})
    result = run(walk(200, seed=3), strategy=in_and_out, params=whole)

    assert np.abs(result.weights[30]).sum() > 0.15
    assert not result.end_qty.any()


def test_longer_bars_are_walked_along_the_path_and_decided_upon_at_their_ends_only():
    candles = walk(60 * 12, seed=10, bar_minutes=5)
    with pytest.raises(BacktestError, match="nobody may decide within a bar"):
        Engine(candles)
    engine = Engine(candles, BacktestOptions(cycle_minutes=5))

    minutes = engine.candles
    np.testing.assert_array_equal(minutes.open[::5], candles.open)
    np.testing.assert_array_equal(minutes.close[4::5], candles.close)
    high, low = (getattr(minutes, name).reshape(-1, 5, len(UNIVERSE)) for name in ("high", "low"))
    np.testing.assert_array_equal(high.max(axis=1), candles.high)
    np.testing.assert_array_equal(low.min(axis=1), candles.low)
    result = engine.run("baseline")
    assert set(np.diff(result.at_ms)) == {300_000}
    assert result.orders.sum() > 0


def test_what_cannot_be_meant_is_refused_with_its_reason():
    candles = walk(200)
    with pytest.raises(BacktestError, match="no such strategy"):
        run(candles, strategy="gut-feeling")
    with pytest.raises(BacktestError, match="beyond ±1"):
        run(candles, strategy=always(1.5))
    with pytest.raises(BacktestError, match="leave none after the first hour"):
        run(walk(60), strategy="equal")
    with pytest.raises(BacktestError, match="cycle_minutes"):
        Engine(candles, BacktestOptions(cycle_minutes=7))
    with pytest.raises(BacktestError, match="leave a gap"):
        changed(candles, open_ms=candles.open_ms * 2)


def test_a_function_that_answers_as_a_kernel_gives_the_same_run():
    def equally(moment: Moment) -> Answer:
        weights = np.full(len(moment.symbols), np.nan)
        usable = np.nonzero(moment.usable)[0]
        caps = [moment.params.risk.cap(moment.symbols[n]) for n in usable]
        weights[usable] = [min(0.9 * 0.2 / len(usable), 0.8 * cap) for cap in caps]
        return Answer(weights=weights)

    candles = walk(300, seed=12, gaps=0.02)
    kernel, function = run(candles, strategy="equal", params=params()), run(candles, strategy=equally, params=params())

    for name in ("equity", "target", "approved", "orders"):
        assert np.array_equal(getattr(kernel, name), getattr(function, name), equal_nan=True), name


def test_many_runs_at_once_give_what_each_gives_alone():
    from concurrent.futures import ThreadPoolExecutor

    engine = Engine(walk(400, seed=11))
    choices = [params(turnover_cap=0.01 * k) for k in range(1, 9)]
    alone = [engine.run("baseline", each).equity for each in choices]
    with ThreadPoolExecutor(4) as pool:
        together = [each.equity for each in pool.map(lambda each: engine.run("baseline", each), choices)]

    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({each.tobytes() for each in alone}) > 1


def test_a_changed_callee_or_constant_has_a_digest_of_its_own(monkeypatch):
    before = digest(loops.gate)
    code = limits.cut.__code__
    monkeypatch.setattr(limits.cut, "__code__", code.replace(co_consts=(*code.co_consts, 1)))
    assert digest(loops.gate) != before
    monkeypatch.undo()
    assert digest(loops.gate) == before

    monkeypatch.setitem(limits.cut.__globals__, "CAP", 64)
    assert digest(loops.gate) != before


PROGRAM = """
import sys
from pathlib import Path
from tradingbot.execution import sizing
from tradingbot.replay.backtest.compiled import compiled

sizing.MIN_SLICE_USD = float(sys.argv[2])
kernel = compiled(sizing.slice_count, folder=Path(sys.argv[1]))
print(kernel(10, 2.0, 3), sum(kernel.stats.cache_hits.values()))
"""


def test_machine_code_is_kept_and_never_used_for_code_that_has_changed(tmp_path: Path):
    def started(what: str) -> str:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), what]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert started("12") == "1 0"
    assert started("12") == "1 1"
    assert started("6") == "3 0"


def test_a_folder_that_nobody_may_write_to_costs_only_time(tmp_path: Path):
    (tmp_path / "file").write_text("")
    kernel = compiled(loops.slippage_bps, folder=tmp_path / "file")
    assert isinstance(loops.slippage_bps, FunctionType)
    assert kernel(0.25, 0.5, 10.0) == 5.5
