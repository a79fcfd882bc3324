"""From ``kubectl patch`` HALT to the last cancel in the exchange's own log.

Method: on a kind cluster the chart is installed and a few bots trade on their paper exchanges (latency 0, every commit
fsynced). Each cycle a bot places 15 to 40 post-only orders; prices are moved away from them, so that all stay open.
Then ``kubectl patch`` asks for HALT. The start is the moment before the command is started, its own start included; the
end is the last cancel in the exchange's log, a time of the same machine. Beside it: when ``kubectl`` came back, and
execution's own stamps. Each bot is tried once a minute, one after another, so that no two tries meet.

    python bench/halt.py [--tries 30] [--bots 2]
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stack import machine, percentile, row

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from harness import cluster, namespaces
from harness.bot import Bot, to_ms
from harness.operator import Operator
from harness.specs import RESTING, merged
from harness.waiting import eventually

OPEN_ORDERS = 15
GOAL_P99_MS = 1000.0
FOLLOW_S = 20.0
LATEST_S = 45
"""Of a minute: orders end 3 s before the next one."""
SPEC = merged(RESTING, {"execution": {"slices": 8}})
"""Up to 40 orders a cycle, less those of a coin whose market has just moved: at least 15 are wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One HALT; milliseconds since the command was started."""

    orders: int
    patched: float
    received: float
    last_cancel: float
    acked: float


@contextlib.contextmanager
def trading(count: int) -> Iterator[list[Bot]]:
    """Bots that trade, in a fresh installation."""
    kubectl = cluster.find_or_create()
    namespace = namespaces.create(kubectl, "bench")
    operator = Operator(kubectl, namespaces.create(kubectl, "operator"), [namespace])
    try:
        operator.install()
        bots = [Bot(kubectl, f"bench-{number}", namespace) for number in range(count)]
        for bot in bots:
            bot.create(SPEC)
        with contextlib.ExitStack() as stack:
            for bot in bots:
                bot.wait_ready(within_s=600)
                stack.enter_context(bot.exchange.followed())
            yield bots
    finally:
        operator.uninstall()
        namespaces.remove_all(kubectl)


def open_orders(bot: Bot) -> int:
    """How many are open, as far as the followed log has come."""
    return sum(each.is_open for each in bot.exchange.orders())


def halt(bot: Bot) -> Try:
    """HALT a bot whose orders are open."""
    standing = {each.oid for each in bot.exchange.orders() if each.is_open}
    started_ms = time.time() * 1000
    bot.kubectl.patch("tb", bot.name, bot.namespace, {"spec": {"mode": "HALT"}})
    patched_ms = time.time() * 1000
    mode = bot.wait_mode("HALT", generation=bot.generation(), within_s=FOLLOW_S)
    eventually(lambda: open_orders(bot) == 0, what="all is cancelled", within_s=FOLLOW_S, every_s=0.1)
    ends = [each.status_ms for each in bot.exchange.orders() if each.oid in standing and each.status == "canceled"]
    return Try(
        orders=len(ends),
        patched=patched_ms - started_ms,
        received=to_ms(mode["receivedAt"]) - started_ms,
        last_cancel=max(ends) - started_ms,
        acked=to_ms(mode["ackedAt"]) - started_ms,
    )


def measure(bots: list[Bot], tries: int) -> list[Try]:
    """Minute after minute, one HALT for each bot whose orders stand, until there are enough."""
    found: list[Try] = []
    while len(found) < tries:
        time.sleep(60 - time.time() % 60)
        ready = [bot for bot in bots if stands(bot)]
        for bot in ready:
            if time.time() % 60 < LATEST_S and open_orders(bot) >= OPEN_ORDERS:
                found.append(halt(bot))
                print(f"  {len(found)}: {found[-1]}", flush=True)
        for bot in ready:
            bot.set_mode("NORMAL")
    return found


def stands(bot: Bot) -> bool:
    """Whether this minute's orders all stand; prices are moved away from them."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: open_orders(bot) >= OPEN_ORDERS, what="the orders stand", within_s=4, every_s=0.1)
    orders = [each for each in bot.exchange.orders() if each.is_open]
    bot.exchange.keep_from_filling(orders)
    return len(orders) >= OPEN_ORDERS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=30)
    parser.add_argument("--bots", type=int, default=2)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left in the cluster
    with trading(options.bots) as bots:
        found = measure(bots, options.tries)
    fewest = min(each.orders for each in found)
    print(f"{machine()}; kind; {len(found)} tries, {options.bots} bots; at least {fewest} orders cancelled in each")
    print(row("kubectl patch: until it returns", [each.patched for each in found], digits=0))
    print(row("kubectl patch -> execution has received it", [each.received for each in found], digits=0))
    print(row("kubectl patch -> last cancel in the log", [each.last_cancel for each in found], digits=0))
    print(row("kubectl patch -> acknowledged", [each.acked for each in found], digits=0))
    p99 = percentile([each.last_cancel for each in found], 0.99)
    print(f"goal p99 <= {GOAL_P99_MS:g} ms: {'met' if p99 <= GOAL_P99_MS else 'missed'} ({p99:.0f} ms)")


if __name__ == "__main__":
    main()
