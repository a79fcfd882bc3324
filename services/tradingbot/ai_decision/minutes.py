"""The minutes that have been, read from the stream where they are kept for a day."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from tradingbot.bus.entries import Entry, InvalidEntry, Reader
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import Stream
from tradingbot.domain.cycles import to_ms
from tradingbot.domain.messages import FeatureSnapshot1m

Minutes = Callable[[int], Awaitable[Sequence[FeatureSnapshot1m]]]
"""The snapshots of the minutes after a moment (Unix milliseconds, exclusive), oldest first."""

WINDOW: Final = 360
"""Minutes that are read at most: three half-lives of the correlations."""
FIRST_PAGE, PAGE = 4, 100
"""Usually one minute is new; at the start all are."""


def minutes_on_stream(redis: Redis) -> Minutes:
    """Read md.features.1m, without a group."""
    reader = Reader(redis, stream=Stream.FEATURES, group="", consumer="", model=FeatureSnapshot1m)

    async def after(moment_ms: int) -> Sequence[FeatureSnapshot1m]:
        found: list[FeatureSnapshot1m] = []
        before, size = "+", FIRST_PAGE
        while len(found) < WINDOW:
            with bus_errors():
                rows: Any = await redis.xrevrange(Stream.FEATURES, max=before, count=size)
            page = [_snapshot(reader.parse(entry_id, fields)) for entry_id, fields in rows]
            readable = [each for each in page if each is not None]
            new = [each for each in readable if to_ms(each.asof_minute) > moment_ms]
            found += new
            if len(rows) < size or len(new) < len(readable):
                break
            before, size = f"({rows[-1][0]}", PAGE
        return found[::-1]

    return after


def _snapshot(entry: Entry[FeatureSnapshot1m] | InvalidEntry) -> FeatureSnapshot1m | None:
    return entry.data if isinstance(entry, Entry) else None
