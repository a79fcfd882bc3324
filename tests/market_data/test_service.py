"""The service on a real Valkey and over real sockets, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import structlog
from redis.asyncio import Redis

from support.scripted import http, ok, scripted_venue
from support.servers import Server, free_port
from support.sessions import until
from tradingbot.bus.buckets import IP_WEIGHT
from tradingbot.bus.client import connect
from tradingbot.bus.library import load_library
from tradingbot.bus.names import Key, Stream, bucket_key
from tradingbot.domain.cycles import to_ms
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import AuditRecord, FeatureSnapshot1m
from tradingbot.market_data import service as service_module
from tradingbot.market_data.service import run
from tradingbot.runtime.clock import Ids, ManualClock
from tradingbot.runtime.health import Health
from tradingbot.runtime.process import Process
from tradingbot.runtime.settings import SettingsError
from tradingbot.runtime.stopping import Stopped

MINUTE = 60_000
M = 1_771_430_400_000
COINS = ("BTC", "ETH")
BASE = {"BTC": 100_000.0, "ETH": 4_000.0}


LOOPS = 4
"""Loops of the service, each of which sleeps on the clock when it has nothing to do."""


class HandClock(ManualClock):
    """Virtual time moved by hand; real time (leases, retries) is real."""

    def real_s(self) -> float:
        return time.monotonic()

    async def sleep_real(self, real_s: float) -> None:
        await asyncio.sleep(real_s)

    def step_back(self, seconds: float) -> None:
        """What the machine's clock does when somebody sets it."""
        self._now_ms -= round(seconds * 1000)

    def due(self) -> list[int]:
        """When those who sleep on it want to wake."""
        return [at_ms for at_ms, _, future in self._sleepers if not future.done()]


@dataclass
class Market:
    """A venue whose prices rise by a thousandth of their base each minute, with what a test lets go wrong."""

    clock: HandClock
    down: bool = False
    silent: set[str] = field(default_factory=set)
    """Coins that allMids leaves out."""
    crossed: set[str] = field(default_factory=set)
    no_books: bool = False
    asked: list[str] = field(default_factory=list)
    asked_of: set[str] = field(default_factory=set)
    """The coins whose books or candles were asked for."""

    def px(self, coin: str, at_ms: int) -> float:
        return BASE[coin] * (1 + (at_ms - M) / MINUTE / 1000)

    def __call__(self, request: dict) -> bytes:
        self.asked.append(request["type"])
        if self.down:
            return http(503, "<html>", content_type="text/html")
        if request["type"] == "allMids":
            now = self.clock.now_ms()
            return ok({coin: f"{self.px(coin, now):.4f}" for coin in COINS if coin not in self.silent})
        self.asked_of.add(request["coin"] if request["type"] == "l2Book" else request["req"]["coin"])
        if request["type"] == "l2Book" and self.no_books:
            return http(503, "<html>", content_type="text/html")
        if request["type"] == "l2Book":
            return ok(self.book(request["coin"]))
        return ok(self.candles(**request["req"]))

    def book(self, coin: str) -> dict | None:
        if coin not in COINS:
            return None
        px = self.px(coin, self.clock.now_ms())
        bid, ask = (px + 1, px) if coin in self.crossed else (px, px + 1)
        return {
            "coin": coin,
            "time": self.clock.now_ms(),
            "levels": [[{"px": f"{side:.1f}", "sz": "1.0", "n": 1}] for side in (bid, ask)],
        }

    def candles(self, *, coin: str, interval: str, startTime: int, endTime: int) -> list[dict] | None:
        if coin not in COINS:
            return None
        assert interval == "1m"
        first = startTime - startTime % MINUTE
        last = min(endTime, self.clock.now_ms())
        return [self.candle(coin, t_ms) for t_ms in range(first, last + 1, MINUTE)]

    def candle(self, coin: str, t_ms: int) -> dict:
        open_, close = (f"{self.px(coin, at):.4f}" for at in (t_ms, min(t_ms + MINUTE, self.clock.now_ms())))
        times = {"t": t_ms, "T": t_ms + MINUTE - 1}
        return {**times, "s": coin, "i": "1m", "o": open_, "h": close, "l": open_, "c": close, "v": "1.0", "n": 1}


