"""Whatever is wrong with a spec, its mode can be obeyed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.operator_specs import body
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import HaltAction
from tradingbot_operator.params import params_of
from tradingbot_operator.resource import Bot
from tradingbot_operator.salvage import salvage
from tradingbot_operator.spec import DeletionPolicy

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("suspend", "exchange", "redis", "risk", "execution", "ai", "universe", "deletionPolicy", "resources")


def salvaged(spec: Any) -> Bot:
    return salvage(body(namespace="trading", uid="u", generation=3) | {"spec": spec})


@given(st.dictionaries(st.sampled_from(FIELDS), JUNK), st.sampled_from(Mode))
def test_a_readable_mode_is_kept_whatever_surrounds_it(spec: dict[str, Any], mode: Mode) -> None:
    bot = salvaged({**spec, "mode": mode.value})
    assert bot.spec.mode is mode
    assert params_of(bot.spec)


@pytest.mark.parametrize("mode", ["STOP", "halt", 3, None, {}, ["HALT"]])
def test_a_mode_that_cannot_be_read_is_a_halt(mode: Any) -> None:
    assert salvaged({"mode": mode}).spec.mode is Mode.HALT


@pytest.mark.parametrize("spec", [None, [], "text", 7])
def test_a_spec_that_is_no_mapping_is_the_default(spec: Any) -> None:
    assert salvaged(spec).spec.mode is Mode.NORMAL


def test_what_is_valid_by_itself_counts() -> None:
    bot = salvaged(
        {
            "mode": "HALT",
            "deletionPolicy": "Flatten",
            "redis": {"urlSecretRef": {"name": "theirs"}, "storage": "much"},
            "risk": {"haltAction": "Flatten", "maxGross": "all of it"},
            "universe": [],
        }
    )
    assert bot.spec.deletion_policy is DeletionPolicy.FLATTEN
    assert bot.spec.redis.url_secret_ref is not None
    assert bot.spec.risk.halt_action is HaltAction.FLATTEN


def test_limits_that_contradict_one_another_leave_what_a_halt_does() -> None:
    bot = salvaged({"risk": {"haltAction": "Flatten", "drawdown": {"reduceOnly": 0.5, "halt": 0.1}}})
    assert params_of(bot.spec).risk.halt_action is HaltAction.FLATTEN
