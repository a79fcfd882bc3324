"""One operator with its bots: real queue, cache, lanes and Redis; the API server in memory; time moved by hand."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from redis.asyncio import Redis

from support.operator_bus import MASTER, add_users
from support.operator_kube import FakeKube
from support.servers import Server, free_port
from tradingbot.bus.control import Applied, breaker_fields, read_applied
from tradingbot.bus.names import PAYLOAD_FIELD, Key, Stream
from tradingbot.domain.cycles import from_ms, minute_id
from tradingbot.domain.envelope import message
from tradingbot.domain.messages import Health, StateSnapshot
from tradingbot.domain.modes import Mode, effective_mode
from tradingbot.runtime.clock import Ids, ManualClock
from tradingbot_operator.cache import Cache
from tradingbot_operator.queue import WorkQueue
from tradingbot_operator.resource import Bot, parse
from tradingbot_operator.salvage import salvage
from tradingbot_operator.settings import OperatorSettings
from tradingbot_operator.status_model import TradingBotStatus
from tradingbot_operator.watch import Watcher
from tradingbot_operator.wiring import Parts, reconciling

SETTINGS = OperatorSettings(image="tradingbot:1", redis_image="redis:7", operator_namespace="tradingbot-system")
NAMESPACE = "trading"
DEADLINE_S = 60.0


@dataclass
class Operator:
    """One operator process."""

    kube: FakeKube
    clock: ManualClock
    cache: Cache = field(default_factory=Cache)

    @asynccontextmanager
    async def running(
        self, address: Callable[[Bot], tuple[str, int]], settings: OperatorSettings
    ) -> AsyncIterator[None]:
        queue = WorkQueue(self.clock, Ids(1))
        watcher = Watcher(self.cache, queue)

        def hear(kind: str, body: Any) -> None:
            if body["kind"] in {"Secret", "Event", "Lease"}:
                return
            (watcher.gone if kind == "DELETED" else watcher.seen)(body)

        for body in [*self.kube.objects.values()]:
            hear("ADDED", body)
        self.kube.listeners.append(hear)
        parts = Parts(
            settings=settings,
            kube=self.kube,
            cache=self.cache,
            queue=queue,
            clock=self.clock,
            master=MASTER,
            address=address,
        )
        async with reconciling(parts) as handlers:
            task = asyncio.create_task(queue.run(handlers))
            try:
                yield
            finally:
                self.kube.listeners.remove(hear)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


@dataclass
class World:
    """The cluster, a Redis and the operators."""

    kube: FakeKube
    clock: ManualClock
    redis: Redis
    server: Server
    settings: OperatorSettings = SETTINGS
    redis_is_there: bool = True
    dead_port: int = field(default_factory=free_port)

    def address(self, bot: Bot) -> tuple[str, int]:
        return "127.0.0.1", self.server.port if self.redis_is_there else self.dead_port

    def operator(self) -> contextlib.AbstractAsyncContextManager[None]:
        """An operator that has listed what is there, running."""
        return Operator(self.kube, self.clock).running(self.address, self.settings)

    async def create(self, spec: Mapping[str, Any] | None = None, *, name: str = "majors", **metadata: Any) -> Bot:
        """A person applies a bot, and its Redis knows its users."""
        body = self.kube.person_creates(NAMESPACE, name, spec or {}, **metadata)
        bot = salvage(body)
        await add_users(self.redis, bot)
        return bot

    def patch(self, name: str = "majors", **spec: Any) -> None:
        self.kube.person_patches(NAMESPACE, name, spec)

    def delete(self, name: str = "majors") -> None:
        self.kube.person_deletes(NAMESPACE, name)

    def body(self, name: str = "majors") -> dict[str, Any] | None:
        return self.kube.find("TradingBot", name)

    def bot(self, name: str = "majors") -> Bot:
        body = self.body(name)
        assert body is not None
        return parse(body)

    def status(self, name: str = "majors") -> dict[str, Any]:
        """The status as written; it must fit its schema."""
        found = (self.body(name) or {}).get("status") or {}
        TradingBotStatus.model_validate(found)
        return dict(found)

    def condition(self, kind: str, name: str = "majors") -> dict[str, Any]:
        found = [each for each in self.status(name).get("conditions", ()) if each["type"] == kind]
        return found[0] if found else {}

    async def until(self, look: Callable[[], Any], *, flow_s: float = 0.02) -> Any:
        """What ``look`` finds, as soon as it finds something; virtual time flows meanwhile."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            found = look()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await self.clock.advance(flow_s)
            await asyncio.sleep(0.005)
        raise AssertionError("it did not come about in time")

    async def rest(self, seconds: float = 1.0) -> None:
        """Let virtual time pass in small steps, with real time for the servers between them."""
        steps = max(1, int(seconds / 0.25))
        for _ in range(steps):
            await self.clock.advance(seconds / steps)
            await asyncio.sleep(0.004)

    async def spec_mode(self) -> dict[str, str]:
        return dict(await self.redis.hgetall(Key.MODE_SPEC))

    async def mode_is(self, mode: Mode) -> bool:
        return (await self.spec_mode()).get("mode") == mode

    def running_bot(self, name: str = "majors") -> bool:
        return self.condition("Ready", name).get("status") == "True"


