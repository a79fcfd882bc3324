"""A whole bot in processes of its own, as a person starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tradingbot.local.folder import DataFolder, Running

DEADLINE_S = 150.0


def eventually(check: Callable[[], Any], *, what: str, deadline_s: float = DEADLINE_S) -> Any:
    """The first true answer of ``check``."""
    end_s = time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {deadline_s:g} s: {what}")


class UpProcess:
    """``tradingbot up`` on a data folder."""

    def __init__(self, data_dir: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        self.folder = DataFolder(data_dir)
        self.output = data_dir.with_name(f"{data_dir.name}.out")
        self._log: dict[str, list[dict[str, Any]]] = {}
        command = [sys.executable, "-m", "tradingbot", "up", "--data-dir", str(data_dir), *arguments]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                cwd=data_dir.parent,
                env={**os.environ, **(environ or {}), "MONITOR_PORT": "0"},
                start_new_session=True,
            )

    def __enter__(self) -> UpProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.interrupt()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def running(self) -> Running:
        """Where it can be reached, once it can."""

        def look() -> Running | None:
            assert self.process.poll() is None, self.text
            return self.folder.running()

        return eventually(look, what=f"the bot runs: {self.text}")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ended(self, *, deadline_s: float = 300.0) -> int:
        """The exit code."""
        return self.process.wait(timeout=deadline_s)

    def ask(self, **body: str) -> Any:
        """What the paper exchange answers to an info request about the account."""
        running = self.running
        assert running.paper_url is not None
        answer = httpx.post(f"{running.paper_url}/info", json={"user": running.account, **body}, timeout=60)
        return answer.raise_for_status().json()

    def log(self, kind: str) -> list[dict[str, Any]]:
        """The paper exchange's whole record of a kind: action, order, fill. Spends nothing of the bot's requests."""
        lines = self._log.setdefault(kind, [])
        while page := self._log_after(lines[-1]["id"] if lines else 0, kind):
            lines += page
        return list(lines)

    def open_orders(self) -> list[dict[str, Any]]:
        """The orders that are open, by the exchange's record: asking the venue would spend what the bot may ask."""
        newest = {each["oid"]: each for each in self.log("order")}
        return [each for each in newest.values() if each["status"] == "open"]

    def wait_for_orders(self, *, open_now: bool = False) -> list[dict[str, Any]]:
        """The orders, once there are any."""
        if open_now:
            return eventually(self.open_orders, what="orders are open")
        return eventually(lambda: self.log("order"), what="orders reach the venue")

    def wait_for_restart(self, name: str, pid: int) -> int:
        """The new process id of a part that was killed."""

        def look() -> int | None:
            found = self.running.pids.get(name)
            return found if found not in {None, pid} else None

        return eventually(look, what=f"{name} is started again")

    def _log_after(self, entry_id: int, kind: str) -> list[dict[str, Any]]:
        query: dict[str, str | int] = {"after": entry_id, "kind": kind}
        return httpx.get(f"{self.running.paper_url}/control/log", params=query, timeout=60).raise_for_status().json()


def command(*arguments: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    """A command to a bot."""
    return subprocess.run(
        [sys.executable, "-m", "tradingbot", *arguments, "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        cwd=data_dir.parent,
    )


def report_of(path: Path) -> dict[str, Any]:
    """A report, with the verdicts by name."""
    report = json.loads(path.read_text())
    return {**report, "verdicts": {each["name"]: each for each in report["verdicts"]}}


def left_running(data_dir: Path) -> list[str]:
    """Processes whose command line or environment names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(data_dir).encode() in text:
            found.append(f"{entry.name} {text[:200]!r}")
    return found
