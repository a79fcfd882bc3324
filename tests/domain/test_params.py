"""Parameters: the mission's defaults, overrides by dotted name, and a whole that is always valid."""

from __future__ import annotations

import pytest

from tradingbot.domain.params import Params, VersionedParams, merge_override, parameter_names


def test_the_missions_limits_are_the_defaults():
    risk = Params().risk

    assert (risk.max_gross, risk.max_net, risk.turnover_cap) == (0.40, 0.20, 0.10)
    assert [risk.cap(symbol) for symbol in ("BTC", "ETH", "SOL", "ADA", "DOGE")] == [0.15, 0.15, 0.10, 0.10, 0.10]
    assert (risk.drawdown_reduce_only, risk.drawdown_halt) == (0.02, 0.03)
    assert risk.allow_short is False


def test_the_missions_execution_values_are_the_defaults():
    execution = Params().execution

    assert (execution.twap_slices, execution.slice_interval_s, execution.slice_timeout_s) == (3, 20, 20)


def test_an_override_changes_its_value_and_nothing_else():
    changed = merge_override(Params(), {"risk.max_gross": 0.3, "risk.caps.BTC": 0.05, "execution.twap_slices": 2})

    assert changed.risk.max_gross == 0.3
    assert changed.risk.caps == {"BTC": 0.05, "ETH": 0.15}
    assert changed.execution.twap_slices == 2
    assert changed.risk.max_net == Params().risk.max_net


def test_the_parameters_that_were_there_are_left_alone():
    before = Params()
    merge_override(before, {"risk.caps.BTC": 0.01})

    assert before == Params()


@pytest.mark.parametrize(
    "values",
    [
        {"risk.max_grosss": 0.3},
        {"max_gross": 0.3},
        {"risk": {}},
        {"risk.": 1},
        {"nobody.max_gross": 0.3},
        {"risk.max_gross.deep": 0.3},
        {"risk.max_gross": -1},
        {"risk.max_gross": "much"},
        {"risk.max_gross": float("nan")},
        {"execution.order_tif": "Fok"},
        {"risk.drawdown_halt": 0.01},
        {"risk.caps.BTC": -0.1},
    ],
)
def test_an_unknown_name_or_a_value_out_of_range_is_refused(values):
    with pytest.raises(ValueError):
        merge_override(Params(), values)


def test_every_name_that_is_known_can_be_set_to_what_it_is():
    tree = Params().model_dump(mode="json")

    for name in parameter_names():
        group, _, field = name.partition(".")
        assert merge_override(Params(), {name: tree[group][field]}) == Params()


def test_a_label_tells_versions_apart():
    labels = {
        VersionedParams(version=version, generation=generation, person_version=person).label
        for version in (1, 11)
        for generation in (1, 11)
        for person in (0, 1)
    }

    assert len(labels) == 8
