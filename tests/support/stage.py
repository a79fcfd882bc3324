"""A stage for one service on a real server: virtual time that jumps, real time that runs, messages written by hand."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

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
DEADLINE_S = 8.0
BOT_ID = "bot-under-test"


class JumpClock:
    """Real time runs as it does, so that leases and reads live; virtual time only moves when a test says so."""

    speed = 1.0

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def jump(self, seconds: float) -> None:
        self._now_ms += round(seconds * 1000)

    def now_ms(self) -> int:
        return self._now_ms

    def real_s(self) -> float:
        return time.monotonic()

    async def sleep(self, virtual_s: float) -> None:
        await self.sleep_until_ms(self._now_ms + round(virtual_s * 1000))

    async def sleep_until_ms(self, at_ms: int) -> None:
        while self._now_ms < at_ms:
            await asyncio.sleep(0.005)

    async def sleep_real(self, real_s: float) -> None:
        await asyncio.sleep(real_s)


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
                await asyncio.wait_for(task, timeout=10)

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
