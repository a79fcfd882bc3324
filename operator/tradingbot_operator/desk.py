"""What the three lanes of the reconcile share: the sight of a bot, what is remembered of it, and telling of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from tradingbot.domain.cycles import from_ms
from tradingbot.runtime.clock import Clock
from tradingbot_operator.cache import Cache
from tradingbot_operator.deletion import Step, stop_step
from tradingbot_operator.events import Event, Teller, minute_of
from tradingbot_operator.keys import MasterKey
from tradingbot_operator.memory import Memories, Memory
from tradingbot_operator.names import FINALIZER, component_of
from tradingbot_operator.pods import Pod, read_pods
from tradingbot_operator.queue import WorkQueue
from tradingbot_operator.resource import Bot, InvalidSpec, parse
from tradingbot_operator.salvage import salvage
from tradingbot_operator.settings import OperatorSettings
from tradingbot_operator.spec import DeletionPolicy

EXECUTION: Final = component_of("execution")
LOOK_AGAIN_S: Final = 1.0
"""Real seconds between two looks at a bot that is stopping."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A resource as it is now."""

    bot: Bot
    """Salvaged, where its spec is broken."""
    memory: Memory
    problems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What is known, and where it is said."""

    cache: Cache
    queue: WorkQueue
    clock: Clock
    teller: Teller
    memories: Memories
    settings: OperatorSettings
    master: MasterKey

    def sight(self, key: str) -> Sight | None:
        """The bot, as far as it can be read; None when there is none, or it was let go."""
        body = self.cache.bot(key)
        if body is None:
            return None
        problems: tuple[tuple[str, str], ...] = ()
        try:
            bot = parse(body)
        except InvalidSpec as error:
            bot, problems = salvage(body), error.problems
        memory = self.memories.of(bot, now_s=self.clock.real_s())
        return None if memory.let_go else Sight(bot, memory, problems)

    def pods(self, bot: Bot) -> tuple[Pod, ...]:
        """The bot's pods."""
        return read_pods(self.cache.pods(bot.key))

    def now(self) -> datetime:
        """The operator's time."""
        return from_ms(self.clock.now_ms())

    def stop_step(self, bot: Bot, memory: Memory, *, since: datetime) -> Step:
        """How far a bot has come that has to stop."""
        state = memory.judged()
        return stop_step(bot, pods=self.pods(bot), state=state, view=memory.view, since=since, now=self.now())

    async def say(self, bot: Bot, reason: str, message: str, *, action: str, warning: bool = False) -> None:
        """Tell something that happened, at most once a minute in the same words."""
        occasion = minute_of(self.now())
        event = Event(reason=reason, message=message, action=action, warning=warning, occasion=occasion)
        await self.teller.tell(bot, event)


def stops(bot: Bot, memory: Memory) -> bool:
    """Whether the bot is to have no pods in the end, and yet to stay; one that has to flatten needs them once more."""
    flattens = bot.deleting and bot.spec.deletion_policy is DeletionPolicy.FLATTEN
    return bool(memory.refused) or (bot.spec.suspend and not flattens)


def may_write(bot: Bot, memory: Memory) -> bool:
    """Whether the bot's Redis is its own to write to: one that goes on with another's state holds the account first.

    A status with a generation out of Redis says that an earlier process has seen that, and so does our finalizer on a
    bot that is being deleted.
    """
    if not bot.spec.redis.adopt or memory.account_held:
        return True
    known = (bot.status.get("mode") or {}).get("generation") is not None
    return known or (bot.deleting and FINALIZER in bot.finalizers)


def obeyed(bot: Bot, memory: Memory) -> Bot:
    """The bot as its mode is wanted: one that may not have its account is halted as a suspended one is."""
    if not memory.refused or bot.spec.suspend:
        return bot
    return replace(bot, spec=bot.spec.model_copy(update={"suspend": True}))
