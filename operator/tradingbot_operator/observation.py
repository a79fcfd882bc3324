"""Everything that is known of a bot at one moment: what its status and its events are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tradingbot_operator.bus_view import BusView
from tradingbot_operator.children import ChildrenReport
from tradingbot_operator.modes import ModeState
from tradingbot_operator.pods import Pod, of_component, ready_components, wanted_components
from tradingbot_operator.resource import Bot


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one operator process knows. None and the empty text mean: not looked at yet."""

    bot: Bot
    """Salvaged, where ``problems`` says that its spec is broken."""
    now: datetime
    pods: tuple[Pod, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    """(field path, what is wrong) of a spec that cannot be used."""
    mode: ModeState | None = None
    view: BusView | None = None
    """What Redis said last; None also while it does not answer."""
    bus_error: str = ""
    """Why Redis cannot be asked."""
    report: ChildrenReport | None = None
    refused: str = ""
    """Why the bot may not have its account; empty when it has it."""
    at_rest: bool = False
    """Whether a suspended or refused bot's pods are gone for good reason."""
    account: str | None = None
    weight: int | None = None
    """The bot's share of the venue's request weight."""
    deletion: str = ""
    """What a deletion waits for."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """The components that ought to have a ready pod."""
        return () if self.at_rest or self.refused else wanted_components(self.bot)

    @property
    def unready(self) -> tuple[str, ...]:
        """Those of them that have none."""
        ready = ready_components(self.pods)
        return tuple(each for each in self.wanted if each not in ready)

    @property
    def ready_text(self) -> str:
        """Such as 8/8."""
        return f"{len(self.wanted) - len(self.unready)}/{len(self.wanted)}"

    @property
    def pod_problems(self) -> tuple[str, ...]:
        """Why pods of wanted components cannot run, by component."""
        return tuple(
            f"{pod.component}: {pod.problem}"
            for component in self.wanted
            for pod in of_component(self.pods, component)
            if pod.problem and not pod.deleting
        )
