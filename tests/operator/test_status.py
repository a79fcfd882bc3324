"""What the status says, and when it is worth a write: pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.operator_bus import NOW, applied_of, bot_of
from tradingbot.domain.modes import EffectiveMode, Mode, ModeSource
from tradingbot_operator.bus_view import BreakerSaid, BusView, Preflight
from tradingbot_operator.children import ChildrenReport
from tradingbot_operator.modes import verdict
from tradingbot_operator.observation import Observation
from tradingbot_operator.pods import read_pods, wanted_components
from tradingbot_operator.resource import Bot
from tradingbot_operator.status import condition_of, status_of, urgent
from tradingbot_operator.status_model import TradingBotStatus

NORMAL = EffectiveMode(mode=Mode.NORMAL, source=ModeSource.SPEC, reason="")
OK = Preflight(verdict="ok", texts=(), at=NOW)


def pod(component: str, **status: Any) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True"}
    running = {"state": {"running": {}}, "restartCount": 0}
    return {
        "metadata": {
            "name": f"majors-{component}-0",
            "labels": {"app.kubernetes.io/component": component},
            "creationTimestamp": "2026-02-18T15:00:00Z",
        },
        "status": {"conditions": [ready], "containerStatuses": [running], **status},
    }


def observed(bot: Bot | None = None, *, pods: list[dict[str, Any]] | None = None, **more: Any) -> Observation:
    """A healthy bot, unless said otherwise."""
    bot = bot or bot_of()
    view = more.pop("view", BusView(effective=NORMAL, applied=applied_of(bot, bot.spec.mode), preflight=OK))
    state = verdict(bot, view, now=NOW, requested_at=NOW, execution_started_at=NOW)
    bodies = [pod(each) for each in wanted_components(bot)] if pods is None else pods
    kept = {"report": ChildrenReport(), "mode": state, "view": view, **more}
    return Observation(bot=bot, now=NOW, pods=read_pods(bodies), **kept)


def said(seen: Observation, kind: str) -> tuple[str, str]:
    found = condition_of(status_of(seen), kind)
    return found["status"], found["reason"]


def again(seen: Observation, **changes: Any) -> Observation:
    """The next look, after the status was written."""
    return replace(seen, bot=replace(seen.bot, status=status_of(seen)), **changes)


def test_a_healthy_bot_is_ready_and_running() -> None:
    status = status_of(observed())
    assert TradingBotStatus.model_validate(status).phase == "Running"
    assert status["ready"] == "8/8"
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "Ready": "True",
        "SpecValid": "True",
        "ChildrenApplied": "True",
        "RedisReady": "True",
        "ModeApplied": "True",
        "Preflight": "True",
        "Degraded": "False",
    }


def test_a_second_look_at_the_same_says_the_same_however_much_later() -> None:
    seen = observed()
    later = again(seen, now=NOW + timedelta(hours=3))
    assert status_of(later) == dict(later.bot.status)


def test_a_transition_time_moves_only_when_the_status_flips() -> None:
    seen = again(observed(), now=NOW + timedelta(minutes=5))
    other_words = replace(seen, view=replace(seen.view, preflight=Preflight(verdict="warning", texts=("x",), at=NOW)))
    before, after = (condition_of(each, "Preflight") for each in (seen.bot.status, status_of(other_words)))
    assert after["reason"] == "PassedWithWarnings"
    assert after["lastTransitionTime"] == before["lastTransitionTime"]
    failed = replace(seen, view=replace(seen.view, preflight=Preflight(verdict="failed", texts=("x",), at=NOW)))
    assert condition_of(status_of(failed), "Preflight")["lastTransitionTime"] > before["lastTransitionTime"]


def test_what_was_not_looked_at_yet_stays_as_it_was_said() -> None:
    seen = again(observed())
    fresh = replace(seen, mode=None, view=None, report=None)
    assert status_of(fresh) == dict(fresh.bot.status)


def test_ready_speaks_of_the_oldest_generation_that_was_acted_upon() -> None:
    seen = again(observed())
    newer = replace(seen, bot=replace(seen.bot, generation=2), report=None)
    status = status_of(newer)
    assert condition_of(status, "Ready")["observedGeneration"] == 1
    assert status["observedGeneration"] == 1
    assert condition_of(status, "SpecValid")["observedGeneration"] == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"refused": "TradingBot other trades it"}, ("False", "AccountInUse")),
        ({"problems": (("spec.risk", "bad"),)}, ("False", "InvalidSpec")),
        ({"report": ChildrenReport(errors=(("Deployment/x", "no"),))}, ("False", "ApplyFailed")),
        ({"pods": [pod("redis")]}, ("False", "PodsNotReady")),
        ({"view": None, "bus_error": "no answer"}, ("False", "RedisNotReady")),
    ],
)
def test_ready_names_what_is_missing(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert said(observed(**changes), "Ready") == expected


def test_a_dry_run_is_ready_without_its_preflight() -> None:
    view = BusView(effective=NORMAL, preflight=Preflight(verdict="failed", texts=("agent: none",), at=NOW))
    for dry_run, expected in ((True, "True"), (False, "False")):
        bot = bot_of({"dryRun": dry_run})
        seen = observed(bot, view=replace(view, applied=applied_of(bot, Mode.NORMAL)))
        assert said(seen, "Ready")[0] == expected


def test_a_pod_that_cannot_run_degrades_the_bot_and_is_named() -> None:
    stuck = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    pods = [pod(each) for each in wanted_components(bot_of())]
    pods[4] = pod("execution", conditions=[], containerStatuses=[{"state": stuck}])
    seen = observed(pods=pods)
    assert said(seen, "Degraded") == ("True", "PodsCannotRun")
    assert "execution: ErrImagePull: no such image" in condition_of(status_of(seen), "Degraded")["message"]
    assert status_of(seen)["ready"] == "7/8"


def test_a_latched_breaker_degrades_the_bot_and_names_the_command_that_clears_it() -> None:
    breaker = BreakerSaid(mode=Mode.HALT, reason="drawdown 3.1 %", latch_ids=("dd-1",), command_id="c")
    seen = observed()
    seen = replace(seen, view=replace(seen.view, breaker=breaker))
    message = condition_of(status_of(seen), "Degraded")["message"]
    assert "kubectl annotate -n trading tradingbot majors --overwrite tradingbot.dev/clear-breaker=dd-1" in message


def test_stamps_of_an_earlier_mode_are_not_shown_as_the_answer_to_a_new_one() -> None:
    bot = bot_of({"mode": "HALT"}, generation=2)
    view = BusView(effective=NORMAL, applied=applied_of(bot_of(), Mode.NORMAL), preflight=OK)
    asked = NOW + timedelta(seconds=9)
    state = verdict(bot, view, now=asked, requested_at=asked, execution_started_at=NOW)
    mode = status_of(observed(bot, view=view, mode=state))["mode"]
    assert (mode["desired"], mode["effective"]) == ("HALT", "NORMAL")
    assert not {"receivedAt", "cancelledAt", "ackedAt"} & set(mode)


def test_figures_are_rounded_and_are_not_urgent() -> None:
    seen = observed()
    view = replace(seen.view, equity_usd=10023.4149, gross=0.123456, net=-0.00001, drawdown=0.0)
    status = status_of(replace(seen, view=view))
    assert status["portfolio"] == {"equityUsd": "10023.41", "gross": 0.1235, "net": 0.0, "drawdown": 0.0}
    other = status_of(replace(seen, view=replace(view, equity_usd=9000.0)))
    assert not urgent(status, other)
    assert urgent(status, {**other, "ready": "7/8"})
    assert urgent(status, {**other, "mode": {**other["mode"], "effective": "HALT"}})


def test_rare_conditions_are_listed_once_they_have_been_true() -> None:
    assert condition_of(status_of(observed()), "Paused") == {}
    paused = again(observed(bot_of(annotations={"tradingbot.dev/pause": "true"})))
    assert condition_of(paused.bot.status, "Paused")["status"] == "True"
    ended = replace(paused, bot=replace(paused.bot, annotations={}))
    assert condition_of(status_of(ended), "Paused")["status"] == "False"


def test_long_texts_fit_their_schema() -> None:
    breaker = BreakerSaid(mode=Mode.HALT, reason="x" * 5000, latch_ids=("y" * 500,), command_id="c")
    seen = observed(bus_error="z" * 50_000, problems=(("spec.x", "w" * 40_000),))
    TradingBotStatus.model_validate(status_of(replace(seen, view=replace(seen.view, breaker=breaker))))


def test_a_pod_that_is_still_being_created_may_miss_a_secret_that_is_mounted() -> None:
    body = pod("execution")
    body["status"] = {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}
    (read,) = read_pods([body])
    assert read.wants_secret
