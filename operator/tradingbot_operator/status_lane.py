"""The lane of what follows in the cluster: it lets deletions go, restarts a silent execution, tells events and writes
the status. Its writes never hold up a mode."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from typing import Final

import structlog

from tradingbot.domain.errors import TradingBotError
from tradingbot_operator import metrics
from tradingbot_operator.deletion import Step, finalizers_of, wants_finalizer
from tradingbot_operator.desk import EXECUTION, LOOK_AGAIN_S, Desk, Sight, stops
from tradingbot_operator.events import events_of
from tradingbot_operator.keys import account_of
from tradingbot_operator.kube import Kube, KubeError
from tradingbot_operator.modes import restart_pause_s
from tradingbot_operator.names import CLEAR_BREAKER, FINALIZER, LABEL_BOT, LABEL_COMPONENT
from tradingbot_operator.observation import Observation
from tradingbot_operator.queue import Lane
from tradingbot_operator.status import FIGURES_S, Status, status_of, urgent
from tradingbot_operator.tenancy import Tenancy

RESTART_GRACE_S: Final = 15
"""Seconds that a silent execution is given to cancel what is open, which needs no Redis; one that hangs holds up the
next, which cancels what it leaves, for as long."""
FIRST_ANSWER_S: Final = 10.0
"""Real seconds after its first sight of a bot in which an operator does not yet say that its Redis is unreachable."""
_GONE: Final = 404

log = structlog.stdlib.get_logger("tradingbot.operator.status")


class StatusLane:
    """Does what follows from what the other lanes found."""

    def __init__(self, desk: Desk, *, kube: Kube, tenancy: Tenancy) -> None:
        self._desk = desk
        self._kube = kube
        self._tenancy = tenancy

    async def run(self, key: str) -> None:
        """Do all that is to be done now.

        Raises:
            TradingBotError: the first of what the API server did not do; the rest was tried all the same.
        """
        sight = self._desk.sight(key)
        if sight is not None:
            await _all(self._let_go(sight), self._restart(sight), self._take_off(sight), self._write(sight))

    async def _let_go(self, sight: Sight) -> None:
        """Take the finalizer from a bot that has stopped, or whose time is up."""
        bot, memory = sight.bot, sight.memory
        if not bot.deleting or FINALIZER not in bot.finalizers:
            return
        step = Step(done=True)
        if wants_finalizer(bot):
            step = self._desk.stop_step(bot, memory, since=bot.deletion_requested_at or self._desk.now())
        memory.deletion = step.waits_for
        if not step.done:
            self._desk.queue.retry(bot.key, Lane.STATUS, step.look_again_s or LOOK_AGAIN_S)
            self._desk.queue.retry(bot.key, Lane.MODE, LOOK_AGAIN_S)
            return
        if step.warning:
            await self._desk.say(bot, "DeletionLetGo", step.warning, action="Delete", warning=True)
        await self._tenancy.release(bot)
        try:
            await self._kube.patch_metadata(bot, finalizers=finalizers_of(bot, ours=False))
        except KubeError as error:
            if error.status != _GONE:
                raise
        memory.let_go = True

    async def _restart(self, sight: Sight) -> None:
        """Delete execution's pod when it has not obeyed in time: it comes back cancelling."""
        bot, memory = sight.bot, sight.memory
        state, now = memory.judged(), self._desk.now()
        if state is None or not state.restart_execution:
            return
        if memory.restarted_at and now - memory.restarted_at < timedelta(seconds=restart_pause_s(memory.restarts)):
            return  # the judgement is older than the restart
        selector = f"{LABEL_BOT}={bot.name},{LABEL_COMPONENT}={EXECUTION}"
        names = await self._kube.delete_pods(bot.namespace, selector, grace=RESTART_GRACE_S)
        memory.restarted_at, memory.restarts = now, memory.restarts + 1
        if memory.mode is state:
            memory.mode = replace(state, restart_execution=False)
        if names:
            log.warning("execution_restarted", bot=bot.key, pods=names, why=state.why)
            await self._desk.say(bot, "ExecutionRestarted", state.why, action="Restart", warning=True)

    async def _take_off(self, sight: Sight) -> None:
        """Take the annotation off whose latch is not there (any more): a drawdown that only restricts has the same id
        each time, so that an annotation that stays would lift that limit for ever."""
        bot, view = sight.bot, sight.memory.view
        named = bot.annotations.get(CLEAR_BREAKER)
        if named is None or view is None or view.breaker is None or named.strip() in view.breaker.latch_ids:
            return
        self._desk.cache.store(await self._kube.patch_metadata(bot, annotations={CLEAR_BREAKER: None}))

    async def _write(self, sight: Sight) -> None:
        """Tell what changed and write the status, unless only figures changed and they were written a moment ago."""
        bot, memory = sight.bot, sight.memory
        if not memory.looked or memory.let_go:
            return
        fresh, now_s = status_of(self._observe(sight)), self._desk.clock.real_s()
        metrics.observe_conditions(bot.namespace, bot.name, fresh["conditions"])
        if fresh == bot.status:
            return
        due_s = (memory.born_s if memory.written_s is None else memory.written_s) + FIGURES_S
        if not urgent(bot.status, fresh) and now_s < due_s:
            self._desk.queue.retry(bot.key, Lane.STATUS, due_s - now_s)
            return
        for event in events_of(bot.status, fresh, bot=bot):
            await self._desk.teller.tell(bot, event)
        await self._put(sight, fresh)
        memory.written_s = now_s

    async def _put(self, sight: Sight, fresh: Status) -> None:
        try:
            self._desk.cache.store(await self._kube.patch_status(sight.bot, fresh))
        except KubeError as error:
            if error.status != _GONE:
                raise  # a bot that went in between needs no status

    def _observe(self, sight: Sight) -> Observation:
        bot, memory = sight.bot, sight.memory
        pods = self._desk.pods(bot)
        hasty = self._is_hasty(sight)
        return Observation(
            bot=bot,
            now=self._desk.now(),
            pods=pods,
            problems=sight.problems,
            mode=None if hasty else memory.judged(),
            view=memory.view,
            bus_error="" if hasty else memory.bus_error,
            report=memory.reported(),
            refused=memory.refused,
            at_rest=stops(bot, memory) and not pods,
            account=account_of(bot, self._desk.master),
            weight=memory.weight,
            deletion=memory.deletion,
        )

    def _is_hasty(self, sight: Sight) -> bool:
        """Whether it is too early to call a Redis unreachable: an operator that has just begun connects to many."""
        memory = sight.memory
        left_s = memory.born_s + FIRST_ANSWER_S - self._desk.clock.real_s()
        if not memory.bus_error or memory.reached or left_s <= 0:
            return False
        self._desk.queue.retry(sight.bot.key, Lane.STATUS, left_s)
        return True


async def _all(*steps: Awaitable[None]) -> None:
    """Do each, whatever becomes of the others; then raise the first error."""
    first: TradingBotError | None = None
    for step in steps:
        try:
            await step
        except TradingBotError as error:
            first = first or error
    if first is not None:
        raise first
