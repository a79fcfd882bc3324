"""The conditions of a TradingBot: each a pure finding; what cannot be known yet stays as it was said before.

Messages tell a person what to do. ``lastTransitionTime`` moves only when a condition's status flips.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from tradingbot_operator.modes import Reason
from tradingbot_operator.names import CLEAR_BREAKER, PAUSE
from tradingbot_operator.observation import Observation
from tradingbot_operator.status_model import Condition, ConditionStatus

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN

READY: Final = "Ready"
SPEC_VALID: Final = "SpecValid"
CHILDREN_APPLIED: Final = "ChildrenApplied"
REDIS_READY: Final = "RedisReady"
MODE_APPLIED: Final = "ModeApplied"
PREFLIGHT: Final = "Preflight"
DEGRADED: Final = "Degraded"
PAUSED: Final = "Paused"
SUSPENDED: Final = "Suspended"
ACCOUNT_IN_USE: Final = "AccountInUse"

_SHOWN_ONCE_TRUE: Final = frozenset({PAUSED, SUSPENDED, ACCOUNT_IN_USE})
"""Conditions that most bots never meet: not listed before they have been true."""
_MESSAGE_LIMIT: Final = 2000


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said now, without its time."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    generation: int | None = None
    """The spec's generation that it was found for; None: the present one."""


def conditions(seen: Observation, previous: Iterable[Mapping[str, Any]], *, now: datetime) -> tuple[Condition, ...]:
    """All conditions; ``previous`` are those of the status as last seen."""
    before = {str(each.get("type")): each for each in previous}
    base = [_spec_valid(seen), _children_applied(seen), _redis_ready(seen), _mode_applied(seen), _preflight(seen)]
    said = {each.type: each for each in (_settled(*pair, before) for pair in zip(_BASE, base, strict=True))}
    acted = (said[CHILDREN_APPLIED].generation, said[MODE_APPLIED].generation)
    oldest = min((each for each in acted if each is not None), default=None)
    said[DEGRADED] = replace(_degraded(seen, said), generation=oldest)
    said[READY] = replace(_ready(seen, said), generation=oldest)
    for rare in (_paused(seen), _suspended(seen), _account_in_use(seen)):
        if rare.status is TRUE or rare.type in before:
            said[rare.type] = rare
    ordered = [said[name] for name in _ORDER if name in said]
    return tuple(_condition(each, before.get(each.type), seen.bot.generation, now) for each in ordered)


_BASE: Final = (SPEC_VALID, CHILDREN_APPLIED, REDIS_READY, MODE_APPLIED, PREFLIGHT)
_ORDER: Final = (READY, *_BASE, DEGRADED, PAUSED, SUSPENDED, ACCOUNT_IN_USE)


def _settled(name: str, found: Finding | None, before: Mapping[str, Mapping[str, Any]]) -> Finding:
    """What was found, else what was said before, else that it is not known."""
    if found is not None:
        return found
    if kept := before.get(name):
        words = kept["reason"], kept.get("message", "")
        return Finding(name, ConditionStatus(kept["status"]), *words, int(kept.get("observedGeneration", 0)))
    return Finding(name, UNKNOWN, "NotKnownYet", generation=0)


def _condition(found: Finding, before: Mapping[str, Any] | None, generation: int, now: datetime) -> Condition:
    flipped = before is None or before.get("status") != found.status
    since = (
        now.replace(microsecond=0)
        if flipped or before is None
        else datetime.fromisoformat(before["lastTransitionTime"])
    )
    text = found.message if len(found.message) <= _MESSAGE_LIMIT else found.message[: _MESSAGE_LIMIT - 1] + "…"
    return Condition(
        type=found.type,
        status=found.status,
        reason=found.reason,
        message=text,
        observed_generation=generation if found.generation is None else found.generation,
        last_transition_time=since,
    )


