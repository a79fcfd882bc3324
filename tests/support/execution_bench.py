"""Execution on its real surroundings: a Valkey, the paper exchange, and virtual time that a test moves."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import structlog
from eth_account import Account
from redis.asyncio import Redis
from redis.exceptions import RedisError

from support.paper import ACCOUNT, Paper, SetPrices, paper_exchange
from support.servers import Server
from support.stage import BOT_ID, JumpClock, Stage, quiet
from tradingbot.bus.control import Applied, issue, read_applied
from tradingbot.bus.names import PAYLOAD_FIELD, Key, Stream, lease_key
from tradingbot.bus.params import write_params
from tradingbot.domain.cycles import cycle_id_at, from_ms
from tradingbot.domain.envelope import Message, message
from tradingbot.domain.messages import (
    ApprovedTargetPortfolio,
    AuditRecord,
    Command,
    ControlCommand,
    ExecutionPlan,
    ExecutionReport,
    OrderIntent,
    RiskSummary,
    StateSnapshot,
    TargetWeight,
)
from tradingbot.domain.messages import (
    Health as SnapshotHealth,
)
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.domain.params import ExecutionParams, Params, RiskParams
from tradingbot.execution.service import run
from tradingbot.runtime.clock import Ids
from tradingbot.runtime.health import Health
from tradingbot.runtime.process import Process

KEY = "0x" + "42" * 32
AGENT = Account.from_key(KEY).address.lower()
CYCLE_START_MS = 1_771_430_400_000
STANDS_STILL_S = 30.0
"""Real seconds of waiting after which virtual time goes on."""
WIDE = RiskParams(max_gross=2.0, max_net=2.0, caps={}, default_cap=2.0, turnover_cap=2.0)


@dataclass
class Bench(Stage):
    """Execution, with everything around it played by the test."""

    paper: Paper = None  # type: ignore[assignment]
    prices: SetPrices = field(default_factory=SetPrices)
    generation: int = 0
    commands: int = 0
    running_process: Process | None = None

    def lifted(self) -> bool:
        """True when execution says that it is ready to place orders."""
        return self.running_process is not None and self.running_process.health.readiness[0]

    async def lifted_again(self) -> bool:
        """``lifted`` for ``until``, with the mirror kept fresh."""
        await self.mirror()
        return self.lifted()

    @asynccontextmanager
    async def trading(self, **environ: str) -> AsyncIterator[Process]:
        """Execution as a running service; stopped as SIGTERM stops it, and cancelled when that does not help."""
        process = self.process(**environ)
        task = asyncio.create_task(run(process))
        try:
            yield process
        finally:
            process.stop.set()
            await asyncio.wait({task}, timeout=60)
            if not task.done():
                task.cancel()
            await task

    @asynccontextmanager
    async def doomed(self, **environ: str) -> AsyncIterator[asyncio.Task[None]]:
        """Execution that ends as SIGKILL ends it: no clean-up reaches Redis or the venue.

        Its lease is freed as the supervisor does it that has seen it dead.
        """
        task = asyncio.create_task(run(self.process(**environ)))
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(RedisError):
            await self.redis.delete(lease_key("execution"))

    def process(self, **environ: str) -> Process:
        self.running_process = Process(
            service="execution",
            clock=self.clock,
            ids=Ids(7),
            stop=asyncio.Event(),
            log=structlog.get_logger(),
            health=Health(self.clock),
            environ={
                "REDIS_URL": self.server.url.get_secret_value(),
                "BOT_ID": BOT_ID,
                "HL_NETWORK": "paper",
                "HL_HTTP_URL": self.paper.http_url,
                "HL_WS_URL": self.paper.ws_url,
                "HL_ACCOUNT_ADDRESS": ACCOUNT,
                "HL_PRIVATE_KEY": KEY,
                **environ,
            },
        )
        return self.running_process

    # ---------------------------------------------------------------- what the others would write

    async def params(self, *, risk: RiskParams = WIDE, **execution: Any) -> None:
        self.generation += 1
        params = Params(risk=risk, execution=ExecutionParams(**execution))
        await write_params(self.redis, params, generation=self.generation)

    async def breaker(self, mode: Mode = Mode.NORMAL, reason: str = "") -> None:
        await self.redis.hset(Key.MODE_BREAKER, mapping={"mode": mode.value, "reason": reason})

    async def mirror(self) -> None:
        """Fresh mids and a fresh snapshot, as market_data and portfolio_state keep them."""
        now_ms = self.clock.now_ms()
        mids = {symbol: json.dumps({"px": str(px), "at_ms": now_ms}) for symbol, px in self.prices.mids.items()}
        await self.redis.hset(Key.LATEST_MIDS, mapping=mids)
        snapshot = StateSnapshot(
            equity_usd=Decimal(10_000),
            cash_usd=Decimal(10_000),
            positions={},
            open_orders=(),
            health=SnapshotHealth(last_reconcile_ts=from_ms(now_ms), reconcile_ok=True),
            asof_ms=now_ms,
        )
        wrapped = message(
            snapshot,
            bot_id=BOT_ID,
            stream=Stream.SNAPSHOT,
            source="portfolio_state",
            cycle_id=self.cycle_id,
            key="x",
            now_ms=now_ms,
        )
        await self.redis.set(Key.LATEST_SNAPSHOT, wrapped.model_dump_json())

    async def ready(self, **execution: Any) -> None:
        await self.params(**execution)
        await self.breaker()
        await self.mirror()

    async def tick(self, seconds: float) -> None:
        """Let virtual time pass in small steps; a step begins when all have done what the last one asked of them."""
        left_s = seconds
        while left_s > 0:
            step_s = min(1.0, left_s)
            self.clock.jump(step_s)
            left_s -= step_s
            self.paper.venue.turn()
            await self.mirror()
            await asyncio.sleep(0.012)
            await quiet(self.redis)

    async def until(self, look: Callable[[], Awaitable[Any]]) -> Any:
        """What ``look`` finds, as soon as it finds something.

        Time stands still meanwhile, but not for ever: on a slow machine a real back-off may end after the test has
        moved time for the last time, and what it then plans for a later moment would never come about.
        """
        loop = asyncio.get_running_loop()
        moves_s = loop.time() + STANDS_STILL_S

        async def look_and_move() -> Any:
            found = await look()
            if not found and loop.time() > moves_s:
                with contextlib.suppress(RedisError):
                    await self.tick(1)
            return found

        return await super().until(look_and_move)

    async def next_cycle(self) -> None:
        now_ms = self.clock.now_ms()
        await self.tick((60_000 - now_ms % 60_000) / 1000)

    async def approve(self, *, mode: Mode = Mode.NORMAL, **weights: float) -> str:
        approved = ApprovedTargetPortfolio(
            mode=mode,
            approved_targets=tuple(TargetWeight(symbol=symbol, weight=weight) for symbol, weight in weights.items()),
            rejections=(),
            risk_summary=RiskSummary(gross=0, net=0, turnover=0, flags=()),
        )
        return await self.say(Stream.APPROVED, approved, source="risk_engine", key=self.cycle_id)

    async def command(self, command: Command, reason: str = "test") -> str:
        self.commands += 1
        return await issue(
            self.redis,
            ControlCommand(command=command, command_id=f"c{self.commands}", source=ModeSource.PERSON, reason=reason),
            now_ms=self.clock.now_ms(),
            bot_id=BOT_ID,
        )

    # ---------------------------------------------------------------- what came of it

    @property
    def cycle_id(self) -> str:
        return cycle_id_at(self.clock.now_ms(), cycle_seconds=60)

    async def begun(self) -> Applied:
        """Wait until execution has applied the modes and accounted for the past."""

        async def look() -> Applied | None:
            kept: Any = await self.redis.hget("state:execution", "value")
            settled = kept and '"settled_ms":null' not in kept
            return await read_applied(self.redis) if settled and self.lifted() else None

        applied: Applied = await self.until(look)
        return applied

    async def reports(self) -> list[ExecutionReport]:
        return await self.read(Stream.REPORTS, ExecutionReport)

    async def intents(self) -> list[OrderIntent]:
        return await self.read(Stream.ORDERS, OrderIntent)

    async def intents_valid(self) -> list[OrderIntent]:
        """Those that parse: a test may have written others."""
        rows: Any = await self.redis.xrange(Stream.ORDERS)
        return [
            Message[OrderIntent].read(fields[PAYLOAD_FIELD]).data
            for _, fields in rows
            if fields[PAYLOAD_FIELD].startswith('{"env"')
        ]

    async def plans(self) -> list[ExecutionPlan]:
        return await self.read(Stream.PLAN, ExecutionPlan)

    async def audits(self, kind: str | None = None) -> list[AuditRecord]:
        return [each for each in await self.read(Stream.AUDIT, AuditRecord) if kind in (None, each.kind)]

    async def plan_of(self, cycle_id: str) -> ExecutionPlan:
        async def look() -> ExecutionPlan | None:
            return next((each for each in await self.plans() if each.cycle_id == cycle_id), None)

        plan: ExecutionPlan = await self.until(look)
        return plan

    async def until_reports(self, condition: Callable[[list[ExecutionReport]], Any]) -> list[ExecutionReport]:
        async def look() -> list[ExecutionReport] | None:
            reports = await self.reports()
            return reports if condition(reports) else None

        found: list[ExecutionReport] = await self.until(look)
        return found

    async def position(self, symbol: str) -> Decimal:
        """By the exchange's own log of fills."""
        found = Decimal(0)
        for each in self.paper.log("fill"):
            if each["coin"] == symbol and each["user"] == ACCOUNT:
                found += Decimal(each["sz"]) * (1 if each["side"] == "B" else -1)
        return found

    async def resting(self) -> list[dict[str, Any]]:
        """Open orders, by the exchange's own log."""
        newest = {each["oid"]: each for each in self.paper.log("order") if each["user"] == ACCOUNT}
        return [each for each in newest.values() if each["status"] == "open"]

    def orders_sent(self) -> list[dict[str, Any]]:
        """Actions that place orders, admitted or not."""
        return [each for each in self.paper.log("action") if each["type"] == "order"]

    async def dedup(self, client_order_id: str) -> dict[str, Any]:
        kept = await self.redis.hgetall(f"dedup:{client_order_id}")
        return {attempt: json.loads(text) for attempt, text in kept.items()}