@dataclass
class Execution:
    """Obeys the modes as execution does and writes ``ctl.applied``; orders and positions are numbers a test sets."""

    world: World
    open_orders: int = 0
    silent: bool = False
    receives: bool = True
    cancels: bool = True
    flattens: str = "flat"
    flatten: bool = False
    applied: Applied | None = None
    starts: list[str] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            with contextlib.suppress(Exception):
                await self._turn()
            await asyncio.sleep(0.005)

    async def _turn(self) -> None:
        if self.silent or not self.world.redis_is_there:
            return
        redis, now = self.world.redis, self.world.clock.now_ms()
        spec, breaker, person = [await redis.hgetall(key) for key in (Key.MODE_SPEC, Key.MODE_BREAKER, Key.MODE_PERSON)]
        if not spec:
            return
        mode = effective_mode(spec=spec, breaker=breaker, person=person)
        before = await read_applied(redis)
        generation = int(spec["generation"])
        stated = Applied(
            mode=mode.mode, source=mode.source, reason=mode.reason, spec_generation=generation, spec_uid=spec["uid"]
        )
        if before is None or before.mode is not mode.mode:
            stated = dataclasses.replace(stated, received_at=now, open_orders=self.open_orders)
        else:
            kept = ("received_at", "cancelled_at", "acked_at", "open_orders", "flatten")
            stated = dataclasses.replace(stated, **{name: getattr(before, name) for name in kept})
        if mode.mode is Mode.NORMAL:
            stated = dataclasses.replace(stated, cancelled_at=None, acked_at=stated.acked_at or now)
        elif self.cancels:
            self.open_orders = 0
            stated = dataclasses.replace(
                stated, cancelled_at=stated.cancelled_at or now, acked_at=stated.acked_at or now, open_orders=0
            )
        values = await redis.hget(Key.PARAMS, "values")
        if stated.acked_at and mode.mode is Mode.HALT and '"Flatten"' in (values or "") and not stated.flatten:
            stated = dataclasses.replace(stated, flatten=self.flattens)
        if stated != before:
            await redis.hset(Key.APPLIED, mapping=dict(stated.put().fields))


async def calm_breaker(redis: Redis) -> None:
    """The risk engine has spoken and restricts nothing."""
    put = breaker_fields(mode=Mode.NORMAL, reason="", at_ms=1)
    await redis.hset(put.key, mapping=dict(put.fields))


async def passed_preflight(redis: Redis) -> None:
    """Execution has made its preflight."""
    await redis.hset(Key.LATEST_PREFLIGHT, mapping={"verdict": "ok", "checks": "[]", "at_ms": "1"})


async def say_snapshot(redis: Redis, now_ms: int, *, equity: int) -> None:
    """portfolio_state has mirrored the account."""
    health = Health(last_reconcile_ts=from_ms(now_ms), reconcile_ok=True)
    snapshot = StateSnapshot(
        equity_usd=Decimal(equity),
        cash_usd=Decimal(equity),
        positions={},
        open_orders=(),
        health=health,
        asof_ms=now_ms,
    )
    wrapped = message(
        snapshot,
        bot_id="bot",
        stream=Stream.SNAPSHOT,
        source="portfolio_state",
        cycle_id=minute_id(now_ms),
        key=str(now_ms),
        now_ms=now_ms,
    )
    await redis.xadd(Stream.SNAPSHOT, {PAYLOAD_FIELD: wrapped.model_dump_json()})


__all__ = ["NAMESPACE", "Execution", "Operator", "World", "calm_breaker", "passed_preflight", "say_snapshot"]
