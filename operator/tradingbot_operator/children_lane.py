"""The lane of the children: the account, the finalizer, Secrets and manifests, then parameters and the share of weight.

Redis' side of it waits for nobody: where Redis does not answer yet, the mode's lane wakes this one when it does.
"""

from __future__ import annotations

from typing import Final

from tradingbot.domain.errors import Permanent, Temporary, TradingBotError
from tradingbot_operator import metrics
from tradingbot_operator.bus_link import BusUnreachable, Links
from tradingbot_operator.children import Children, ChildrenReport
from tradingbot_operator.deletion import finalizers_of, wants_finalizer
from tradingbot_operator.desk import EXECUTION, LOOK_AGAIN_S, Desk, Sight, may_write, obeyed, stops
from tradingbot_operator.kube import Forbidden, Kube
from tradingbot_operator.memory import Memory
from tradingbot_operator.names import FINALIZER, REDIS
from tradingbot_operator.queue import Lane
from tradingbot_operator.render import context_of, render, secrets
from tradingbot_operator.render.config import mode_config_map
from tradingbot_operator.render.model import Backend, model_backend, model_service
from tradingbot_operator.resource import Bot
from tradingbot_operator.tenancy import Tenancy

REDIS_RETRY_S: Final = 5.0
SECRET_RETRY_S: Final = 10.0
"""Real seconds between two attempts to create Secrets that pods miss."""


class ChildrenFailed(Temporary):
    """Some children are not as rendered."""


