"""Rivals in environments of their own: each gets a virtual environment with pinned packages, made once and kept.

They live in ``$XDG_CACHE_HOME/tradingbot-bench``, never in the environment that runs the bench.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RIVALS = Path(__file__).parent / "rivals"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tradingbot-bench"
INSTALL_S, RUN_S = 1200, 3600
CORE = "0"


@dataclass(frozen=True, slots=True)
class Rival:
    """A script in ``rivals/`` and where it runs."""

    name: str
    script: str
    pins: str = ""
    """A file of pinned packages in ``rivals/``; without one it runs in the bench's own environment."""
    pythons: tuple[str, ...] = (f"python{sys.version_info.major}.{sys.version_info.minor}",)
    """Interpreters to try, the best first."""


class MissingError(Exception):
    """A rival that cannot be had here, and why."""


def python_of(rival: Rival) -> str:
    """The interpreter of a rival's environment, which is made if it is not there.

    Raises:
        MissingError: no such interpreter, or its packages could not be installed.
    """
    if not rival.pins:
        return sys.executable
    reasons = []
    for name in rival.pythons:
        try:
            return str(_environment(RIVALS / rival.pins, name) / "bin" / "python")
        except MissingError as error:
            reasons.append(str(error))
    raise MissingError("; ".join(reasons))


def _environment(pins: Path, interpreter: str) -> Path:
    base = _interpreter(interpreter)
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()[:8]
    folder = CACHE / f"{pins.stem}-{interpreter}-{digest}"
    if (folder / "installed").exists():
        return folder
    print(f"installing {pins.stem} for {interpreter} …", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    _call([base, "-m", "venv", str(folder)])
    _call([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "-r", str(pins)])
    (folder / "installed").touch()
    return folder


def _interpreter(name: str) -> str:
    """A path, never a shim that stands for another version."""
    found = [
        shutil.which(name),
        *sorted(Path.home().glob(f".pyenv/versions/{name.removeprefix('python')}.*/bin/python")),
    ]
    for each in found:
        if each and subprocess.run([str(each), "-c", ""], capture_output=True, check=False).returncode == 0:
            return str(each)
    raise MissingError(f"{name}: not installed")


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode:
        raise MissingError(f"{' '.join(command[1:4])}: {_last_line(done.stderr)}")


def run(rival: Rival, *arguments: str) -> dict[str, Any]:
    """Run a rival's script on one core and return what it measured, the JSON of its last line.

    Raises:
        MissingError: it could not be installed, or it failed.
    """
    command = [python_of(rival), str(RIVALS / rival.script), *arguments]
    pinned = [shutil.which("taskset") or "", "-c", CORE] if shutil.which("taskset") else []
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([*pinned, *command], capture_output=True, text=True, timeout=RUN_S, check=False, env=environ)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise MissingError(
            f"ended with {done.returncode}: {(done.stderr.strip().splitlines() or ['nothing said'])[-1]}"
        )
    measured: dict[str, Any] = json.loads(lines[-1])
    return measured


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
