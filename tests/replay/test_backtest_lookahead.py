"""Who reads the future is caught; who does not is left in peace."""

from __future__ import annotations

import numpy as np
import pytest

from support.candles import synthetic_candles
from tradingbot.domain.params import Params
from tradingbot.replay.backtest.engine import Engine, interpreted_kernels
from tradingbot.replay.backtest.lookahead import altered, check_lookahead, first_difference
from tradingbot.replay.backtest.options import Answer, BacktestOptions

KERNELS = interpreted_kernels()
OPTIONS = BacktestOptions(cycle_minutes=5)


@pytest.fixture(scope="module")
def candles():
    return synthetic_candles(240)


def check(candles, strategy_for, moments=3):
    return check_lookahead(
        candles, strategy_for=strategy_for, params=Params(), options=OPTIONS, moments=moments, kernels=KERNELS
    )


def honest(moment):
    """Follows the last minute's move."""
    return np.where(moment.usable, np.where(moment.px[-1] > moment.px[-2], 0.1, 0.0), np.nan)


def peeking(looks):
    """What makes strategies that look into the candles, from the bar that begins at the decision on."""

    def strategy_for(candles):
        rows = {int(at): row for row, at in enumerate(candles.open_ms)}
        return lambda moment: np.where(looks(candles, rows[moment.at_ms], moment), 0.1, 0.0)

    return strategy_for


PEEKS = {
    "close": lambda candles, row, moment: candles.close[row] > moment.px[-1],
    "high": lambda candles, row, moment: candles.high[row] > 1.001 * moment.px[-1],
    "volume": lambda candles, row, moment: candles.volume[row] > 3 * candles.volume[row - 1],
    "ten bars later": lambda candles, row, moment: candles.close[min(row + 10, len(candles.close) - 1)] > moment.px[-1],
    "a gap": lambda candles, row, moment: np.isnan(candles.close[row]),
    "the end": lambda candles, row, moment: np.full(len(moment.symbols), row > 0.4 * len(candles.close)),
    "volume of all time": lambda candles, row, moment: candles.volume[row - 1] > np.nanmean(candles.volume),
}


def scales_by_the_whole_time(candles):
    """A threshold over the whole table, the most usual mistake of all."""
    level = np.nanmean(candles.close, axis=0)

    def strategy(moment):
        return Answer(weights=np.where(moment.px[-1] < level, 0.1, 0.0))

    return strategy


@pytest.mark.parametrize("name", ["baseline", "equal", "inverse_vol"])
def test_the_strategies_of_the_house_do_not_see_the_future(candles, name):
    found = check(candles, lambda _: name)
    assert found.clean
    assert found.moments == 3
    assert found.decisions > 40


def test_an_honest_function_passes(candles):
    assert check(candles, lambda _: honest).clean


@pytest.mark.parametrize("kind", PEEKS)
def test_a_strategy_that_reads_later_bars_is_caught_whatever_it_reads(candles, kind):
    found = check(candles, peeking(PEEKS[kind]), moments=10)
    assert not found.clean
    leak = found.leaks[0]
    assert leak.field in ("target", "weights", "equity", "cash")
    assert leak.at_ms <= leak.changed_from_ms
    assert "when bars from" in str(leak)


def test_a_strategy_that_reads_the_bar_of_its_decision_is_caught_at_that_decision(candles):
    leak = check(candles, peeking(PEEKS["close"])).leaks[0]
    assert leak.field == "target"
    assert leak.at_ms == leak.changed_from_ms


def test_the_table_that_a_strategy_sees_holds_nothing_later(candles):
    def digs(moment):
        later = moment.px.base[len(moment.px) :]
        assert np.isnan(later).all()
        assert not np.isnan(moment.px).any()
        return np.full(len(moment.symbols), 0.05)

    Engine(candles, OPTIONS, kernels=KERNELS).run(digs, Params())


def test_a_check_leaves_funding_by_the_hour_as_it_is(candles):
    hours = int(candles.open_ms[-1]) // 3_600_000 - int(candles.open_ms[0]) // 3_600_000 + 1
    options = BacktestOptions(cycle_minutes=5, funding=np.full((hours, 3), 1e-5))
    found = check_lookahead(
        candles, strategy_for=lambda _: "equal", params=Params(), options=options, moments=3, kernels=KERNELS
    )
    assert found.clean


def test_a_strategy_that_prepares_itself_from_the_whole_time_is_caught(candles):
    found = check(candles, scales_by_the_whole_time)
    assert not found.clean
    assert found.leaks[0].at_ms <= found.leaks[0].changed_from_ms
    assert found.leaks[0].symbol in candles.symbols


def test_only_what_comes_after_the_moment_is_altered(candles):
    t_ms = int(candles.open_ms[100])
    other = altered(candles, from_ms=t_ms)
    for name in ("open", "high", "low", "close", "volume"):
        before, after = getattr(candles, name), getattr(other, name)
        assert np.array_equal(before[:100], after[:100])
        assert np.all(before[101:] != after[101:])
    assert np.array_equal(candles.open[100], other.open[100])
    assert np.all(other.close[100] != candles.close[100])
    assert np.all((other.low <= other.open) & (other.open <= other.high) & (other.low <= other.close))


def test_missing_bars_stay_missing(candles):
    holes = synthetic_candles(200)
    holes.close[150:155, 1] = holes.open[150:155, 1] = holes.high[150:155, 1] = holes.low[150:155, 1] = np.nan
    other = altered(holes, from_ms=int(holes.open_ms[120]))
    assert np.array_equal(np.isnan(other.close), np.isnan(holes.close))


def test_what_comes_after_does_change_what_comes_after(candles):
    """Else the check would compare two runs on the same candles."""
    one = Engine(candles, OPTIONS, kernels=KERNELS).run("baseline", Params())
    place = len(one.at_ms) // 2
    other = Engine(altered(candles, from_ms=int(one.at_ms[place])), OPTIONS, kernels=KERNELS).run("baseline", Params())
    assert first_difference(one, other, place=place) is None
    assert first_difference(one, other, place=len(one.at_ms) - 1) is not None