@asynccontextmanager
async def execution_bench(redis: Redis, server: Server, **options: Any) -> AsyncIterator[Bench]:
    clock = JumpClock(CYCLE_START_MS - 30_000)
    prices = SetPrices()
    async with paper_exchange(
        prices=prices, clock=clock, agents=(AGENT,), **{"order_status_lag_ms": 0, **options}
    ) as paper:
        bench = Bench(redis=redis, server=server, clock=clock, paper=paper, prices=prices)
        yield bench


async def check_invariants(bench: Bench) -> None:
    """What must hold at rest, against the paper exchange's own log: I1, I3, I7, I11, I14."""
    admitted = [each for each in bench.paper.log("action") if each["type"] == "order" and each["admitted"]]
    placed = [cloid for each in admitted for cloid in each["cloids"]]
    assert len(placed) == len(set(placed)), "an attempt was admitted twice"
    reports = await bench.reports()
    ends = [(each.client_order_id, each.attempt) for each in reports if each.status.terminal]
    assert len(ends) == len(set(ends)), "an order ended twice"
    places = {(each.client_order_id, each.attempt) for each in await bench.intents() if each.action == "PLACE"}
    assert set(ends) == places, "an intent has no end"
    filled: dict[str, Decimal] = {}
    for each in reports:
        if each.status.terminal and each.side is not None:
            filled[each.symbol] = filled.get(each.symbol, Decimal(0)) + each.side.sign * each.filled_qty
    for symbol in bench.prices.symbols:
        assert await bench.position(symbol) == filled.get(symbol, 0), f"{symbol}: reports and venue differ"
    for plan in await bench.plans():
        for piece in plan.slices:
            name = f"{plan.cycle_id}:{piece.symbol}:{piece.slice_idx}:{piece.side}"
            done = sum(each.filled_qty for each in reports if each.status.terminal and each.client_order_id == name)
            assert done <= piece.qty, f"{name} filled {done} of {piece.qty}"
    for row in await bench.redis.xinfo_groups(Stream.ORDERS):
        assert (row["pending"], row["lag"]) == (0, 0), "exec.orders is not worked off"
