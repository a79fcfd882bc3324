"""What the operator wants of one bot's mode, what it says for it, and what it makes of the answer. Pure.

A command is written for every generation of the resource, also where the mode stays the same: a person's mode that
ends with a generation ends by it. Nothing here lifts what the breaker or a person restricts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from tradingbot.bus.control import Applied
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.messages import Command, ControlCommand
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.domain.params import HaltAction, Params
from tradingbot_operator.bus_view import BusView
from tradingbot_operator.names import CLEAR_BREAKER
from tradingbot_operator.params import params_of
from tradingbot_operator.resource import Bot
from tradingbot_operator.spec import DeletionPolicy

RECEIVE_S: Final = 10.0
ACK_S: Final = 30.0
RESTART_AGAIN_S: Final = 60.0
"""Real seconds after the first deletion of execution's pod before the next; twice that after each further one."""
RESTART_AT_MOST_S: Final = 300.0
"""The longest such pause: what a start may take by its startup probe."""

_COMMAND_OF = {Mode.NORMAL: Command.RESUME, Mode.REDUCE_ONLY: Command.REDUCE_ONLY, Mode.HALT: Command.HALT}


class Cause(StrEnum):
    """Why the resource asks for a mode."""

    SPEC = "spec"
    SUSPENDED = "suspended"
    DELETED = "deleted"


_WORDS = {Cause.SPEC: "spec.mode", Cause.SUSPENDED: "suspended", Cause.DELETED: "deleted"}


class Reason(StrEnum):
    """The reason of condition ModeApplied, one for each thing that can be said."""

    APPLIED = "Applied"
    NOT_RUNNING = "NotRunning"
    """Suspended or gone: nothing runs that could trade."""
    WAITING = "WaitingForExecution"
    CANCELLING = "Cancelling"
    """Execution has it and is cancelling, or waits until nothing can come any more."""
    SILENT = "ExecutionSilent"
    """Execution did not say in time that it has it, or that it is done."""
    SUPERSEDED = "NewerGeneration"
    """Redis holds a newer generation than this look at the resource."""
    UNREACHABLE = "RedisUnreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The mode that the resource asks for."""

    mode: Mode
    cause: Cause

    @property
    def reason(self) -> str:
        """For the log, execution and a person."""
        return _WORDS[self.cause]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeState:
    """What status and condition ModeApplied say."""

    desired: Mode
    effective: Mode | None
    """What execution holds itself to, HALT where nothing runs; None when it is not known."""
    source: ModeSource | None
    reason: str
    generation: int | None
    """Of the spec's key in Redis."""
    requested_at: datetime | None
    received_at: datetime | None = None
    cancelled_at: datetime | None = None
    acked_at: datetime | None = None
    open_orders: int | None = None
    flatten: str = ""
    applied: bool | None
    """None when it cannot be known."""
    condition: Reason
    why: str
    """A sentence for a person."""
    restart_execution: bool = False
    look_again_s: float | None = None
    """When time alone changes what is to be done, real seconds from now."""


# ---------------------------------------------------------------- what is wanted


def desired_of(bot: Bot) -> Desired:
    """HALT of a bot that is being deleted or suspended, else what the spec says."""
    if bot.deleting and bot.spec.deletion_policy is not DeletionPolicy.LEAVE:
        return Desired(mode=Mode.HALT, cause=Cause.DELETED)
    if bot.spec.suspend:
        return Desired(mode=Mode.HALT, cause=Cause.SUSPENDED)
    return Desired(mode=bot.spec.mode, cause=Cause.SPEC)


def desired_params(bot: Bot) -> Params:
    """The spec's parameters; a deletion that flattens asks for that too, before its HALT."""
    params = params_of(bot.spec)
    if not (bot.deleting and bot.spec.deletion_policy is DeletionPolicy.FLATTEN):
        return params
    return params.model_copy(update={"risk": params.risk.model_copy(update={"halt_action": HaltAction.FLATTEN})})


