"""Entries of a record as messages of today, and a list of those that are none any more.

A record may be older or newer than this code. What it cannot read must not pass for looked at: it is listed with its
place and the reason, unless the bot itself could not read it either and put it aside as a dead letter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pydantic import ValidationError

from tradingbot.bus.dead_letters import DEAD_LETTER_STREAMS
from tradingbot.bus.names import Stream, dead_letter_stream
from tradingbot.bus.trim import EntryId, entry_id
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import DeadLetter
from tradingbot.domain.model import Model
from tradingbot.replay.archive.tables import RawEntry

INVALID = "InvalidMessage"
"""The error type of a dead letter that no consumer could read; others were read, and failed later."""

DataT = TypeVar("DataT", bound=Model)


class Source(Protocol):
    """Where entries come from: an archive."""

    def read(
        self, stream: str, *, cycles: tuple[str, str] | None = None, ids: Collection[str] | None = None
    ) -> Iterator[RawEntry]:
        """A stream's entries, oldest first: of the cycles from one to another and of none, or with these ids."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(Generic[DataT]):
    """A message and its place on the record."""

    id: str
    raw: str
    cycle_id: str
    data: DataT

    @property
    def order(self) -> EntryId:
        """Its place in its stream."""
        return entry_id(self.id)


class Unread(Model):
    """An entry that this version cannot read."""

    stream: Stream
    id: str
    cycle_id: str
    """Empty when its text names none."""
    why: str

    def __str__(self) -> str:
        return f"{self.stream}: {self.why}"


class Reader:
    """Reads a source and keeps in mind what it could not read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._unread: list[Unread] = []

    def messages(
        self,
        stream: Stream,
        model: type[DataT],
        *,
        cycles: tuple[str, str] | None = None,
        ids: Collection[str] | None = None,
    ) -> Iterator[Recorded[DataT]]:
        """The entries that are messages."""
        reader = Message[model]  # type: ignore[valid-type]
        for entry in self._source.read(stream, cycles=cycles, ids=ids):
            try:
                message = reader.read(entry.payload or "")
            except ValidationError as error:
                self.pass_over(error, stream=stream, id_text=entry.id, cycle_id=entry.cycle_id or "")
                continue
            yield Recorded(id=entry.id, raw=entry.payload or "", cycle_id=message.env.cycle_id, data=message.data)

    def pass_over(self, error: ValidationError, *, stream: Stream, id_text: str, cycle_id: str) -> None:
        """Keep in mind that an entry cannot be read."""
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}" if where else first["msg"]
        self._unread.append(Unread(stream=stream, id=id_text, cycle_id=cycle_id, why=why))

    def unread(self) -> tuple[Unread, ...]:
        """What could not be read and was no dead letter: those decided nothing."""
        letters = {stream: self._dead_letters(stream) for stream in {each.stream for each in self._unread}}
        return tuple(each for each in self._unread if each.id not in letters[each.stream])

    def _dead_letters(self, stream: Stream) -> frozenset[str]:
        """The ids of the entries that the bot could not read either."""
        if stream not in DEAD_LETTER_STREAMS:
            return frozenset()
        found = []
        for entry in self._source.read(dead_letter_stream(stream)):
            try:
                found.append(Message[DeadLetter].read(entry.payload or "").data)
            except ValidationError:
                continue  # then what it was about counts as unread, which is the safe side
        return frozenset(each.entry_id for each in found if each.error_type == INVALID)
