"""kill -9 of a service -> the entry that it was at is finished.

Method: ``tradingbot up``; a service is stopped (SIGSTOP) until a new entry of its input stream lies unfinished before
it, then it is killed. The clock runs from the kill until the group has delivered and acknowledged that entry. A
service without an input stream has recovered when it writes again: market_data a fresh ``latest.mids``, monitor an
answer to ``/readyz``. execution with orders in flight is a row of its own: killed at an ``exec.orders`` entry.

    python bench/recovery.py [--times 10] [--speed 20]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from stack import Stack, machine, percentile, row, stack

INPUTS = {
    "ai_decision": ("md.features.1m", "ai_grp"),
    "risk_engine": ("alpha.target", "risk_grp"),
    "execution": ("risk.approved", "exec_grp"),
    "portfolio_state": ("exec.reports", "state_reports_grp"),
}
GOAL_S, GOAL_IN_FLIGHT_S = 5.0, 9.0
_TIMEOUT_S = 60.0


def newest(bot: Stack, stream: str) -> str:
    """The id of a stream's newest entry."""
    rows = bot.bus.xrevrange(stream, count=1)
    return rows[0][0] if rows else "0-0"


def key(entry_id: str) -> tuple[int, int]:
    """Orders entry ids."""
    first, _, second = entry_id.partition("-")
    return int(first), int(second or 0)


def finished(bot: Stack, stream: str, group: str, entry_id: str) -> bool:
    """True when the group has been given the entry and has acknowledged it."""
    about = next(each for each in bot.bus.xinfo_groups(stream) if each["name"] == group)
    if key(about["last-delivered-id"]) < key(entry_id):
        return False
    return not bot.bus.xpending_range(stream, group, min=entry_id, max=entry_id, count=1)


def until(condition: Callable[[], bool], *, what: str) -> float:
    """Seconds until a condition holds."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > _TIMEOUT_S:
            raise SystemExit(f"{what}: not within {_TIMEOUT_S:g} s")
        time.sleep(0.005)
    return time.monotonic() - started


def kill_at_entry(bot: Stack, service: str, stream: str, group: str) -> float:
    """Seconds from the kill until the entry before the dead service is finished."""
    before = newest(bot, stream)
    pid = bot.pids()[service]
    until(lambda: key(newest(bot, stream)) > key(before), what=f"an entry on {stream}")
    before = newest(bot, stream)
    os.kill(pid, signal.SIGSTOP)
    with contextlib.suppress(SystemExit):
        until(lambda: not finished(bot, stream, group, newest(bot, stream)), what=f"an unfinished entry on {stream}")
    entry_id = newest(bot, stream)
    os.kill(pid, signal.SIGKILL)
    return until(lambda: finished(bot, stream, group, entry_id), what=f"{service} to finish {entry_id}")


def kill_market_data(bot: Stack) -> float:
    """Seconds from the kill until a fresh mid is written."""

    def at_ms() -> int:
        return max(json.loads(each)["at_ms"] for each in bot.bus.hgetall("latest.mids").values())

    os.kill(bot.pids()["market_data"], signal.SIGKILL)
    before = at_ms()
    return until(lambda: at_ms() > before, what="a fresh mid")


def kill_monitor(bot: Stack) -> float:
    """Seconds from the kill until the monitor is ready again."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{bot.run['monitor_url']}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    os.kill(bot.pids()["monitor"], signal.SIGKILL)
    until(lambda: not ready(), what="the monitor to be gone")
    return until(ready, what="the monitor")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--speed", type=float, default=20)
    options = parser.parse_args()
    print(f"{machine()}; speed {options.speed:g}; {options.times} kills each")
    taken: dict[str, list[float]] = {}
    with stack(speed=options.speed) as bot:
        until(lambda: bot.bus.xlen("exec.reports") > 0, what="a first order")
        for _ in range(options.times):
            for service, (stream, group) in INPUTS.items():
                taken.setdefault(service, []).append(kill_at_entry(bot, service, stream, group))
            taken.setdefault("market_data", []).append(kill_market_data(bot))
            taken.setdefault("monitor", []).append(kill_monitor(bot))
            in_flight = kill_at_entry(bot, "execution", "exec.orders", "exec_orders_grp")
            taken.setdefault("execution, orders in flight", []).append(in_flight)
    for service, seconds in taken.items():
        goal = GOAL_IN_FLIGHT_S if "flight" in service else GOAL_S
        met = "met" if percentile(seconds, 0.99) <= goal else "missed"
        print(f"{row(service, seconds, unit='s')}  goal p99 <= {goal:g} s: {met}")


if __name__ == "__main__":
    main()
