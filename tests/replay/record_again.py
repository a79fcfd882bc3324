"""Makes tests/replay/recorded anew: run it when a step of the pipeline was changed on purpose, and commit the result.

    python tests/replay/record_again.py

Half an hour of a bot on synthetic prices, at 30 times the speed: with other parameters, a REDUCE_ONLY and a HALT on the
way, so that each of these is replayed too.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

RECORDED = Path(__file__).parent / "recorded"
CYCLES = 30
SPEED = "30"
PRICES = "synthetic:5"
ON_THE_WAY: tuple[tuple[int, tuple[str, ...]], ...] = (
    (8, ("set", "risk.max_gross", "0.3")),
    (12, ("reduce-only", "half-way")),
    (15, ("resume",)),
    (18, ("halt", "for the record")),
    (21, ("resume",)),
    (24, ("set", "ai.smooth_alpha", "0.8")),
)
"""After so many targets, what a person says."""
DEADLINE_S = 300.0


def main() -> None:
    """Run, record, and put the record in its place."""
    with tempfile.TemporaryDirectory() as folder:
        data, archive = Path(folder) / "bot", Path(folder) / "archive"
        options = ("--prices", PRICES, "--speed", SPEED, "--cycles", str(CYCLES), "--record", str(archive))
        up = _start("up", "--data-dir", str(data), *options)
        try:
            _play(data, up)
            assert up.wait(timeout=DEADLINE_S) == 0, "an invariant is broken"
        finally:
            up.terminate()
            up.wait(timeout=60)
        (archive / ".lock").unlink()
        _run("replay", "--archive", str(archive))
        shutil.rmtree(RECORDED, ignore_errors=True)
        shutil.copytree(archive, RECORDED)


def _play(data: Path, up: subprocess.Popen[bytes]) -> None:
    """Say what is to be said, each in its time."""
    end_s = time.monotonic() + DEADLINE_S
    for after, (name, *words) in ON_THE_WAY:
        while (targets := _targets(data)) < after:
            assert up.poll() is None, "the bot has ended"
            assert time.monotonic() < end_s, f"only {targets} targets in time"
            time.sleep(0.1)
        _run("ctl", name, *words, "--data-dir", str(data))


def _targets(data: Path) -> int:
    from tradingbot.local.folder import DataFolder

    running = DataFolder(data).running() if data.exists() else None
    if running is None:
        return 0
    with redis.Redis.from_url(running.redis_url) as bus:
        return int(bus.xlen("alpha.target"))


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tradingbot", *arguments])


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "tradingbot", *arguments], check=True)


if __name__ == "__main__":
    main()
