"""What is written for a mode, and what is made of the answer: every rule of time and of precedence."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from support.operator_bus import NOW, NOW_MS, UID, applied_of, bot_of
from tradingbot.domain.messages import Command
from tradingbot.domain.modes import Mode, ModeSource, effective_mode
from tradingbot.domain.params import HaltAction
from tradingbot.execution.mode_reader import FileSaid
from tradingbot_operator.bus_view import BreakerSaid, BusView, SpecSaid
from tradingbot_operator.modes import (
    ModeState,
    Reason,
    acknowledged,
    awaited,
    clear_command,
    command_id,
    desired_of,
    desired_params,
    mode_file,
    spec_command,
    verdict,
)
from tradingbot_operator.names import CLEAR_BREAKER
from tradingbot_operator.resource import Bot

HALT = {"mode": "HALT"}


def view_of_bot(bot: Bot | None = None, **more: Any) -> BusView:
    """A view whose spec key is this bot's, or none."""
    spec = None
    if bot is not None:
        spec = SpecSaid(
            mode=desired_of(bot).mode, uid=bot.uid, generation=bot.generation, command_id=command_id(bot), at=NOW
        )
    view = BusView(effective=effective_mode(spec={}, breaker={"mode": "NORMAL"}, person={}), spec=spec)
    return replace(view, **more)


def judged(bot: Bot, view: BusView | None, *, after_s: float = 0.0, **more: Any) -> ModeState:
    """The verdict some seconds after the request; execution's pod is older than that unless said otherwise."""
    given = {"requested_at": NOW, "execution_started_at": NOW - timedelta(hours=1), **more}
    return verdict(bot, view, now=NOW + timedelta(seconds=after_s), **given)


# what is wanted


@pytest.mark.parametrize(
    ("spec", "deleting", "mode", "reason"),
    [
        ({}, False, Mode.NORMAL, "spec.mode"),
        ({"mode": "REDUCE_ONLY"}, False, Mode.REDUCE_ONLY, "spec.mode"),
        ({"suspend": True}, False, Mode.HALT, "suspended"),
        ({}, True, Mode.HALT, "deleted"),
        ({"suspend": True}, True, Mode.HALT, "deleted"),
        ({"deletionPolicy": "Flatten"}, True, Mode.HALT, "deleted"),
        ({"deletionPolicy": "Leave", "mode": "REDUCE_ONLY"}, True, Mode.REDUCE_ONLY, "spec.mode"),
    ],
)
def test_a_bot_on_its_way_out_or_suspended_wants_a_halt(
    spec: Mapping[str, Any], deleting: bool, mode: Mode, reason: str
) -> None:
    desired = desired_of(bot_of(spec, deleting=deleting))
    assert (desired.mode, desired.reason) == (mode, reason)


@pytest.mark.parametrize(
    ("mode", "command"), [("NORMAL", Command.RESUME), ("REDUCE_ONLY", Command.REDUCE_ONLY), ("HALT", Command.HALT)]
)
def test_the_command_is_the_specs_own_and_names_generation_and_uid(mode: str, command: Command) -> None:
    said = spec_command(bot_of({"mode": mode}, generation=7), view_of_bot())
    assert said is not None
    assert (said.command, said.source, said.uid, said.generation) == (command, ModeSource.SPEC, UID, 7)


def test_command_ids_differ_exactly_where_something_else_is_wanted() -> None:
    bots = [
        bot_of(spec, generation=generation, deleting=deleting, uid=uid)
        for spec, generation, deleting, uid in itertools.product(
            ({}, HALT, {"suspend": True}), (1, 2), (False, True), (UID, UID.replace("1", "a"))
        )
    ]
    wanted = {(bot.uid, bot.generation, desired_of(bot)) for bot in bots}
    assert len({command_id(bot) for bot in bots}) == len(wanted)
    assert command_id(bots[0]) == command_id(bot_of())


def test_nothing_is_said_where_a_newer_generation_has_spoken() -> None:
    old, new = bot_of(generation=1), bot_of(HALT, generation=2)
    view = view_of_bot(new)
    assert spec_command(old, view) is None
    state = judged(old, view, after_s=100)
    assert (state.condition, state.restart_execution) == (Reason.SUPERSEDED, False)
    assert not awaited(old, view)


