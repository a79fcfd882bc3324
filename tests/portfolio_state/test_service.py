"""portfolio_state as a running service, against a real Redis and the paper exchange."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest
from redis.asyncio import Redis

from portfolio_state.builders import BOT
from support.paper import Paper, SetPrices, Trader, order, paper_exchange
from support.servers import Server
from support.sessions import process_for, until
from tradingbot.bus.client import connect
from tradingbot.bus.library import load_library
from tradingbot.bus.names import Group, Key, Stream, state_key
from tradingbot.domain.cycles import minute_id
from tradingbot.domain.envelope import Message, message
from tradingbot.domain.ids import cloid
from tradingbot.domain.messages import (
    AuditLevel,
    AuditRecord,
    ExecutionReport,
    OrderAction,
    OrderIntent,
    ReportStatus,
    Side,
    StateEvent,
    StateEventKind,
    StateSnapshot,
)
from tradingbot.domain.model import Model
from tradingbot.portfolio_state.mirror import Mirror
from tradingbot.portfolio_state.service import run
from tradingbot.runtime.clock import Anchor, Clock, SystemClock
from tradingbot.runtime.settings import SettingsError

ALICE_KEY = "0x" + "11" * 32
ALICE = "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a"
NOON = 1_771_416_000_000
SPEED = 20.0


@dataclasses.dataclass
class World:
    """A venue, a bus, and the hands of execution and of a person."""

    paper: Paper
    redis: Redis
    server: Server
    clock: Clock
    trader: Trader
    placed: int = 0

    @contextlib.asynccontextmanager
    async def running(self, **environ: str) -> AsyncIterator[None]:
        given = {
            "REDIS_URL": self.server.url.get_secret_value(),
            "BOT_ID": BOT,
            "UNIVERSE": "BTC,ETH",
            "HL_ACCOUNT_ADDRESS": ALICE,
            "HL_HTTP_URL": self.paper.http_url,
            "HL_WS_URL": self.paper.ws_url,
            "PRICE_SOURCE": "synthetic",
            **environ,
        }
        process = dataclasses.replace(process_for("portfolio_state", clock=self.clock), environ=given)
        task = asyncio.create_task(run(process))
        try:
            yield
            assert not task.done()
        finally:
            process.stop.set()
            await asyncio.wait_for(task, 60)

    async def write(self, stream: Stream, data: Model) -> None:
        now_ms = self.clock.now_ms()
        made = message(
            data, bot_id=BOT, stream=stream, source="test", cycle_id=minute_id(now_ms), key=str(now_ms), now_ms=now_ms
        )
        await self.redis.xadd(stream.value, {"p": made.model_dump_json()})

    async def place(
        self, *, size: str = "0.01", px: str = "61000", side: Side = Side.BUY, intent_size: str | None = None
    ) -> int:
        """An own order as execution places it: the intent, the order, the report; returns the venue's id."""
        (oid,) = await self.place_many(1, size=size, px=px, side=side, intent_size=intent_size)
        return oid

    async def place_many(
        self, count: int, *, size: str, px: str = "61000", side: Side = Side.BUY, intent_size: str | None = None
    ) -> list[int]:
        """Own orders of one action."""
        names = [f"order-{self.placed + index + 1}" for index in range(count)]
        self.placed += count
        cloids = [cloid(bot_id=BOT, client_order_id=name, attempt=0) for name in names]
        for name, own in zip(names, cloids, strict=True):
            await self.write(Stream.ORDERS, an_intent(name, own, size=intent_size or size, px=px, side=side))
        statuses = await self.trader.place(*[order(0, side.lower(), size, px, cloid=own) for own in cloids])
        oids = [int((status.get("filled") or status["resting"])["oid"]) for status in statuses]
        for name, own, oid, status in zip(names, cloids, oids, statuses, strict=True):
            await self.write(Stream.REPORTS, a_report(name, own, oid, filled="filled" in status))
        return oids

    async def snapshot(self, condition: Callable[[StateSnapshot], Any] = lambda _: True) -> StateSnapshot:
        """The newest snapshot, as soon as it meets the condition."""

        async def found() -> StateSnapshot | None:
            raw = await self.redis.get(Key.LATEST_SNAPSHOT)
            data = Message[StateSnapshot].read(raw).data if raw else None
            return data if data and condition(data) else None

        return await until(found)

    async def told(self, stream: Stream, model: type[Any]) -> list[Any]:
        return [Message[model].read(fields["p"]).data for _, fields in await self.redis.xrange(stream.value)]

    async def events(self, *kinds: StateEventKind) -> list[StateEvent]:
        return [event for event in await self.told(Stream.EVENTS, StateEvent) if not kinds or event.kind in kinds]

    async def settled(self) -> bool:
        """All reports are handled and no order is active."""
        groups = await self.redis.xinfo_groups(Stream.REPORTS.value)
        idle = all(not group["pending"] and not group["lag"] for group in groups)
        return idle and not await self.redis.scard(Key.ACTIVE_OIDS)


