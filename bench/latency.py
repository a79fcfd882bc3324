"""From a feature snapshot to the first accepted order of its cycle.

Method: ``tradingbot up`` on synthetic prices, baseline strategy, paper exchange without added latency, every commit
fsynced (``appendfsync always``). Both ends are the ids of stream entries, that is the server's own real clock in
milliseconds: ``md.features.1m`` at the start; at the end the first ``exec.reports`` entry (ACK or a fill) of the
cycle, which is written after the venue's answer, so that the figure includes one commit more than it must. Cycles
without an order do not count. ``--speed`` makes cycles come faster; each is still handled in real time.

The stages between are shown beside it, and as floors: a bare 4 KB write + fsync to the same disk, and a bare FCALL
(``tb`` lease function that finds nothing to do) on the same server.

    python bench/latency.py [--cycles 1000] [--speed 20]
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections import defaultdict
from pathlib import Path

from stack import Stack, machine, percentile, real_ms, row, stack

GOALS_MS = {"p50": (0.5, 15.0), "p99": (0.99, 40.0)}
STAGES = ("md.features.1m", "alpha.target", "risk.approved", "exec.plan", "exec.orders", "exec.reports")


def bare_fsync(folder: Path, times: int = 300) -> list[float]:
    """Milliseconds of a 4 KB append and fsync."""
    taken = []
    with (folder / "fsync.bin").open("wb", buffering=0) as file:
        for _ in range(times):
            started = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - started) * 1000)
    return taken


def bare_fcall(bot: Stack, times: int = 300) -> list[float]:
    """Milliseconds of a function call that writes nothing."""
    name = next(f["name"] for lib in _libraries(bot) for f in lib["functions"] if "free" in f["name"])
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        bot.bus.fcall(name, 1, "lease:bench", "0")
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def _libraries(bot: Stack) -> list[dict[str, list[dict[str, str]]]]:
    pairs = [dict(zip(each[::2], each[1::2], strict=True)) for each in bot.bus.function_list()]
    for each in pairs:
        each["functions"] = [dict(zip(f[::2], f[1::2], strict=True)) for f in each["functions"]]
    return pairs


def first_times(bot: Stack) -> dict[str, dict[str, int]]:
    """By cycle: when each stage's first entry was written, real milliseconds."""
    firsts: dict[str, dict[str, int]] = defaultdict(dict)
    for stage in STAGES:
        for entry_id, message in bot.entries(stage):
            if stage != "exec.reports" or message["data"]["status"] in {"ACK", "PARTIAL", "FILLED"}:
                firsts[message["env"]["cycle_id"]].setdefault(stage, real_ms(entry_id))
    return firsts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000, help="cycles with an order")
    parser.add_argument("--speed", type=float, default=20)
    parser.add_argument("--max-minutes", type=float, default=60)
    options = parser.parse_args()
    deadline = time.monotonic() + options.max_minutes * 60
    with stack(speed=options.speed) as bot:
        floor_fsync, floor_fcall = bare_fsync(bot.folder), bare_fcall(bot)
        complete: list[dict[str, int]] = []
        while len(complete) < options.cycles and time.monotonic() < deadline:
            time.sleep(5)
            complete = [each for each in first_times(bot).values() if {STAGES[0], STAGES[-1]} <= each.keys()]
    total = [float(each[STAGES[-1]] - each[STAGES[0]]) for each in complete]
    print(f"{machine()}; speed {options.speed:g}; appendfsync always")
    print(row("bare 4 KB write + fsync", floor_fsync))
    print(row("bare FCALL", floor_fcall))
    for before, after in itertools.pairwise(STAGES):
        taken = [float(each[after] - each[before]) for each in complete if {before, after} <= each.keys()]
        print(row(f"{before} -> {after}", taken, digits=0))
    print(row("feature snapshot -> first order accepted", total, digits=0))
    for name, (share, goal) in GOALS_MS.items():
        value = percentile(total, share) if total else float("nan")
        print(f"goal {name} <= {goal:g} ms: {'met' if value <= goal else 'missed'} ({value:.0f} ms)")


if __name__ == "__main__":
    main()
