"""Copies a bot's streams to an archive while it runs.

It reads without a group, so that nobody waits for it, and in turns instead of at each entry, so that it takes next to
no time from the loop. Trimming waits for what it has not written yet: ``archive.position`` tells how far it is, and
says itself until when that counts, so that a recorder that died holds the streams for a day and not for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import Redis

from tradingbot.bus.dead_letters import DEAD_LETTER_STREAMS
from tradingbot.bus.errors import BusError, bus_errors
from tradingbot.bus.names import Key, Stream, dead_letter_stream
from tradingbot.bus.trim import announce_position, entry_id
from tradingbot.replay.archive.archive import Archive, ArchiveError, Gap, note_of
from tradingbot.replay.archive.parts import BEGINNING
from tradingbot.replay.archive.tables import RawEntry
from tradingbot.runtime.clock import Clock

RECORDED: Final[tuple[str, ...]] = (
    *(str(stream) for stream in Stream),
    *(dead_letter_stream(stream) for stream in DEAD_LETTER_STREAMS),
)
PAGE = 500
TURN_S = 0.5
"""Real seconds between two reads."""
FLUSH_S = 60.0
"""Real seconds between two files of a stream: what a kill makes the next recorder read again."""
FLUSH_BYTES = 16_000_000
"""Payloads that are kept in memory at most."""
RETRY_S = 1.0

Tell = Callable[[str], None]


@dataclass(slots=True)
class _Waiting:
    """What was read and is not written yet."""

    entries: dict[str, list[RawEntry]] = field(default_factory=dict)
    size: int = 0

    def take(self, stream: str, entry: RawEntry) -> None:
        self.entries.setdefault(stream, []).append(entry)
        self.size += sum(map(len, entry.fields.values()))


class Recorder:
    """Reads the streams and writes the archive; the caller holds ``archive.writing()``."""

    def __init__(
        self,
        redis: Redis,
        archive: Archive,
        *,
        clock: Clock,
        flush_s: float = FLUSH_S,
        announces: bool = True,
        gone: Callable[[], bool] = lambda: False,
        tell: Tell = lambda _: None,
    ) -> None:
        """A recorder of an archive that it alone writes.

        Args:
            redis: the bus.
            archive: where to.
            clock: for real time alone.
            flush_s: real seconds between two files of a stream.
            announces: whether trimming waits for this recorder.
            gone: asked while Redis is away; True says that it will not come back.
            tell: for a person.
        """
        self._redis = redis
        self._archive = archive
        self._clock = clock
        self._flush_s = flush_s
        self._announces = announces
        self._gone = gone
        self._tell = tell
        self._read_to: dict[str, str] = {stream: archive.position(stream) for stream in RECORDED}
        self._written_to = dict(self._read_to)
        self._waiting = _Waiting()
        self.recorded = 0
        """Entries written so far."""

    async def run(self, stop: asyncio.Event) -> None:
        """Record until told to stop; an outage of Redis only makes it late.

        Raises:
            ArchiveError: the archive is another bot's.
        """
        flushed_s, away, begun = self._clock.real_s(), False, False
        while not stop.is_set():
            try:
                begun = begun or await self._begin()
                more = begun and await self._read()
                if self._waiting.size > FLUSH_BYTES or self._clock.real_s() - flushed_s >= self._flush_s:
                    await self._flush()
                    flushed_s = self._clock.real_s()
                away = False
            except BusError as error:
                if self._gone():
                    self._tell("the bot has stopped")
                    break
                if not away:
                    self._tell(f"waiting for Redis: {error}")
                away, more = True, False
            if not more:
                await self._pause(stop, RETRY_S if away else TURN_S)
        if begun:
            with contextlib.suppress(BusError):
                await self._finish()

    async def once(self) -> None:
        """Write what is there now.

        Raises:
            BusUnavailable: Redis is away.
            ArchiveError: the archive is another bot's, or the bus is nobody's yet.
        """
        if not await self._begin():
            raise ArchiveError("this Redis belongs to no bot yet: there is nothing to record")
        await self._finish()

    async def _finish(self) -> None:
        """Read what is left, and write all that was read, even when Redis is away."""
        try:
            while await self._read():
                if self._waiting.size > FLUSH_BYTES:
                    self._write()
        finally:
            self._write()
        await self._announce()

    async def _pause(self, stop: asyncio.Event, real_s: float) -> None:
        waits = [asyncio.ensure_future(each) for each in (self._clock.sleep_real(real_s), stop.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()

    async def _begin(self) -> bool:
        """Take the archive for this bus' bot; False while the bus is nobody's."""
        with bus_errors():
            identity: Any = await self._redis.get(Key.IDENTITY)
        if not identity:
            return False
        self._archive.claim(note_of(identity))
        await self._announce()
        return True

    async def _gaps(self, streams: Sequence[str]) -> list[Gap]:
        """Streams that were read on although the entry that was read last is not there any more."""
        known = [stream for stream in streams if self._read_to[stream] != BEGINNING]
        pipe: Any = self._redis.pipeline(transaction=False)
        for stream in known:
            pipe.xrange(stream, count=1)
        with bus_errors():
            begins: Any = await pipe.execute()
        return [
            Gap(stream=stream, after=self._read_to[stream], before=rows[0][0])
            for stream, rows in zip(known, begins, strict=True)
            if rows and entry_id(rows[0][0]) > entry_id(self._read_to[stream])
        ]

    async def _read(self) -> bool:
        """Take in what is new; True when there may be more."""
        after: Any = self._read_to
        with bus_errors():
            answer: Any = await self._redis.xread(after, count=PAGE)
        gaps = await self._gaps([stream for stream, _ in answer or ()])
        self._archive.add_gaps(gaps)
        for gap in gaps:
            self._tell(f"{gap.stream}: entries after {gap.after} may be missing, the stream begins at {gap.before}")
        for stream, rows in answer or ():
            for row_id, fields in rows:
                self._waiting.take(stream, RawEntry(row_id, fields))
            self._read_to[stream] = rows[-1][0]
        return any(len(rows) == PAGE for _, rows in answer or ())

    async def _flush(self) -> None:
        self._write()
        await self._announce()

    async def _announce(self) -> None:
        if self._announces:
            await announce_position(self._redis, self._written_to)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, _Waiting()
        for stream, entries in waiting.entries.items():
            self._archive.append(stream, entries)
            self._written_to[stream] = entries[-1].id
            self.recorded += len(entries)
