"""Cycle arithmetic: a cycle is named by the minute it starts at, like ``20260218T1600Z``.

CYCLE_SECONDS is a multiple of 60 that divides a day, so that cycles start at the same minutes every day and a
cycle's id can be read off the clock by every process alike.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NewType

CycleId = NewType("CycleId", str)

MINUTE_MS = 60_000
DAY_S = 86_400
_FORMAT = "%Y%m%dT%H%MZ"


def to_ms(moment: datetime) -> int:
    """Unix milliseconds of an aware datetime."""
    return round(moment.timestamp() * 1000)


def from_ms(at_ms: int) -> datetime:
    """The UTC datetime of Unix milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


def cycle_id_at(at_ms: int, *, cycle_seconds: int) -> CycleId:
    """The cycle that contains ``at_ms``."""
    return minute_id(cycle_start_ms_at(at_ms, cycle_seconds=cycle_seconds))


def cycle_start_ms_at(at_ms: int, *, cycle_seconds: int) -> int:
    """When the cycle that contains ``at_ms`` began, Unix milliseconds."""
    return at_ms - at_ms % (cycle_seconds * 1000)


def minute_id(at_ms: int) -> CycleId:
    """The id of the minute that contains ``at_ms``; at a cycle's boundary it is the cycle's id."""
    return CycleId(from_ms(at_ms - at_ms % MINUTE_MS).strftime(_FORMAT))


def start_ms_of(cycle_id: str) -> int:
    """When a cycle starts, Unix milliseconds.

    Raises:
        ValueError: the text is not a cycle id.
    """
    return to_ms(datetime.strptime(cycle_id, _FORMAT).replace(tzinfo=UTC))


def is_boundary(minute_start_ms: int, *, cycle_seconds: int) -> bool:
    """True when a cycle starts at this minute."""
    return minute_start_ms % (cycle_seconds * 1000) == 0


def check_cycle_seconds(cycle_seconds: int) -> int:
    """Return it unchanged when cycles of this length start at the same minutes each day.

    Raises:
        ValueError: not a multiple of 60 that divides a day.
    """
    if cycle_seconds < 60 or cycle_seconds % 60 or DAY_S % cycle_seconds:
        raise ValueError(f"must be a multiple of 60 that divides a day (60, 120, 300, 600, …), was {cycle_seconds}")
    return cycle_seconds
