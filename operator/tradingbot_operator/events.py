"""What a person would want to know of, as Kubernetes Events: read off what the status says now and said before.

An event's name is made of what it tells and of its occasion, so that two operators that see the same make one event,
and one that was told is not told again after a restart.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import structlog

from tradingbot.domain.errors import Permanent
from tradingbot.domain.modes import Mode
from tradingbot_operator.conditions import (
    ACCOUNT_IN_USE,
    CHILDREN_APPLIED,
    MODE_APPLIED,
    PAUSED,
    PREFLIGHT,
    READY,
    REDIS_READY,
    SPEC_VALID,
    SUSPENDED,
)
from tradingbot_operator.names import CLEAR_BREAKER
from tradingbot_operator.resource import Bot
from tradingbot_operator.status import condition_of

log = structlog.stdlib.get_logger("tradingbot.operator.events")

_NORMAL: Final = "Normal"
_WARNING: Final = "Warning"
_REMEMBERED: Final = 2000
_MINUTE_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a bot."""

    reason: str
    """CamelCase."""
    message: str
    action: str
    """What was being done, CamelCase."""
    warning: bool = False
    occasion: str = ""
    """What tells it from the same happening another time."""
    once: str = ""
    """What names it alone, where operators may find different words for it."""

    @property
    def type(self) -> str:
        """As Kubernetes names it."""
        return _WARNING if self.warning else _NORMAL

    def name(self, bot: Bot) -> str:
        """The same for every operator that sees the same."""
        what = (self.once,) if self.once else (self.message, self.occasion)
        told = "\n".join((bot.uid, self.reason, *what))
        return f"{bot.name}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"


class Posts(Protocol):
    """What posts an event (``kube.Kube``)."""

    async def event(self, bot: Bot, *, type: str, reason: str, message: str, action: str, name: str) -> None: ...  # noqa: A002 - the field's name


class Teller:
    """Posts each event once."""

    def __init__(self, posts: Posts) -> None:
        self._posts = posts
        self._told: OrderedDict[str, None] = OrderedDict()

    async def tell(self, bot: Bot, event: Event) -> None:
        """Post it, unless it was posted."""
        name = event.name(bot)
        if name in self._told:
            return
        try:
            await self._posts.event(
                bot, type=event.type, reason=event.reason, message=event.message, action=event.action, name=name
            )
        except Permanent as error:
            # A namespace on its way out takes no events: that must not keep a bot from going.
            log.warning("event_not_told", bot=bot.key, reason=event.reason, message=event.message, error=str(error))
        self._told[name] = None
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)


