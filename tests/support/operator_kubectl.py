"""A kubectl for tests of the plugin: it notes what it was asked and gives the answers that a test has laid out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = """#!/bin/sh
printf '%s\\037' "$@" >> "{folder}/calls"; printf '\\n' >> "{folder}/calls"
for answer in "{folder}"/answers/*/; do
    case "$*" in
        *"$(cat "$answer/about")"*)
            [ -f "$answer/reads" ] && cat > "$answer/given"
            sleep "$(cat "$answer/delay_s")"
            cat "$answer/out"
            cat "$answer/err" >&2
            exit "$(cat "$answer/code")";;
    esac
done
echo "Error from server (NotFound): nobody laid out: $*" >&2
exit 1
"""


@dataclass
class FakeKubectl:
    """The answers laid out and the calls made."""

    folder: Path
    count: int = field(default=0)

    def answers(
        self, about: str, out: Any = "", *, err: str = "", code: int = 0, delay_s: float = 0, reads: bool = False
    ) -> Path:
        """To a call whose words hold ``about``; what is laid out first counts first."""
        self.count += 1
        answer = self.folder / "answers" / f"{self.count:02}"
        answer.mkdir(parents=True)
        text = out if isinstance(out, str) else json.dumps(out)
        parts = {"about": about, "out": text, "err": err, "code": str(code), "delay_s": str(delay_s)}
        for name, content in parts.items():
            (answer / name).write_text(content, encoding="utf-8")
        if reads:
            (answer / "reads").touch()
        return answer

    def says(self, answer: Path, out: Any) -> None:
        """Another answer from now on."""
        (answer / "out").write_text(json.dumps(out), encoding="utf-8")

    @property
    def calls(self) -> list[list[str]]:
        """The words of every call, in order."""
        path = self.folder / "calls"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [line.split("\x1f")[:-1] for line in lines]

    def call(self, verb: str) -> list[str]:
        """The only call that has this word."""
        [found] = [each for each in self.calls if verb in each]
        return found


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKubectl:
    """It stands first on the PATH."""
    folder = tmp_path / "kubectl"
    (folder / "bin").mkdir(parents=True)
    script = folder / "bin" / "kubectl"
    script.write_text(_SCRIPT.format(folder=folder), encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return FakeKubectl(folder)
