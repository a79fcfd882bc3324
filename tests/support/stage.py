"""A stage for one service on a real server: virtual time that jumps, real time that runs, messages written by hand."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import structlog
from redis.asyncio import Redis

from support.servers import Server
from tradingbot.bus.acl import acl_rules
from tradingbot.bus.names import PAYLOAD_FIELD
from tradingbot.domain.cycles import cycle_id_at
from tradingbot.domain.envelope import Message, message
from tradingbot.domain.model import Model
from tradingbot.runtime.clock import Ids
from tradingbot.runtime.health import Health
from tradingbot.runtime.process import Process
from tradingbot.runtime.stopping import Stopped

DataT = TypeVar("DataT", bound=Model)
DEADLINE_S = 60.0
"""Far longer than anything takes: only what never comes about fails by it, and no slow machine does."""
BOT_ID = "bot-under-test"


class JumpClock:
    """Real time runs as it does, so that leases and reads live; virtual time only moves when a test says so."""

    speed = 1.0

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def jump(self, seconds: float) -> None:
        """Move time, forward or back, and wake whoever has slept enough."""
        self._now_ms += round(seconds * 1000)
        for at_ms, sleeper in self._sleepers:
            if at_ms <= self._now_ms and not sleeper.done():
                sleeper.set_result(None)
        self._sleepers = [each for each in self._sleepers if not each[1].done()]

    def now_ms(self) -> int:
        return self._now_ms

    def real_s(self) -> float:
        return time.monotonic()

    async def sleep(self, virtual_s: float) -> None:
        await self.sleep_until_ms(self._now_ms + round(virtual_s * 1000))

    async def sleep_until_ms(self, at_ms: int) -> None:
        while self._now_ms < at_ms:
            sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append((at_ms, sleeper))
            await sleeper

    async def sleep_real(self, real_s: float) -> None:
        await asyncio.sleep(real_s)


async def quiet(redis: Redis, *, rounds: int = 3, at_most_s: float = 5.0) -> None:
    """Wait until nobody in this process has anything left to say to the bus or the venue.

    However slow the machine, everybody has then done what the present moment asked of them, but for real back-offs.
    A round is quiet when the loop hears nothing but the answer to our own question: the bus answers in order, so what
    was asked before has been answered too, and whoever speaks with the paper exchange is heard by it in this loop.
    """
    loop, ears = asyncio.get_running_loop(), _ears()
    end_s, still = loop.time() + at_most_s, 0
    while still < rounds and loop.time() < end_s:
        before = ears.heard
        await redis.ping()
        await asyncio.sleep(0)
        still = still + 1 if ears.heard <= before + 1 else 0


@dataclass
class _Ears:
    """How many times the sockets of a loop had something to read or room to write."""

    heard: int = 0


_EARS: WeakKeyDictionary[asyncio.AbstractEventLoop, _Ears] = WeakKeyDictionary()


def _ears() -> _Ears:
    """The running loop's, from the first question on."""
    loop = asyncio.get_running_loop()
    if loop not in _EARS:
        ears = _EARS[loop] = _Ears()
        selector = loop._selector  # type: ignore[attr-defined]
        select = selector.select

        def listen(timeout: float | None = None) -> Any:
            events = select(timeout)
            ears.heard += len(events)
            return events

        selector.select = listen
    return _EARS[loop]


@dataclass
class Stage:
    """The bus around one service."""

    redis: Redis
    server: Server
    clock: JumpClock
    environ: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self, service: str, run: Callable[[Process], Awaitable[None]]) -> AsyncIterator[Process]:
        """The service with no more rights than its role's, stopped at the end as SIGTERM stops it."""
        process = Process(
            service=service,
            clock=self.clock,
            ids=Ids(1),
            stop=asyncio.Event(),
            log=structlog.get_logger(),
            health=Health(self.clock),
            environ={"REDIS_URL": self._url_of(service), "BOT_ID": BOT_ID, **self.environ},
        )
        task = asyncio.create_task(run(process))
        try:
            yield process
        finally:
            process.stop.set()
            with contextlib.suppress(Stopped):
                await asyncio.wait_for(task, timeout=DEADLINE_S)

    def _url_of(self, service: str) -> str:
        with self.server.admin() as admin:
            admin.execute_command("ACL", "SETUSER", service, *acl_rules(service), ">secret")
        return self.server.url.get_secret_value().replace("://", f"://{service}:secret@")

    async def say(
        self, stream: str, data: Model, *, source: str = "test", key: str = "", at_ms: int | None = None
    ) -> str:
        """Write a message as another service would; returns the entry's id."""
        now_ms = self.clock.now_ms() if at_ms is None else at_ms
        wrapped = message(
            data,
            bot_id=BOT_ID,
            stream=stream,
            source=source,
            cycle_id=cycle_id_at(now_ms, cycle_seconds=60),
            key=key,
            now_ms=now_ms,
        )
        return str(await self.redis.xadd(stream, {PAYLOAD_FIELD: wrapped.model_dump_json()}))

    async def read(self, stream: str, model: type[DataT]) -> list[DataT]:
        """All messages of a stream, oldest first."""
        rows: Any = await self.redis.xrange(stream)
        return [Message[model].read(fields[PAYLOAD_FIELD]).data for _, fields in rows]  # type: ignore[valid-type]

    async def until(self, look: Callable[[], Awaitable[Any]]) -> Any:
        """What ``look`` finds, as soon as it finds something."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if found := await look():
                return found
            await asyncio.sleep(0.01)
        raise AssertionError("it did not come about in time")

    async def until_read(self, stream: str, group: str) -> None:
        """Wait until a group has finished everything on a stream."""

        async def finished() -> bool:
            for row in await self.redis.xinfo_groups(stream):
                if row["name"] == group:
                    return row["pending"] == 0 and row["lag"] == 0
            return False

        await self.until(finished)