class ChildrenLane:
    """Brings what a bot is made of."""

    def __init__(self, desk: Desk, *, kube: Kube, links: Links, children: Children, tenancy: Tenancy) -> None:
        self._desk = desk
        self._kube = kube
        self._links = links
        self._children = children
        self._tenancy = tenancy

    async def run(self, key: str) -> None:
        """Bring a bot to what its resource says; end what is kept for one that is gone.

        Raises:
            ChildrenFailed: some children are not as rendered; the others are.
            TradingBotError: the API server did not do something that comes before them.
        """
        sight = self._desk.sight(key)
        failed = None if sight is None else await self._keep_mode_file(sight)
        body = self._desk.cache.bot(key)
        await self._bury(key, None if body is None else str(body["metadata"]["uid"]))
        if sight is None:
            return
        self._notice_pods(sight)
        try:
            if not sight.problems:
                await self._provide(sight.bot, sight.memory)
        except Permanent as error:
            sight.memory.report = ChildrenReport(errors=((sight.bot.name, str(error)),))
            sight.memory.report_generation = sight.bot.generation
            raise
        finally:
            sight.memory.looked = True
            self._desk.queue.add(key, Lane.STATUS)
        if failed is not None:
            raise failed

    async def _keep_mode_file(self, sight: Sight) -> TradingBotError | None:
        """Have execution's mode file say what is wanted, before and whatever becomes of anything else: a pod that is
        deleted because it is silent comes back under this file, paused or not. Returns what went wrong."""
        bot = obeyed(sight.bot, sight.memory)
        try:
            report = await self._children.keep(bot, mode_config_map(bot))
            await self._say_drift(bot, report)
        except TradingBotError as error:
            return error
        return None

    async def _say_drift(self, bot: Bot, report: ChildrenReport) -> None:
        for drift in report.drift:
            await self._desk.say(bot, "DriftCorrected", f"brought back {drift}", action="Apply")

    async def _provide(self, bot: Bot, memory: Memory) -> None:
        if bot.deleting and not wants_finalizer(bot):
            return  # the cluster's garbage collection takes the children
        if not bot.deleting:
            await self._tenancy.take_account(bot, memory)
            await self._hold_finalizer(bot, memory)
        self._tenancy.divide_weight(bot, memory)
        await self._settle_rest(bot, memory)
        report = None if bot.paused else await self._bring(bot, memory)
        await self._tune(bot, memory)
        if report is not None and report.errors:
            raise ChildrenFailed("; ".join(f"{name}: {text}" for name, text in report.errors))

    async def _hold_finalizer(self, bot: Bot, memory: Memory) -> None:
        """The finalizer, before anything runs that a deletion would have to stop."""
        wanted = wants_finalizer(bot)
        if memory.refused or wanted == (FINALIZER in bot.finalizers):
            return
        self._desk.cache.store(await self._kube.patch_metadata(bot, finalizers=finalizers_of(bot, ours=wanted)))

    async def _settle_rest(self, bot: Bot, memory: Memory) -> None:
        """Decide whether the pods of a suspended or refused bot may go."""
        if not stops(bot, memory):
            memory.at_rest, memory.stopping_since = False, None
            return
        if memory.at_rest:
            return
        state = memory.judged()
        asked_at = state.requested_at if state is not None else None
        memory.stopping_since = memory.stopping_since or asked_at or self._desk.now()
        step = self._desk.stop_step(obeyed(bot, memory), memory, since=asked_at or memory.stopping_since)
        if not step.done:
            self._desk.queue.retry(bot.key, Lane.CHILDREN, step.look_again_s or LOOK_AGAIN_S)
            self._desk.queue.retry(bot.key, Lane.MODE, LOOK_AGAIN_S)
            return
        memory.at_rest = True
        if state is None or not state.applied:
            self._desk.queue.add(bot.key, Lane.MODE)
        if step.warning:
            await self._desk.say(bot, "SuspendedUnconfirmed", step.warning, action="Suspend", warning=True)

    async def _bring(self, bot: Bot, memory: Memory) -> ChildrenReport | None:
        if memory.refused and not memory.at_rest:
            return None  # it was running: its HALT comes first
        if not memory.at_rest:
            await self._bring_secrets(bot, memory)
        model = None if memory.at_rest else await self._model(bot)
        context = context_of(bot, self._desk.settings, self._desk.master, model=model, at_rest=memory.at_rest)
        report = await self._children.sync(bot, () if memory.refused else render(bot, context))
        memory.report, memory.report_generation = report, bot.generation
        await self._say_drift(bot, report)
        return report

    async def _model(self, bot: Bot) -> Backend | None:
        """What stands behind the Service of the bot's language model, where the operator may read it."""
        named = model_service(bot)
        if named is None:
            return None
        try:
            return model_backend(bot, await self._kube.get("v1", "Service", named.namespace, named.name))
        except Forbidden:
            return None

    async def _bring_secrets(self, bot: Bot, memory: Memory) -> None:
        """Create the Secrets of a new bot, those that a pod misses, and now and then any that is missing."""
        now_s, first = self._desk.clock.real_s(), memory.secrets_due_s is None
        due = not self._desk.cache.children(bot.key) if first else now_s >= (memory.secrets_due_s or 0.0)
        missed = any(pod.wants_secret for pod in self._desk.pods(bot)) and now_s >= memory.secrets_asked_s
        if due or missed:
            await self._children.sync_secrets(bot, secrets(bot, self._desk.master), force=not first or missed)
        if first or due:
            memory.secrets_due_s = now_s + self._desk.settings.resync_seconds
        if missed:
            memory.secrets_asked_s = now_s + SECRET_RETRY_S
            self._desk.queue.retry(bot.key, Lane.CHILDREN, SECRET_RETRY_S)

    async def _tune(self, bot: Bot, memory: Memory) -> None:
        """Apply the parameters and the share live, where there is a Redis that answers."""
        if memory.refused or (memory.at_rest and bot.spec.redis.url_secret_ref is None):
            return
        if not may_write(bot, memory):
            return
        memory.weight = await self._tenancy.share_of(bot)
        link = self._links.of(bot)
        try:
            version = await link.apply_params(bot)
            await link.apply_share(memory.weight)
        except BusUnreachable as error:
            memory.bus_error = memory.bus_error or str(error)
            self._desk.queue.retry(bot.key, Lane.CHILDREN, REDIS_RETRY_S)
            return
        if memory.view is not None and version not in {None, memory.view.params_version}:
            self._desk.queue.add(bot.key, Lane.MODE)  # for the status: what was seen of Redis is older

    def _notice_pods(self, sight: Sight) -> None:
        """Have the mode looked at when Redis or execution has come or gone."""
        pods = self._desk.pods(sight.bot)
        deciding = frozenset((pod.name, pod.ready, pod.started) for pod in pods if pod.component in {REDIS, EXECUTION})
        if deciding != sight.memory.pods:
            sight.memory.pods = deciding
            self._desk.queue.add(sight.bot.key, Lane.MODE)

    async def _bury(self, key: str, uid: str | None) -> None:
        """End what is kept for resources that are no more."""
        for memory in self._desk.memories.gone(key, uid):
            bot = memory.bot
            await self._tenancy.release(bot)
            await self._links.forget(bot.uid)
            self._children.forget(bot.uid)
            self._desk.memories.forget(bot)
            if uid is None:
                self._tenancy.forget(key)
                metrics.forget_conditions(bot.namespace, bot.name)
