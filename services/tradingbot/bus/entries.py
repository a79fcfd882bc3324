"""Entries of a stream as a service sees them, read through its group or without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tradingbot.bus.client import BLOCK_MS
from tradingbot.bus.commit import Ack, Add, Write
from tradingbot.bus.errors import BusStateLost, bus_errors
from tradingbot.bus.names import PAYLOAD_FIELD
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import AuditRecord
from tradingbot.domain.model import Model
from tradingbot.runtime import metrics

DataT = TypeVar("DataT", bound=Model)
StateT_co = TypeVar("StateT_co", bound=Model, covariant=True)

PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[DataT]):
    """A valid message with its place on the bus."""

    stream: str
    group: str
    """Empty when it was read without a group."""
    id: str
    message: Message[DataT]
    raw: str
    """The payload as it was read; digests are taken of it."""
    retries: int = 0
    """How often this service's handler has failed on it so far."""

    @property
    def data(self) -> DataT:
        """The message's data."""
        return self.message.data

    @property
    def ack(self) -> Ack:
        """The part of a commit that finishes it."""
        return Ack(self.stream, self.group, self.id)

    def failed_again(self) -> Entry[DataT]:
        """The same with one more failure."""
        return replace(self, retries=self.retries + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidEntry:
    """An entry that is no valid message: it becomes a dead letter."""

    stream: str
    group: str
    id: str
    raw: str
    error: str
    retries: int = 0

    @property
    def ack(self) -> Ack:
        """The part of a commit that finishes it."""
        return Ack(self.stream, self.group, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[StateT_co]):
    """What a step decided."""

    state: StateT_co | None = None
    """None: unchanged."""
    adds: tuple[Add, ...] = ()
    writes: tuple[Write, ...] = ()
    audits: tuple[AuditRecord, ...] = ()
    committed: bool = False
    """True when the handler made the whole step itself, acknowledgement included."""


class Reader(Generic[DataT]):
    """Reads a stream through a group as the one consumer of it."""

    def __init__(self, redis: Redis, *, stream: str, group: str, consumer: str, model: type[DataT]) -> None:
        self._redis = redis
        self._message: type[Message[DataT]] = Message[model]  # type: ignore[valid-type]
        self._stream = stream
        self._group = group
        self._consumer = consumer

    async def pending(self) -> list[Entry[DataT] | InvalidEntry]:
        """All entries that were delivered to this consumer and not finished, oldest first.

        Read at the start and after each lost connection: the reply to a read may have been lost with it.
        """
        found: list[Entry[DataT] | InvalidEntry] = []
        last = "0"
        while page := await self._read(last, count=PAGE, block_ms=None):
            found += page
            last = page[-1].id
        return found

    async def new(self, *, count: int = PAGE, block_ms: int | None = BLOCK_MS) -> list[Entry[DataT] | InvalidEntry]:
        """Entries that no consumer has seen; waits up to ``block_ms`` real milliseconds (None: not at all)."""
        return await self._read(">", count=count, block_ms=block_ms)

    async def _read(self, after: str, *, count: int, block_ms: int | None) -> list[Entry[DataT] | InvalidEntry]:
        try:
            with bus_errors():
                answer = await self._redis.xreadgroup(
                    self._group, self._consumer, {self._stream: after}, count=count, block=block_ms
                )
        except ResponseError as error:
            if "NOGROUP" in str(error):
                raise BusStateLost(
                    f"group {self._group} on {self._stream} is gone: Redis lost data; starting anew"
                ) from error
            raise
        rows = _rows(answer)
        metrics.bus_messages_in.labels(stream=self._stream).inc(len(rows) if after == ">" else 0)
        return [self.parse(entry_id, fields) for entry_id, fields in rows]

    def parse(self, entry_id: str, fields: dict[str, str]) -> Entry[DataT] | InvalidEntry:
        """A raw entry as a message, or as what is wrong with it."""
        raw = fields.get(PAYLOAD_FIELD)
        if raw is None:
            error = f"no field {PAYLOAD_FIELD!r}" if fields else "trimmed before it was handled"
            return self._invalid(entry_id, raw=str(fields) if fields else "", error=error)
        try:
            message = self._message.read(raw)
        except ValidationError as error:
            return self._invalid(entry_id, raw=raw, error=str(error))
        return Entry(stream=self._stream, group=self._group, id=entry_id, message=message, raw=raw)

    def _invalid(self, entry_id: str, *, raw: str, error: str) -> InvalidEntry:
        return InvalidEntry(stream=self._stream, group=self._group, id=entry_id, raw=raw, error=error)


def _rows(answer: Any) -> Sequence[tuple[str, dict[str, str]]]:
    """The entries of the one stream that was read."""
    return answer[0][1] if answer else []


async def newest(redis: Redis, *, stream: str, model: type[DataT]) -> Entry[DataT] | None:
    """The newest entry of a stream, read without a group; None when there is none or it is no valid message."""
    with bus_errors():
        rows: Any = await redis.xrevrange(stream, count=1)
    if not rows:
        return None
    reader = Reader(redis, stream=stream, group="", consumer="", model=model)
    entry = reader.parse(rows[0][0], rows[0][1])
    return entry if isinstance(entry, Entry) else None
