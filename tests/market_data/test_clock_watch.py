"""A clock that went back is noticed once, and one that is kept in time is not."""

from __future__ import annotations

import pytest

from tradingbot.market_data.clock_watch import ClockWatch

M = 1_771_430_400_000
MINUTE = 60_000


def test_a_step_back_is_noticed_once_with_its_size_and_its_end() -> None:
    watch = ClockWatch(speed=1)
    assert watch.look(now_ms=M + 20_000, last_minute_ms=M) is None

    step = watch.look(now_ms=M + 20_000 - 90_000, last_minute_ms=M)

    assert step is not None
    assert (step.by_ms, step.resumes_ms) == (90_000, M + MINUTE)
    assert watch.look(now_ms=M + 21_000 - 90_000, last_minute_ms=M) is None


def test_two_steps_back_are_two() -> None:
    watch = ClockWatch(speed=1)
    looks = [watch.look(now_ms=M - back, last_minute_ms=M) for back in (0, 100_000, 99_000, 300_000)]

    assert [look.by_ms if look else None for look in looks] == [None, 100_000, None, 201_000]


def test_a_step_back_before_the_start_shows_in_the_last_minute_that_was_told() -> None:
    watch = ClockWatch(speed=1)
    assert watch.look(now_ms=M - MINUTE, last_minute_ms=0) is None  # the state is not read yet

    step = watch.look(now_ms=M - MINUTE + 1_000, last_minute_ms=M)

    assert step is not None
    assert step.by_ms == 59_000


@pytest.mark.parametrize(("speed", "back_ms"), [(1, 999), (30, 7_499)])
def test_small_corrections_are_no_steps(speed: float, back_ms: int) -> None:
    watch = ClockWatch(speed=speed)
    watch.look(now_ms=M + MINUTE, last_minute_ms=M)

    assert watch.look(now_ms=M + MINUTE - back_ms, last_minute_ms=M) is None