def mode_file(bot: Bot) -> str:
    """The content of execution's mode file: the mode, and of which generation of which resource it is."""
    return f"{desired_of(bot).mode} {bot.generation} {bot.uid}"


def command_id(bot: Bot) -> str:
    """Names the mode command of this generation; the same however often it is sent."""
    desired = desired_of(bot)
    return f"{bot.uid}:{bot.generation}:{desired.mode}:{desired.cause}"


def spec_command(bot: Bot, view: BusView, *, execution_present: bool = True) -> ControlCommand | None:
    """What is to be written for the spec's mode; None when it is acknowledged or a newer generation has spoken.

    NORMAL is a RESUME of the spec's own source: what the breaker or a person restricts stays.
    """
    done = _written(bot, view) and acknowledged(bot, view, execution_present=execution_present)
    if done or _superseded(bot, view):
        return None
    desired = desired_of(bot)
    return ControlCommand(
        command=_COMMAND_OF[desired.mode],
        command_id=_id_there(bot, view),
        source=ModeSource.SPEC,
        reason=desired.reason,
        issued_by="operator",
        uid=bot.uid,
        generation=bot.generation,
    )


def clear_command(bot: Bot, view: BusView) -> ControlCommand | None:
    """What clears the latched breaker that the annotation names; None when no such latch is there.

    Its id holds the writing of the breaker's key that it answers, as one id may be latched again later.
    """
    wanted = bot.annotations.get(CLEAR_BREAKER, "").strip()
    if not wanted or view.breaker is None or wanted not in view.breaker.latch_ids:
        return None
    return ControlCommand(
        command=Command.CLEAR_BREAKER,
        command_id=f"{bot.uid}:clear:{wanted}:{view.breaker.command_id}",
        source=ModeSource.SPEC,
        reason=f"annotation {CLEAR_BREAKER}",
        issued_by="operator",
        uid=bot.uid,
        generation=bot.generation,
        breaker_id=wanted,
    )


# ---------------------------------------------------------------- what came of it


def acknowledged(bot: Bot, view: BusView, *, execution_present: bool = True) -> bool:
    """Whether execution has carried the desired mode through, or nothing runs that could break it.

    Without a pod of execution an earlier acknowledged HALT still holds, and what never ran needs none. A pod that has
    not spoken for this resource yet may be trading by the mode file.
    """
    desired, applied = desired_of(bot), _ours(bot, view)
    if desired.cause is not Cause.SPEC and not execution_present:
        return applied is None or (applied.mode is Mode.HALT and applied.acked_at is not None)
    if applied is None or not _received(bot, view):
        return False
    return desired.mode is Mode.NORMAL or applied.acked_at is not None


def awaited(bot: Bot, view: BusView) -> bool:
    """Whether an acknowledgement is still to come that is worth asking for often."""
    return not _superseded(bot, view) and not acknowledged(bot, view)


def verdict(
    bot: Bot,
    view: BusView | None,
    *,
    now: datetime,
    requested_at: datetime | None,
    execution_started_at: datetime | None = None,
    execution_ran: bool = True,
    restarted_at: datetime | None = None,
    restarts: int = 0,
    receive_s: float = RECEIVE_S,
    ack_s: float = ACK_S,
) -> ModeState:
    """What is to be said and done about the bot's mode now.

    Args:
        bot: the resource.
        view: its Redis; None when it does not answer.
        now: the operator's time.
        requested_at: when this generation's mode was first wanted (``BusLink.requested_at``).
        execution_started_at: when execution's newest pod was made; None when there is none.
        execution_ran: whether a container of it has started: one that has not holds no order, and is only delayed.
        restarted_at: when the operator last deleted execution's pod.
        restarts: how often it has done so since execution last obeyed.
        receive_s: within this execution must say that it has a restriction.
        ack_s: within this execution must acknowledge a restriction.
    """
    present = execution_started_at is not None
    state = (
        _unreachable(bot, requested_at, present=present)
        if view is None
        else _seen(bot, view, requested_at, present=present)
    )
    desired = desired_of(bot)
    if state.applied or state.condition is Reason.SUPERSEDED or desired.mode is Mode.NORMAL:
        return state
    if not (present and execution_ran):
        return state
    had = state.received_at is not None and view is not None and _received(bot, view)
    limit_s = ack_s if had else receive_s
    return _judged_late(
        state,
        had=had,
        limit_s=limit_s,
        due=(requested_at or now) + timedelta(seconds=limit_s),
        not_before=_not_before(requested_at, execution_started_at, restarted_at, again_s=restart_pause_s(restarts)),
        now=now,
        again_s=restart_pause_s(restarts + 1),
    )