def an_intent(name: str, own: str, *, size: str, px: str, side: Side) -> OrderIntent:
    return OrderIntent(
        action=OrderAction.PLACE,
        client_order_id=name,
        symbol="BTC",
        side=side,
        qty=Decimal(size),
        limit_px=Decimal(px),
        tif="Gtc",
        slice_ref="plan:0",
        reason="slice",
        cloid=own,
    )


def a_report(name: str, own: str, oid: int, *, filled: bool) -> ExecutionReport:
    return ExecutionReport(
        client_order_id=name,
        exchange_order_id=str(oid),
        status=ReportStatus.FILLED if filled else ReportStatus.ACK,
        filled_qty=Decimal(0),
        avg_px=None,
        fee=Decimal(0),
        latency_ms=1,
        raw="",
        cloid=own,
        symbol="BTC",
    )


@contextlib.asynccontextmanager
async def a_world(
    server: Server, redis: Redis, *, speed: float = SPEED, start_ms: int = NOON, **options: Any
) -> AsyncIterator[World]:
    clock = SystemClock(Anchor.at(virtual_start_ms=start_ms, speed=speed))
    async with paper_exchange(
        prices=SetPrices(), clock=clock, accounts=[ALICE], order_status_lag_ms=0, **options
    ) as paper:
        yield World(paper, redis, server, clock, Trader(paper, ALICE_KEY))


@pytest.fixture
async def world(valkey, valkey_server):
    async with a_world(valkey_server, valkey) as made:
        yield made


async def test_a_snapshot_mirrors_the_account_on_the_stream_and_under_the_latest_key(world):
    async with world.running():
        snapshot = await world.snapshot()
        newest = (await world.redis.xrevrange(Stream.SNAPSHOT.value, count=1))[0][1]["p"]
        ttl_ms = await world.redis.pttl(Key.LATEST_SNAPSHOT)

    assert snapshot.equity_usd == snapshot.cash_usd == 10_000
    assert snapshot.positions == {}
    assert snapshot.prices == "synthetic"
    assert set(snapshot.mids) == {"BTC", "ETH"}
    assert snapshot.health.reconcile_ok
    assert json.loads(newest)["env"]["source"] == "portfolio_state"
    assert 0 < ttl_ms <= 6000


async def test_the_latest_snapshot_lives_a_minute_at_real_speed(valkey, valkey_server):
    async with a_world(valkey_server, valkey, speed=1.0) as world, world.running():
        await world.snapshot()

        assert 30_000 < await valkey.pttl(Key.LATEST_SNAPSHOT) <= 60_000


async def test_a_fill_is_followed_by_a_snapshot_at_once_and_not_at_the_next_turn(valkey, valkey_server):
    """The next turn would come after 250 real seconds; the venue's stream makes one come sooner."""
    slow = {"RECONCILE_INTERVAL_S": "25", "NUDGE_GAP_S": "0.2"}
    async with a_world(valkey_server, valkey, speed=0.1) as world, world.running(**slow):
        # The second one is for the stream's own beginning; from then on only its news can make another.
        await until(lambda: _at_least(valkey.xlen(Stream.SNAPSHOT.value), 2))
        await world.trader.place(order(0, "buy", "0.01", "61000"))
        snapshot = await world.snapshot(lambda snapshot: "BTC" in snapshot.positions)

        assert snapshot.positions["BTC"].qty == Decimal("0.01")
        assert snapshot.cash_usd == snapshot.equity_usd - Decimal("0.01") * snapshot.positions["BTC"].mark_px


