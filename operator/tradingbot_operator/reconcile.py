"""Brings one bot to what its resource says, in three lanes that never wait for one another.

``mode`` needs nothing but the bot's Redis: it works for a bot that is paused, suspended, being deleted or refused,
whose spec is broken or whose children cannot be applied. ``children`` brings the account, the finalizer, the children
and the parameters. ``status`` does what follows in the cluster from what the two found: it restarts a silent execution,
tells events, writes the status and lets a deletion go. Each lane may be run at any time and any number of times.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from tradingbot.domain.cycles import from_ms
from tradingbot.domain.errors import Temporary, TradingBotError
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.domain.static import Network
from tradingbot.runtime.clock import Clock
from tradingbot_operator import metrics
from tradingbot_operator.accounts import AGAIN_S, AccountInUse, Accounts
from tradingbot_operator.bus_link import BusUnreachable, Links
from tradingbot_operator.bus_view import BusView
from tradingbot_operator.cache import Cache
from tradingbot_operator.children import Children
from tradingbot_operator.conditions import MODE_APPLIED
from tradingbot_operator.deletion import Step, finalizers_of, never_ran, stop_step, wants_finalizer
from tradingbot_operator.events import Event, Teller, events_of, minute_of
from tradingbot_operator.keys import MasterKey, account_of
from tradingbot_operator.kube import Forbidden, Kube
from tradingbot_operator.memory import Memories, Memory
from tradingbot_operator.modes import ModeState, Reason, desired_of, verdict
from tradingbot_operator.names import FINALIZER, LABEL_BOT, LABEL_COMPONENT, REDIS, component_of
from tradingbot_operator.observation import Observation
from tradingbot_operator.pods import Pod, of_component, read_pods
from tradingbot_operator.queue import Lane, WorkQueue
from tradingbot_operator.render import context_of, render, secrets
from tradingbot_operator.resource import Bot, InvalidSpec, parse
from tradingbot_operator.salvage import salvage
from tradingbot_operator.settings import OperatorSettings
from tradingbot_operator.status import FIGURES_S, condition_of, status_of, urgent
from tradingbot_operator.weight import Weights

EXECUTION: Final = component_of("execution")
RESTART_GRACE_S: Final = 5
"""Seconds that a silent execution is given to end: the new one cancels what it leaves."""
REDIS_RETRY_S: Final = 5.0
LOOK_AGAIN_S: Final = 1.0
"""Real seconds between two looks at a bot that is stopping."""
SECRET_RETRY_S: Final = 10.0
"""Real seconds between two attempts to create Secrets that pods miss."""

log = structlog.stdlib.get_logger("tradingbot.operator.reconcile")


class ChildrenFailed(Temporary):
    """Some children are not as rendered."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A resource as it is now."""

    bot: Bot
    """Salvaged, where its spec is broken."""
    memory: Memory
    problems: tuple[tuple[str, str], ...] = ()


