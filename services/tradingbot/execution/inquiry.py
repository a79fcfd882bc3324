"""What must be asked of the venue now: statuses, fills, absence, the account.

Pure. The stream makes it fast; these questions make it right, also when the stream is silent or gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tradingbot.execution.ledger import Ledger, Order, Stage
from tradingbot.execution.orders import absence_proven
from tradingbot.runtime.clock import guard_against_real_slowness

FILLS_MARGIN_MS = 10_000
"""Fills are asked for from this long before the intent: far above clock skew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How often things are asked, virtual milliseconds."""

    poll_ms: int
    """An open order's status."""
    urgent_ms: int
    """What somebody waits for: an unknown outcome, the fills of a final order, a position to settle."""
    idle_ms: int
    """The account, when nothing is going on."""
    grace_ms: int
    """How far the venue's record may lag behind what it has admitted."""
    patience_ms: int
    """How long after its time-out an open order of which the venue says nothing is waited for."""

    @classmethod
    def at_speed(cls, speed: float) -> Timing:
        """The design's figures, none shorter than what a real request takes."""

        def guard(value_ms: int, real_ms: int) -> int:
            return guard_against_real_slowness(value_ms=value_ms, real_ms=real_ms, speed=speed)

        return cls(
            poll_ms=guard(3000, 200),
            urgent_ms=guard(300, 50),
            idle_ms=guard(10_000, 500),
            grace_ms=guard(2000, 250),
            patience_ms=guard(30_000, 2000),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What to ask now."""

    statuses: tuple[Order, ...] = ()
    fills_since_ms: int | None = None
    absence: bool = False
    """Whether open orders are needed as well, to prove that unknown ones never were."""
    account: bool = False

    @property
    def none(self) -> bool:
        return not self.statuses and self.fills_since_ms is None and not self.account


def questions(
    ledger: Ledger, *, universe: Iterable[str], now_ms: int, asked_ms: Mapping[str, int], timing: Timing
) -> Questions:
    """What is due, given when each order (by cloid) and the account (by "") was last asked about."""

    def due(name: str, every_ms: int, since_ms: int = 0) -> bool:
        return now_ms - max(asked_ms.get(name, 0), since_ms) >= every_ms

    live = ledger.live()
    statuses = [each for each in live if _status_due(each, asked_ms, now_ms=now_ms, timing=timing)]
    final = [each for each in live if each.outcome is not None and due(each.cloid, timing.urgent_ms)]
    absent = [each for each in statuses if absence_proven(each, asked_ms=now_ms, grace_ms=timing.grace_ms)]
    wanted = [*final, *absent]
    every_ms = timing.urgent_ms if _to_settle(ledger, universe) else timing.idle_ms
    return Questions(
        statuses=tuple(statuses),
        fills_since_ms=min(each.intent_ms for each in wanted) - FILLS_MARGIN_MS if wanted else None,
        absence=bool(absent),
        account=due("", every_ms),
    )


def _status_due(order: Order, asked_ms: Mapping[str, int], *, now_ms: int, timing: Timing) -> bool:
    if order.stage is Stage.INTENT:
        return False  # the sender has it, and ends in an answer or an unknown outcome
    urgent = order.stage is Stage.UNKNOWN or order.outcome is not None or order.cancel_asked_ms is not None
    if order.outcome is not None and order.executed is not None:
        return False  # only fills are missing
    last_ms = max(asked_ms.get(order.cloid, 0), 0 if urgent else order.intent_ms)
    return now_ms - last_ms >= (timing.urgent_ms if urgent else timing.poll_ms)


def _to_settle(ledger: Ledger, universe: Iterable[str]) -> bool:
    """True when a symbol without live orders could be settled by asking now."""
    for symbol in {*universe, *ledger.marks}:
        if ledger.live(symbol):
            continue
        mark = ledger.marks.get(symbol)
        ended = [each.ended_ms or 0 for each in ledger.orders.values() if each.symbol == symbol]
        if mark is None or mark.doubt_ms is not None or max(ended, default=0) > mark.asked_ms:
            return True
        if any(each.symbol == symbol for each in ledger.fills):
            return True
    return False


def next_question_ms(ledger: Ledger, *, now_ms: int, timing: Timing) -> int:
    """When to look again at the latest."""
    urgent = any(
        each.stage is Stage.UNKNOWN or each.outcome is not None or each.cancel_asked_ms is not None
        for each in ledger.live()
    )
    return now_ms + (timing.urgent_ms if urgent else timing.poll_ms if ledger.live() else timing.idle_ms)