async def test_an_order_is_active_until_the_venue_says_that_it_ended(world):
    async with world.running():
        oid = await world.place(px="50000")
        await until(lambda: world.redis.sismember(Key.ACTIVE_OIDS, str(oid)))
        snapshot = await world.snapshot(lambda snapshot: snapshot.open_orders)
        assert snapshot.open_orders[0].client_order_id == "order-1"

        await world.trader.cancel(0, oid)
        await until(world.settled)
        events = await world.events(StateEventKind.ORDER_STATUS)

    assert [(event.status, event.terminal) for event in events][-1] == ("canceled", True)
    assert {event.exchange_order_id for event in events} == {str(oid)}


async def test_partial_fills_are_mirrored_and_covered_by_their_intent(world):
    """A level of the book holds some 0.8 BTC: a larger order fills in parts."""
    async with world.running():
        await world.snapshot()
        await world.place(size="2")
        snapshot = await world.snapshot(lambda snapshot: "BTC" in snapshot.positions)
        await until(world.settled)
        fills = await until(lambda: world.events(StateEventKind.FILL))

    kept = Mirror.read(await world.redis.hget(state_key("portfolio_state"), "value"))

    assert kept.unexplained_ms == 0, "the fills explain the cash"
    assert len(fills) > 1
    assert sum(fill.qty for fill in fills) == snapshot.positions["BTC"].qty == Decimal(2)
    assert {fill.client_order_id for fill in fills} == {"order-1"}
    assert snapshot.health.fills_beyond_intent == 0
    assert snapshot.health.fees_today_usd == sum(fill.fee for fill in fills) > 0


async def test_a_fill_beyond_its_intent_is_counted_and_alerted(world):
    async with world.running():
        await world.snapshot()
        await world.place(size="0.02", intent_size="0.01")
        snapshot = await world.snapshot(lambda snapshot: snapshot.health.fills_beyond_intent)
        audits = await world.told(Stream.AUDIT, AuditRecord)

    assert snapshot.health.fills_beyond_intent == 1
    assert "fill_beyond_intent" in {audit.kind for audit in audits}


async def test_a_persons_order_is_shown_as_foreign_and_told(world):
    async with world.running():
        await world.snapshot()
        await world.trader.place(order(1, "buy", "1", "2000"))
        snapshot = await world.snapshot(lambda snapshot: snapshot.health.foreign_orders)
        events = await world.events(StateEventKind.FOREIGN_ORDER)

    assert snapshot.open_orders[0].foreign
    assert snapshot.open_orders[0].client_order_id is None
    assert len(events) == 1
    assert await world.redis.scard(Key.ACTIVE_OIDS) == 0


async def test_a_deposit_changes_the_equity_and_is_no_profit(world):
    async with world.running():
        await world.snapshot()
        world.paper.venue.deposit(ALICE, Decimal(2500))
        snapshot = await world.snapshot(lambda snapshot: snapshot.equity_usd == 12_500)

    assert snapshot.health.deposits_net_usd == 2500


async def test_funding_is_told_once_an_hour_as_the_venue_paid_it(valkey, valkey_server):
    # Eight real seconds before the hour; a machine so slow that the position comes later waits for the next one.
    before_one = NOON + 52 * 60_000
    async with a_world(valkey_server, valkey, speed=60.0, start_ms=before_one) as world, world.running():
        await world.snapshot()
        await world.place(size="0.1")
        await world.snapshot(lambda snapshot: snapshot.positions)
        told = await until(lambda: world.events(StateEventKind.FUNDING), deadline_s=120)
        (paid,) = await world.paper.info("userFunding", user=ALICE, startTime=0)
        read = await world.redis.xlen(Stream.SNAPSHOT.value)
        await until(lambda: _at_least(world.redis.xlen(Stream.SNAPSHOT.value), read + 3))

        assert [(event.symbol, event.qty, event.at_ms) for event in told] == [
            ("BTC", Decimal(paid["delta"]["usdc"]), paid["time"])
        ]
        assert len(await world.events(StateEventKind.FUNDING)) == 1


