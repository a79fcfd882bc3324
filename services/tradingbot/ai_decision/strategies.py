"""Every strategy by its name: made for the live loop, and made again from its record for a replay.

What a strategy needs is imported when it is made, so that a process that decides by the baseline loads nothing more.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from redis.asyncio import Redis

from tradingbot.ai_decision import baseline, equal, inverse_vol
from tradingbot.ai_decision.strategy import Proposal, Strategy, View
from tradingbot.domain.errors import Permanent
from tradingbot.domain.messages import TargetPortfolio
from tradingbot.domain.static import PLUGIN_PREFIX
from tradingbot.runtime.clock import Clock
from tradingbot.runtime.settings import SettingsError

if TYPE_CHECKING:
    from tradingbot.ai_decision.settings import AiDecisionSettings

Decide = Callable[[View], Proposal]

PURE: Final[Mapping[str, Decide]] = {
    "baseline": baseline.propose,
    "equal": equal.propose,
    "inverse_vol": inverse_vol.propose,
}
"""Those that need nobody: the same answer to the same view."""

_OPTIMIZER: Final = ("clarabel", "numpy")
"""What the regime strategy needs beyond the others."""


class NotRebuildable(Permanent):
    """A strategy that cannot answer again from its record; what it answered is in the record."""


class Deterministic:
    """A pure function as a strategy."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide

    async def propose(self, view: View) -> Proposal:
        """What the function says."""
        return self._decide(view)


def check_installed(name: str) -> None:
    """Refuse a strategy that cannot be made here because something is not installed; makes and imports nothing.

    Raises:
        SettingsError: what is missing.
    """
    if name.startswith(PLUGIN_PREFIX):
        from tradingbot.ai_decision.plugin import installed  # noqa: PLC0415 - only where there is one

        installed(name)
    elif name == "regime" and (missing := [each for each in _OPTIMIZER if importlib.util.find_spec(each) is None]):
        raise SettingsError([f"AI_STRATEGY: regime needs {' and '.join(missing)}: `pip install tradingbot[optimizer]`"])


@contextlib.asynccontextmanager
async def open_strategy(settings: AiDecisionSettings, *, redis: Redis, clock: Clock) -> AsyncIterator[Strategy]:
    """The strategy that the settings name, with its connections for as long as the context lasts.

    Raises:
        SettingsError: what the strategy needs is not installed, a plugin cannot be made, or the prompt's version does
            not exist.
    """
    name = settings.ai_strategy
    check_installed(name)
    if name in PURE:
        yield Deterministic(PURE[name])
    elif name.startswith(PLUGIN_PREFIX):
        from tradingbot.ai_decision.plugin import open_plugin  # noqa: PLC0415 - only where there is one

        async with open_plugin(name) as plugin:
            yield plugin
    else:
        async with _open_model(settings, redis=redis, clock=clock) as asking:
            yield asking


@contextlib.asynccontextmanager
async def _open_model(settings: AiDecisionSettings, *, redis: Redis, clock: Clock) -> AsyncIterator[Strategy]:
    from tradingbot.ai_decision.llm.client import open_client  # noqa: PLC0415 - an HTTP client and its prompts

    async with open_client(settings, redis=redis, clock=clock) as client:
        if settings.ai_strategy == "regime":
            from tradingbot.ai_decision.minutes import minutes_on_stream  # noqa: PLC0415
            from tradingbot.ai_decision.regime import RegimeStrategy  # noqa: PLC0415 - the optimizer

            yield RegimeStrategy(client, minutes=minutes_on_stream(redis))
        else:
            from tradingbot.ai_decision.llm.strategy import LlmStrategy  # noqa: PLC0415

            yield LlmStrategy(client)


def rebuild(name: str, view: View, *, evidence: Mapping[str, Any], error: str | None = None) -> Proposal:
    """What a strategy proposed, computed again from what it saw and what it was told: no model is asked.

    Args:
        name: the strategy as the audit record names it (``strategy``).
        view: what the decision saw.
        evidence: the record's ``evidence``; empty for a strategy that needs nobody.
        error: the record's ``error``: the baseline stood in.

    Raises:
        NotRebuildable: a plugin that does not know how; see ``from_record``.
        StrategyFailed: the recorded answer is not usable (any more).
    """
    if error is not None:
        return replace(baseline.propose(view, error=error), evidence=evidence)
    if name in PURE:
        return PURE[name](view)
    if name.startswith(PLUGIN_PREFIX):
        return _rebuild_plugin(name, view, evidence=evidence)
    where = {"llm": "tradingbot.ai_decision.llm.strategy", "regime": "tradingbot.ai_decision.regime"}
    return cast("Proposal", importlib.import_module(where[name]).rebuild(evidence, view))


def _rebuild_plugin(name: str, view: View, *, evidence: Mapping[str, Any]) -> Proposal:
    from tradingbot.ai_decision.plugin import checked, load  # noqa: PLC0415 - only where there is one

    again = getattr(load(name), "rebuild", None)
    if again is None:
        raise NotRebuildable(f"{name} has no rebuild(evidence, view)")
    return checked(again(evidence, view), name)


def from_record(details: Mapping[str, Any], target: TargetPortfolio) -> Proposal:
    """A proposal as an alpha.target audit record and its target tell it, for a strategy that cannot answer again."""
    return Proposal(
        weights=details["steps"]["strategy"],
        confidence=details["confidence"],
        rationale=target.rationale,
        model=target.model,
        used=target.used,
        error=details.get("error"),
        signals=details.get("signals", {}),
        evidence=details.get("evidence", {}),
    )
