"""The breaker's inputs: refusals, the post-only period, the clocks."""

from __future__ import annotations

import pytest

from portfolio_state.builders import T0, a_report, begun
from tradingbot.domain.messages import ReportStatus
from tradingbot.portfolio_state.health import QUIET_MS, count_refusal, health_of, skew_ms
from tradingbot.portfolio_state.mirror import Refusals

REJECTED = ReportStatus.REJECTED


def after(*reports, every_ms: int = 1000) -> Refusals:
    refusals = Refusals()
    for index, report in enumerate(reports):
        refusals = count_refusal(refusals, report, now_ms=T0 + index * every_ms)
    return refusals


def health(refusals: Refusals, *, now_ms: int):
    mirror = begun().model_copy(update={"refusals": refusals})
    return health_of(mirror, now_ms=now_ms, ok=True, skew=0)


def test_refusals_in_a_row_are_counted():
    assert after(*[a_report(REJECTED, error="InsufficientMargin")] * 5).in_row == 5


@pytest.mark.parametrize("status", [ReportStatus.ACK, ReportStatus.PARTIAL, ReportStatus.FILLED])
def test_an_accepted_order_ends_the_run(status):
    assert after(a_report(REJECTED), a_report(status), a_report(REJECTED)).in_row == 1


def test_a_cancelled_order_neither_counts_nor_ends_the_run():
    assert after(a_report(REJECTED), a_report(ReportStatus.CANCELED), a_report(REJECTED)).in_row == 2


@pytest.mark.parametrize("error", ["PostOnlyWouldMatch", "IocNoMatch"])
def test_a_missed_slice_is_no_refusal(error):
    assert after(a_report(REJECTED, error=error)).in_row == 0


def test_a_dry_run_counts_for_nothing():
    assert after(a_report(REJECTED, dry_run=True)).in_row == 0


def test_a_run_is_over_after_a_quiet_minute_so_that_the_halt_it_caused_can_end():
    refusals = after(*[a_report(REJECTED)] * 5, every_ms=0)

    assert health(refusals, now_ms=T0 + QUIET_MS - 1).refusals_in_row == 5
    assert health(refusals, now_ms=T0 + QUIET_MS).refusals_in_row == 0
    assert count_refusal(refusals, a_report(REJECTED), now_ms=T0 + QUIET_MS).in_row == 1


def test_the_post_only_period_is_a_state_and_no_run_of_refusals():
    refusals = after(*[a_report(REJECTED, error="PostOnlyPeriod")] * 9, every_ms=0)

    assert refusals.in_row == 0
    assert health(refusals, now_ms=T0).post_only
    assert not health(refusals, now_ms=T0 + QUIET_MS).post_only


@pytest.mark.parametrize(
    ("venue_ms", "expected"), [(T0, 0), (T0 + 300, 0), (T0 + 150, 0), (T0 - 2000, -2000), (T0 + 2300, 2000)]
)
def test_only_what_the_round_trip_cannot_explain_is_skew(venue_ms, expected):
    assert skew_ms(venue_ms=venue_ms, asked_ms=T0, answered_ms=T0 + 300) == expected