async def test_a_position_in_a_coin_outside_the_universe_is_external(world):
    async with world.running():
        await world.trader.place(order(5, "buy", "1", "200"))
        snapshot = await world.snapshot(lambda snapshot: snapshot.positions)

    assert {symbol: each.external for symbol, each in snapshot.positions.items()} == {"SOL": True}


async def test_a_venue_that_does_not_answer_is_said_with_the_last_good_figures(world):
    async with world.running():
        good = await world.snapshot()
        world.paper.faults({"kind": "server_error", "path": "/info"})
        bad = await world.snapshot(lambda snapshot: not snapshot.health.reconcile_ok)
        later = await world.snapshot(lambda snapshot: not snapshot.health.reconcile_ok)
        world.paper.clear_faults()
        await world.snapshot(lambda snapshot: snapshot.health.reconcile_ok)
        kinds = [event.kind for event in await world.events()]
        audits = {audit.kind for audit in await world.told(Stream.AUDIT, AuditRecord)}

    assert bad.equity_usd == good.equity_usd
    assert bad.asof_ms == later.asof_ms
    assert "502" in bad.health.detail
    assert kinds.count(StateEventKind.RECONCILE_FAILED) == kinds.count(StateEventKind.RECONCILE_RECOVERED) == 1
    assert {"reconcile_failed", "reconcile_recovered"} <= audits


async def test_each_failed_reading_of_a_cycle_is_an_event_of_its_own(world):
    async with world.running():
        await world.snapshot()
        world.paper.faults({"kind": "server_error", "path": "/info"})

        async def failed() -> list[str]:
            rows = await world.redis.xrange(Stream.AUDIT.value)
            read = [Message[AuditRecord].read(fields["p"]) for _, fields in rows]
            return [str(each.env.event_id) for each in read if each.data.kind == "reconcile_failed"]

        async def several() -> bool:
            return len(await failed()) > 2

        await until(several)
        ids = await failed()

    assert len(set(ids)) == len(ids)


async def test_before_the_first_good_reading_nothing_is_published(world):
    world.paper.faults({"kind": "rate_limit", "path": "/info"})
    async with world.running():
        await until(lambda: world.events(StateEventKind.RECONCILE_FAILED))
        assert await world.redis.xlen(Stream.SNAPSHOT.value) == 0
        world.paper.clear_faults()
        assert (await world.snapshot()).equity_usd == 10_000


async def test_lost_answers_and_closed_sockets_lose_and_repeat_nothing(world):
    world.paper.faults(
        {"kind": "drop_before", "path": "/info", "probability": 0.1},
        {"kind": "close_sockets", "path": "/ws", "probability": 0.2},
    )
    async with world.running():
        await world.snapshot()
        for _ in range(6):
            await world.place()
        world.paper.clear_faults()
        await world.snapshot(lambda snapshot: held(snapshot) == Decimal("0.06"))
        await until(world.settled)
        await same_fills_as_the_venue(world)
        differences = await world.events(StateEventKind.POSITION_DIFF, StateEventKind.FILL_BEYOND_INTENT)

    assert differences == []


async def test_more_fills_than_a_page_holds_are_each_counted_once(valkey, valkey_server):
    """The exchange answers 500 fills at most; all 600 of them come while the service is down."""
    async with a_world(valkey_server, valkey, start_equity_usd=Decimal(1_000_000)) as world:
        async with world.running():
            await world.snapshot()
        for _ in range(6):
            await world.place_many(100, size="0.001")
        assert len(world.paper.log("fill")) == 600
        for _ in range(2):
            async with world.running():
                await until(lambda: covers(world))
                await until(world.settled)
                await same_fills_as_the_venue(world)
                snapshot = await world.snapshot()

        assert snapshot.health.fills_beyond_intent == 0
        assert await world.events(StateEventKind.POSITION_DIFF) == []


