"""Funding: what the positions paid or received each hour, told so that the record explains the money.

It moves equity and counts as profit or loss there; nothing here is added to any sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tradingbot.domain.messages import StateEvent, StateEventKind
from tradingbot.portfolio_state.mirror import Mirror, Step
from tradingbot.venue.models import FundingPayment

HOUR_MS: Final = 3_600_000
LATE_MS: Final = 60_000
"""Funding is asked for this long after the hour: the venue stamps it up to half a second past it, and may show it
later still."""


def funding_due(mirror: Mirror, *, venue_ms: int) -> bool:
    """Whether an hour has passed whose funding was not asked for."""
    return (venue_ms - LATE_MS) // HOUR_MS > (mirror.funding_read_ms - LATE_MS) // HOUR_MS


def absorb_funding(mirror: Mirror, payments: Iterable[FundingPayment], *, asked_ms: int) -> Step:
    """Tell each payment once; ``asked_ms``: the venue's time of the account that was read with them.

    A page of the venue may end inside of one hour's payments, so the newest stamp is read again.
    """
    seen = set(mirror.funding_keys)
    fresh = {
        _key(payment): payment
        for payment in payments
        if payment.time_ms >= mirror.funding_cursor_ms
        and payment.time_ms > mirror.began_ms
        and _key(payment) not in seen
    }
    cursor_ms = max((payment.time_ms for payment in fresh.values()), default=mirror.funding_cursor_ms)
    keys = tuple(key for key in (*mirror.funding_keys, *fresh) if key.startswith(f"{cursor_ms}:"))
    update = {"funding_cursor_ms": cursor_ms, "funding_keys": keys, "funding_read_ms": asked_ms}
    return Step(mirror=mirror.model_copy(update=update), events=tuple(map(_event, fresh.values())))


def _key(payment: FundingPayment) -> str:
    return f"{payment.time_ms}:{payment.symbol}"


def _event(payment: FundingPayment) -> StateEvent:
    return StateEvent(
        kind=StateEventKind.FUNDING,
        symbol=payment.symbol,
        qty=payment.usd,
        at_ms=payment.time_ms,
        detail=f"{payment.usd} USD for holding {payment.size} at an hourly rate of {payment.rate}",
    )
