"""The figures of a run."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import case
from tradingbot.replay.report import Report, latencies, percentile
from tradingbot.replay.verify import judge


def report(**changes) -> Report:
    evidence = case.sound()
    given_ = {"wanted_cycles": 1, "happened": 1, "restarts": {}, "real_s": 1.0, **changes}
    return Report.of(evidence, verdicts=judge(evidence), **given_)


def test_a_report_counts_orders_fills_fees_and_turnover() -> None:
    found = report()

    assert (found.orders, found.filled_orders, found.refused_orders, found.cancels) == (1, 1, 0, 0)
    assert found.fees_usd == Decimal("0.2")
    assert found.traded_usd == Decimal(500)
    assert found.turnover == 0.05
    assert found.holds


def test_a_run_with_too_few_cycles_does_not_hold() -> None:
    assert not report(happened=0).holds


def test_stages_are_timed_from_entry_to_entry() -> None:
    stages = {each.stage: each.p50_ms for each in latencies(case.sound())}

    assert stages["md.features.1m → alpha.target"] == 10
    assert stages["md.features.1m → exec.reports"] == 50
    assert stages["intent → first report"] == 10


def test_every_verdict_has_a_line() -> None:
    lines = "\n".join(report().lines())

    for number in range(1, 15):
        assert f"I{number} " in lines


@pytest.mark.parametrize(("fraction", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_by_nearest_rank(fraction: float, value: float) -> None:
    assert percentile([float(each) for each in range(1, 101)], fraction) == value


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_at_least_the_fraction_lies_at_or_below_a_percentile(values: list[float], fraction: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, fraction)

    assert sum(1 for each in ordered if each <= found) >= fraction * len(ordered) - 1e-9
