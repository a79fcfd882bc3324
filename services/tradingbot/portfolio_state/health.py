"""How far the mirror can be trusted: refusals in a row, the venue's post-only period, the clocks."""

from __future__ import annotations

from typing import Final

from tradingbot.domain.cycles import from_ms
from tradingbot.domain.messages import ExecutionReport, Health, ReportStatus
from tradingbot.portfolio_state.fills import fees_today_usd
from tradingbot.portfolio_state.mirror import Mirror, Refusals

QUIET_MS: Final = 60_000
"""A run of refusals, or the post-only period, is over when nothing was refused for this long: while the breaker holds
trading back no order is sent, so nothing else could end it."""

MISSED_SLICES: Final = frozenset({"PostOnlyWouldMatch", "IocNoMatch"})
"""Refusals that only say that the market was elsewhere."""

_POST_ONLY: Final = "PostOnlyPeriod"
_ACCEPTED: Final = frozenset({ReportStatus.ACK, ReportStatus.PARTIAL, ReportStatus.FILLED})


def count_refusal(refusals: Refusals, report: ExecutionReport, *, now_ms: int) -> Refusals:
    """The run of refusals after one more report."""
    if report.dry_run:
        return refusals
    if report.error == _POST_ONLY:
        return refusals.model_copy(update={"post_only_ms": now_ms})
    if report.status in _ACCEPTED:
        return refusals.model_copy(update={"in_row": 0})
    if report.status is not ReportStatus.REJECTED or report.error in MISSED_SLICES:
        return refusals
    return refusals.model_copy(update={"in_row": _in_row(refusals, now_ms=now_ms) + 1, "last_ms": now_ms})


def skew_ms(*, venue_ms: int, asked_ms: int, answered_ms: int) -> int:
    """The venue's clock minus ours, as far as it is certain.

    The venue read its clock at some moment between asking and the answer: only what lies outside of that is skew.
    """
    if venue_ms < asked_ms:
        return venue_ms - asked_ms
    return max(0, venue_ms - answered_ms)


def health_of(mirror: Mirror, *, now_ms: int, ok: bool, skew: int, detail: str = "") -> Health:
    """The breaker's inputs."""
    refusals = mirror.refusals
    return Health(
        last_reconcile_ts=from_ms(mirror.last_ok_ms) if mirror.last_ok_ms else None,
        reconcile_ok=ok,
        clock_skew_ms=skew,
        refusals_in_row=_in_row(refusals, now_ms=now_ms),
        post_only=refusals.post_only_ms > 0 and now_ms - refusals.post_only_ms < QUIET_MS,
        foreign_orders=len(mirror.foreign),
        fills_beyond_intent=mirror.fills_beyond_intent,
        fees_today_usd=fees_today_usd(mirror, now_ms=now_ms),
        deposits_net_usd=mirror.deposits_net_usd,
        liquidations=mirror.liquidations,
        detail=detail,
    )


def _in_row(refusals: Refusals, *, now_ms: int) -> int:
    return refusals.in_row if now_ms - refusals.last_ms < QUIET_MS else 0
