"""A running bot to measure: ``tradingbot up`` as a user starts it, on a data folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import redis

SERVICES = ("market_data", "portfolio_state", "ai_decision", "risk_engine", "execution", "monitor")


class Stack:
    """One bot, from start to stop."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process
        self.run = self._running()
        self.bus = redis.Redis.from_url(self.run["operator_url"], decode_responses=True)

    def _running(self, timeout_s: float = 60.0) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"`up` ended with code {self.process.returncode}; see {self.folder}")
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                found: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
                if all(service in found["pids"] for service in SERVICES):
                    return found
            time.sleep(0.05)
        raise SystemExit("`up` did not start in time")

    def pids(self) -> dict[str, int]:
        """The parts that run now, read from the process table: a restarted one has a new number."""
        found = {}
        for child in _children(self.process.pid):
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            except FileNotFoundError:
                continue  # it has just ended
            name = words[words.index(b"run") + 1].decode() if b"run" in words else _other(words)
            if name:
                found[name] = child
        return found

    def entries(self, stream: str, *, after: str = "-") -> list[tuple[str, dict[str, Any]]]:
        """Entries of a stream as (id, message)."""
        start = after if after == "-" else f"({after}"
        return [(entry_id, json.loads(fields["p"])) for entry_id, fields in self.bus.xrange(stream, min=start)]


def _children(pid: int) -> list[int]:
    out = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in out.split()]


def _other(words: list[bytes]) -> str:
    if any(b"valkey-server" in word for word in words[:1]):
        return "valkey"
    return "paper" if b"paper" in words else ""


@contextlib.contextmanager
def stack(
    *,
    speed: float,
    prices: str = "synthetic:7",
    options: tuple[str, ...] = (),
    settings: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Start a bot, hand it over, stop it cleanly."""
    with tempfile.TemporaryDirectory(prefix="tradingbot-bench-") as name:
        folder = Path(name)
        argv = [sys.executable, "-m", "tradingbot", "up", "--data-dir", name, "--speed", str(speed)]
        with (folder / "up.log").open("wb") as log:
            environ = {**os.environ, "MONITOR_PORT": "0", **(settings or {})}
            command = [*argv, "--prices", prices, *options]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=name, env=environ)
            try:
                yield Stack(folder, process)
            finally:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=40)
                process.kill()


def real_ms(entry_id: str) -> int:
    """When the server wrote an entry, real Unix milliseconds."""
    return int(entry_id.partition("-")[0])


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def row(name: str, values: list[float], *, unit: str = "ms", digits: int = 2) -> str:
    """A line of figures."""
    if not values:
        return f"{name:<44} n=0"
    figures = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    shown = "  ".join(f"{label} {percentile(values, share):.{digits}f}" for label, share in figures.items())
    return f"{name:<44} n={len(values):<5} {shown} {unit}"


def machine() -> str:
    """What it was measured on."""
    return f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {os.cpu_count()} cores"
