"""Memory of the six services and Valkey: the sum of their proportional set sizes (PSS) at work.

Method: ``tradingbot up`` at real speed on synthetic prices with the baseline strategy; after a number of minutes each
process's ``/proc/PID/smaps_rollup`` is read. PSS counts a page shared by n processes as 1/n in each. The paper exchange
and the supervisor are shown, and not part of the sum: a live bot has neither.

    python bench/memory.py [--minutes 3]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from stack import SERVICES, machine, stack

GOAL_MB = 320


def pss_mb(pid: int) -> float:
    """Proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"no PSS for {pid}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    options = parser.parse_args()
    with stack(speed=1) as bot:
        time.sleep(options.minutes * 60)
        sizes = {name: pss_mb(pid) for name, pid in bot.pids().items()}
        cycles = bot.bus.xlen("risk.approved")
    print(f"{machine()}; after {options.minutes:g} min at real speed, {cycles} approvals")
    for name, size in sizes.items():
        print(f"  {name:<18}{size:7.1f} MB{'' if name in (*SERVICES, 'valkey') else '   (not counted)'}")
    total = sum(sizes[name] for name in (*SERVICES, "valkey"))
    verdict = "met" if total <= GOAL_MB else "missed"
    print(f"six services and Valkey: {total:.1f} MB PSS; goal <= {GOAL_MB} MB: {verdict}")


if __name__ == "__main__":
    main()