def test_only_a_deletion_that_flattens_changes_the_halts_action() -> None:
    for policy, deleting in itertools.product(("Flatten", "CancelOrders", "Leave"), (False, True)):
        params = desired_params(bot_of({"deletionPolicy": policy}, deleting=deleting))
        flattens = policy == "Flatten" and deleting
        assert params.risk.halt_action is (HaltAction.FLATTEN if flattens else HaltAction.HOLD)


@pytest.mark.parametrize("mode", list(Mode))
def test_execution_reads_the_mode_file_as_the_operator_writes_it(mode: Mode) -> None:
    assert FileSaid.parse(mode_file(bot_of({"mode": mode.value}, generation=4))) == FileSaid(mode, 4, UID)


def test_the_annotation_clears_only_a_latch_that_is_there() -> None:
    breaker = BreakerSaid(mode=Mode.HALT, reason="drawdown", latch_ids=("l-1", "l-2"), command_id="b-1")
    for wanted, there in (("l-1", True), (" l-2 ", True), ("l-3", False), ("", False)):
        said = clear_command(bot_of(annotations={CLEAR_BREAKER: wanted}), view_of_bot(breaker=breaker))
        assert (said is not None and said.breaker_id == wanted.strip()) is there
    assert clear_command(bot_of(annotations={CLEAR_BREAKER: "l-1"}), view_of_bot()) is None


# what came of it


@pytest.mark.parametrize(
    ("desired", "applied", "acked", "done"),
    [
        ("NORMAL", Mode.NORMAL, True, True),
        ("NORMAL", Mode.HALT, False, True),  # the breaker's HALT: the spec asks for nothing that is not so
        ("REDUCE_ONLY", Mode.REDUCE_ONLY, True, True),
        ("REDUCE_ONLY", Mode.REDUCE_ONLY, False, False),
        ("REDUCE_ONLY", Mode.HALT, True, True),
        ("REDUCE_ONLY", Mode.NORMAL, True, False),
        ("HALT", Mode.HALT, True, True),
        ("HALT", Mode.HALT, False, False),
        ("HALT", Mode.REDUCE_ONLY, True, False),  # taken in, but not this generation's mode
    ],
)
def test_acknowledged_means_this_generation_in_force_and_carried_through(
    desired: str, applied: Mode, acked: bool, done: bool
) -> None:
    bot = bot_of({"mode": desired}, generation=5)
    said = applied_of(bot, applied, acked_at=NOW_MS if acked else None)
    view = view_of_bot(bot, applied=said)
    assert acknowledged(bot, view) is done
    assert (spec_command(bot, view) is None) is done
    earlier = view_of_bot(bot, applied=replace(said, spec_generation=4))
    assert not acknowledged(bot, earlier)
    assert spec_command(bot, earlier) is not None
    of_another = view_of_bot(bot, applied=replace(said, spec_uid="another", spec_generation=99))
    assert not acknowledged(bot, of_another)
    assert judged(bot, of_another).effective is None


def test_a_normal_bot_under_a_breaker_is_applied_and_says_whose_the_restriction_is() -> None:
    bot = bot_of()
    said = applied_of(bot, Mode.HALT, source=ModeSource.BREAKER, reason="drawdown", open_orders=0)
    state = judged(bot, view_of_bot(bot, applied=said))
    assert (state.desired, state.effective, state.source, state.applied) == (
        Mode.NORMAL,
        Mode.HALT,
        ModeSource.BREAKER,
        True,
    )
    assert "breaker restricts to HALT: drawdown" in state.why


def test_stamps_and_open_orders_come_from_execution() -> None:
    bot = bot_of(HALT)
    said = applied_of(bot, Mode.HALT, cancelled_at=None, acked_at=None, open_orders=3, flatten="pending")
    state = judged(bot, view_of_bot(bot, applied=said))
    assert (state.received_at, state.cancelled_at, state.acked_at) == (NOW, None, None)
    assert (state.open_orders, state.flatten, state.applied) == (3, "pending", False)
    assert (state.condition, state.why) == (Reason.CANCELLING, "execution has HALT: 3 orders are open")


