"""When a bot that has to stop may lose its pods, or its finalizer: pure.

A deletion, a suspension and the loss of the account stop a bot in the same way: HALT, acknowledged by execution, which
has asked the venue; with policy Flatten the positions closed after that. Then it is let go. A deadline bounds it, so
that a broken Redis, account or spec can hold nothing for ever; what may still be open then is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tradingbot.domain.modes import Mode
from tradingbot_operator.bus_view import BusView
from tradingbot_operator.modes import ModeState, Reason
from tradingbot_operator.names import FINALIZER, REDIS, component_of
from tradingbot_operator.pods import Pod
from tradingbot_operator.resource import Bot
from tradingbot_operator.spec import DeletionPolicy

_EXECUTION = component_of("execution")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Whether a bot that has to stop may be let go."""

    done: bool
    waits_for: str = ""
    """What is still to come, for a person."""
    warning: str = ""
    """What may still be open although it is let go; empty when all is confirmed."""
    look_again_s: float | None = None
    """When time alone changes the answer, real seconds from now."""


def stop_step(
    bot: Bot,
    *,
    pods: Iterable[Pod],
    state: ModeState | None,
    view: BusView | None,
    since: datetime,
    now: datetime,
) -> Step:
    """Whether the bot has stopped, or its time is up.

    Args:
        bot: one that is being deleted, is suspended, or has lost its account.
        pods: its pods.
        state: its mode as judged for this very generation; None while nobody has looked.
        view: its Redis; None when it does not answer.
        since: when the stop was asked for.
        now: the operator's time.
    """
    if never_ran(bot, pods, view):
        return Step(done=True)
    waits_for, warning = _left(bot, state=state, view=view)
    if not waits_for:
        return Step(done=True, warning=warning)
    deadline = since + timedelta(seconds=bot.spec.deletion_deadline_seconds)
    if now >= deadline:
        return Step(done=True, warning=f"{_overdue(bot)} {waits_for}. {_still_open(view)}")
    return Step(done=False, waits_for=waits_for, look_again_s=(deadline - now).total_seconds())


def never_ran(bot: Bot, pods: Iterable[Pod], view: BusView | None) -> bool:
    """Whether nothing of the bot can have an order at the venue.

    So it is where execution never said a word, by its Redis or by the status, and no container of it has started; a
    Redis that never started cannot tell, and need not. Without a word of the breaker execution holds itself to HALT;
    one stays in the status when Redis goes, while ``receivedAt`` is about the present generation alone.
    """
    started = {pod.component for pod in pods if pod.started}
    if _EXECUTION in started or bot.status.get("breaker") or (bot.status.get("mode") or {}).get("receivedAt"):
        return False
    return view.applied is None if view is not None else REDIS not in started


def wants_finalizer(bot: Bot) -> bool:
    """Whether the deletion of the bot has to wait for anything."""
    return bot.spec.deletion_policy is not DeletionPolicy.LEAVE


def finalizers_of(bot: Bot, *, ours: bool) -> tuple[str, ...]:
    """The bot's finalizers with or without our own."""
    others = tuple(each for each in bot.finalizers if each != FINALIZER)
    return (*others, FINALIZER) if ours else others


def _left(bot: Bot, *, state: ModeState | None, view: BusView | None) -> tuple[str, str]:
    """(what is still to come, a warning where it came out badly)."""
    if state is None or state.desired is not Mode.HALT or not state.applied:
        return _halt_left(state), ""
    if not _flattens(bot):
        return "", ""
    match view.applied.flatten if view is not None and view.applied is not None else "":
        case "flat":
            return "", ""
        case "failed":
            return "", "execution could not close every position: positions may still be open at the venue."
        case _:
            return "execution to close the positions (Flatten)", ""


def _halt_left(state: ModeState | None) -> str:
    if state is None:
        return "a look at the bot's Redis"
    if state.applied is None:
        return "the bot's Redis to answer, so that execution can confirm its HALT"
    if state.condition is not Reason.CANCELLING:
        return "execution to take the HALT"
    if state.open_orders:
        return f"execution to cancel {state.open_orders} open orders"
    return "execution to confirm with the venue that nothing is open"


def _flattens(bot: Bot) -> bool:
    return bot.deleting and bot.spec.deletion_policy is DeletionPolicy.FLATTEN


def _overdue(bot: Bot) -> str:
    return f"{bot.spec.deletion_deadline_seconds} s have passed, and it still waited for"


def _still_open(view: BusView | None) -> str:
    orders = view.open_orders if view is not None else None
    known = f"{orders} orders were open when execution last said" if orders else "orders may still be open at the venue"
    return f"{known[:1].upper()}{known[1:]}, and positions are as they were: look at the account."
