"""Cycles start at the same minutes every day, and their ids can be read off the clock by everybody alike."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tradingbot.domain.cycles import (
    DAY_S,
    check_cycle_seconds,
    cycle_id_at,
    cycle_start_ms_at,
    from_ms,
    is_boundary,
    minute_id,
    start_ms_of,
    to_ms,
)

LENGTHS = [seconds for seconds in range(60, DAY_S + 1, 60) if DAY_S % seconds == 0]
moments = st.integers(0, 4_102_444_800_000)
lengths = st.sampled_from(LENGTHS)


def test_a_cycles_id_is_the_minute_it_starts_at():
    assert cycle_id_at(1_771_430_459_999, cycle_seconds=60) == "20260218T1600Z"
    assert cycle_id_at(1_771_430_460_000, cycle_seconds=60) == "20260218T1601Z"
    assert cycle_id_at(1_771_430_460_000, cycle_seconds=300) == "20260218T1600Z"


@given(moments, lengths)
def test_a_moment_lies_in_its_cycle_and_the_id_leads_back_to_the_start(at_ms, seconds):
    start_ms = cycle_start_ms_at(at_ms, cycle_seconds=seconds)

    assert start_ms <= at_ms < start_ms + seconds * 1000
    assert start_ms_of(cycle_id_at(at_ms, cycle_seconds=seconds)) == start_ms
    assert is_boundary(start_ms, cycle_seconds=seconds)
    assert cycle_id_at(start_ms, cycle_seconds=seconds) == minute_id(start_ms)


@given(moments, lengths)
def test_a_cycle_starts_at_each_midnight(at_ms, seconds):
    midnight_ms = at_ms - at_ms % (DAY_S * 1000)

    assert is_boundary(midnight_ms, cycle_seconds=seconds)


@given(moments)
def test_milliseconds_survive_the_way_through_a_datetime(at_ms):
    assert to_ms(from_ms(at_ms)) == at_ms


@pytest.mark.parametrize("text", ["", "20260218T1600", "20260230T1600Z", "2026-02-18T16:00Z", "20260218T2460Z"])
def test_what_is_no_cycle_id_is_refused(text):
    with pytest.raises(ValueError):
        start_ms_of(text)


@pytest.mark.parametrize("seconds", [0, -60, 1, 30, 61, 90, 420, 86_460, 172_800])
def test_a_length_that_does_not_divide_a_day_into_minutes_is_refused(seconds):
    with pytest.raises(ValueError, match="multiple of 60"):
        check_cycle_seconds(seconds)


@pytest.mark.parametrize("seconds", LENGTHS)
def test_a_length_that_divides_a_day_is_accepted(seconds):
    assert check_cycle_seconds(seconds) == seconds
