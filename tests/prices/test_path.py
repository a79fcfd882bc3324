"""The path inside a bar."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.paper.prices import Candle
from tradingbot.paper.prices.path import KNOTS, corners, part, px_at

MINUTE = 60_000


@st.composite
def bars(draw: st.DrawFn) -> Candle:
    px = st.floats(min_value=0.01, max_value=1e6)
    low, one, two, high = sorted(draw(st.tuples(px, px, px, px)))
    open_, close = draw(st.sampled_from([(one, two), (two, one), (low, high), (high, low), (one, one)]))
    return Candle(t_ms=0, open=open_, high=high, low=low, close=close, volume=1.0)


@given(bar=bars(), fraction=st.floats(min_value=0, max_value=1))
def test_the_path_never_leaves_the_bar(bar: Candle, fraction: float) -> None:
    assert bar.low <= px_at(bar, fraction) <= bar.high


@given(bar=bars())
def test_the_path_starts_at_the_open_touches_both_extremes_and_ends_at_the_close(bar: Candle) -> None:
    on_path = [px_at(bar, knot) for knot in KNOTS]
    assert on_path == list(corners(bar))
    assert (on_path[0], on_path[3]) == (bar.open, bar.close)
    assert sorted(on_path[1:3]) == [bar.low, bar.high]


@pytest.mark.parametrize(
    ("open_", "high", "low", "close", "first"),
    [
        (100.0, 103.0, 99.0, 101.0, 99.0),
        (100.0, 101.0, 95.0, 96.0, 101.0),
        (100.0, 102.0, 98.0, 101.0, 98.0),
        (100.0, 102.0, 98.0, 99.0, 102.0),
    ],
)
def test_the_extreme_nearer_to_the_open_comes_first(
    open_: float, high: float, low: float, close: float, first: float
) -> None:
    assert corners(Candle(t_ms=0, open=open_, high=high, low=low, close=close, volume=1.0))[1] == first


@given(bar=bars(), cuts=st.lists(st.integers(1, MINUTE - 1), min_size=1, max_size=4, unique=True))
def test_the_parts_of_a_bar_join_to_the_bar(bar: Candle, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), MINUTE]
    parts = [part(bar, bar_ms=MINUTE, start_ms=a, end_ms=b) for a, b in itertools.pairwise(edges)]
    assert (parts[0].open, parts[-1].close) == (bar.open, bar.close)
    assert (max(each.high for each in parts), min(each.low for each in parts)) == (bar.high, bar.low)
    assert all(before.close == after.open for before, after in itertools.pairwise(parts))
    assert sum(each.volume for each in parts) == pytest.approx(bar.volume)
