"""What a person can do with dead letters: look, retry while it still means something, drop.

Retrying writes into a service's input stream, so it takes the supervisor's or the operator's rights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis

from tradingbot.bus import library
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import OPERATOR, PAYLOAD_FIELD, STREAMS, Counts, Stream, dead_letter_stream, max_len_of
from tradingbot.domain.cycles import cycle_id_at, minute_id, start_ms_of
from tradingbot.domain.envelope import Message, message
from tradingbot.domain.errors import Permanent
from tradingbot.domain.messages import AuditLevel, AuditRecord, DeadLetter

DEAD_LETTER_STREAMS = tuple(stream for stream, spec in STREAMS.items() if spec.dead_letter)


class RetryRefused(Permanent):
    """Handling the entry now would be wrong; the text says why."""


class DeadLetterMissing(Permanent):
    """There is no such dead letter (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A dead letter with its place."""

    id: str
    """Its id in the dead-letter stream."""
    cycle_id: str
    letter: DeadLetter


async def list_dead_letters(redis: Redis, *, stream: Stream | None = None, limit: int = 100) -> list[Kept]:
    """The newest dead letters, of one stream or of all, newest first."""
    found: list[Kept] = []
    for each in DEAD_LETTER_STREAMS if stream is None else (stream,):
        with bus_errors():
            rows: Any = await redis.xrevrange(dead_letter_stream(each), count=limit)
        found += [_kept(row_id, fields) for row_id, fields in rows]
    return sorted(found, key=lambda kept: kept.letter.failed_at, reverse=True)[:limit]


async def show_dead_letter(redis: Redis, *, stream: Stream, letter_id: str) -> Kept:
    """One dead letter, whole.

    Raises:
        DeadLetterMissing: there is none under this id.
    """
    with bus_errors():
        rows: Any = await redis.xrange(dead_letter_stream(stream), letter_id, letter_id)
    if not rows:
        raise DeadLetterMissing(f"{dead_letter_stream(stream)} has no entry {letter_id}")
    return _kept(rows[0][0], rows[0][1])


async def retry_dead_letter(
    redis: Redis, *, stream: Stream, letter_id: str, now_ms: int, cycle_seconds: int, bot_id: str
) -> str:
    """Put an entry back at its stream's end and take the dead letter away, audited, in one call; returns the new id.

    Raises:
        RetryRefused: its cycle is over, or it is no valid message and would come back at once.
        DeadLetterMissing: there is none under this id.
    """
    kept = await show_dead_letter(redis, stream=stream, letter_id=letter_id)
    payload = _payload_again(kept)
    cycle_id = str(payload["env"]["cycle_id"])
    _check_fresh(stream, cycle_id, now_ms=now_ms, cycle_seconds=cycle_seconds)
    text = json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
    return await _resolve(redis, kept, target=(stream, text), now_ms=now_ms, bot_id=bot_id)


async def drop_dead_letter(redis: Redis, *, stream: Stream, letter_id: str, now_ms: int, bot_id: str) -> None:
    """Take a dead letter away for good, audited, in one call.

    Raises:
        DeadLetterMissing: there is none under this id.
    """
    kept = await show_dead_letter(redis, stream=stream, letter_id=letter_id)
    await _resolve(redis, kept, target=None, now_ms=now_ms, bot_id=bot_id)


def _check_fresh(stream: Stream, cycle_id: str, *, now_ms: int, cycle_seconds: int) -> None:
    if STREAMS[stream].counts is Counts.ALWAYS:
        return
    present = cycle_id_at(now_ms, cycle_seconds=cycle_seconds)
    its_cycle = cycle_id_at(start_ms_of(cycle_id), cycle_seconds=cycle_seconds)
    if its_cycle != present:
        raise RetryRefused(
            f"{stream} counts for its own cycle only: this entry is of {its_cycle}, and now it is {present}"
        )


def _payload_again(kept: Kept) -> dict[str, Any]:
    """The original message with the count of its retries; nothing else changes."""
    try:
        payload = json.loads(kept.letter.payload)
        start_ms_of(payload["env"]["cycle_id"])
        payload["env"]["retry_count"] = kept.letter.retry_count
    except (ValueError, KeyError, TypeError) as error:
        raise RetryRefused(f"it is no valid message ({error}); drop it, or write it anew at its source") from error
    return dict(payload)


async def _resolve(redis: Redis, kept: Kept, *, target: tuple[Stream, str] | None, now_ms: int, bot_id: str) -> str:
    stream = Stream(kept.letter.stream)
    keys = [dead_letter_stream(stream), Stream.AUDIT.value, *([target[0].value] if target else [])]
    audit = _audit(kept, "dlq_retry" if target else "dlq_drop", now_ms=now_ms, bot_id=bot_id)
    bounds = (str(max_len_of(Stream.AUDIT)), str(max_len_of(stream)))
    args = (kept.id, audit, *bounds, target[1] if target else "")
    answer = await library.call(redis, library.DEAD_LETTER, keys, args)
    if answer is None:
        raise DeadLetterMissing(f"{dead_letter_stream(stream)} has no entry {kept.id} any more")
    return str(answer)


def _audit(kept: Kept, kind: str, *, now_ms: int, bot_id: str) -> str:
    details = kept.letter.model_dump(mode="json", include={"stream", "entry_id", "reason", "retry_count"})
    record = AuditRecord(kind=kind, level=AuditLevel.WARNING, cause=kept.id, details=details)
    wrapped = message(
        record,
        bot_id=bot_id,
        stream=Stream.AUDIT,
        source=OPERATOR,
        cycle_id=minute_id(now_ms),
        key=f"{kept.id}:{kind}",
        now_ms=now_ms,
    )
    return wrapped.model_dump_json(exclude={"event"})


def _kept(row_id: str, fields: dict[str, str]) -> Kept:
    try:
        wrapped = Message[DeadLetter].read(fields.get(PAYLOAD_FIELD, ""))
    except ValidationError as error:
        raise DeadLetterMissing(f"entry {row_id} is no dead letter of ours: {error}") from error
    return Kept(id=row_id, cycle_id=wrapped.env.cycle_id, letter=wrapped.data)