def restart_pause_s(restarts: int) -> float:
    """Real seconds that execution is given to start after so many deletions of its pod in a row."""
    return min(RESTART_AGAIN_S * 2.0 ** max(0, min(restarts, 8) - 1), RESTART_AT_MOST_S)


def _seen(bot: Bot, view: BusView, requested_at: datetime | None, *, present: bool) -> ModeState:
    desired, applied = desired_of(bot), _ours(bot, view)
    done = acknowledged(bot, view, execution_present=present)
    idle = done and (applied is None or not present) and desired.cause is not Cause.SPEC
    condition, why = _said(bot, view, done=done, idle=idle)
    if applied is None:
        at_rest = Mode.HALT if idle else None
        return ModeState(
            desired=desired.mode,
            effective=at_rest,
            source=ModeSource.SPEC if at_rest else None,
            reason=desired.reason if at_rest else "",
            generation=view.spec_generation,
            requested_at=requested_at,
            applied=done,
            condition=condition,
            why=why,
        )
    return ModeState(
        desired=desired.mode,
        effective=applied.mode,
        source=applied.source,
        reason=applied.reason,
        generation=view.spec_generation,
        requested_at=requested_at,
        received_at=_moment(applied.received_at),
        cancelled_at=_moment(applied.cancelled_at),
        acked_at=_moment(applied.acked_at),
        open_orders=applied.open_orders,
        flatten=applied.flatten,
        applied=done,
        condition=condition,
        why=why,
    )


def _said(bot: Bot, view: BusView, *, done: bool, idle: bool) -> tuple[Reason, str]:
    desired = desired_of(bot)
    if _superseded(bot, view):
        return Reason.SUPERSEDED, f"Redis holds generation {view.spec_generation}; this is {bot.generation}"
    if idle:
        return Reason.NOT_RUNNING, f"{desired.reason}: nothing runs that could trade"
    if done:
        return Reason.APPLIED, _applied_sentence(desired, view)
    if not _received(bot, view):
        return Reason.WAITING, f"{desired.mode} is written; execution has not said yet that it has it"
    left = view.open_orders or 0
    what = f"{left} orders are open" if left else "waiting until no request can have an effect any more"
    return Reason.CANCELLING, f"execution has {desired.mode}: {what}"


def _applied_sentence(desired: Desired, view: BusView) -> str:
    applied = view.applied
    assert applied is not None
    if applied.mode is desired.mode:
        return f"execution holds itself to {desired.mode}"
    why = f": {applied.reason}" if applied.reason else ""
    return f"the spec's {desired.mode} is taken; {applied.source} restricts to {applied.mode}{why}"


