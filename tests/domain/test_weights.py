"""The numeric kernel: idempotent, deterministic and only ever towards zero or the present weight."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tradingbot.domain.weights import (
    GROSS,
    NET,
    TURNOVER,
    Room,
    ewma,
    fit,
    increase_from,
    reasons,
    reduce_only,
    scale_gross,
    scale_increases,
    scale_net,
)

vectors = st.lists(st.floats(-2, 2), min_size=1, max_size=8)
pairs = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-2, 2), min_size=n, max_size=n), st.lists(st.floats(-2, 2), min_size=n, max_size=n)
    )
)
rooms = st.builds(
    Room,
    held_gross=st.floats(0, 1),
    held_net=st.floats(-1, 1),
    max_gross=st.floats(0.01, 2),
    max_net=st.floats(0.01, 2),
    turnover_cap=st.floats(0.001, 2),
)


@given(pairs, rooms)
def test_fitting_a_fitted_portfolio_changes_no_bit(pair, room):
    weights, now = pair
    fit(weights, now, [0] * len(weights), room)
    again, why = list(weights), [0] * len(weights)

    fit(again, now, why, room)

    assert again == weights
    assert why == [0] * len(weights)


@given(pairs, rooms)
def test_fitting_moves_weights_only_towards_zero_or_the_present(pair, room):
    wanted, now = pair
    weights = list(wanted)

    fit(weights, now, [0] * len(weights), room)

    for before, here, after in zip(wanted, now, weights, strict=True):
        assert min(before, here, 0.0) <= after <= max(before, here, 0.0)
        assert sign(after) in {0, sign(before), sign(here)}


def sign(weight: float) -> int:
    return (weight > 0) - (weight < 0)


@given(pairs, rooms)
def test_every_changed_weight_has_a_reason_and_no_other_has(pair, room):
    wanted, now = pair
    weights, why = list(wanted), [0] * len(wanted)

    fit(weights, now, why, room)

    for before, after, bits in zip(wanted, weights, why, strict=True):
        assert before == after or bits


@given(pairs)
def test_reduce_only_leaves_each_weight_between_zero_and_the_present(pair):
    weights, now = pair

    reduce_only(weights, now)

    assert all(min(here, 0.0) <= weight <= max(here, 0.0) for weight, here in zip(weights, now, strict=True))


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_the_way_to_a_weight_is_a_reduction_up_to_where_it_starts_to_grow(weight, now):
    start = increase_from(weight, now)

    assert abs(start) <= abs(now) or start == weight
    assert abs(start) <= abs(weight) or weight * now < 0


def test_gross_scales_all_alike_and_keeps_proportions():
    weights = [0.3, -0.1]
    scale_gross(weights, 0.2, 0.4)

    assert weights == pytest.approx([0.15, -0.05])


def test_net_takes_from_the_larger_side():
    weights = [0.3, -0.05]
    scale_net(weights, 0.0, 0.2)

    assert weights == pytest.approx([0.25, -0.05])


def test_held_net_may_make_the_other_side_the_one_in_excess():
    weights = [0.1, -0.2]
    scale_net(weights, -0.2, 0.2)

    assert weights == pytest.approx([0.1, -0.1])


def test_held_coins_beyond_the_limits_bring_the_rest_to_zero_and_not_through_it():
    weights = [0.1, -0.05]
    scale_net(weights, 0.5, 0.2)
    assert weights == pytest.approx([0.0, -0.05])

    weights = [0.1, -0.05]
    scale_net(weights, -0.5, 0.2)
    assert weights == pytest.approx([0.1, 0.0])

    weights = [0.1, -0.05]
    scale_gross(weights, 0.5, 0.2)
    assert weights == pytest.approx([0.0, 0.0])


def test_a_flip_counts_as_a_reduction_and_then_an_increase():
    weights = [-0.1]

    assert scale_increases(weights, [0.06], 0.1)
    assert weights == pytest.approx([-0.04])


def test_within_the_cap_nothing_is_scaled():
    weights = [0.1]

    assert not scale_increases(weights, [0.05], 0.05)
    assert weights == [0.1]


def test_smoothing_with_alpha_one_is_the_target_itself():
    weights = [0.1, -0.2]
    ewma(weights, [0.5, 0.5], 1.0)

    assert weights == [0.1, -0.2]


def test_reasons_are_told_in_the_order_of_the_limits():
    assert reasons(TURNOVER | GROSS | NET) == ("gross", "net", "turnover")
    assert reasons(0) == ()
