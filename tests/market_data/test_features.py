"""The numeric kernel against an oracle that is written another way."""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import operator
import random
import statistics
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.market_data import features
from tradingbot.market_data.features import HOUR, MIN_RETURNS, WINDOW, realised_vol, simple_return


def walk(seed: int, length: int, gaps: float) -> list[float]:
    """A random walk with wild steps, in which a share of the prices is absent."""
    draws = random.Random(seed)
    px = list(accumulate((math.exp(draws.gauss(0, 0.05)) for _ in range(length - 1)), operator.mul, initial=100.0))
    return [0.0 if draws.random() < gaps else each for each in px]


def walks(shortest: int, longest: int, *, gaps: tuple[float, ...] = (0.0, 0.1, 0.5, 0.9)) -> st.SearchStrategy:
    return st.builds(
        walk, seed=st.integers(0, 2**32), length=st.integers(shortest, longest), gaps=st.sampled_from(gaps)
    )


windows = walks(WINDOW, WINDOW + 30)


def oracle_vol(px: list[float]) -> float:
    hour = px[-WINDOW:]
    pairs = [(a, b) for a, b in itertools.pairwise(hour) if a and b]
    if not px[-1] or len(pairs) < MIN_RETURNS:
        return math.nan
    squares = [math.log(b / a) ** 2 for a, b in pairs]
    return math.sqrt(math.fsum(squares) / len(squares) * 525_600)


@given(px=windows)
def test_volatility_is_the_root_mean_square_of_the_hours_log_returns_annualised(px: list[float]) -> None:
    assert realised_vol(px, len(px) - 1) == pytest.approx(oracle_vol(px), rel=1e-9, nan_ok=True)


@given(px=walks(WINDOW, WINDOW, gaps=(0.0,)))
def test_volatility_without_drift_is_the_population_deviation_around_zero(px: list[float]) -> None:
    returns = [math.log(b / a) for a, b in itertools.pairwise(px)]
    around_zero = statistics.pstdev(returns, mu=0.0) * math.sqrt(525_600)
    assert realised_vol(px, HOUR) == pytest.approx(around_zero, rel=1e-9)


@given(px=windows, lag=st.sampled_from([1, 5, 60]))
def test_a_return_is_simple_and_absent_where_a_price_is(px: list[float], lag: int) -> None:
    i = len(px) - 1
    now, then = px[i], px[i - lag]
    expected = (now - then) / then if now and then else math.nan
    assert simple_return(px, i, lag) == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@given(px=windows, later=walks(1, 20))
def test_prices_that_come_later_change_nothing(px: list[float], later: list[float]) -> None:
    i = len(px) - 1
    assert same(realised_vol(px, i), realised_vol([*px, *later], i))
    for lag in (1, 5, 60):
        assert same(simple_return(px, i, lag), simple_return([*px, *later], i, lag))


@given(px=windows, older=walks(1, 20))
def test_prices_older_than_the_hour_change_nothing(px: list[float], older: list[float]) -> None:
    longer = [*older, *px]
    assert same(realised_vol(px[-WINDOW:], HOUR), realised_vol(longer, len(longer) - 1))


def test_a_price_that_stands_still_has_no_volatility_and_no_return() -> None:
    px = [100.0] * WINDOW
    assert realised_vol(px, HOUR) == 0
    assert simple_return(px, HOUR, 60) == 0


def test_a_jump_is_felt_for_exactly_sixty_minutes() -> None:
    px = [100.0] * 10 + [200.0] * 70
    first = 10  # the jump is the return of this minute
    felt = [realised_vol(px, i) > 0 for i in range(first + 30, len(px))]
    assert felt == [i - first < HOUR for i in range(first + 30, len(px))]


def test_half_an_hour_of_returns_is_the_least_for_a_volatility() -> None:
    def known(returns: int) -> list[float]:
        return [0.0] * (HOUR - returns) + [100.0] * (returns + 1)

    assert realised_vol(known(MIN_RETURNS), HOUR) == 0
    assert math.isnan(realised_vol(known(MIN_RETURNS - 1), HOUR))


def test_a_window_at_the_beginning_reads_nothing_before_it() -> None:
    assert math.isnan(simple_return([100.0, 101.0], 1, 5))
    assert math.isnan(realised_vol([100.0, 101.0], 1))


def test_the_kernel_uses_nothing_that_numba_would_round_differently() -> None:
    tree = ast.parse(Path(inspect.getfile(features)).read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    called = {ast.unparse(node.func) for each in functions for node in ast.walk(each) if isinstance(node, ast.Call)}
    operators = {type(node.op) for each in functions for node in ast.walk(each) if isinstance(node, ast.BinOp)}
    own = {each.name for each in functions}
    assert called <= {"range", "max", "min", "len", "math.log", "math.sqrt"} | own
    assert operators <= {ast.Add, ast.Sub, ast.Mult, ast.Div}