def test_a_suspended_bot_that_never_ran_is_halted_by_nature() -> None:
    bot = bot_of({"suspend": True})
    state = judged(bot, view_of_bot(bot), execution_started_at=None)
    assert (state.effective, state.applied, state.condition) == (Mode.HALT, True, Reason.NOT_RUNNING)


def test_a_pod_that_has_not_spoken_for_this_resource_acknowledges_nothing() -> None:
    bot = bot_of({"suspend": True}, generation=8)
    for applied in (None, applied_of(bot, Mode.NORMAL, spec_uid=""), applied_of(bot, Mode.HALT, spec_uid="another")):
        view = view_of_bot(bot, applied=applied)
        assert not acknowledged(bot, view)
        assert judged(bot, view, execution_started_at=NOW).applied is False


def test_without_a_pod_an_earlier_acknowledged_halt_holds_and_no_other() -> None:
    bot = bot_of({"suspend": True}, generation=8)
    said = applied_of(bot, Mode.HALT, spec_generation=7)
    assert acknowledged(bot, view_of_bot(bot, applied=said), execution_present=False)
    assert not acknowledged(bot, view_of_bot(bot, applied=said))
    for missing in (replace(said, acked_at=None), replace(said, mode=Mode.NORMAL)):
        assert not acknowledged(bot, view_of_bot(bot, applied=missing), execution_present=False)
    running = bot_of(HALT, generation=8)
    assert not acknowledged(running, view_of_bot(running, applied=said), execution_present=False)


# Redis does not answer


def test_what_is_wanted_is_said_where_redis_does_not_answer() -> None:
    state = judged(bot_of(HALT), None)
    assert (state.desired, state.effective, state.applied) == (Mode.HALT, None, None)
    assert state.condition is Reason.UNREACHABLE
    assert "not known" in state.why


@pytest.mark.parametrize(
    ("status", "rests"),
    [
        (
            {
                "effective": "HALT",
                "source": "spec",
                "receivedAt": "2026-02-18T16:00:00Z",
                "ackedAt": "2026-02-18T16:00:01Z",
            },
            True,
        ),
        ({"effective": "HALT", "source": "spec"}, True),  # it never ran
        ({"effective": "HALT", "source": "breaker", "receivedAt": "2026-02-18T16:00:00Z"}, False),
        ({"effective": "NORMAL", "ackedAt": "2026-02-18T16:00:01Z"}, False),
        ({}, False),
    ],
)
def test_a_suspended_bots_redis_may_be_at_rest_too_once_the_halt_was_confirmed(
    status: Mapping[str, Any], rests: bool
) -> None:
    suspended = bot_of({"suspend": True}, status={"mode": status})
    state = judged(suspended, None, execution_started_at=None)
    assert (state.applied, state.condition) == ((True, Reason.NOT_RUNNING) if rests else (None, Reason.UNREACHABLE))
    running = bot_of(HALT, status={"mode": status})
    assert judged(running, None).applied is None
    assert judged(suspended, None, execution_started_at=NOW).applied is None  # what was so before need not be so now


# 10 s and 30 s


SILENT = view_of_bot()


@pytest.mark.parametrize("mode", ["REDUCE_ONLY", "HALT"])
@pytest.mark.parametrize("reachable", [True, False])
def test_a_restriction_that_is_not_taken_in_within_10_s_restarts_execution(mode: str, reachable: bool) -> None:
    bot = bot_of({"mode": mode})
    view = view_of_bot(bot) if reachable else None
    early, late = judged(bot, view, after_s=9.9), judged(bot, view, after_s=10)
    assert (early.restart_execution, late.restart_execution) == (False, True)
    assert early.look_again_s == pytest.approx(0.1)
    assert late.condition is (Reason.SILENT if reachable else Reason.UNREACHABLE)
    assert f"has not taken in {mode} within 10 s" in late.why


