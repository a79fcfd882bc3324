"""Who reads the future is caught; who does not is left in peace."""

from __future__ import annotations

import numpy as np
import pytest

from support.candles import synthetic_candles
from tradingbot.domain.params import Params
from tradingbot.replay.backtest.engine import Engine, interpreted_kernels
from tradingbot.replay.backtest.lookahead import altered, check_lookahead, first_difference
from tradingbot.replay.backtest.market import Candles
from tradingbot.replay.backtest.options import Answer, BacktestOptions
from tradingbot.replay.backtest.unfolding import BARS, futures, unfolding

HOUR_MS = 3_600_000
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


def once_an_hour(looks):
    """The same, at one minute of the hour; at all others it stands aside."""

    def strategy_for(candles):
        rows = {int(at): row for row, at in enumerate(candles.open_ms)}

        def strategy(moment):
            row = rows[moment.at_ms]
            strikes = moment.at_ms % HOUR_MS == 35 * 60_000
            return np.where(looks(candles, row, moment), 0.1, 0.0) if strikes else np.full(len(moment.symbols), np.nan)

        return strategy

    return strategy_for


def prepared_seldom(candles):
    """Copies the coming bar's close once an hour before the run begins, and holds otherwise."""
    ahead = {
        int(at): candles.close[row].copy() for row, at in enumerate(candles.open_ms) if at % HOUR_MS == 35 * 60_000
    }

    def strategy(moment):
        close = ahead.get(moment.at_ms)
        return np.full(len(moment.symbols), 0.05) if close is None else np.where(close > moment.px[-1], 0.1, 0.0)

    return strategy


def prepared_honestly(candles):
    """An average that only ever looks back, computed for the whole time at once."""
    level = candles.close.copy()
    for row in range(1, len(level)):
        level[row] = 0.9 * level[row - 1] + 0.1 * candles.close[row]
    rows = {int(at): row for row, at in enumerate(candles.open_ms)}

    def strategy(moment):
        before = rows[moment.at_ms] - 1
        return np.where(candles.close[before] > level[before], 0.1, 0.0)

    return strategy


def remembers(candles):
    """A state of its own from decision to decision, and all bars up to the last one from the table itself."""
    rows, kept = {int(at): row for row, at in enumerate(candles.open_ms)}, []

    def strategy(moment):
        kept.append(float(np.nanmean(candles.close[: rows[moment.at_ms]])))
        return np.full(len(moment.symbols), 0.1 if kept[-1] >= max(kept[-5:]) else 0.0)

    return strategy


SELDOM = {
    **PEEKS,
    "the next move": lambda candles, row, moment: (
        candles.close[min(row + 1, len(candles.close) - 1)] > candles.close[row]
    ),
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
    assert found.decisions > 30


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


@pytest.mark.parametrize("kind", ["close", "high", "volume", "ten bars later", "a gap", "the next move"])
def test_a_strategy_that_reads_ahead_once_an_hour_is_caught_at_that_very_decision(candles, kind):
    found = check(candles, once_an_hour(SELDOM[kind]), moments=1)
    leak = found.leaks[0]
    assert leak.at_ms == leak.changed_from_ms
    assert leak.at_ms % HOUR_MS == 35 * 60_000
    assert leak.field == "target"


def test_a_strategy_that_copied_seldom_needed_later_bars_is_caught_where_it_moves(candles):
    """All else standing still, the moments that are looked at are those at which it strikes."""
    assert not check(candles, prepared_seldom, moments=3).clean


@pytest.mark.parametrize("strategy_for", [prepared_honestly, remembers])
def test_who_looks_back_only_is_left_in_peace_however_it_does_so(candles, strategy_for):
    assert check(candles, strategy_for, moments=3).clean


@pytest.mark.parametrize("number", range(4))
def test_bars_that_are_over_are_the_true_ones_and_all_later_ones_are_not(candles, number):
    seen = []

    def strategy_for(table):
        assert np.array_equal(table.close, candles.close), "it prepares itself from the truth"

        def strategy(moment):
            now = int(np.searchsorted(table.open_ms, moment.at_ms))
            for name in BARS:
                true, held = getattr(candles, name), getattr(table, name)
                known = now + 1 if name == "open" else now
                assert np.array_equal(held[:known], true[:known])
                assert np.all(held[known:] != true[known:]) != (moment.index == 0)
            seen.append(now)
            return np.zeros(len(moment.symbols))

        return strategy

    future = list(futures(candles, altered(candles, from_ms=int(candles.open_ms[0]))))[number]
    Engine(candles, OPTIONS, kernels=KERNELS).run(unfolding(strategy_for, candles, future), Params())
    assert len(seen) > 20


def test_five_minute_bars_unfold_by_the_bar():
    minutes = synthetic_candles(600)
    columns = {name: getattr(minutes, name)[::5].copy() for name in BARS}
    bars = Candles(symbols=minutes.symbols, open_ms=minutes.open_ms[::5], bar_ms=300_000, **columns)
    assert check(bars, prepared_honestly, moments=1).clean
    assert not check(bars, once_an_hour(PEEKS["close"]), moments=1).clean


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