async def test_a_restart_counts_no_fill_twice(world):
    async with world.running():
        await world.snapshot()
        await world.place()
        await world.snapshot(lambda snapshot: snapshot.positions)
    await world.place()
    before = await world.redis.xlen(Stream.SNAPSHOT.value)
    async with world.running():
        await world.snapshot(lambda snapshot: held(snapshot) == Decimal("0.02"))
        await until(world.settled)
        await same_fills_as_the_venue(world)

    assert await world.redis.xlen(Stream.SNAPSHOT.value) > before


async def test_a_server_that_runs_short_of_memory_is_told_once_and_so_is_its_relief(
    durable_server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tradingbot.portfolio_state.service.TRIM_EVERY_S", 0.1)
    redis = connect(durable_server.url, client_name="test")
    await load_library(redis)

    async def records(count: int) -> list[AuditRecord]:
        rows = await redis.xrange(Stream.AUDIT.value)
        found = [Message[AuditRecord].read(fields["p"]).data for _, fields in rows]
        return told if len(told := [each for each in found if each.kind == "redis_memory"]) >= count else []

    await redis.setrange("ballast", 20_000_000, "x")  # beside which what the service writes is nothing
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used * 100 // 85)
    async with a_world(durable_server, redis) as world, world.running():
        await until(lambda: records(1))
        await asyncio.sleep(0.5)
        await redis.config_set("maxmemory", used * 2)
        short, relieved = await until(lambda: records(2))
    await redis.aclose()

    assert short.level is AuditLevel.ERROR
    assert short.details["ratio"] >= 0.8
    assert relieved.level is AuditLevel.INFO
    assert relieved.details["ratio"] < 0.8


async def test_it_comes_back_when_redis_does(durable_server):
    redis = connect(durable_server.url, client_name="test")
    await load_library(redis)
    async with a_world(durable_server, redis) as world, world.running():
        await world.snapshot()
        await world.place()
        await world.snapshot(lambda snapshot: snapshot.positions)
        durable_server.kill()
        await asyncio.sleep(0.3)
        durable_server.start()
        await redis.connection_pool.disconnect()
        await world.place()
        await world.snapshot(lambda snapshot: held(snapshot) == Decimal("0.02"))
        await until(world.settled)
        await same_fills_as_the_venue(world)
    await redis.aclose()


async def test_a_report_that_is_not_valid_becomes_a_dead_letter_and_the_stream_goes_on(world):
    async def read_all() -> bool:
        return not (await world.redis.xpending(Stream.REPORTS.value, Group.STATE_REPORTS.value))["pending"]

    async with world.running():
        await world.redis.xadd(Stream.REPORTS.value, {"p": "{}"})
        oid = await world.place(px="50000")
        await until(lambda: world.redis.sismember(Key.ACTIVE_OIDS, str(oid)))
        await until(lambda: world.redis.xlen(f"dlq.{Stream.REPORTS.value}"))
        await until(read_all)

    assert await world.redis.xlen(f"dlq.{Stream.REPORTS.value}") == 1


async def test_without_an_account_it_does_not_start(valkey_server):
    environ = {"REDIS_URL": valkey_server.url.get_secret_value(), "BOT_ID": BOT}
    process = dataclasses.replace(process_for("portfolio_state"), environ=environ)

    with pytest.raises(SettingsError, match="HL_ACCOUNT_ADDRESS"):
        await run(process)


def held(snapshot: StateSnapshot) -> Decimal:
    position = snapshot.positions.get("BTC")
    return position.qty if position else Decimal(0)


async def covers(world: World) -> bool:
    """As many fills are told as the venue has; counted only once there may be enough of them."""
    there = len(world.paper.log("fill"))
    if await world.redis.xlen(Stream.EVENTS.value) < there:
        return False
    return len(await world.events(StateEventKind.FILL)) >= there


async def same_fills_as_the_venue(world: World) -> None:
    """Each fill of the venue's own log was told once, and the fees are their sum."""
    await until(lambda: covers(world))
    there, here = world.paper.log("fill"), await world.events(StateEventKind.FILL)
    fees = (await world.snapshot()).health.fees_today_usd

    assert len(here) == len(there)
    assert len({(event.at_ms, event.symbol, event.tid) for event in here}) == len(here)
    assert fees == sum(event.fee for event in here)


async def _at_least(count: Any, least: int) -> bool:
    return await count >= least
