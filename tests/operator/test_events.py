"""What a change of the status tells, and that it is told once: pure but for the post."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from support.operator_bus import bot_of
from tradingbot_operator.events import Event, Teller, events_of
from tradingbot_operator.kube import Forbidden

BOT = bot_of()
AT = "2026-02-18T16:00:00Z"


def condition(kind: str, status: str, reason: str = "Because", message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": AT}


def status(*conditions: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {"conditions": list(conditions), **parts}


def told(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Event]:
    return {each.reason: each for each in events_of(before, after, bot=BOT)}


def mode(desired: str, **more: Any) -> dict[str, Any]:
    return {
        "desired": desired,
        "effective": desired,
        "generation": 4,
        "requestedAt": "2026-02-18T16:00:00.000Z",
        **more,
    }


@dataclass
class Posts:
    """The API server's events."""

    names: list[str] = field(default_factory=list)
    refuses: bool = False

    async def event(self, bot: Any, **told: str) -> None:
        if self.refuses:
            raise Forbidden("the namespace is being terminated")
        self.names.append(told["name"])


def test_a_new_bot_tells_nothing_of_what_is_not_there_yet() -> None:
    starting = status(
        condition("Ready", "False", "PodsNotReady"),
        condition("RedisReady", "False", "Starting", "no answer yet"),
        condition("ModeApplied", "Unknown", "RedisUnreachable"),
    )
    assert told({}, starting) == {}


def test_a_halt_is_told_with_the_milliseconds_of_each_step() -> None:
    waiting = status(condition("ModeApplied", "False"), mode=mode("HALT", effective="NORMAL"))
    stamps = {"receivedAt": "2026-02-18T16:00:00.031Z", "cancelledAt": "2026-02-18T16:00:00.180Z"}
    done = status(condition("ModeApplied", "True"), mode=mode("HALT", **stamps, ackedAt="2026-02-18T16:00:00.214000Z"))
    found = told(waiting, done)
    text = "HALT: received after 31 ms, cancelled after 180 ms, acknowledged after 214 ms"
    assert found["ModeApplied"].message == text
    assert found["ModeChanged"].message == "NORMAL → HALT by ?"
    assert told(done, done) == {}


def test_a_mode_that_held_already_is_not_told_again() -> None:
    before = status(condition("ModeApplied", "True"), mode=mode("NORMAL", generation=3, requestedAt=AT))
    after = status(
        condition("ModeApplied", "True"),
        mode=mode("NORMAL", requestedAt="2026-02-18T17:00:00Z", receivedAt="2026-02-18T16:00:01Z"),
    )
    assert "ModeApplied" not in told(before, after)


def test_two_operators_name_a_mode_that_was_applied_alike() -> None:
    waiting = status(condition("ModeApplied", "False"), mode=mode("HALT", requestedAt=AT))
    names = set()
    for asked in ("2026-02-18T16:00:00.001Z", "2026-02-18T16:00:00.009Z"):
        done = status(
            condition("ModeApplied", "True"),
            mode=mode("HALT", requestedAt=asked, receivedAt="2026-02-18T16:00:00.020Z", ackedAt=AT),
        )
        names.add(told(waiting, done)["ModeApplied"].name(BOT))
    assert len(names) == 1


def test_a_latched_breaker_is_told_with_its_command_and_its_end_too() -> None:
    latched = status(breaker={"mode": "HALT", "reason": "drawdown 3.2 %", "latchId": "dd-1"})
    found = told(status(breaker={"mode": "NORMAL"}), latched)["BreakerLatched"]
    command = "kubectl -n trading annotate tradingbot majors --overwrite tradingbot.dev/clear-breaker=dd-1"
    assert found.message == f"drawdown 3.2 %. Clear it with: {command}"
    assert found.warning
    assert "BreakerCleared" in told(latched, status(breaker={"mode": "NORMAL"}))


def test_an_outage_of_redis_is_told_and_its_end_and_a_suspension_is_none() -> None:
    up = status(condition("RedisReady", "True"))
    down = status(condition("RedisReady", "False", "Unreachable", "no answer"))
    assert told(up, down)["RedisUnreachable"].warning
    assert not told(down, up)["RedisReachable"].warning
    assert told(up, status(condition("RedisReady", "False", "Suspended"))) == {}


def test_rare_conditions_are_told_when_they_begin_and_end() -> None:
    for kind, begins, ends in (
        ("AccountInUse", "AccountInUse", "AccountFree"),
        ("Paused", "Paused", "Unpaused"),
        ("Suspended", "Suspended", "Resumed"),
    ):
        on, off = status(condition(kind, "True")), status(condition(kind, "False"))
        assert list(told({}, on)) == [begins]
        assert list(told(on, off)) == [ends]
        assert told({}, off) == {}


def test_readiness_that_is_lost_is_told_and_that_which_was_never_there_is_not() -> None:
    ready, lost = status(condition("Ready", "True")), status(condition("Ready", "False", "PodsNotReady", "7/8 ready"))
    assert told(ready, lost)["NotReady"].message == "7/8 ready"
    assert told({}, lost) == {}
    assert "Ready" in told(lost, ready)


async def test_an_event_is_posted_once() -> None:
    posts = Posts()
    teller = Teller(posts)
    event = Event(reason="DriftCorrected", message="brought back x", action="Apply", occasion="1")
    await teller.tell(BOT, event)
    await teller.tell(BOT, event)
    await teller.tell(BOT, Event(reason="DriftCorrected", message="brought back x", action="Apply", occasion="2"))
    assert len(posts.names) == len(set(posts.names)) == 2
    assert all(len(name) <= 253 for name in posts.names)


async def test_a_namespace_that_takes_no_events_holds_nothing_up() -> None:
    await Teller(Posts(refuses=True)).tell(BOT, Event(reason="X", message="y", action="Z"))
