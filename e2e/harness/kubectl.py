"""``kubectl`` as a person uses it, with JSON where an answer is read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

Manifest = dict[str, Any]


class KubectlError(AssertionError):
    """The API server, or the command in a container, said no."""


class Kubectl:
    """One cluster."""

    def __init__(self, context: str) -> None:
        self.context = context

    def __call__(self, *words: str, stdin: str | None = None, timeout_s: float = 60.0, check: bool = True) -> str:
        """What ``kubectl WORDS`` prints.

        Raises:
            KubectlError: it failed; the text is what it said.
        """
        done = self.run(*words, stdin=stdin, timeout_s=timeout_s)
        if check and done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(words)[:300]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def run(self, *words: str, stdin: str | None = None, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """The finished command, whatever its outcome."""
        command = ["kubectl", "--context", self.context, *words]
        try:
            return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise KubectlError(f"kubectl {' '.join(words)[:300]}: no answer in {timeout_s:g} s") from error

    def refusal(self, *words: str, stdin: str | None = None) -> str:
        """What it says when it refuses; fails when it does not refuse."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode != 0, f"kubectl {' '.join(words)} was not refused: {done.stdout}"
        return done.stderr

    def json(self, *words: str) -> Any:
        """The JSON that it prints."""
        return json.loads(self(*words, "-o", "json"))

    def get(self, kind: str, name: str, namespace: str) -> Manifest | None:
        """An object; None when there is none."""
        text = self("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        """The objects of a kind, or of several separated by commas."""
        chosen = ["-l", selector] if selector else []
        return list(self.json("get", kind, "-n", namespace, *chosen)["items"])

    def apply(self, *manifests: Manifest) -> None:
        """Apply as a person does."""
        self("apply", "-f", "-", stdin="\n---\n".join(json.dumps(each) for each in manifests))

    def patch(self, kind: str, name: str, namespace: str, body: Mapping[str, Any], *options: str) -> str:
        """A merge patch."""
        return self("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps(body), *options)

    def delete(self, kind: str, names: Sequence[str] | str, namespace: str, *options: str) -> None:
        """Delete without waiting for the end, unless an option says so."""
        chosen = [names] if isinstance(names, str) else list(names)
        self("delete", kind, *chosen, "-n", namespace, "--wait=false", "--ignore-not-found", *options)

    def kill(self, pod: str, namespace: str) -> None:
        """End a pod at once, without a chance to clean up."""
        self.delete("pod", pod, namespace, "--grace-period=0", "--force")

    def exec(self, pod: str, namespace: str, *command: str, stdin: str | None = None, timeout_s: float = 60.0) -> str:
        """What a command in a pod's first container prints."""
        interactive = ["-i"] if stdin is not None else []
        return self("exec", *interactive, pod, "-n", namespace, "--", *command, stdin=stdin, timeout_s=timeout_s)
