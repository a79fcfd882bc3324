"""Several services of one bot in this process: a real Valkey, the paper exchange, and a fast clock that all share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from eth_account import Account
from redis.asyncio import Redis

from support.execution_bench import Bench
from support.paper import ACCOUNT, Paper, paper_exchange
from support.servers import Server
from support.sessions import process_for
from support.stage import BOT_ID
from tradingbot.bus.names import PAYLOAD_FIELD, Key, Stream
from tradingbot.bus.params import write_params
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import AuditRecord, StateSnapshot
from tradingbot.domain.model import Model
from tradingbot.domain.params import Params
from tradingbot.runtime.clock import Anchor, SystemClock
from tradingbot.runtime.process import Process, load_service

KEY = "0x" + "42" * 32
AGENT = Account.from_key(KEY).address.lower()
START_MS = 1_771_430_400_000
SPEED = 20.0
DEADLINE_S = 120.0


@dataclass
class Ensemble:
    """The services that run, and everything around them."""

    redis: Redis
    server: Server
    clock: SystemClock
    paper: Paper
    environ: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def running(self, *services: str) -> AsyncIterator[None]:
        """Run services until the block ends; all are stopped as SIGTERM stops them, execution first."""
        for service in services:
            process = replace(process_for(service, clock=self.clock), environ=self._environ(service))
            self.processes[service] = process
            self.tasks[service] = asyncio.create_task(_body(process), name=service)
        try:
            yield
        finally:
            for service in sorted(services, key=lambda each: each != "execution"):
                self.processes[service].stop.set()
                await asyncio.wait({self.tasks[service]}, timeout=60)
        for service in services:
            await self.tasks[service]

    def _environ(self, service: str) -> dict[str, str]:
        own = {"execution": {"HL_PRIVATE_KEY": KEY}, "monitor": {"MONITOR_PORT": "0"}}
        return {
            "REDIS_URL": self.server.url.get_secret_value(),
            "BOT_ID": BOT_ID,
            "HL_NETWORK": "paper",
            "HL_HTTP_URL": self.paper.http_url,
            "HL_WS_URL": self.paper.ws_url,
            "HL_ACCOUNT_ADDRESS": ACCOUNT,
            "PRICE_SOURCE": "synthetic",
            **own.get(service, {}),
            **self.environ,
        }

    async def params(self, *, generation: int = 1, params: Params | None = None) -> None:
        await write_params(self.redis, params or Params(), generation=generation)

    async def until(self, look: Callable[[], Any], what: str, *, deadline_s: float = DEADLINE_S) -> Any:
        """The first true answer; a service that has ended meanwhile fails the test at once, with its own error."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + deadline_s
        while loop.time() < end_s:
            found = look()
            if found := (await found if asyncio.iscoroutine(found) else found):
                return found
            for name, task in self.tasks.items():
                if task.done() and not self.processes[name].stop.is_set():
                    await task
                    raise AssertionError(f"{name} has ended")
            await asyncio.sleep(0.01)
        raise AssertionError(f"not within {deadline_s:g} s: {what}")

    async def read(self, stream: str, model: type[Model]) -> list[Any]:
        """All messages of a stream, oldest first."""
        rows: Any = await self.redis.xrange(stream)
        return [Message[model].read(fields[PAYLOAD_FIELD]).data for _, fields in rows]  # type: ignore[valid-type]

    async def newest(self, stream: str, model: type[Model]) -> Any:
        rows: Any = await self.redis.xrevrange(stream, count=1)
        return Message[model].read(rows[0][1][PAYLOAD_FIELD]).data if rows else None  # type: ignore[valid-type]

    async def audits(self, kind: str) -> list[AuditRecord]:
        return [each for each in await self.read(Stream.AUDIT, AuditRecord) if each.kind == kind]

    async def snapshot(self) -> StateSnapshot | None:
        raw: Any = await self.redis.get(Key.LATEST_SNAPSHOT)
        return Message[StateSnapshot].read(raw).data if raw else None

    async def breaker(self) -> dict[str, str]:
        found: Any = await self.redis.hgetall(Key.MODE_BREAKER)
        return dict(found)

    async def hold_by_hand(self, coin: str, size: str) -> None:
        """A position that a person opens, through the exchange's control endpoint."""
        await self._control("position", {"user": ACCOUNT, "coin": coin, "sz": size})

    async def delist(self, coin: str) -> None:
        """The exchange takes a coin out of trading."""
        await self._control("delist", {"coin": coin})

    async def _control(self, what: str, body: dict[str, str]) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.post(f"{self.paper.http_url}/control/{what}", json=body)).raise_for_status()

    def orders(self, coin: str | None = None) -> list[dict[str, Any]]:
        """The bot's orders that the exchange has admitted, by its own log; a person's bear no cloid."""
        newest = {each["oid"]: each for each in self.paper.log("order") if each["cloid"]}
        return [each for each in newest.values() if coin in (None, each["coin"])]

    def resting(self) -> list[dict[str, Any]]:
        return [each for each in self.orders() if each["status"] == "open"]


async def ticked(bench: Bench, look: Callable[[], Any]) -> Any:
    """Virtual time passes until something is seen; back-offs are real, so that it must not pass too fast."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + DEADLINE_S
    while loop.time() < end_s:
        if found := await look():
            return found
        await bench.tick(1)
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come about in time")


async def _body(process: Process) -> None:
    await load_service(process.service)(process)


@contextlib.asynccontextmanager
async def ensemble(
    redis: Redis,
    server: Server,
    *,
    universe: Sequence[str] = ("BTC", "ETH"),
    speed: float = SPEED,
    environ: dict[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[Ensemble]:
    clock = SystemClock(Anchor.at(virtual_start_ms=START_MS, speed=speed))
    chosen = {"agents": (AGENT,), "order_status_lag_ms": 0, **options}
    async with paper_exchange(clock=clock, **chosen) as paper:
        yield Ensemble(redis, server, clock, paper, environ={"UNIVERSE": ",".join(universe), **(environ or {})})
