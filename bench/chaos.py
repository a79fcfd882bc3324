"""Kills and lost answers, again and again: how many orders were doubled, lost, or placed without leave?

Method: ``tradingbot up --cycles N``. Every few real seconds a part drawn by a seeded generator is killed with SIGKILL:
a service, the exchange, the bus. Meanwhile the exchange breaks off a share of all requests before and after they take
effect, answers 429 and 502, and closes sockets. The last cycles are left in peace, so that everything can come to
rest; then ``up`` checks the fourteen invariants against the streams and the exchange's own log. The seed repeats the
drawing of parts and faults; the moments of the kills are the machine's.

    python bench/chaos.py [--cycles 60] [--speed 15] [--seed 1] [--pause-s 2] [--fault-share 0.05]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import httpx

from stack import SERVICES, Stack, machine, stack

PARTS = (*SERVICES, "execution", "execution", "paper", "valkey")
"""Execution three times as often: it is the one that holds orders."""
PEACEFUL_CYCLES = 4


def faults(share: float) -> list[dict[str, object]]:
    """Every kind of trouble, on every path."""
    kinds = ("drop_before", "drop_after", "rate_limit", "server_error", "server_error_after")
    rules: list[dict[str, object]] = [{"kind": kind, "probability": share / len(kinds)} for kind in kinds]
    return [*rules, {"kind": "close_sockets", "probability": 0.01}]


def hurt(bot: Stack, share: float | None) -> None:
    """Ask the exchange for trouble, or for an end of it; one that is just down is asked again later."""
    url = f"{bot.run['paper_url']}/control/faults"
    with contextlib.suppress(httpx.HTTPError):
        httpx.delete(url, timeout=2)
        if share:
            httpx.post(url, json=faults(share), timeout=2)


def cycles_told(folder: Path) -> int:
    """How many cycles `up` has told of."""
    return (folder / "up.log").read_text().count(" approved [")


def main() -> None:
    """Kill, wait, and print what is left of the promises."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=60)
    parser.add_argument("--speed", type=float, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause-s", type=float, default=2.0)
    parser.add_argument("--fault-share", type=float, default=0.05)
    options = parser.parse_args()
    dice, kills = random.Random(options.seed), Counter[str]()
    with stack(speed=options.speed, options=("--cycles", str(options.cycles), "--report", "report.json")) as bot:
        while bot.process.poll() is None and cycles_told(bot.folder) < options.cycles - PEACEFUL_CYCLES:
            hurt(bot, options.fault_share)
            part = dice.choice(PARTS)
            if (pid := bot.pids().get(part)) is not None:
                os.kill(pid, signal.SIGKILL)
                kills[part] += 1
            time.sleep(options.pause_s * dice.uniform(0.5, 1.5))
        hurt(bot, None)
        code = bot.process.wait(timeout=600)
        report = json.loads((bot.folder / "report.json").read_text())
    print(
        f"{machine()}; speed {options.speed:g}; seed {options.seed}; exit code {code} (1 too when cycles were missed)"
    )
    print(f"kills {kills.total()}: " + "  ".join(f"{part} {count}" for part, count in kills.most_common()))
    print(
        f"cycles {report['cycles']} of {options.cycles}  orders {report['orders']}  filled {report['filled_orders']}  "
        f"cancels {report['cancels']}  dead letters {report['dead_letters']}  equity {report['equity_last_usd']}"
    )
    verdicts = report["verdicts"]
    for each in verdicts.values() if isinstance(verdicts, dict) else verdicts:
        held = {True: "holds", False: "BROKEN", None: "not judged"}[each["holds"]]
        print(f"{each['name']:<4}{held:<11}{each['title']}  [{each['checked']} checked, {each['breaches']} against]")


if __name__ == "__main__":
    main()
