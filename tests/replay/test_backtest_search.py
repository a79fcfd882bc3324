"""Sweeps and guesses over parameters, what they are worth, and how they do on later data."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from support.candles import synthetic_candles
from tradingbot.domain.cycles import to_ms
from tradingbot.domain.params import Params
from tradingbot.replay.backtest import choices, figures
from tradingbot.replay.backtest.engine import Engine, interpreted_kernels
from tradingbot.replay.backtest.market import BacktestError
from tradingbot.replay.backtest.options import BacktestOptions
from tradingbot.replay.backtest.search import Grid, Guesses, Job, Objective, Range, search
from tradingbot.replay.data.candles import between

KERNELS = interpreted_kernels()
OPTIONS = BacktestOptions(cycle_minutes=10)


@pytest.fixture(scope="module")
def candles():
    return synthetic_candles(60 * 10)


def job(plan, **more):
    return Job(strategy_for=lambda _: "baseline", params=Params(), options=OPTIONS, plan=plan, kernels=KERNELS, **more)


GRID = Grid(axes={"ai.smooth_alpha": ("0.1", "0.5", "1.0"), "risk.max_gross": ("0.2", "0.4")})


def test_a_grid_runs_every_combination_and_sorts_them_by_what_is_wanted(candles):
    runs = []
    found = search(candles, job(GRID, objective=Objective.RETURN, progress=lambda: runs.append(1)))
    assert len(found.trials) == len(runs) == 6
    assert len({tuple(each.values.values()) for each in found.trials}) == 6
    assert [each.score for each in found.trials] == sorted((each.score for each in found.trials), reverse=True)
    assert found.best.score == found.best.total_return


def test_a_try_is_what_a_run_with_these_parameters_alone_gives(candles):
    found = search(candles, job(GRID))
    worst = found.trials[-1]
    params = choices.with_values(Params(), [f"{name}={value}" for name, value in worst.values.items()])
    alone = Engine(candles, OPTIONS, kernels=KERNELS).run("baseline", params)
    assert worst.total_return == figures.total_return(alone.equity)
    assert worst.fees_usd == pytest.approx(float(alone.fees_usd[:-1].sum()))


def test_the_deflated_ratio_is_that_of_all_tries(candles):
    found = search(candles, job(GRID))
    engine = Engine(candles, OPTIONS, kernels=KERNELS)
    runs = [
        engine.run(
            "baseline", choices.with_values(Params(), [f"{name}={value}" for name, value in each.values.items()])
        )
        for each in found.trials
    ]
    returns = [figures.returns_of(run.at_ms, run.equity).values for run in runs]
    ratios = np.array([figures.period_sharpe(each) for each in returns])
    assert found.deflated_sharpe == pytest.approx(figures.deflated_sharpe(ratios, returns[int(ratios.argmax())]))
    best = max(each.sharpe for each in found.trials)
    assert best / np.sqrt(8760) == pytest.approx(ratios.max())


def test_guesses_are_the_same_for_the_same_seed_and_keep_to_their_ranges(candles):
    ranges = {
        "ai.smooth_alpha": Range(low=0.05, high=1.0, log=True),
        "execution.twap_slices": Range(low=1, high=5, whole=True),
    }
    one, two, other = (search(candles, job(Guesses(ranges=ranges, size=6, seed=seed))) for seed in (3, 3, 4))
    assert one == two
    assert one.trials != other.trials
    for each in one.trials:
        assert 0.05 <= each.values["ai.smooth_alpha"] <= 1.0
        assert each.values["execution.twap_slices"] in range(1, 6)


def test_combinations_that_contradict_themselves_are_counted_and_left_out(candles):
    axes = {"risk.drawdown_reduce_only": ("0.02", "0.05"), "risk.drawdown_halt": ("0.03", "0.06")}
    found = search(candles, job(Grid(axes=axes)))
    assert (len(found.trials), found.refused) == (3, 1)
    with pytest.raises(BacktestError, match="allow none"):
        search(candles, job(Grid(axes={"risk.drawdown_reduce_only": ("0.5",)})))


def test_folds_tune_on_one_part_and_test_on_the_next_without_a_gap(candles):
    found = search(candles, job(GRID, objective=Objective.RETURN), folds=2)
    first, second = found.folds
    assert first.tuned_from < first.tested_from < first.tested_to == second.tested_from
    assert second.tuned_from == first.tested_from
    for fold in found.folds:
        assert fold.values in [each.values for each in found.trials]
    with pytest.raises(BacktestError, match="41 parts of 54 decisions are too short"):
        search(candles, job(GRID), folds=40)


def test_a_test_part_is_run_as_it_would_be_alone(candles):
    fold = search(candles, job(GRID, objective=Objective.RETURN), folds=1).folds[0]
    start, end = (to_ms(datetime.fromisoformat(each)) for each in (fold.tested_from, fold.tested_to))
    part = between(candles, start_ms=start - 60 * 60_000, end_ms=end)
    params = choices.with_values(Params(), [f"{name}={value}" for name, value in fold.values.items()])
    alone = Engine(part, OPTIONS, kernels=KERNELS).run("baseline", params)
    assert int(alone.at_ms[0]) == start
    assert fold.return_after == pytest.approx(figures.total_return(alone.equity))


# ---------------------------------------------------------------- texts


def test_names_are_those_of_the_parameters_or_of_the_env_file():
    params = choices.with_values(Params(), ["risk.max_gross=0.5", "CAP_BTC_ETH=0.12", "risk.caps.SOL=0.07"])
    assert params.risk.max_gross == 0.5
    assert params.risk.caps == {"BTC": 0.12, "ETH": 0.12, "SOL": 0.07}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("risk.max_gros=1", "unknown parameter"),
        ("nonsense=1", "unknown parameter"),
        ("risk.max_gross=-1", "max_gross.*greater than 0"),
        ("risk.max_gross", "wanted name=value"),
        ("risk.drawdown_reduce_only=0.5", "drawdown_halt must not be below"),
    ],
)
def test_a_wrong_parameter_is_refused_in_words(given, text):
    with pytest.raises(BacktestError, match=text):
        choices.with_values(Params(), [given])


def test_steps_include_both_ends_and_are_exact():
    axes = choices.axes_of(Params(), ["ai.smooth_alpha=0.1:0.5:0.1", "execution.twap_slices=1,3"])
    assert axes == {
        "ai.smooth_alpha": ("0.1", "0.2", "0.3", "0.4", "0.5"),
        "execution.twap_slices": ("1", "3"),
    }


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("ai.smooth_alpha=0.1:0.5", "wanted name=a,b,c or name=from:to:step"),
        ("ai.smooth_alpha=0.5:0.1:0.1", "must not exceed"),
        ("ai.smooth_alpha=0.1:0.5:0", "above 0"),
        ("ai.smooth_alpha=0.1:nan:0.1", "no number"),
        ("ai.smooth_alpha=0.1,5", "less than or equal to 1"),
        ("ai.smoth_alpha=0.1", "unknown parameter"),
        ("CAP_BTC_ETH=0.1,0.2", "stands for risk.caps.BTC and risk.caps.ETH"),
    ],
)
def test_a_wrong_axis_is_refused_in_words(given, text):
    with pytest.raises(BacktestError, match=text):
        choices.axes_of(Params(), [given])


def test_ranges_know_whole_numbers():
    ranges = choices.ranges_of(
        Params(), ["TWAP_SLICES=1:5", "ai.smooth_alpha=0.05:1:log", "execution.slice_interval_s=5:60"]
    )
    assert ranges == {
        "execution.twap_slices": Range(low=1, high=5, whole=True),
        "ai.smooth_alpha": Range(low=0.05, high=1, log=True),
        "execution.slice_interval_s": Range(low=5, high=60),
    }


@pytest.mark.parametrize(
    "given", ["risk.allow_short=0:1", "risk.caps=0:1", "nope=0:1", "ai.smooth_alpha=1:0", "ai.smooth_alpha=0:1:log",
              "ai.smooth_alpha=0.1:1:lin", "ai.nope=0:1"]
)  # fmt: skip
def test_a_wrong_range_is_refused(given):
    with pytest.raises(BacktestError, match="--range"):
        choices.ranges_of(Params(), [given])


def test_a_grid_beyond_reason_is_refused():
    values = tuple(str(k) for k in range(400))
    with pytest.raises(BacktestError, match="160000 combinations"):
        Grid(axes={"a": values, "b": values})