def _unreachable(bot: Bot, requested_at: datetime | None, *, present: bool) -> ModeState:
    """What is known without Redis. A pod of execution may be trading, whatever the status said before."""
    desired, before = desired_of(bot), bot.status.get("mode") or {}
    rests = bot.spec.suspend and not present and before.get("effective") == Mode.HALT and _rest_proof(before)
    if rests:
        return ModeState(
            desired=desired.mode,
            effective=Mode.HALT,
            source=ModeSource.SPEC,
            reason=desired.reason,
            generation=before.get("generation"),
            requested_at=_parsed(before.get("requestedAt")),
            received_at=_parsed(before.get("receivedAt")),
            cancelled_at=_parsed(before.get("cancelledAt")),
            acked_at=_parsed(before.get("ackedAt")),
            open_orders=before.get("openOrders"),
            applied=True,
            condition=Reason.NOT_RUNNING,
            why=f"{desired.reason}: nothing runs that could trade, and its Redis is at rest too",
        )
    return ModeState(
        desired=desired.mode,
        effective=None,
        source=None,
        reason="",
        generation=None,
        requested_at=requested_at,
        applied=None,
        condition=Reason.UNREACHABLE,
        why=f"Redis does not answer, so it is not known whether {desired.mode} is applied; "
        "execution cancels its orders by itself while it has no Redis",
    )


def _rest_proof(before: dict[str, object]) -> bool:
    """Whether the status that was written last says that the HALT was acknowledged, or that none was needed."""
    return bool(before.get("ackedAt")) or (before.get("source") == ModeSource.SPEC and not before.get("receivedAt"))


def _judged_late(
    state: ModeState,
    *,
    had: bool,
    limit_s: float,
    due: datetime,
    not_before: datetime | None,
    now: datetime,
    again_s: float,
) -> ModeState:
    """The state, with the restart that a silence of execution calls for, or when to look again."""
    act_at = due if not_before is None else max(due, not_before)
    if now < act_at:
        return replace(state, look_again_s=(act_at - now).total_seconds())
    what = "acknowledged" if had else "taken in"
    why = f"{state.why}; execution has not {what} {state.desired} within {limit_s:g} s: its pod is deleted and comes "
    condition = state.condition if state.condition is Reason.UNREACHABLE else Reason.SILENT
    return replace(
        state,
        condition=condition,
        why=f"{why}back cancelling, under the mode file",
        restart_execution=True,
        look_again_s=again_s,
    )


def _not_before(
    requested_at: datetime | None, started_at: datetime | None, restarted_at: datetime | None, *, again_s: float
) -> datetime | None:
    """The earliest time for another restart: a pod that began under the mode file is given its time to start."""
    began = [restarted_at] if restarted_at else []
    if started_at and requested_at and started_at > requested_at:
        began.append(started_at)
    return max(began) + timedelta(seconds=again_s) if began else None


def _ours(bot: Bot, view: BusView) -> Applied | None:
    """What execution has applied for this very resource; of one that this Redis belonged to before it tells nothing."""
    applied = view.applied
    return applied if applied is not None and applied.spec_uid == bot.uid else None


def _received(bot: Bot, view: BusView) -> bool:
    """Whether execution holds this generation's mode, or a stricter one."""
    applied = _ours(bot, view)
    if applied is None or (applied.spec_generation or 0) < bot.generation:
        return False
    return applied.mode.rank >= desired_of(bot).mode.rank


def _written(bot: Bot, view: BusView) -> bool:
    mine = command_id(bot)
    return view.spec is not None and (view.spec.command_id == mine or view.spec.command_id.startswith(f"{mine}:"))


def _id_there(bot: Bot, view: BusView) -> str:
    """The command's id as it is written, or is to be.

    A bot that loses its account, gets it back and loses it again says HALT twice for one generation. An id counts once
    in seven days, so that the second names the writing that it replaces.
    """
    mine, there = command_id(bot), view.spec
    if there is None or (there.uid, there.generation) != (bot.uid, bot.generation):
        return mine
    if _written(bot, view):
        return there.command_id
    return f"{mine}:{there.at.timestamp():.3f}" if there.at else mine


def _superseded(bot: Bot, view: BusView) -> bool:
    return view.spec is not None and view.spec.uid == bot.uid and view.spec.generation > bot.generation


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else from_ms(at_ms)


def _parsed(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) and text else None