def _spec_valid(seen: Observation) -> Finding:
    if not seen.problems:
        return Finding(SPEC_VALID, TRUE, "Valid")
    wrong = "; ".join(f"{path}: {text}" for path, text in seen.problems)
    kept = "Running pods keep their last valid configuration, and spec.mode is obeyed."
    return Finding(SPEC_VALID, FALSE, "InvalidSpec", f"{wrong}. {kept}")


def _children_applied(seen: Observation) -> Finding | None:
    if seen.problems:
        text = "the children are left as they are until the spec is valid"
        return Finding(CHILDREN_APPLIED, FALSE, "InvalidSpec", text)
    if seen.refused:
        return Finding(CHILDREN_APPLIED, FALSE, "AccountInUse", "a bot without an account has no children")
    if seen.bot.paused:
        text = f"the children are left alone while the annotation {PAUSE} is true"
        return Finding(CHILDREN_APPLIED, UNKNOWN, "Paused", text)
    if seen.report is None:
        return None
    if seen.report.errors:
        text = "; ".join(f"{name}: {error}" for name, error in seen.report.errors)
        return Finding(CHILDREN_APPLIED, FALSE, "ApplyFailed", text)
    if seen.report.waiting:
        return Finding(
            CHILDREN_APPLIED, FALSE, "Waiting", "; ".join(f"{name}: {text}" for name, text in seen.report.waiting)
        )
    return Finding(CHILDREN_APPLIED, TRUE, "Applied")


def _redis_ready(seen: Observation) -> Finding | None:
    if seen.view is not None:
        return Finding(REDIS_READY, TRUE, "Reachable")
    if seen.refused:
        return Finding(REDIS_READY, FALSE, "AccountInUse", "a bot without an account has no Redis")
    if seen.at_rest:
        return Finding(REDIS_READY, FALSE, "Suspended", "no Redis runs while the bot is suspended; its volume is kept")
    if seen.bus_error:
        return Finding(REDIS_READY, FALSE, "Starting" if _starting(seen) else "Unreachable", seen.bus_error)
    return None


def _mode_applied(seen: Observation) -> Finding | None:
    if seen.refused:
        return Finding(MODE_APPLIED, FALSE, "AccountInUse", "a bot without an account does not trade")
    if seen.mode is None:
        return None
    status = UNKNOWN if seen.mode.applied is None else TRUE if seen.mode.applied else FALSE
    text = f"{seen.mode.why}: {seen.bus_error}" if seen.bus_error and status is UNKNOWN else seen.mode.why
    return Finding(MODE_APPLIED, status, seen.mode.condition.value, text)


def _preflight(seen: Observation) -> Finding | None:
    if seen.view is None or seen.view.preflight is None:
        return None
    made = seen.view.preflight
    text = "; ".join(made.texts)
    match made.verdict:
        case "ok":
            return Finding(PREFLIGHT, TRUE, "Passed")
        case "warning":
            return Finding(PREFLIGHT, TRUE, "PassedWithWarnings", text)
        case _:
            tail = "Execution tries again every 15 s; no order is sent before it passes."
            return Finding(PREFLIGHT, FALSE, "Failed", f"{text}. {tail}")


def _degraded(seen: Observation, said: Mapping[str, Finding]) -> Finding:
    """The first thing that a person ought to look at."""
    if not seen.bot.deleting and not seen.at_rest:
        for found in (*_troubles(seen, said), *_breaker(seen)):
            return found
    return Finding(DEGRADED, FALSE, "NoProblem")


def _troubles(seen: Observation, said: Mapping[str, Finding]) -> Iterable[Finding]:
    if said[SPEC_VALID].status is FALSE:
        yield Finding(DEGRADED, TRUE, "InvalidSpec", said[SPEC_VALID].message)
    if said[CHILDREN_APPLIED].reason == "ApplyFailed":
        yield Finding(DEGRADED, TRUE, "ApplyFailed", said[CHILDREN_APPLIED].message)
    if seen.pod_problems:
        yield Finding(DEGRADED, TRUE, "PodsCannotRun", "; ".join(seen.pod_problems))
    if said[REDIS_READY].reason == "Unreachable":
        yield Finding(DEGRADED, TRUE, "RedisUnreachable", said[REDIS_READY].message)
    if said[MODE_APPLIED].reason == Reason.SILENT:
        yield Finding(DEGRADED, TRUE, Reason.SILENT.value, said[MODE_APPLIED].message)
    if said[PREFLIGHT].status is FALSE and not seen.bot.spec.dry_run_in_force:
        yield Finding(DEGRADED, TRUE, "PreflightFailed", said[PREFLIGHT].message)


