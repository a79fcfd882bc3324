"""Halting, restricting and resuming a bot, by two ways of which each is tried whatever becomes of the other.

The first is the spec: ``spec.mode`` is patched and the operator carries it out. The second is a person's mode, written
to Redis from the monitor's pod; it needs no operator, and it ends by itself when the spec's word of the patched
generation has reached Redis, so that a later NORMAL in the spec is not held back by it.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from tradingbot.domain.modes import Mode
from tradingbot.runtime.clock import Clock
from tradingbot_operator.names import CLEAR_BREAKER
from tradingbot_operator.plugin.bots import RESOURCE, in_monitor
from tradingbot_operator.plugin.kubectl import Answer, Kubectl, KubectlFailed

PATCH_TIMEOUT_S = 5.0
POLL_S = 0.25
IN_POD_START_S = 20.0
"""How long the command in the pod may take before it begins to wait: 1 s, and far more on a node without idle CPU."""

Tell = Callable[[str], None]


class Result(IntEnum):
    """Exit codes of `halt`, `reduce-only` and `resume`."""

    DONE = 0
    """The mode is in force and acknowledged."""
    NOTHING_WRITTEN = 1
    """Neither way worked: the bot does what it did before."""
    NOT_ACKNOWLEDGED = 3
    """It is written, and whether it is in force is not known, or a breaker or a person still restricts more."""


@dataclass(slots=True, kw_only=True)
class Speaker:
    """Says a mode to one bot and tells a person what came of it."""

    kubectl: Kubectl
    clock: Clock
    bot: str
    tell: Tell
    complain: Tell
    timeout_s: float = 30.0
    _began_s: float = field(init=False, default=0.0)
    _written: bool = field(init=False, default=False)
    """Whether anything was written, or may have been."""

    async def restrict(self, mode: Mode, reason: str) -> Result:
        """HALT or REDUCE_ONLY, by both ways; returns when it is acknowledged or time is up."""
        self._began_s = self.clock.real_s()
        generation = await self._patch(mode)
        hearing = [asyncio.create_task(self._by_execution(mode, reason, generation))]
        if generation is not None:
            hearing.append(asyncio.create_task(self._by_operator(mode, generation)))
        try:
            for each in asyncio.as_completed(hearing):
                if how := await each:
                    return self._done(mode, how)
        finally:
            for task in hearing:
                task.cancel()
            await asyncio.gather(*hearing, return_exceptions=True)
        if not self._written:
            self.complain(f"{self.bot}: NOTHING was written; the bot does what it did before")
            return Result.NOTHING_WRITTEN
        self.complain(
            f"{self.bot}: not acknowledged after {self._took_s():.0f} s: `kubectl tradingbot status {self.bot}`"
        )
        return Result.NOT_ACKNOWLEDGED

    async def resume(self, reason: str) -> Result:
        """NORMAL in the spec and no more of a person's restriction; what the breaker says stays."""
        self._began_s = self.clock.real_s()
        generation = await self._patch(Mode.NORMAL)
        words = in_monitor(self.bot, "ctl", "resume", "--by", _who(), "--", reason)
        lifted = await self.kubectl.run(*words, timeout_s=self.timeout_s)
        if lifted.ok:
            self.tell(f"{self.bot}: no person restricts it any more")
        else:
            self.complain(f"{self.bot}: a person's restriction, if there is one, could not be lifted: {lifted.why}")
        if generation is None:
            return Result.NOT_ACKNOWLEDGED if lifted.ok or lifted.timed_out or self._written else Result.NOTHING_WRITTEN
        at_once = lifted.ok and lifted.out.startswith(f"mode {Mode.NORMAL} ")
        if not at_once and not await self._status(generation, until=lambda seen: seen.get("effective") == Mode.NORMAL):
            self.complain(
                f"{self.bot}: not NORMAL after {self._took_s():.0f} s: `kubectl tradingbot status {self.bot}` says who "
                f"restricts it or that it is suspended; a breaker's latch is cleared by the annotation {CLEAR_BREAKER}"
            )
            return Result.NOT_ACKNOWLEDGED
        self.tell(f"{self.bot}: NORMAL is in force after {self._took_s():.1f} s")
        return Result.DONE if lifted.ok else Result.NOT_ACKNOWLEDGED

    # ---------------------------------------------------------------- the two ways

    async def _patch(self, mode: Mode) -> int | None:
        """The first way; returns the generation that holds the mode."""
        patch = json.dumps({"spec": {"mode": mode.value}})
        words = ("patch", RESOURCE, self.bot, "--type=merge", f"--patch={patch}", "--output=json")
        answer = await self.kubectl.run(
            *words, f"--request-timeout={PATCH_TIMEOUT_S:g}s", "--field-manager=kubectl-tradingbot",
            timeout_s=PATCH_TIMEOUT_S,
        )  # fmt: skip
        if not answer.ok:
            self._written |= answer.timed_out
            self.complain(f"{self.bot}: spec.mode {_could_not(answer, 'be set')}")
            return None
        generation = int(json.loads(answer.out)["metadata"]["generation"])
        self._written = True
        self.tell(f"{self.bot}: spec.mode is {mode} (generation {generation})")
        return generation

    async def _by_execution(self, mode: Mode, reason: str, generation: int | None) -> str | None:
        """The second way; says how it is known when execution itself acknowledges. Without a generation the mode
        lasts until somebody resumes."""
        command = ("halt",) if mode is Mode.HALT else ("reduce-only", "--wait")
        until = () if generation is None else ("--until-generation", str(generation))
        options = ("--timeout", f"{self.timeout_s:g}", *until, "--by", _who())
        words = in_monitor(self.bot, "ctl", *command, *options, "--", reason)
        answer = await self.kubectl.run(*words, timeout_s=self.timeout_s + IN_POD_START_S)
        # The command says the mode as soon as it is written, and waits after that.
        if not answer.out.startswith("mode "):
            self._written |= answer.timed_out
            self.complain(f"{self.bot}: a person's {mode} {_could_not(answer, 'be written to Redis')}")
            return None
        self._written = True
        if generation is None:
            self.tell(
                f"{self.bot}: a person's {mode} is written; it lasts until `kubectl tradingbot resume {self.bot}`"
            )
        return "says execution" if answer.ok else None

    async def _by_operator(self, mode: Mode, generation: int) -> str | None:
        def obeyed(seen: Mapping[str, Any]) -> bool:
            effective = seen.get("effective")
            return effective is not None and Mode(effective).rank >= mode.rank and bool(seen.get("ackedAt"))

        return "says the operator" if await self._status(generation, until=obeyed, at_rest=True) else None

    async def _status(
        self, generation: int, *, until: Callable[[Mapping[str, Any]], bool], at_rest: bool = False
    ) -> bool:
        """Whether in time the spec's word of this generation is in Redis and ``until`` holds of ``status.mode``; with
        ``at_rest`` also whether the operator says of this generation that nothing runs."""
        while self._took_s() < self.timeout_s:
            with suppress(KubectlFailed):
                status = (await self.kubectl.read("get", RESOURCE, self.bot)).get("status") or {}
                seen = status.get("mode") or {}
                if (seen.get("generation") or 0) >= generation and until(seen):
                    return True
                if at_rest and _nothing_runs(status, generation):
                    return True
            await self.clock.sleep_real(POLL_S)
        return False

    # ---------------------------------------------------------------- telling

    def _took_s(self) -> float:
        return self.clock.real_s() - self._began_s

    def _done(self, mode: Mode, how: str) -> Result:
        promise = "no order is open" if mode is Mode.HALT else "no order that could grow a position is open"
        self.tell(f"{self.bot}: {mode} acknowledged after {self._took_s():.1f} s, {how}: {promise}, and none can come")
        return Result.DONE


def _nothing_runs(status: Mapping[str, Any], generation: int) -> bool:
    """Whether the bot is suspended and at rest: no pod of it could take a mode, or send an order."""
    said = [each for each in status.get("conditions") or [] if each.get("type") == "ModeApplied"]
    return any(
        each.get("status") == "True"
        and each.get("reason") == "NotRunning"
        and (each.get("observedGeneration") or 0) >= generation
        for each in said
    )


def _could_not(answer: Answer, what: str) -> str:
    """That it failed; or that nobody knows: what ran out of time here may take effect there."""
    return f"may {what} yet: {answer.why}" if answer.timed_out else f"could not {what}: {answer.why}"


def _who() -> str:
    """The person at this terminal, for the record."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"[:128]
    except (KeyError, OSError):
        return f"somebody@{socket.gethostname()}"[:128]
