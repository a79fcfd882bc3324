"""Moments as a person writes them."""

from __future__ import annotations

from datetime import UTC, datetime

from tradingbot.domain.cycles import to_ms
from tradingbot.domain.errors import Permanent


class NoMoment(Permanent):
    """A text that is no date or time."""


def moment_ms(text: str | None, *, option: str) -> int | None:
    """Unix milliseconds of an ISO date or time; without a zone it is UTC.

    Raises:
        NoMoment: it is none.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise NoMoment(f"{option} {text}: wanted a date or time like 2025-06-01 or 2025-06-01T12:30") from None
    return to_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
