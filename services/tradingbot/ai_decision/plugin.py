"""A strategy of a person's own: found by its entry point, and kept where it can do no harm.

It runs in a thread with an event loop of its own, on a copy of what it may see. So a call that blocks holds back
nothing but itself: the lease is renewed, the budget runs out, the baseline decides, and while the plugin still works
on an earlier cycle it is not asked again. What this does not guard against: code that ends or crashes the whole
process, that holds the interpreter's lock for seconds inside an extension, or that reads the process' environment. A
plugin is code that its owner trusts.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import math
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, cast

from tradingbot.ai_decision.strategy import RATIONALE_MAX, Proposal, Strategy, StrategyFailed, View
from tradingbot.domain.messages import ModelName
from tradingbot.domain.static import PLUGIN_PREFIX
from tradingbot.runtime.settings import SettingsError

GROUP: Final = "tradingbot.strategies"
EVIDENCE_MAX: Final = 65_536
"""Characters of a plugin's evidence, as JSON: it travels with every record."""
_JOIN_S: Final = 1.0


def load(name: str) -> Strategy:
    """Make the strategy that is installed as ``plugin:NAME``.

    Raises:
        SettingsError: none is installed under that name, or it cannot be made.
    """
    entry = installed(name)
    try:
        strategy = entry.load()()
    except (Exception, SystemExit) as error:
        raise SettingsError([f"AI_STRATEGY: {name} cannot be made: {type(error).__name__}: {error}"]) from error
    if not callable(getattr(strategy, "propose", None)):
        raise SettingsError([f"AI_STRATEGY: {name} is no strategy: {entry.value} made a thing without propose()"])
    return cast("Strategy", strategy)


def installed(name: str) -> EntryPoint:
    """Where ``plugin:NAME`` is; its code is not touched.

    Raises:
        SettingsError: none is installed under that name.
    """
    wanted, found = name.removeprefix(PLUGIN_PREFIX), {entry.name: entry for entry in entry_points(group=GROUP)}
    if wanted not in found:
        there = ", ".join(sorted(found)) or "none"
        raise SettingsError(
            [f"AI_STRATEGY: no strategy {wanted} is installed under the entry point {GROUP}; there is {there}"]
        )
    return found[wanted]


@contextlib.asynccontextmanager
async def open_plugin(name: str) -> AsyncIterator[Plugin]:
    """The plugin, in a thread that ends with the context unless the plugin blocks it."""
    plugin = Plugin(name, load(name))
    try:
        yield plugin
    finally:
        await plugin.close()


class Plugin:
    """Asks a plugin in its own thread and checks what comes back."""

    def __init__(self, name: str, strategy: Strategy) -> None:
        self._name = name
        self._strategy = strategy
        self._working = False
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def propose(self, view: View) -> Proposal:
        """The plugin's answer.

        Raises:
            StrategyFailed: it still works on an earlier cycle, or its answer is none.
        """
        if self._working:
            raise StrategyFailed(f"{self._name} still works on an earlier cycle")
        own = copy.deepcopy(view)
        self._working = True  # already now: a thread that something blocks would take one view after another
        work = asyncio.run_coroutine_threadsafe(self._answer(own), self._loop)
        return checked(await asyncio.wrap_future(work), self._name)

    async def close(self) -> None:
        """Cancel what the plugin still does and end the thread; one that it blocks is left to end with the process."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_JOIN_S):
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():
            self._loop.close()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _run(self) -> None:
        while not self._closing:
            # A task of the plugin's may want to end the process; it ends this round of the loop.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()

    async def _answer(self, view: View) -> object:
        try:
            return await self._strategy.propose(view)
        except (SystemExit, KeyboardInterrupt) as error:
            raise StrategyFailed(f"{self._name} wanted to end the process: {type(error).__name__}") from None
        except asyncio.CancelledError:
            # Ours when the time is up, and then nobody hears this; else the plugin's own, which must not cancel us.
            raise StrategyFailed(f"{self._name} cancelled its own work") from None
        finally:
            self._working = False


def checked(answer: object, name: str) -> Proposal:
    """A plugin's answer as one that can be written down: plain numbers, text of bounded length, evidence as JSON.

    Raises:
        StrategyFailed: it cannot be.
    """
    if not isinstance(answer, Proposal):
        raise StrategyFailed(f"{name} answered with {type(answer).__name__}, not with a Proposal")
    if not isinstance(answer.model, ModelName):
        raise StrategyFailed(f"{name} gave no ModelName as its model")
    try:
        return replace(
            answer,
            weights=_numbers(answer.weights),
            confidence=float(answer.confidence),
            rationale=str(answer.rationale)[:RATIONALE_MAX],
            used=name,
            error=None,
            signals={symbol: value for symbol, value in _numbers(answer.signals).items() if math.isfinite(value)},
            evidence=_evidence(answer.evidence),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise StrategyFailed(f"{name} answered with what cannot be written down: {error}") from error


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(symbol): float(value) for symbol, value in values.items()}


def _evidence(given: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(dict(given), allow_nan=False)
    if len(text) > EVIDENCE_MAX:
        raise ValueError(f"evidence of {len(text)} characters, more than {EVIDENCE_MAX}")
    return cast("dict[str, Any]", json.loads(text))
