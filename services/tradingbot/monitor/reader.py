"""Follows the bus into a board: reads without groups, acknowledges nothing, writes nothing.

When Redis goes away the board says so and keeps what it knew; the reader comes back by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from typing import Any, Final

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tradingbot.bus.client import BLOCK_MS
from tradingbot.bus.control import read_applied, read_modes
from tradingbot.bus.errors import BusError, bus_errors
from tradingbot.bus.names import MICRO, PAYLOAD_FIELD, STREAMS, Group, Stream, dead_letter_stream, spend_key
from tradingbot.bus.session import check_identity
from tradingbot.domain.cycles import from_ms
from tradingbot.monitor.models import AppliedView, GroupRow, ModeView
from tradingbot.monitor.view import Board
from tradingbot.runtime.metrics import bus_messages_in, bus_pending, count_error
from tradingbot.runtime.process import Process
from tradingbot.runtime.stopping import Stopped, unless_stopped

BACKFILL: Final = {
    Stream.FEATURES: 1,
    Stream.TARGET: 20,
    Stream.APPROVED: 20,
    Stream.PLAN: 20,
    Stream.ORDERS: 600,
    Stream.REPORTS: 1000,
    Stream.SNAPSHOT: 360,
    Stream.AUDIT: 300,
}
"""Entries of each stream that a fresh monitor starts with."""

READ_COUNT: Final = 500
CONTROL_EVERY_S: Final = 1.0
GROUPS_EVERY_S: Final = 5.0
RETRY_S: Final = 1.0


class Reader:
    """The monitor's eyes."""

    def __init__(self, redis: Redis, board: Board, process: Process, *, identity: Mapping[str, str]) -> None:
        self._redis = redis
        self._identity = identity
        self._board = board
        self._process = process
        self._positions: dict[str, str] = {}
        self._unreadable = 0

    async def run(self) -> None:
        """Follow until the process stops.

        Raises:
            IdentityMismatch: this Redis belongs to another bot.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lasting("streams", self._follow))
            tasks.create_task(self._lasting("control", self._watch_control))
            tasks.create_task(self._lasting("groups", self._watch_groups))

    async def refresh_control(self) -> None:
        """Read the modes and what execution has applied."""
        with bus_errors():
            modes = await read_modes(self._redis)
            applied = await read_applied(self._redis)
        self._board.control.mode = ModeView(mode=modes.mode, source=modes.source, reason=modes.reason)
        if applied is not None:
            self._board.control.applied = AppliedView.model_validate(applied, from_attributes=True)

    async def _lasting(self, name: str, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Take steps until the process stops; an outage of Redis only makes one late."""
        with contextlib.suppress(Stopped):
            while not self._process.stop.is_set():
                self._process.health.beat(name)
                try:
                    with bus_errors():
                        await step()
                except BusError as error:
                    count_error(error)
                    self._say(connected=False, why=str(error))
                    await self._pause(RETRY_S)

    async def _follow(self) -> None:
        if not self._positions:
            await check_identity(self._redis, self._identity)
            await self._backfill()
            self._say(connected=True, why="")
        after: Any = dict(self._positions)
        reading: Any = self._redis.xread(after, count=READ_COUNT, block=BLOCK_MS)
        answer: Any = await unless_stopped(self._process.stop, reading)
        self._say(connected=True, why="")
        for name, batches in _per_stream(answer):
            for entry_id, fields in batches:
                self._take(Stream(name), entry_id, fields)

    async def _backfill(self) -> None:
        positions: dict[str, str] = {}
        for stream in self._board.streams:
            entries: Any = await self._redis.xrevrange(stream.value, count=BACKFILL[stream])
            for _, fields in reversed(entries):
                self._absorb(stream, fields)
            positions[stream.value] = entries[0][0] if entries else "0-0"
        self._positions = positions

    def _take(self, stream: Stream, entry_id: str, fields: dict[str, str]) -> None:
        self._absorb(stream, fields)
        self._positions[stream.value] = entry_id

    def _absorb(self, stream: Stream, fields: dict[str, str]) -> None:
        bus_messages_in.labels(stream=stream.value).inc()
        try:
            self._board.absorb(stream, fields.get(PAYLOAD_FIELD, ""))
        except ValidationError as error:
            # Its consumer makes a dead letter of it; here it is counted and said on the page.
            count_error(error)
            self._unreadable += 1

    async def _watch_control(self) -> None:
        await self.refresh_control()
        await self._refresh_spend()
        await self._pause(CONTROL_EVERY_S)

    async def _refresh_spend(self) -> None:
        """Read what the language model has cost today, where one is asked."""
        if self._board.asks_a_model:
            day = f"{from_ms(self._process.clock.now_ms()):%Y-%m-%d}"
            spent = await self._redis.get(spend_key(day))
            self._board.control.spend_usd = Decimal(int(spent or 0)) / MICRO

    async def _watch_groups(self) -> None:
        rows = [await self._group(stream, group) for stream, spec in STREAMS.items() for group in spec.groups]
        letters = {
            stream.value: await self._redis.xlen(dead_letter_stream(stream.value))
            for stream, spec in STREAMS.items()
            if spec.dead_letter
        }
        found = tuple(row for row in rows if row is not None)
        for row in found:
            bus_pending.labels(stream=row.stream, group=row.group).set(row.pending)
        self._board.control.bus = self._board.control.bus.model_copy(update={"groups": found, "dead_letters": letters})
        await self._pause(GROUPS_EVERY_S)

    async def _group(self, stream: Stream, group: Group) -> GroupRow | None:
        try:
            infos: Any = await self._redis.xinfo_groups(stream.value)
        except ResponseError as error:
            if "no such key" in str(error):
                return None
            raise
        info = next((each for each in infos if each["name"] == group.value), None)
        if info is None:
            return None
        oldest: Any = await self._redis.xpending_range(stream.value, group.value, min="-", max="+", count=1)
        return GroupRow(
            stream=stream.value,
            group=group.value,
            pending=info["pending"],
            lag=info.get("lag"),
            oldest_pending_s=oldest[0]["time_since_delivered"] / 1000 if oldest else None,
        )

    def _say(self, *, connected: bool, why: str) -> None:
        update = {"connected": connected, "why": why, "unreadable": self._unreadable}
        self._board.control.bus = self._board.control.bus.model_copy(update=update)
        self._process.health.ready(is_ready=connected, why=why)

    async def _pause(self, real_s: float) -> None:
        await unless_stopped(self._process.stop, self._process.clock.sleep_real(real_s))


def _per_stream(answer: Any) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """XREAD's answer in one shape: RESP2 gives a list of pairs, RESP3 a mapping to a list of lists."""
    if isinstance(answer, dict):
        return [(name, [entry for batch in batches for entry in batch]) for name, batches in answer.items()]
    return list(answer or ())
