"""Trimming streams by age, never past what a group still needs or the archive has not yet read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import DAY_MS, STREAMS, Key, Stream
from tradingbot.runtime import metrics

EntryId = tuple[int, int]
"""Milliseconds and sequence: compared as numbers, never as text."""

UNTIL_FIELD = "until_ms"
"""Beside the streams in ``archive.position``: until when it counts, by the server's clock. A field and no expiry of the
key, because the two are then written in one command."""
ARCHIVE_COUNTS_MS = DAY_MS
"""A recorder that is not heard of for so long keeps nothing any more."""


async def trim_streams(redis: Redis, *, keep_ms: Mapping[Stream, int] | None = None) -> dict[Stream, int]:
    """Trim every stream to its keep time; returns how many entries went, by stream.

    Entry ids are the server's real time, so ages are measured by the server's clock.
    """
    with bus_errors():
        seconds, micros = await redis.time()
        archive: Any = await redis.hgetall(Key.ARCHIVE_POSITION)
    now_ms = seconds * 1000 + micros // 1000
    if int(archive.pop(UNTIL_FIELD, now_ms)) < now_ms:
        archive = {}
    keep = {stream: spec.keep_ms for stream, spec in STREAMS.items()} | dict(keep_ms or {})
    return {
        stream: await _trim(redis, stream, oldest=(now_ms - keep[stream], 0), archive=archive) for stream in STREAMS
    }


async def announce_position(redis: Redis, positions: Mapping[str, str]) -> None:
    """Say how far the archive has come: later entries are kept until it has them, or is not heard of for a day."""
    with bus_errors():
        seconds, _ = await redis.time()
        until_ms = str(seconds * 1000 + ARCHIVE_COUNTS_MS)
        fields = [text for pair in {**positions, UNTIL_FIELD: until_ms}.items() for text in pair]
        call: Any = redis.hset(Key.ARCHIVE_POSITION, items=fields)
        await call


async def _trim(redis: Redis, stream: Stream, *, oldest: EntryId, archive: Mapping[str, str]) -> int:
    needed = await _needed_by_groups(redis, stream)
    if needed is None:
        return 0
    if archive:
        needed.append(entry_id(archive.get(stream, "0-0")))
    first = min([oldest, *needed])
    with bus_errors():
        return int(await redis.xtrim(stream, minid=f"{first[0]}-{first[1]}", approximate=False))


async def _needed_by_groups(redis: Redis, stream: Stream) -> list[EntryId] | None:
    """What each group still needs from on; None when a group that the design names is not there yet."""
    try:
        with bus_errors():
            groups: Any = await redis.xinfo_groups(stream)
    except ResponseError as error:
        if "no such key" in str(error).lower():
            return None
        raise
    if not {group.value for group in STREAMS[stream].groups} <= {group["name"] for group in groups}:
        return None
    needed = [entry_id(group["last-delivered-id"]) for group in groups]
    for group in groups:
        metrics.bus_pending.labels(stream=stream, group=group["name"]).set(group["pending"])
        if group["pending"]:
            with bus_errors():
                summary: Any = await redis.xpending(stream, group["name"])
            if summary["min"]:
                needed.append(entry_id(summary["min"]))
    return needed


def entry_id(text: str) -> EntryId:
    """A stream id as numbers."""
    ms, _, sequence = text.partition("-")
    return int(ms), int(sequence or 0)
