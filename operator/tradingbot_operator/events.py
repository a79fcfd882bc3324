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
    """What a change of one condition tells: of its turn to the worse with these reasons, and of the turn back."""

    condition: str
    action: str
    worse: str
    """The event when it turns to ``bad``."""
    better: str
    """The event when it turns back."""
    words: str = ""
    """For the turn back."""
    because: frozenset[str] | None = None
    """The condition's reasons that are worth an event; None: all."""
    bad: str = "False"
    warning: bool = True
    at_first: bool = True
    """Whether the worse is told also when nothing was said before."""

    def events(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
        is_bad, was_bad = self._holds(after), self._holds(before)
        if is_bad and not was_bad and (self.at_first or before.get("status") == "True"):
            yield self._event(self.worse, after.get("message") or self.worse, after, warning=self.warning)
        if was_bad and not is_bad and after.get("status") not in {None, "Unknown", self.bad}:
            yield self._event(self.better, self.words or after.get("message") or self.better, after, warning=False)

    def _holds(self, said: Mapping[str, Any]) -> bool:
        return said.get("status") == self.bad and (self.because is None or said.get("reason") in self.because)

    def _event(self, reason: str, message: str, said: Mapping[str, Any], *, warning: bool) -> Event:
        occasion = minute_of(datetime.fromisoformat(said["lastTransitionTime"]))
        return Event(reason=reason, message=message, action=self.action, warning=warning, occasion=occasion)


_TELLINGS: Final = (
    _Telling(
        condition=SPEC_VALID,
        action="Validate",
        worse="InvalidSpec",
        better="SpecValid",
        words="the spec is valid again",
    ),
    _Telling(
        condition=ACCOUNT_IN_USE,
        action="TakeAccount",
        worse="AccountInUse",
        better="AccountFree",
        words="the bot has its account now",
        bad="True",
    ),
    _Telling(
        condition=CHILDREN_APPLIED,
        action="Apply",
        worse="ApplyFailed",
        better="ChildrenApplied",
        words="all children are as rendered",
        because=frozenset({"ApplyFailed"}),
    ),
    _Telling(
        condition=REDIS_READY,
        action="Reach",
        worse="RedisUnreachable",
        better="RedisReachable",
        words="Redis answers again",
        because=frozenset({"Unreachable"}),
    ),
    _Telling(
        condition=PREFLIGHT,
        action="Preflight",
        worse="PreflightFailed",
        better="PreflightPassed",
        words="the preflight has passed",
    ),
    _Telling(condition=READY, action="Watch", worse="NotReady", better="Ready", at_first=False),
    _Telling(
        condition=PAUSED,
        action="Pause",
        worse="Paused",
        better="Unpaused",
        words="children are brought to what the spec says again",
        bad="True",
        warning=False,
    ),
    _Telling(
        condition=SUSPENDED,
        action="Suspend",
        worse="Suspended",
        better="Resumed",
        words="the bot is no longer suspended",
        bad="True",
        warning=False,
    ),
)


def _mode_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    mode, was = after.get("mode") or {}, before.get("mode") or {}
    applied, judged = condition_of(after, MODE_APPLIED), condition_of(before, MODE_APPLIED)
    news = judged.get("status") != "True" or was.get("requestedAt") != mode.get("requestedAt")
    if applied.get("status") == "True" and news and (text := _applied_text(mode)):
        # Once for each generation: execution's stamps are renewed when a breaker comes and goes.
        once = f"{mode.get('generation')} {mode.get('desired')}"
        yield Event(reason="ModeApplied", message=text, action="ApplyMode", once=once)
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
    """``HALT: received after 31 ms, cancelled after 180 ms, acknowledged after 214 ms``; empty when it held already."""
    asked, taken = _moment(mode.get("requestedAt")), _moment(mode.get("receivedAt"))
    if asked is None or taken is None or taken < asked:
        return ""
    steps = [("received", "receivedAt"), ("cancelled", "cancelledAt"), ("acknowledged", "ackedAt")]
    if mode.get("desired") == Mode.NORMAL:
        steps = steps[:1]
    told = [
        f"{word} after {round((at - asked).total_seconds() * 1000)} ms"
        for word, field in steps
        if (at := _moment(mode.get(field))) is not None
    ]
    return f"{mode.get('desired')}: {', '.join(told)}"


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
