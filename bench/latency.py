"""From a feature snapshot to the first order of its cycle that the venue admits.

Method: ``tradingbot up`` on synthetic prices, baseline strategy, paper exchange without added latency, every commit
fsynced (``appendfsync always``). The start is the id of the ``md.features.1m`` entry: the server's own real clock, in
milliseconds. The end is the admission in the exchange's own log: virtual milliseconds, turned into real ones by the
run's anchor. Beside it: each stage between, and until the first ``exec.reports`` entry. Cycles without an order do not
count; a narrow no-trade band, one slice and no smoothing make most cycles trade. ``--speed`` makes cycles come faster;
each is still handled in real time.

Floors, measured while the bot runs: a bare 4 KB write + fsync on the same disk, and a bare FCALL that writes nothing.

    python bench/latency.py [--cycles 1000] [--speed 20]
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections import defaultdict
from pathlib import Path

import httpx

from stack import Stack, machine, percentile, real_ms, row, stack

GOALS_MS = {"p50": (0.5, 15.0), "p99": (0.99, 40.0)}
VENUE = "venue admits"
STAGES = ("md.features.1m", "alpha.target", "risk.approved", "exec.orders", VENUE, "exec.reports")
BUSY = {"MIN_REBALANCE_WEIGHT": "0.001", "AI_SMOOTH_ALPHA": "1", "TWAP_SLICES": "1"}


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


def first_times(bot: Stack) -> dict[str, dict[str, float]]:
    """By cycle: when each stage's first entry was written, real milliseconds."""
    firsts: dict[str, dict[str, float]] = defaultdict(dict)
    admitted = admissions(bot)
    for stage in STAGES:
        for entry_id, message in bot.entries(stage) if stage != VENUE else ():
            cycle = firsts[message["env"]["cycle_id"]]
            cycle.setdefault(stage, real_ms(entry_id))
            if stage == "exec.orders" and message["data"]["cloid"] in admitted:
                cycle.setdefault(VENUE, admitted[message["data"]["cloid"]])
    return firsts


def admissions(bot: Stack) -> dict[str, float]:
    """By cloid: when the exchange admitted the order, real milliseconds."""
    real_start, virtual_start, speed = map(float, bot.run["anchor"].split(":"))
    found: dict[str, float] = {}
    after = 0
    while page := httpx.get(f"{bot.run['paper_url']}/control/log?kind=action&after={after}", timeout=60).json():
        for each in page:
            at = real_start + (each["at_ms"] - virtual_start) / speed
            found |= dict.fromkeys(each["cloids"], at) if each["type"] == "order" and each["admitted"] else {}
        after = page[-1]["id"]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--speed", type=float, default=20)
    parser.add_argument("--max-minutes", type=float, default=60)
    options = parser.parse_args()
    deadline = time.monotonic() + options.max_minutes * 60
    with stack(speed=options.speed, settings=BUSY) as bot:
        while bot.bus.xlen("exec.plan") < options.cycles and time.monotonic() < deadline:
            time.sleep(5)
        floor_fsync, floor_fcall = bare_fsync(bot.folder), bare_fcall(bot)
        complete = [each for each in first_times(bot).values() if {STAGES[0], VENUE} <= each.keys()]
    total = [each[VENUE] - each[STAGES[0]] for each in complete]
    print(f"{machine()}; speed {options.speed:g}; appendfsync always; {len(complete)} cycles with an order")
    print(row("bare 4 KB write + fsync", floor_fsync))
    print(row("bare FCALL", floor_fcall))
    for before, after in itertools.pairwise(STAGES):
        print(
            row(
                f"{before} -> {after}",
                [each[after] - each[before] for each in complete if {before, after} <= each.keys()],
            )
        )
    print(row("feature snapshot -> first order accepted", total))
    for name, (share, goal) in GOALS_MS.items():
        value = percentile(total, share) if total else float("nan")
        print(f"goal {name} <= {goal:g} ms: {'met' if value <= goal else 'missed'} ({value:.0f} ms)")


if __name__ == "__main__":
    main()
