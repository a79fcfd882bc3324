"""When a bot that has to stop may be let go: pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.operator_bus import NOW, applied_of, bot_of
from tradingbot.domain.modes import EffectiveMode, Mode, ModeSource
from tradingbot_operator.bus_view import BusView
from tradingbot_operator.deletion import Step, finalizers_of, stop_step, wants_finalizer
from tradingbot_operator.modes import verdict
from tradingbot_operator.names import FINALIZER
from tradingbot_operator.pods import Pod
from tradingbot_operator.resource import Bot

HALTED = EffectiveMode(mode=Mode.HALT, source=ModeSource.SPEC, reason="deleted")
TRADED = {"mode": {"desired": "HALT"}, "breaker": {"mode": "NORMAL"}}
"""The HALT of its deletion was not taken yet, and the node with Redis and execution is gone."""
RAN = {"mode": {"receivedAt": "2026-02-18T15:00:00Z"}}


def pod(component: str, *, started: bool = True) -> Pod:
    return Pod(
        name=f"majors-{component}-0",
        component=component,
        created_at=NOW,
        ready=started,
        deleting=False,
        started=started,
        problem="",
        wants_secret=False,
    )


PODS = (pod("redis"), pod("execution"))


def step(bot: Bot, view: BusView | None, *, after_s: float = 1, pods: tuple[Pod, ...] = PODS) -> Step:
    now = NOW + timedelta(seconds=after_s)
    state = verdict(bot, view, now=now, requested_at=NOW, execution_started_at=NOW)
    return stop_step(bot, pods=pods, state=state, view=view, since=NOW, now=now)


def halted(bot: Bot, **applied: Any) -> BusView:
    return BusView(effective=HALTED, applied=applied_of(bot, Mode.HALT, **applied))


@pytest.mark.parametrize(
    ("applied", "waits_for"),
    [
        ({"acked_at": None, "cancelled_at": None, "open_orders": 4}, "execution to cancel 4 open orders"),
        ({"acked_at": None}, "execution to confirm with the venue that nothing is open"),
        ({"spec_generation": 0}, "execution to take the HALT"),
        ({}, ""),
    ],
)
def test_a_deletion_waits_for_each_step_of_the_halt(applied: dict[str, Any], waits_for: str) -> None:
    bot = bot_of(deleting=True)
    found = step(bot, halted(bot, **applied))
    assert (found.done, found.waits_for) == (not waits_for, waits_for)


@pytest.mark.parametrize(("flatten", "done"), [("", False), ("pending", False), ("flat", True), ("failed", True)])
def test_a_flattening_deletion_waits_for_the_positions_too(flatten: str, done: bool) -> None:
    bot = bot_of({"deletionPolicy": "Flatten"}, deleting=True)
    found = step(bot, halted(bot, flatten=flatten))
    assert found.done is done
    assert bool(found.warning) is (flatten == "failed")


def test_a_suspension_flattens_nothing() -> None:
    bot = bot_of({"deletionPolicy": "Flatten", "suspend": True})
    assert step(bot, halted(bot)) == Step(done=True)


def test_a_deadline_ends_the_wait_and_says_what_may_be_open() -> None:
    bot = bot_of({"deletionDeadlineSeconds": 60}, deleting=True, status=RAN)
    waiting = step(bot, None, after_s=59)
    assert (waiting.done, waiting.look_again_s) == (False, 1.0)
    ended = step(bot, None, after_s=60)
    assert ended.done
    assert "may still be open at the venue" in ended.warning
    view = halted(bot, acked_at=None, cancelled_at=None, open_orders=2)
    assert "2 orders were open" in step(bot, view, after_s=61).warning


def test_what_never_ran_goes_at_once() -> None:
    bot = bot_of(deleting=True)
    assert step(bot, None, pods=()).done
    assert step(bot, None, pods=(pod("execution", started=False), pod("redis", started=False))).done
    assert step(bot, BusView(effective=HALTED), pods=(pod("execution", started=False), pod("redis"))).done


@pytest.mark.parametrize(
    ("status", "pods"),
    [
        (RAN, ()),
        (TRADED, (pod("redis", started=False),)),
        ({}, (pod("execution"),)),
        ({}, (pod("redis"), pod("execution", started=False))),
    ],
)
def test_what_may_have_run_is_waited_for_although_nothing_answers(
    status: dict[str, Any], pods: tuple[Pod, ...]
) -> None:
    assert not step(bot_of(deleting=True, status=status), None, pods=pods).done


def test_a_judgement_that_is_not_a_halt_lets_nothing_go() -> None:
    bot = bot_of(status=RAN)
    view = BusView(effective=HALTED, applied=applied_of(bot, Mode.NORMAL))
    state = verdict(bot, view, now=NOW, requested_at=NOW, execution_started_at=NOW)
    deleting = replace(bot, deletion_requested_at=NOW)
    assert not stop_step(deleting, pods=PODS, state=state, view=view, since=NOW, now=NOW).done


def test_the_finalizer_stands_where_a_deletion_has_to_wait_and_leaves_those_of_others() -> None:
    assert wants_finalizer(bot_of())
    assert not wants_finalizer(bot_of({"deletionPolicy": "Leave"}))
    bot = replace(bot_of(), finalizers=("example.com/other",))
    assert finalizers_of(bot, ours=True) == ("example.com/other", FINALIZER)
    assert finalizers_of(replace(bot, finalizers=(FINALIZER, "example.com/other")), ours=False) == (
        "example.com/other",
    )