class Reconciler:
    """The handlers of the three lanes."""

    def __init__(
        self,
        *,
        kube: Kube,
        cache: Cache,
        queue: WorkQueue,
        links: Links,
        children: Children,
        accounts: Accounts,
        weights: Weights,
        settings: OperatorSettings,
        master: MasterKey,
        clock: Clock,
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._queue = queue
        self._links = links
        self._children = children
        self._accounts = accounts
        self._weights = weights
        self._counted = False
        self._settings = settings
        self._master = master
        self._clock = clock
        self._teller = Teller(kube)
        self._memories = Memories()

    # ---------------------------------------------------------------- the mode

    async def mode(self, key: str) -> None:
        """Write the mode that the resource asks for, and judge what came of it.

        Raises:
            BusUnreachable: Redis does not answer; what that means for the mode has been judged all the same.
        """
        sight = self._sight(key)
        if sight is None or sight.memory.let_go:
            return
        bot, memory = _obeyed(sight.bot, sight.memory), sight.memory
        pods, missed = self._pods(bot), bool(memory.bus_error)
        try:
            await self._obey(bot, memory, pods)
        finally:
            self._queue.add(key, Lane.STATUS)
        if missed or (_stops(bot, memory) and memory.mode is not None and memory.mode.applied and not memory.at_rest):
            self._queue.add(key, Lane.CHILDREN)

    async def _obey(self, bot: Bot, memory: Memory, pods: tuple[Pod, ...]) -> None:
        if resting := self._resting(bot, memory, pods):
            memory.view, memory.bus_error = None, ""
            memory.mode, memory.mode_generation = resting, bot.generation
            return
        link = self._links.of(bot)
        try:
            found = await link.apply_mode(bot, execution_present=bool(of_component(pods, EXECUTION)))
        except BusUnreachable as error:
            memory.view, memory.bus_error = None, str(error)
            self._judge(bot, memory, pods)
            raise
        memory.view, memory.bus_error = found.view, ""
        if found.issued and memory.issued_generation != bot.generation:
            memory.issued_generation = bot.generation
            taken = self._now() - (link.requested_at(bot) or self._now())
            metrics.mode_patch_to_applied_seconds.observe(taken.total_seconds())
        self._judge(bot, memory, pods)
        if bot.runs:
            self._queue.retry(bot.key, Lane.MODE, FIGURES_S)

    def _judge(self, bot: Bot, memory: Memory, pods: tuple[Pod, ...]) -> None:
        state = self._verdict(bot, memory, pods, memory.view)
        memory.mode, memory.mode_generation = state, bot.generation
        if state.look_again_s is not None:
            self._queue.retry(bot.key, Lane.MODE, state.look_again_s)

    def _verdict(self, bot: Bot, memory: Memory, pods: tuple[Pod, ...], view: BusView | None) -> ModeState:
        return verdict(
            bot,
            view,
            now=self._now(),
            requested_at=_asked_before(bot) or self._links.of(bot).requested_at(bot),
            execution_started_at=max((pod.created_at for pod in of_component(pods, EXECUTION)), default=None),
            restarted_at=memory.restarted_at,
            receive_s=self._settings.mode_receive_seconds,
            ack_s=self._settings.mode_ack_seconds,
        )

    def _resting(self, bot: Bot, memory: Memory, pods: tuple[Pod, ...]) -> ModeState | None:
        """The mode of a bot that has stopped, its own Redis with it; None where Redis is to be asked."""
        if pods or bot.spec.redis.url_secret_ref is not None or not _stops(bot, memory):
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

    # ---------------------------------------------------------------- the children

    async def children(self, key: str) -> None:
        """Bring the account, the finalizer, the children, the parameters and the share of the venue's weight.

        Raises:
            ChildrenFailed: some children are not as rendered; the others are.
            TradingBotError: the API server did not do something that comes before them.
        """
        body = self._cache.bot(key)
        await self._bury(key, None if body is None else str(body["metadata"]["uid"]))
        sight = self._sight(key)
        if sight is None or sight.memory.let_go:
            return
        self._notice_pods(sight)
        try:
            if not sight.problems:
                await self._provide(sight.bot, sight.memory)
        finally:
            sight.memory.looked = True
            self._queue.add(key, Lane.STATUS)

    async def _provide(self, bot: Bot, memory: Memory) -> None:
        if bot.deleting and not wants_finalizer(bot):
            return  # the cluster's garbage collection takes the children
        if not bot.deleting:
            await self._take_account(bot, memory)
            await self._hold_finalizer(bot, memory)
        self._divide_weight(bot, memory)
        await self._settle_rest(bot, memory)
        if not bot.paused:
            await self._bring(bot, memory)
        await self._tune(bot, memory)
        if memory.report is not None and memory.report.errors:
            raise ChildrenFailed("; ".join(f"{name}: {text}" for name, text in memory.report.errors))

    async def _take_account(self, bot: Bot, memory: Memory) -> None:
        now_s, refused = self._clock.real_s(), ""
        verify = now_s >= memory.verify_s
        try:
            account = account_of(bot, self._master)
            await self._accounts.claim(bot, account, rivals=self._rivals(bot), verify=verify)
        except AccountInUse as error:
            refused = str(error)
            self._queue.retry(bot.key, Lane.CHILDREN, AGAIN_S)
        if verify:
            memory.verify_s = now_s + self._settings.resync_seconds
        if bool(refused) != bool(memory.refused):
            self._queue.add(bot.key, Lane.MODE)
        memory.refused = refused

    def _rivals(self, bot: Bot) -> Iterator[Bot]:
        """Other bots that name the same account; a paper account belongs to one bot by its making."""
        exchange = bot.spec.exchange
        for body in () if bot.network is Network.PAPER else self._cache.bots():
            named = (body.get("spec") or {}).get("exchange") or {}
            if named.get("network") != bot.network or body["metadata"]["uid"] == bot.uid:
                continue
            other = salvage(body)
            if (other.spec.exchange.vault_address or other.spec.exchange.account_address) == (
                exchange.vault_address or exchange.account_address
            ):
                yield other

    def _divide_weight(self, bot: Bot, memory: Memory) -> None:
        """Count the bot among those that share the venue's weight, and wake those whose share changed by it."""
        if not self._counted:
            self._counted = True
            for body in self._cache.bots():  # all at once: one after another they would each get a new share
                each = salvage(body)
                self._weights.observe(each.key, each.network, counts=each.runs)
        counts = not memory.refused and (bot.runs or bot.deleting)
        changed = self._weights.observe(bot.key, bot.network, counts=counts)
        for key in changed - {bot.key}:
            self._queue.add(key, Lane.CHILDREN)

    async def _hold_finalizer(self, bot: Bot, memory: Memory) -> None:
        """The finalizer, before anything runs that a deletion would have to stop."""
        wanted = wants_finalizer(bot) and not memory.refused
        if wanted == (FINALIZER in bot.finalizers) or memory.refused:
            return
        live = await self._kube.patch_metadata(bot, finalizers=finalizers_of(bot, ours=wanted))
        self._cache.store(live)

    async def _settle_rest(self, bot: Bot, memory: Memory) -> None:
        """Decide whether the pods of a suspended or refused bot may go."""
        if bot.deleting or not _stops(bot, memory):
            memory.at_rest = False
            return
        if memory.at_rest:
            return
        state = memory.judged()
        since = state.requested_at if state is not None and state.requested_at else self._now()
        step = self._step(_obeyed(bot, memory), memory, since=since)
        if not step.done:
            self._queue.retry(bot.key, Lane.CHILDREN, step.look_again_s or LOOK_AGAIN_S)
            self._queue.retry(bot.key, Lane.MODE, LOOK_AGAIN_S)
        if step.warning:
            await self._say(bot, "SuspendedUnconfirmed", step.warning, action="Suspend", warning=True)
        memory.at_rest = step.done
        if step.done:
            self._queue.add(bot.key, Lane.MODE)

    async def _bring(self, bot: Bot, memory: Memory) -> None:
        if memory.refused and not memory.at_rest:
            return  # it was running: its HALT comes first
        if not memory.at_rest:
            await self._bring_secrets(bot, memory)
        context = context_of(bot, self._settings, self._master, at_rest=memory.at_rest)
        report = await self._children.sync(bot, () if memory.refused else render(bot, context))
        memory.report, memory.report_generation = report, bot.generation
        for drift in report.drift:
            await self._say(bot, "DriftCorrected", f"brought back {drift}", action="Apply")

    async def _bring_secrets(self, bot: Bot, memory: Memory) -> None:
        """Create the Secrets of a new bot, those that a pod misses, and now and then any that is missing."""
        now_s, first = self._clock.real_s(), memory.secrets_due_s is None
        due = not self._cache.children(bot.key) if first else now_s >= (memory.secrets_due_s or 0.0)
        missed = any(pod.wants_secret for pod in self._pods(bot))
        if due or missed:
            await self._children.sync_secrets(bot, secrets(bot, self._master), force=not first or missed)
        if first or due:
            memory.secrets_due_s = now_s + self._settings.resync_seconds
        if missed:
            memory.secrets_due_s = now_s + SECRET_RETRY_S
            self._queue.retry(bot.key, Lane.CHILDREN, SECRET_RETRY_S)

    async def _tune(self, bot: Bot, memory: Memory) -> None:
        """Apply the parameters and the share live, where Redis answers; the mode's lane wakes this one when it does."""
        if memory.refused or (memory.at_rest and bot.spec.redis.url_secret_ref is None):
            return
        share = self._weights.share(bot.key)
        memory.weight = share.per_min
        if share.warning:
            await self._say(bot, "WeightScarce", share.warning, action="DivideWeight", warning=True)
        link = self._links.of(bot)
        try:
            await link.apply_params(bot)
            await link.apply_share(share.per_min)
        except BusUnreachable as error:
            memory.bus_error = memory.bus_error or str(error)
            self._queue.retry(bot.key, Lane.CHILDREN, REDIS_RETRY_S)

    def _notice_pods(self, sight: Sight) -> None:
        """Have the mode looked at when Redis or execution has come or gone."""
        deciding = frozenset(
            (pod.name, pod.ready) for pod in self._pods(sight.bot) if pod.component in {REDIS, EXECUTION}
        )
        if deciding != sight.memory.pods:
            sight.memory.pods = deciding
            self._queue.add(sight.bot.key, Lane.MODE)

    async def _bury(self, key: str, uid: str | None) -> None:
        """End what is kept for resources that are no more."""
        for memory in self._memories.take_gone(key, uid):
            bot = memory.bot
            await self._links.forget(bot.uid)
            self._children.forget(bot.uid)
            if uid is None:
                metrics.forget_conditions(bot.namespace, bot.name)
            await self._release(bot)
            if uid is None:
                for other in self._weights.forget(key):
                    self._queue.add(other, Lane.CHILDREN)

    # ---------------------------------------------------------------- what follows

    async def status(self, key: str) -> None:
        """Restart a silent execution, let a stopped deletion go, tell events and write the status.

        Raises:
            TradingBotError: the first of what the API server did not do; the rest was tried all the same.
        """
        sight = self._sight(key)
        if sight is None or sight.memory.let_go:
            return
        await _all(self._let_go(sight), self._restart(sight), self._write(sight))

    async def _let_go(self, sight: Sight) -> None:
        bot, memory = sight.bot, sight.memory
        if not bot.deleting or FINALIZER not in bot.finalizers:
            return
        step = Step(done=True)
        if wants_finalizer(bot):
            step = self._step(bot, memory, since=bot.deletion_requested_at or self._now())
        memory.deletion = step.waits_for
        if not step.done:
            self._queue.retry(bot.key, Lane.STATUS, step.look_again_s or LOOK_AGAIN_S)
            self._queue.retry(bot.key, Lane.MODE, LOOK_AGAIN_S)
            return
        if step.warning:
            await self._say(bot, "DeletionLetGo", step.warning, action="Delete", warning=True)
        await self._release(bot)
        await self._kube.patch_metadata(bot, finalizers=finalizers_of(bot, ours=False))
        memory.let_go = True

    async def _restart(self, sight: Sight) -> None:
        """Delete execution's pod when it has not obeyed in time: it comes back cancelling."""
        bot, memory = sight.bot, sight.memory
        state = memory.judged()
        if state is None or not state.restart_execution:
            return
        memory.mode = replace(state, restart_execution=False)
        memory.restarted_at = self._now()
        selector = f"{LABEL_BOT}={bot.name},{LABEL_COMPONENT}={EXECUTION}"
        names = await self._kube.delete_pods(bot.namespace, selector, grace=RESTART_GRACE_S)
        if names:
            log.warning("execution_restarted", bot=bot.key, pods=names, why=state.why)
            await self._say(bot, "ExecutionRestarted", state.why, action="Restart", warning=True)

    async def _write(self, sight: Sight) -> None:
        bot, memory = sight.bot, sight.memory
        if not memory.looked or memory.let_go:
            return
        fresh, now_s = status_of(self._observe(sight)), self._clock.real_s()
        metrics.observe_conditions(bot.namespace, bot.name, fresh["conditions"])
        if fresh == bot.status:
            return
        due_s = (memory.born_s if memory.written_s is None else memory.written_s) + FIGURES_S
        if not urgent(bot.status, fresh) and now_s < due_s:
            self._queue.retry(bot.key, Lane.STATUS, due_s - now_s)
            return
        for event in events_of(bot.status, fresh, bot=bot):
            await self._teller.tell(bot, event)
        self._cache.store(await self._kube.patch_status(bot, fresh))
        memory.written_s = now_s

    def _observe(self, sight: Sight) -> Observation:
        bot, memory = sight.bot, sight.memory
        pods = self._pods(bot)
        return Observation(
            bot=bot,
            now=self._now(),
            pods=pods,
            problems=sight.problems,
            mode=memory.judged(),
            view=memory.view,
            bus_error=memory.bus_error,
            report=memory.reported(),
            refused=memory.refused,
            at_rest=_stops(bot, memory) and not pods,
            account=account_of(bot, self._master),
            weight=memory.weight,
            deletion=memory.deletion,
        )

    # ---------------------------------------------------------------- what all lanes share

    def _sight(self, key: str) -> Sight | None:
        body = self._cache.bot(key)
        if body is None:
            return None
        problems: tuple[tuple[str, str], ...] = ()
        try:
            bot = parse(body)
        except InvalidSpec as error:
            bot, problems = salvage(body), error.problems
        return Sight(bot, self._memories.of(bot, now_s=self._clock.real_s()), problems)

    def _pods(self, bot: Bot) -> tuple[Pod, ...]:
        return read_pods(self._cache.pods(bot.key), now=self._now())

    def _step(self, bot: Bot, memory: Memory, *, since: datetime) -> Step:
        return stop_step(
            bot, pods=self._pods(bot), state=memory.judged(), view=memory.view, since=since, now=self._now()
        )

    async def _release(self, bot: Bot) -> None:
        try:
            await self._accounts.release(bot, account_of(bot, self._master))
        except Forbidden as error:
            # A right that the operator lost must not keep a bot from going; the next holder finds a dead one.
            log.warning("lease_not_released", bot=bot.key, error=str(error))

    async def _say(self, bot: Bot, reason: str, message: str, *, action: str, warning: bool = False) -> None:
        event = Event(reason=reason, message=message, action=action, warning=warning, occasion=minute_of(self._now()))
        await self._teller.tell(bot, event)

    def _now(self) -> datetime:
        return from_ms(self._clock.now_ms())


def _stops(bot: Bot, memory: Memory) -> bool:
    """Whether the bot is to have no pods in the end, and yet to stay."""
    return bot.spec.suspend or bool(memory.refused)


def _obeyed(bot: Bot, memory: Memory) -> Bot:
    """The bot as its mode is wanted: one that may not have its account is halted as a suspended one is."""
    if not memory.refused or bot.spec.suspend:
        return bot
    return replace(bot, spec=bot.spec.model_copy(update={"suspend": True}))


def _asked_before(bot: Bot) -> datetime | None:
    """When this generation's mode was asked for, as the status says; an operator that was started since goes on from
    there."""
    mode = bot.status.get("mode") or {}
    judged = condition_of(bot.status, MODE_APPLIED)
    if judged.get("observedGeneration") != bot.generation or mode.get("desired") != desired_of(bot).mode:
        return None
    return datetime.fromisoformat(mode["requestedAt"]) if mode.get("requestedAt") else None


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
