"""What one operator process remembers of a bot between two looks at it; lost with the process, rebuilt by looking."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tradingbot_operator.bus_view import BusView
from tradingbot_operator.children import ChildrenReport
from tradingbot_operator.modes import ModeState
from tradingbot_operator.resource import Bot


@dataclass(slots=True)
class Memory:
    """One resource, from its creation to its end. Seconds are real seconds."""

    bot: Bot
    """As it was looked at last."""
    born_s: float
    """When this process saw it first."""

    mode: ModeState | None = None
    mode_generation: int = 0
    """The generation that ``mode`` was judged for."""
    view: BusView | None = None
    bus_error: str = ""
    reached: bool = False
    """Whether Redis has answered this process once."""
    issued_generation: int = 0
    """The last whose command was counted."""
    restarted_at: datetime | None = None
    """When this process last deleted execution's pod."""
    restarts: int = 0
    """How often it has done so since execution last obeyed."""

    looked: bool = False
    """Whether the children's lane has come to an end once, well or badly."""
    report: ChildrenReport | None = None
    report_generation: int = 0
    refused: str = ""
    """Why the bot may not have its account; at first what its status says."""
    account_held: bool = False
    """Whether this process has seen that the bot may have its account."""
    at_rest: bool = False
    """Whether its pods were let go: it is suspended or refused, and has stopped."""
    verify_s: float = 0.0
    """When the API server is next asked whether the bot still holds its account."""
    weight: int | None = None
    """Its share of the venue's request weight a minute."""
    pods: frozenset[tuple[str, bool, bool]] = frozenset()
    """(name, ready, started) of the pods of Redis and execution when they were last looked at."""
    secrets_due_s: float | None = None
    """When its Secrets are next created where they are missing; None before the first look."""
    secrets_asked_s: float = 0.0
    """Before this, a pod that misses a Secret is not listened to again."""
    stopping_since: datetime | None = None
    """When this process first saw that its pods are to go."""

    deletion: str = ""
    """What its deletion waits for."""
    let_go: bool = False
    """Whether its finalizer is gone."""
    written_s: float | None = None
    """When its status was last written."""

    def judged(self) -> ModeState | None:
        """Its mode as judged for this very generation; None when nobody has looked since."""
        return self.mode if self.mode_generation == self.bot.generation else None

    def reported(self) -> ChildrenReport | None:
        """What became of the children of this very generation."""
        return self.report if self.report_generation == self.bot.generation else None


class Memories:
    """Those of all bots; a resource that was made anew under an old name is another one."""

    def __init__(self) -> None:
        self._by_key: dict[str, dict[str, Memory]] = {}

    def of(self, bot: Bot, *, now_s: float) -> Memory:
        """The memory of this very resource, with ``bot`` as its newest sight."""
        kept = self._by_key.setdefault(bot.key, {}).setdefault(
            bot.uid, Memory(bot=bot, born_s=now_s, refused=bot.refused_before)
        )
        kept.bot = bot
        return kept

    def gone(self, key: str, uid: str | None) -> tuple[Memory, ...]:
        """What is remembered under the key of resources that are not ``uid``."""
        return tuple(memory for each, memory in self._by_key.get(key, {}).items() if each != uid)

    def forget(self, bot: Bot) -> None:
        """Drop what is remembered of a resource."""
        kept = self._by_key.get(bot.key, {})
        kept.pop(bot.uid, None)
        if not kept:
            self._by_key.pop(bot.key, None)
