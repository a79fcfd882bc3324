"""Processes that are kept alive, and ended together.

A child has a session of its own, so that Ctrl-C reaches the supervisor alone, and dies with the supervisor (Linux). A
child that dies is started again with a growing pause; one that refuses its settings is not: trying again would not
help.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tradingbot.runtime.clock import Clock
from tradingbot.runtime.process import GRACE_S, ExitCode

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_STEADY_S = 20.0
"""A child that lived this long begins again with the first pause."""
_KILL_MARGIN_S = 2.0
_MAX_LOG_BYTES = 20_000_000
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How a child is started."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    process: asyncio.subprocess.Process | None = None
    log_from: int = 0
    """Where in its log the present process began."""
    keeper: asyncio.Task[None] | None = None


Reaped = Callable[[str], Awaitable[None]]
Told = Callable[[str, str], None]


class Children:
    """The children of one supervisor.

    Args:
        clock: for pauses, in real seconds.
        log_dir: each child's output is appended to ``NAME.log`` there.
        reaped: awaited after a child has died and before it is started again.
        tell: called with a child's name and what happened to it, for a person.
        pass_fds: descriptors that each child keeps open until it ends, such as a lock's.
    """

    def __init__(
        self, *, clock: Clock, log_dir: Path, reaped: Reaped, tell: Told, pass_fds: tuple[int, ...] = ()
    ) -> None:
        self._clock = clock
        self._log_dir = log_dir
        self._reaped = reaped
        self._tell = tell
        self._pass_fds = pass_fds
        self._children: dict[str, _Child] = {}
        self._restarts: Counter[str] = Counter()
        self.refused: asyncio.Event = asyncio.Event()
        """Set when a child refused its settings: nothing can go on."""

    async def start(self, spec: ChildSpec) -> None:
        """Start a child and keep it alive."""
        child = _Child(spec)
        self._children[spec.name] = child
        await self._spawn(child)
        child.keeper = asyncio.create_task(self._keep(child), name=f"keep {spec.name}")

    def pids(self) -> dict[str, int]:
        """The processes that run now."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process is not None and child.process.returncode is None
        }

    def restarts(self) -> dict[str, int]:
        """How often each child was started again."""
        return dict(self._restarts)

    async def stop(self, *names: str, grace_s: float = GRACE_S + _KILL_MARGIN_S) -> None:
        """Ask children to end, together; kill those that have not within the grace period."""
        leaving = [self._children.pop(name) for name in names if name in self._children]
        await asyncio.gather(*(self._end(child, grace_s=grace_s) for child in leaving))

    async def stop_all(self) -> None:
        """End what is left."""
        await self.stop(*self._children)

    async def _end(self, child: _Child, *, grace_s: float) -> None:
        if child.keeper is not None:
            child.keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await child.keeper
        process = child.process
        if process is None or process.returncode is not None:
            return
        _signal(process, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), timeout=grace_s)
        except TimeoutError:
            self._tell(child.spec.name, f"did not stop within {grace_s:g} s and was killed")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def _keep(self, child: _Child) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            assert child.process is not None
            started_s = self._clock.real_s()
            code = await child.process.wait()
            if code == ExitCode.REFUSED:
                self._tell(child.spec.name, "\n".join(["refused to start:", *self._why(child)]))
                self.refused.set()
                return
            self._tell(child.spec.name, f"{_ended(code)}; starting it again")
            if self._clock.real_s() - started_s > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            await self._reaped(child.spec.name)
            await self._clock.sleep_real(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            self._restarts[child.spec.name] += 1
            try:
                await self._spawn(child)
            except OSError as error:  # no memory, no process to be had: the next turn tries again
                self._tell(child.spec.name, f"could not be started: {error.strerror}")

    async def _spawn(self, child: _Child) -> None:
        path = self._log(child)
        if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as log:
            child.log_from = log.tell()
            child.process = await asyncio.create_subprocess_exec(
                *child.spec.argv,
                env=dict(child.spec.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=self._pass_fds,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def _why(self, child: _Child) -> list[str]:
        """What it said to a person at its refusal: a line for each setting, under its own name."""
        path, lead = self._log(child), f"{child.spec.name}: "
        with path.open("rb") as log:
            log.seek(child.log_from)
            lines = log.read().decode(errors="replace").splitlines()
        return [each for each in lines if each.startswith(lead)] or [f"see {path}"]

    def _log(self, child: _Child) -> Path:
        return self._log_dir / f"{child.spec.name}.log"


def python(*arguments: str) -> tuple[str, ...]:
    """The command line of a part of ours, in this same Python."""
    return (sys.executable, "-m", "tradingbot", *arguments)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _die_with_parent() -> None:
    """In the child, before it becomes its program: a supervisor that is killed leaves nothing running."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
