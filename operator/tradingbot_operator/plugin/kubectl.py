"""kubectl as a subprocess: with words as a list, a time-out on everything, and errors in its own words."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from tradingbot.domain.errors import Permanent, Temporary

READ_TIMEOUT_S = 10.0
_TIMED_OUT = 124
_GRACE_S = 2.0
"""How much longer than its own time-out kubectl may take before it is killed."""


class KubectlFailed(Temporary):
    """kubectl could not do it; the text is kubectl's own."""


class NoKubectl(Permanent):
    """There is no kubectl on the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call printed."""

    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.code == 0

    @property
    def timed_out(self) -> bool:
        """Whether nothing is known of what it did: it may take effect yet."""
        return self.code == _TIMED_OUT

    @property
    def why(self) -> str:
        """The last line of what went wrong."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return lines[-1] if lines else f"kubectl ended with {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """kubectl in one context and namespace; None leaves either to the kubeconfig."""

    context: str | None = None
    namespace: str | None = None

    def argv(self, *words: str) -> list[str]:
        """The command line of a call.

        Raises:
            NoKubectl: it is not installed.
        """
        found = shutil.which("kubectl")
        if found is None:
            raise NoKubectl("kubectl is not on the PATH: install it, or run this as a kubectl plugin")
        context = [f"--context={self.context}"] if self.context else []
        namespace = [f"--namespace={self.namespace}"] if self.namespace else []
        return [found, *context, *namespace, *words]

    async def run(self, *words: str, given: str | None = None, timeout_s: float = READ_TIMEOUT_S) -> Answer:
        """Run it; a time-out is an answer too, as nothing here may hang.

        Raises:
            NoKubectl: it is not installed.
        """
        process = await asyncio.create_subprocess_exec(
            *self.argv(*words),
            stdin=asyncio.subprocess.DEVNULL if given is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,  # its helpers (credential plugins) hold its pipes open: they are ended with it
        )
        try:
            feed = None if given is None else given.encode()
            out, err = await asyncio.wait_for(process.communicate(feed), timeout_s + _GRACE_S)
        except TimeoutError:
            return Answer(code=_TIMED_OUT, out="", err=f"no answer within {timeout_s:g} s")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return Answer(code=process.returncode or 0, out=out.decode(errors="replace"), err=err.decode(errors="replace"))

    async def read(self, *words: str) -> Any:
        """Parsed JSON of a read.

        Raises:
            KubectlFailed: kubectl refused, or did not answer.
        """
        answer = await self.run(*words, "--output=json", f"--request-timeout={READ_TIMEOUT_S:g}s")
        if not answer.ok:
            raise KubectlFailed(answer.why)
        return json.loads(answer.out)

    def become(self, words: Sequence[str]) -> NoReturn:
        """Go on as kubectl, which then has the terminal to itself.

        Raises:
            NoKubectl: it is not installed.
        """
        argv = self.argv(*words)
        os.execv(argv[0], argv)  # noqa: S606 - a list of words, no shell
