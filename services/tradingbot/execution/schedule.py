"""When the slices of a plan are due, gated, late, timed out or worth a replacement.

Pure. Slice i is due at plan + i·interval and ends at the earlier of its time-out and cycle end − 3 s. Increases wait
until the reductions that were due before them have ended or timed out; the second half of a flip waits until the first
has filled.
"""

from __future__ import annotations

from collections.abc import Iterable

from tradingbot.domain.messages import ReportStatus
from tradingbot.execution.ledger import CurrentPlan, Ledger, Order, SliceWork, Stage
from tradingbot.execution.plan import INCREASES, REDUCTIONS

LAST_END_MS = 3_000
"""No slice's order rests in the last 3 s of its cycle: the next plan must find everything at an end."""
LAST_START_MS = 5_000
"""A slice that would start in the last 5 s is not worth placing."""


def end_ms_of(plan: CurrentPlan, *, timeout_s: float, now_ms: int) -> int:
    """When an order that is placed now times out."""
    return min(now_ms + round(timeout_s * 1000), plan.cycle_end_ms - LAST_END_MS)


def waiting(ledger: Ledger) -> list[SliceWork]:
    """The slices of the plan that are neither placed nor given up."""
    if ledger.plan is None:
        return []
    return [each for each in ledger.plan.slices if each.skipped is None and not ledger.attempts(each.client_order_id)]


def late(ledger: Ledger, *, now_ms: int) -> list[SliceWork]:
    """The slices that can no longer be placed in this cycle."""
    plan = ledger.plan
    if plan is None or now_ms <= plan.cycle_end_ms - LAST_START_MS:
        return []
    return waiting(ledger)


def due(ledger: Ledger, *, now_ms: int) -> list[SliceWork]:
    """The slices to place now, reductions first."""
    plan = ledger.plan
    if plan is None or now_ms > plan.cycle_end_ms - LAST_START_MS:
        return []
    ready = [
        each for each in waiting(ledger) if each.slice.start_ms <= now_ms and _open_gate(ledger, each, now_ms=now_ms)
    ]
    return sorted(ready, key=lambda each: each.slice.phase)


def _open_gate(ledger: Ledger, work: SliceWork, *, now_ms: int) -> bool:
    if work.slice.phase != INCREASES:
        return True
    assert ledger.plan is not None
    if ledger.unknown(work.slice.symbol):
        return False
    for other in ledger.plan.slices:
        if other.slice.phase != REDUCTIONS or other.slice.start_ms > work.slice.start_ms:
            continue
        if not _over(ledger, other, now_ms=now_ms):
            return False
        if other.slice.closes and other.slice.symbol == work.slice.symbol and not _filled(ledger, other):
            return False
    return True


def _over(ledger: Ledger, work: SliceWork, *, now_ms: int) -> bool:
    attempts = ledger.attempts(work.client_order_id)
    if not attempts:
        return work.skipped is not None
    return not attempts[0].live or now_ms >= attempts[0].end_ms


def _filled(ledger: Ledger, work: SliceWork) -> bool:
    filled = sum(each.filled_qty for each in ledger.attempts(work.client_order_id))
    return filled >= work.slice.qty


def timed_out(orders: Iterable[Order], *, now_ms: int, retry_ms: int) -> list[Order]:
    """The live orders past their end whose cancellation was not asked for, or was asked for ``retry_ms`` ago."""
    return [
        each
        for each in orders
        if each.live
        and each.outcome is None
        and now_ms >= each.end_ms
        and (each.cancel_asked_ms is None or now_ms - each.cancel_asked_ms >= retry_ms)
    ]


def replaceable(ledger: Ledger, *, now_ms: int) -> list[tuple[SliceWork, Order]]:
    """The timed-out slices whose unfilled rest gets its second and last attempt now."""
    plan = ledger.plan
    if plan is None or not plan.execution.replace_once:
        return []
    if now_ms > plan.cycle_end_ms - LAST_END_MS - LAST_START_MS:
        return []
    pairs = ((each, ledger.attempts(each.client_order_id)) for each in plan.slices if each.skipped is None)
    return [(work, attempts[0]) for work, attempts in pairs if len(attempts) == 1 and _timed_out_at_rest(attempts[0])]


def _timed_out_at_rest(order: Order) -> bool:
    canceled = order.stage is Stage.ENDED and order.outcome is ReportStatus.CANCELED
    return canceled and order.cancel_asked_ms is not None and order.cancel_asked_ms >= order.end_ms and order.rest > 0


def next_wake_ms(ledger: Ledger, *, now_ms: int) -> int | None:
    """The next time at which anything here can change by itself; None when only events can change it."""
    plan = ledger.plan
    times = [each.end_ms for each in ledger.live() if each.outcome is None]
    if plan is not None and (left := waiting(ledger)):
        times += [each.slice.start_ms for each in left]
        times.append(plan.cycle_end_ms - LAST_START_MS + 1)
    return min((each for each in times if each > now_ms), default=None)


def finished(ledger: Ledger) -> bool:
    """True when every slice of the plan is given up or has ended, and no replacement is to come in this cycle."""
    plan = ledger.plan
    return plan is not None and not waiting(ledger) and not any(each.plan_key == plan.key for each in ledger.live())