def test_a_pod_whose_container_has_not_started_is_never_deleted_for_its_silence() -> None:
    bot = bot_of(HALT)
    for view in (view_of_bot(bot), None):
        assert judged(bot, view, after_s=1000).restart_execution
        assert not judged(bot, view, after_s=1000, execution_ran=False).restart_execution


@pytest.mark.parametrize(("restarts", "pause_s"), [(1, 60), (2, 120), (3, 240), (4, 300), (5, 300), (10**6, 300)])
def test_each_restart_in_a_row_gives_execution_longer_to_start_up_to_its_startup_probe(
    restarts: int, pause_s: float
) -> None:
    bot = bot_of(HALT)
    again = {"restarted_at": NOW, "restarts": restarts}
    early, late = (judged(bot, None, after_s=seconds, **again) for seconds in (pause_s - 0.1, pause_s))
    assert (early.restart_execution, late.restart_execution) == (False, True)


@pytest.mark.parametrize("mode", ["REDUCE_ONLY", "HALT"])
def test_a_restriction_that_is_not_acknowledged_within_30_s_restarts_execution(mode: str) -> None:
    bot = bot_of({"mode": mode})
    view = view_of_bot(bot, applied=applied_of(bot, Mode(mode), acked_at=None, open_orders=2))
    early, late = judged(bot, view, after_s=29.9), judged(bot, view, after_s=30)
    assert (early.restart_execution, late.restart_execution) == (False, True)
    assert f"has not acknowledged {mode} within 30 s" in late.why
    assert late.open_orders == 2


def test_a_halt_under_a_breakers_older_halt_still_has_to_be_taken_in() -> None:
    """The stamps of the breaker's HALT are there, but not of this generation."""
    bot = bot_of(HALT, generation=2)
    said = applied_of(bot, Mode.HALT, spec_generation=1, source=ModeSource.BREAKER)
    state = judged(bot, view_of_bot(bot, applied=said), after_s=10)
    assert (state.applied, state.restart_execution, state.condition) == (False, True, Reason.SILENT)


@pytest.mark.parametrize(
    ("spec", "view", "started"),
    [
        ({}, SILENT, NOW - timedelta(hours=1)),  # NORMAL: nothing is at risk, and a start takes its time
        ({}, None, NOW - timedelta(hours=1)),
        (HALT, SILENT, None),  # there is no pod to delete
        ({"suspend": True}, SILENT, None),
    ],
)
def test_execution_is_left_alone_where_a_restart_would_help_nobody(
    spec: Mapping[str, Any], view: BusView | None, started: datetime | None
) -> None:
    state = judged(bot_of(spec), view, after_s=1000, execution_started_at=started)
    assert not state.restart_execution


def test_it_is_not_restarted_again_within_60_s() -> None:
    bot = bot_of(HALT)
    restarted = NOW + timedelta(seconds=10)
    waiting = judged(bot, view_of_bot(bot), after_s=69.9, restarted_at=restarted)
    again = judged(bot, view_of_bot(bot), after_s=70, restarted_at=restarted)
    assert (waiting.restart_execution, again.restart_execution) == (False, True)
    assert waiting.look_again_s == pytest.approx(0.1)


def test_a_pod_that_began_after_the_request_has_60_s_to_start() -> None:
    bot = bot_of(HALT)
    began = NOW + timedelta(seconds=12)
    assert not judged(bot, None, after_s=71, execution_started_at=began).restart_execution
    assert judged(bot, None, after_s=72, execution_started_at=began).restart_execution


def test_limits_are_those_of_the_settings() -> None:
    bot = bot_of(HALT)
    assert judged(bot, view_of_bot(bot), after_s=3, receive_s=3).restart_execution
    held = view_of_bot(bot, applied=applied_of(bot, Mode.HALT, acked_at=None))
    assert judged(bot, held, after_s=5, ack_s=5).restart_execution


def test_an_acknowledged_halt_asks_for_nothing_more_however_long_ago() -> None:
    bot = bot_of(HALT)
    state = judged(bot, view_of_bot(bot, applied=applied_of(bot, Mode.HALT)), after_s=100_000)
    assert (state.applied, state.restart_execution, state.look_again_s) == (True, False, None)