def _starting(seen: Observation) -> bool:
    """Whether the bot's own Redis has not answered once: that is no trouble yet."""
    own = seen.bot.spec.redis.url_secret_ref is None
    return own and not any(seen.bot.status.get(name) for name in ("breaker", "parameters", "portfolio"))


def _breaker(seen: Observation) -> Iterable[Finding]:
    breaker = seen.view.breaker if seen.view is not None else None
    if breaker is not None and breaker.latch_id:
        text = f"{breaker.reason}. {clear_command(seen)}"
        yield Finding(DEGRADED, TRUE, "BreakerLatched", text)


def clear_command(seen: Observation) -> str:
    """What a person types to clear the latched breaker; empty when none is."""
    breaker = seen.view.breaker if seen.view is not None else None
    if breaker is None or not breaker.latch_id:
        return ""
    target = f"-n {seen.bot.namespace} tradingbot {seen.bot.name}"
    return f"Clear it with: kubectl annotate {target} --overwrite {CLEAR_BREAKER}={breaker.latch_id}"


def _ready(seen: Observation, said: Mapping[str, Finding]) -> Finding:
    if seen.bot.deleting:
        return Finding(READY, FALSE, "Deleting", seen.deletion)
    if seen.refused:
        return Finding(READY, FALSE, "AccountInUse", seen.refused)
    if seen.problems:
        return Finding(READY, FALSE, "InvalidSpec", said[SPEC_VALID].message)
    if seen.bot.spec.suspend:
        return Finding(READY, FALSE, "Suspended", "spec.suspend is true")
    if said[CHILDREN_APPLIED].status is FALSE:
        return Finding(READY, FALSE, said[CHILDREN_APPLIED].reason, said[CHILDREN_APPLIED].message)
    if seen.unready:
        text = f"{seen.ready_text} ready; waiting for {', '.join(seen.unready)}"
        return Finding(READY, FALSE, "PodsNotReady", "; ".join((text, *seen.pod_problems)))
    if said[REDIS_READY].status is not TRUE:
        return Finding(READY, FALSE, "RedisNotReady", said[REDIS_READY].message)
    if seen.mode is not None and seen.mode.effective is None:
        return Finding(READY, FALSE, "ModeNotTaken", said[MODE_APPLIED].message)
    if said[PREFLIGHT].status is not TRUE and not seen.bot.spec.dry_run_in_force:
        return Finding(READY, FALSE, "PreflightNotPassed", said[PREFLIGHT].message)
    return Finding(READY, TRUE, "Ready", f"{seen.ready_text} ready")


def _paused(seen: Observation) -> Finding:
    if seen.bot.paused:
        text = f"children are left alone; modes still work. To end it: remove the annotation {PAUSE}"
        return Finding(PAUSED, TRUE, "Annotated", text)
    return Finding(PAUSED, FALSE, "NotAnnotated")


def _suspended(seen: Observation) -> Finding:
    if not seen.bot.spec.suspend:
        return Finding(SUSPENDED, FALSE, "NotAsked")
    if seen.at_rest:
        return Finding(SUSPENDED, TRUE, "AtRest", "no pods; Redis' volume, the configuration and Secrets are kept")
    return Finding(SUSPENDED, FALSE, "Stopping", "the pods go once execution has acknowledged the HALT")


def _account_in_use(seen: Observation) -> Finding:
    if seen.refused:
        return Finding(ACCOUNT_IN_USE, TRUE, "HeldByAnother", seen.refused)
    return Finding(ACCOUNT_IN_USE, FALSE, "Held")
