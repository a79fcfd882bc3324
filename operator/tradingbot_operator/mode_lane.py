"""The lane of the mode: it needs nothing but the bot's Redis, and nothing else can hold it up.

It works for a bot that is paused, suspended, refused or being deleted, whose spec is broken or whose children cannot be
applied.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from tradingbot.domain.modes import Mode, ModeSource
from tradingbot_operator import metrics
from tradingbot_operator.bus_link import BusUnreachable, Links
from tradingbot_operator.bus_view import BusView
from tradingbot_operator.conditions import MODE_APPLIED
from tradingbot_operator.deletion import never_ran
from tradingbot_operator.desk import EXECUTION, Desk, may_write, obeyed, stops
from tradingbot_operator.memory import Memory
from tradingbot_operator.modes import ModeState, Reason, desired_of, verdict
from tradingbot_operator.pods import Pod, of_component
from tradingbot_operator.queue import Lane
from tradingbot_operator.resource import Bot
from tradingbot_operator.status import FIGURES_S, condition_of


class ModeLane:
    """Writes modes and judges what came of them."""

    def __init__(self, desk: Desk, links: Links) -> None:
        self._desk = desk
        self._links = links

    async def run(self, key: str) -> None:
        """Write the mode that the resource asks for, and judge what came of it.

        Raises:
            BusUnreachable: Redis does not answer; what that means for the mode has been judged all the same.
        """
        sight = self._desk.sight(key)
        if sight is None:
            return
        bot, memory = obeyed(sight.bot, sight.memory), sight.memory
        missed = bool(memory.bus_error)
        try:
            await self._obey(bot, memory, self._desk.pods(bot))
        finally:
            self._desk.queue.add(key, Lane.STATUS)
        if memory.looked and (missed or self._may_rest(bot, memory)):
            self._desk.queue.add(key, Lane.CHILDREN)

    @staticmethod
    def _may_rest(bot: Bot, memory: Memory) -> bool:
        """Whether the children's lane has waited for this HALT to take the pods away."""
        state = memory.mode
        return stops(bot, memory) and not memory.at_rest and state is not None and bool(state.applied)

    async def _obey(self, bot: Bot, memory: Memory, pods: tuple[Pod, ...]) -> None:
        if resting := self._resting(bot, memory, pods):
            memory.view, memory.bus_error = None, ""
            memory.mode, memory.mode_generation = resting, bot.generation
            return
        if not may_write(bot, memory):
            return  # the children's lane wakes this one when it holds the account
        link = self._links.of(bot)
        try:
            found = await link.apply_mode(bot, execution_present=bool(of_component(pods, EXECUTION)))
        except BusUnreachable as error:
            memory.view, memory.bus_error = None, str(error)
            self._judge(bot, memory, pods)
            raise
        memory.view, memory.bus_error, memory.reached = found.view, "", True
        if found.issued and memory.issued_generation != bot.generation:
            memory.issued_generation = bot.generation
            taken = self._desk.now() - (link.requested_at(bot) or self._desk.now())
            metrics.mode_patch_to_applied_seconds.observe(taken.total_seconds())
        self._judge(bot, memory, pods)
        if bot.runs:
            self._desk.queue.retry(bot.key, Lane.MODE, FIGURES_S)

    def _judge(self, bot: Bot, memory: Memory, pods: tuple[Pod, ...]) -> None:
        state = self._verdict(bot, memory, pods, memory.view)
        memory.mode, memory.mode_generation = state, bot.generation
        if state.applied:
            memory.restarts = 0
        if state.look_again_s is not None:
            self._desk.queue.retry(bot.key, Lane.MODE, state.look_again_s)

    def _verdict(self, bot: Bot, memory: Memory, pods: tuple[Pod, ...], view: BusView | None) -> ModeState:
        executions = of_component(pods, EXECUTION)
        return verdict(
            bot,
            view,
            now=self._desk.now(),
            requested_at=_asked_before(bot) or self._links.of(bot).requested_at(bot),
            execution_started_at=max((pod.created_at for pod in executions), default=None),
            execution_ran=any(pod.started and not pod.deleting for pod in executions),
            restarted_at=memory.restarted_at,
            restarts=memory.restarts,
            receive_s=self._desk.settings.mode_receive_seconds,
            ack_s=self._desk.settings.mode_ack_seconds,
        )

    def _resting(self, bot: Bot, memory: Memory, pods: tuple[Pod, ...]) -> ModeState | None:
        """The mode of a bot that has stopped, its own Redis with it, or never ran and is refused; None where Redis
        is to be asked."""
        if pods or not stops(bot, memory):
            return None
        if bot.spec.redis.url_secret_ref is not None and not (memory.refused and never_ran(bot, pods, None)):
            return None
        state = self._verdict(bot, memory, pods, None)
        if state.applied:
            return state
        if not memory.at_rest and not never_ran(bot, pods, None):
            return None
        return replace(
            state,
            effective=Mode.HALT,
            source=ModeSource.SPEC,
            reason=desired_of(bot).reason,
            applied=True,
            condition=Reason.NOT_RUNNING,
            why=f"{desired_of(bot).reason}: nothing runs that could trade",
        )


def _asked_before(bot: Bot) -> datetime | None:
    """When this generation's mode was asked for, as the status says; an operator that was started since goes on from
    there."""
    mode = bot.status.get("mode") or {}
    judged = condition_of(bot.status, MODE_APPLIED)
    if judged.get("observedGeneration") != bot.generation or mode.get("desired") != desired_of(bot).mode:
        return None
    return datetime.fromisoformat(mode["requestedAt"]) if mode.get("requestedAt") else None