def minute_of(now: datetime) -> str:
    """An occasion: at most one such event a minute."""
    return str(int(now.timestamp()) // _MINUTE_S)


def events_of(before: Mapping[str, Any], after: Mapping[str, Any], *, bot: Bot) -> Iterator[Event]:
    """What the change from one status to the next tells."""
    yield from _mode_events(before, after)
    yield from _breaker_events(before.get("breaker") or {}, after.get("breaker") or {}, bot)
    yield from _person_events(before.get("person") or {}, after.get("person") or {})
    for telling in _TELLINGS:
        yield from telling.events(condition_of(before, telling.condition), condition_of(after, telling.condition))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Telling:
    """The events of one condition: what it tells when it becomes true, and when it becomes false."""

    condition: str
    action: str
    true: str = ""
    false: str = ""
    bad: str = "False"
    """The status that is bad news; it is told also when it is the first that is ever said."""

    def events(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
        status = after.get("status")
        if status == before.get("status"):
            return
        reason = {"True": self.true, "False": self.false}.get(str(status), "")
        first = before.get("status") in {None, "Unknown"}
        if not reason or (first and status != self.bad and self.condition != READY):
            return
        message = after.get("message") or _PLAIN.get(reason, reason)
        occasion = minute_of(datetime.fromisoformat(after["lastTransitionTime"]))
        yield Event(reason=reason, message=message, action=self.action, warning=status == self.bad, occasion=occasion)


_PLAIN: Final[Mapping[str, str]] = {
    "SpecValid": "the spec is valid again",
    "RedisReachable": "Redis answers again",
    "PreflightPassed": "the preflight has passed",
    "ChildrenApplied": "all children are as rendered",
    "Unpaused": "children are brought to what the spec says again",
    "Resumed": "the bot is no longer suspended",
    "AccountFree": "the account is free: the bot has it now",
}

_TELLINGS: Final = (
    _Telling(condition=SPEC_VALID, action="Validate", true="SpecValid", false="InvalidSpec"),
    _Telling(condition=ACCOUNT_IN_USE, action="TakeAccount", true="AccountInUse", false="AccountFree", bad="True"),
    _Telling(condition=CHILDREN_APPLIED, action="Apply", true="ChildrenApplied", false="ApplyFailed"),
    _Telling(condition=REDIS_READY, action="Reach", true="RedisReachable", false="RedisUnreachable"),
    _Telling(condition=PREFLIGHT, action="Preflight", true="PreflightPassed", false="PreflightFailed"),
    _Telling(condition=READY, action="Watch", true="Ready", bad=""),
    _Telling(condition=PAUSED, action="Pause", true="Paused", false="Unpaused", bad=""),
    _Telling(condition=SUSPENDED, action="Suspend", true="Suspended", bad=""),
)


def _mode_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    mode, was = after.get("mode") or {}, before.get("mode") or {}
    applied, judged = condition_of(after, MODE_APPLIED), condition_of(before, MODE_APPLIED)
    done = applied.get("status") == "True" and mode.get("ackedAt") is not None
    fresh = judged.get("status") != "True" or was.get("requestedAt") != mode.get("requestedAt")
    if done and fresh and judged:
        once = f"{mode.get('generation')} {mode.get('ackedAt')}"
        yield Event(reason="ModeApplied", message=_applied_text(mode), action="ApplyMode", once=once)
    if mode.get("effective") and was.get("effective") and mode["effective"] != was["effective"]:
        why = f": {mode['reason']}" if mode.get("reason") else ""
        yield Event(
            reason="ModeChanged",
            message=f"{was['effective']} → {mode['effective']} by {mode.get('source', '?')}{why}",
            action="Observe",
            warning=mode["effective"] == Mode.HALT and mode.get("source") == "breaker",
            occasion=str(mode.get("receivedAt")),
        )
    if mode.get("flatten") in {"flat", "failed"} and mode["flatten"] != was.get("flatten"):
        yield _flatten_event(mode)


def _applied_text(mode: Mapping[str, Any]) -> str:
    """``HALT: received after 31 ms, cancelled after 180 ms, acknowledged after 214 ms``."""
    steps = (("received", "receivedAt"), ("cancelled", "cancelledAt"), ("acknowledged", "ackedAt"))
    asked = _moment(mode.get("requestedAt"))
    if asked is None:
        return f"{mode.get('desired')} is applied"
    taken = [
        f"{word} after {max(0, round((at - asked).total_seconds() * 1000))} ms"
        for word, field in steps
        if (at := _moment(mode.get(field))) is not None
    ]
    return f"{mode.get('desired')}: {', '.join(taken)}"


def _flatten_event(mode: Mapping[str, Any]) -> Event:
    if mode["flatten"] == "flat":
        return Event(
            reason="Flattened",
            message="all positions are closed",
            action="Flatten",
            occasion=str(mode.get("receivedAt")),
        )
    return Event(
        reason="FlattenFailed",
        message="execution could not close every position in time: look at the account",
        action="Flatten",
        warning=True,
        occasion=str(mode.get("receivedAt")),
    )


def _breaker_events(before: Mapping[str, Any], after: Mapping[str, Any], bot: Bot) -> Iterator[Event]:
    now, was = after.get("latchId"), before.get("latchId")
    if now == was:
        return
    if now:
        cure = f"kubectl -n {bot.namespace} annotate tradingbot {bot.name} --overwrite {CLEAR_BREAKER}={now}"
        why = f"{after.get('reason', '')}. Clear it with: {cure}"
        yield Event(reason="BreakerLatched", message=why, action="Observe", warning=True, occasion=str(now))
    else:
        yield Event(reason="BreakerCleared", message=f"{was} is cleared", action="ClearBreaker", occasion=str(was))


def _person_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    now, was = after.get("mode", Mode.NORMAL), before.get("mode", Mode.NORMAL)
    if now == was:
        return
    by = after.get("by") or before.get("by") or "a person"
    why = f": {after['reason']}" if after.get("reason") else ""
    yield Event(
        reason="PersonSaid",
        message=f"{by} says {now}{why}",
        action="Observe",
        occasion=str(after.get("untilGeneration")),
    )


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
