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


def reads_the_next_minute(moment):
    """Every honest figure, and one row too many of the table that they were taken from."""
    table = moment.px.base
    following = table[min(len(moment.px), len(table) - 1)]
    return np.where(following > moment.px[-1], 0.1, 0.0)


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


def test_a_strategy_that_reads_the_next_minute_is_caught(candles):
    found = check(candles, lambda _: reads_the_next_minute)
    assert not found.clean
    leak = found.leaks[0]
    assert leak.field == "target"
    assert leak.at_ms == leak.changed_from_ms
    assert "when bars from" in str(leak)


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