@dataclass
class World:
    clock: HandClock
    market: Market
    redis: Redis
    environ: dict[str, str]

    @asynccontextmanager
    async def service(self, **environ: str) -> AsyncIterator[Process]:
        """The service, stopped as SIGTERM stops it."""
        process = self.process(**environ)
        task = asyncio.create_task(run(process))
        try:
            yield process
        finally:
            process.stop.set()
            with contextlib.suppress(Stopped):
                await asyncio.wait_for(task, 60)

    def process(self, **environ: str) -> Process:
        return Process(
            service="market_data",
            clock=self.clock,
            ids=Ids(1),
            stop=asyncio.Event(),
            log=structlog.get_logger(),
            health=Health(self.clock),
            environ=self.environ | environ,
        )

    async def advance_to(self, at_ms: int, *, loops: int = LOOPS) -> None:
        """Let virtual time pass; it stands still whenever a loop wakes, until that has done what was due."""
        async with asyncio.timeout(60):
            await self.idle(loops)
            while (now_ms := self.clock.now_ms()) < at_ms:
                await self.clock.advance((min([at_ms, *self.clock.due()]) - now_ms) / 1000)
                await self.idle(loops)

    async def idle(self, loops: int = LOOPS) -> None:
        """Until so many loops sleep on the clock."""
        while len(self.clock.due()) < loops:
            await asyncio.sleep(0)

    async def snapshots(self) -> list[FeatureSnapshot1m]:
        rows = await self.redis.xrange(Stream.FEATURES)
        return [Message[FeatureSnapshot1m].read(fields["p"]).data for _, fields in rows]

    async def minutes(self) -> list[int]:
        return [(to_ms(each.asof_minute) - M) // MINUTE for each in await self.snapshots()]

    async def records(self) -> list[AuditRecord]:
        rows = await self.redis.xrange(Stream.AUDIT)
        return [Message[AuditRecord].read(fields["p"]).data for _, fields in rows]

    async def steps_back(self) -> list[AuditRecord]:
        return [each for each in await self.records() if each.kind == "clock_went_back"]

    async def until_told(self, count: int) -> None:
        async with asyncio.timeout(60):
            while await self.redis.xlen(Stream.FEATURES) < count:
                await asyncio.sleep(0)


@asynccontextmanager
async def world(redis: Redis, server: Server, *, now_ms: int = M + 20_000) -> AsyncIterator[World]:
    clock = HandClock(now_ms)
    market = Market(clock)
    async with scripted_venue(market) as venue:
        environ = {
            "REDIS_URL": server.url.get_secret_value(),
            "BOT_ID": "bot",
            "UNIVERSE": ",".join(COINS),
            "HL_HTTP_URL": venue.http_url,
            "PRICE_SOURCE": "synthetic",
        }
        yield World(clock, market, redis, environ)


async def test_the_first_snapshot_comes_at_once_with_every_feature_of_the_present_minute(
    valkey: Redis, valkey_server: Server
) -> None:
    async with world(valkey, valkey_server) as w, w.service() as process:
        await w.until_told(1)
        (snapshot,) = await w.snapshots()
        assert to_ms(snapshot.asof_minute) == M
        assert (snapshot.missing, snapshot.stale, snapshot.prices) == ((), (), "synthetic")
        assert {coin: float(px) for coin, px in snapshot.mid_px.items()} == BASE
        for values in (snapshot.ret_1m, snapshot.ret_5m, snapshot.ret_1h, snapshot.vol_1h):
            assert values.keys() == set(COINS)
        assert abs(snapshot.ret_1h["BTC"] - (1 / 0.94 - 1)) < 1e-9
        (record,) = await w.records()
        assert record.kind == "md.features.1m"
        assert record.details["produced_after_ms"] == 20_000
        await w.idle()
        assert process.health.readiness[0]


async def test_each_minute_is_told_at_the_minute_and_uses_no_later_mid(valkey: Redis, valkey_server: Server) -> None:
    async with world(valkey, valkey_server) as w, w.service():
        await w.until_told(1)
        await w.advance_to(M + 3 * MINUTE + 500)
        await w.until_told(4)
        assert await w.minutes() == [0, 1, 2, 3]
        assert [each.details["produced_after_ms"] for each in await w.records()][1:] == [0, 0, 0]
        last = (await w.snapshots())[-1]
        newest_before = w.market.px("BTC", M + 3 * MINUTE - 1_000)
        assert abs(float(last.mid_px["BTC"]) - newest_before) < 1e-3
        assert last.ret_1m["BTC"] > 0


async def test_polling_waits_while_little_weight_is_left_for_trading(valkey: Redis, valkey_server: Server) -> None:
    async with world(valkey, valkey_server) as w:
        short = {"tokens": "100", "at_ms": str(w.clock.now_ms())}
        await valkey.hset(bucket_key(IP_WEIGHT), mapping=short)
        async with w.service(IP_WEIGHT_PER_MIN="600"):
            await w.idle()
            assert w.market.asked == []
            await w.advance_to(w.clock.now_ms() + 10_000)
            assert "allMids" in w.market.asked
            left = await valkey.hget(bucket_key(IP_WEIGHT), "tokens")
            assert float(left) >= 120


async def test_latest_mids_are_renewed_every_two_seconds(valkey: Redis, valkey_server: Server) -> None:
    async with world(valkey, valkey_server) as w, w.service():
        await w.until_told(1)
        ages = []
        for second in range(20, 40):
            await w.advance_to(M + second * 1_000 + 900)
            ages.append(w.clock.now_ms() - json.loads(await valkey.hget(Key.LATEST_MIDS, "BTC"))["at_ms"])
        assert max(ages) <= 2_000
        mid = json.loads(await valkey.hget(Key.LATEST_MIDS, "ETH"))
        assert abs(float(mid["px"]) - w.market.px("ETH", mid["at_ms"])) < 1e-3


async def test_a_restart_inside_a_minute_tells_it_once(valkey: Redis, valkey_server: Server) -> None:
    async with world(valkey, valkey_server) as w:
        async with w.service():
            await w.until_told(1)
        async with w.service():
            await w.advance_to(M + 50_000)
            assert await w.minutes() == [0]
            await w.advance_to(M + MINUTE)
            await w.until_told(2)
            assert await w.minutes() == [0, 1]
            assert (await w.snapshots())[-1].vol_1h.keys() == set(COINS)


async def test_a_venue_that_is_down_silences_no_minute_and_its_return_mends_the_gaps(
    valkey: Redis, valkey_server: Server
) -> None:
    async with world(valkey, valkey_server) as w:
        w.market.down = True
        async with w.service():
            await w.until_told(1)
            await w.advance_to(M + 2 * MINUTE + 100)
            await w.until_told(3)
            assert await w.minutes() == [0, 1, 2]
            assert all(each.missing == COINS and not each.mid_px for each in await w.snapshots())
            records = await w.records()
            assert {each.level for each in records} == {"error"}
            assert "VenueUnavailable" in records[-1].details["failures"]["allMids"]
            w.market.down = False
            await w.advance_to(M + 3 * MINUTE + 100)
            await w.until_told(4)
            back = (await w.snapshots())[-1]
            assert back.missing == ()
            assert back.ret_1h.keys() == back.vol_1h.keys() == set(COINS)
            assert (await w.records())[-1].level == "info"


async def test_a_venue_that_never_answers_delays_no_minute(valkey: Redis, valkey_server: Server) -> None:
    async with world(valkey, valkey_server) as w:
        url = f"http://127.0.0.1:{free_port()}"
        async with w.service(HL_HTTP_URL=url):
            await w.until_told(1)
            await w.advance_to(M + MINUTE)
            await w.until_told(2)
            assert (await w.records())[-1].details["produced_after_ms"] == 0


async def test_a_coin_that_falls_silent_is_stale_and_left_out_until_it_is_back(
    valkey: Redis, valkey_server: Server
) -> None:
    async with world(valkey, valkey_server) as w, w.service():
        await w.until_told(1)
        w.market.silent = {"ETH"}
        await w.advance_to(M + MINUTE + 100)
        await w.until_told(2)
        stale = (await w.snapshots())[-1]
        assert stale.stale == ("ETH",)
        assert stale.mid_px.keys() == stale.ret_1h.keys() == {"BTC"}
        w.market.silent = set()
        await w.advance_to(M + 2 * MINUTE + 100)
        await w.until_told(3)
        assert (await w.snapshots())[-1].mid_px.keys() == set(COINS)


async def test_a_crossed_book_is_marked_and_prices_no_slice(valkey: Redis, valkey_server: Server) -> None:
    async with world(valkey, valkey_server) as w, w.service():
        await w.until_told(1)
        w.market.crossed = {"ETH"}
        await w.advance_to(M + MINUTE + 5_000)
        await w.until_told(2)
        marked = (await w.snapshots())[-1]
        assert marked.stale == ("ETH",)
        assert marked.mid_px.keys() == {"BTC"}
        assert (await w.records())[-1].details["crossed"] == ["ETH"]
        kept = {coin: json.loads(mid)["at_ms"] for coin, mid in (await valkey.hgetall(Key.LATEST_MIDS)).items()}
        assert kept["BTC"] > M + MINUTE > kept["ETH"]
        w.market.crossed = set()
        await w.advance_to(M + 2 * MINUTE + 100)
        await w.until_told(3)
        now, then = w.market.px("ETH", M + 2 * MINUTE - 1_000), w.market.px("ETH", M + MINUTE)
        healed = (await w.snapshots())[-1].ret_1m["ETH"]
        assert abs(healed - (now / then - 1)) < 1e-6, "the price at the crossed minute is the venue's candle's"


async def test_a_coin_that_the_venue_does_not_have_is_missing_and_the_rest_goes_on(
    valkey: Redis, valkey_server: Server
) -> None:
    async with world(valkey, valkey_server) as w, w.service(UNIVERSE="BTC,ETH,NOPE"):
        await w.until_told(1)
        await w.advance_to(M + 2 * MINUTE)
        await w.until_told(3)
        for snapshot in await w.snapshots():
            assert snapshot.missing == ("NOPE",)
            assert snapshot.mid_px.keys() == snapshot.ret_1h.keys() == set(COINS)
        assert w.market.asked_of == set(COINS), "what the venue does not have costs no question"


async def test_two_copies_tell_each_minute_once(valkey: Redis, valkey_server: Server) -> None:
    async with world(valkey, valkey_server) as w, w.service(), w.service():
        await w.until_told(1)
        await w.advance_to(M + 2 * MINUTE + 100)
        await w.until_told(3)
        assert await w.minutes() == [0, 1, 2]


async def test_an_outage_of_redis_is_waited_out_and_no_minute_is_told_twice(durable_server: Server) -> None:
    async with connect(durable_server.url, client_name="before") as redis:
        await load_library(redis)
        async with world(redis, durable_server) as w, w.service():
            await w.until_told(1)
            durable_server.kill()
            await w.advance_to(M + MINUTE + 2_000, loops=0)
            durable_server.start()
            async with connect(durable_server.url, client_name="after") as w.redis:
                await w.until_told(2)
                await w.advance_to(M + 2 * MINUTE + 100)
                assert await w.minutes() == [0, 1, 2]


async def test_settings_that_cannot_be_used_are_refused_by_name(valkey: Redis, valkey_server: Server) -> None:
    async with world(valkey, valkey_server) as w:
        with pytest.raises(SettingsError, match="UNIVERSE"):
            await run(w.process(UNIVERSE="BTC,BTC"))


async def test_a_clock_that_steps_back_is_said_once_with_the_step_and_when_minutes_are_told_again(
    valkey: Redis, valkey_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "CLOCK_LOOK_S", 0.005)

    async with world(valkey, valkey_server) as w, w.service() as process:
        await w.until_told(1)
        w.clock.step_back(600)
        await until(lambda: "clock went back by 600 s" in process.health.readiness[1])
        (step,) = await until(w.steps_back)
        assert step.level == "error"
        assert step.details["error"] == "clock went back by 600 s; no minute is told before 2026-02-18T16:01:00+00:00"

        await w.clock.advance(601)
        await until(lambda: "clock" not in process.health.readiness[1])
        assert len(await w.steps_back()) == 1


async def test_a_step_back_between_two_runs_is_said_too(
    valkey: Redis, valkey_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "CLOCK_LOOK_S", 0.005)
    async with world(valkey, valkey_server) as w:
        async with w.service():
            await w.until_told(1)
        w.clock.step_back(3_620)
        async with w.service():
            (step,) = await until(w.steps_back)
    assert step.details["by_ms"] == 3_600_000
