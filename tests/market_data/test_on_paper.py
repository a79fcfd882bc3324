"""The service against the paper exchange, with a fast clock: what it tells is what the market did."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from redis.asyncio import Redis

from support.paper import paper_exchange
from support.servers import Server
from support.sessions import until
from tradingbot.bus.names import Stream
from tradingbot.domain.cycles import to_ms
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import FeatureSnapshot1m
from tradingbot.market_data.feed import MAX_AGE_MS, MAX_AGE_REAL_MS
from tradingbot.market_data.service import run
from tradingbot.paper.prices import SyntheticPrices
from tradingbot.runtime.clock import Anchor, Ids, SystemClock, guard_against_real_slowness
from tradingbot.runtime.health import Health
from tradingbot.runtime.process import Process

MINUTE = 60_000
M = 1_771_430_400_000
COINS = ("BTC", "ETH", "SOL", "ADA", "DOGE")
SPEED = 40.0
OLDEST_MS = guard_against_real_slowness(value_ms=MAX_AGE_MS, real_ms=MAX_AGE_REAL_MS, speed=SPEED)


async def _told(redis: Redis) -> list[FeatureSnapshot1m]:
    rows = await redis.xrange(Stream.FEATURES)
    return [Message[FeatureSnapshot1m].read(fields["p"]).data for _, fields in rows]


def _whole(snapshot: FeatureSnapshot1m) -> bool:
    return not snapshot.missing and not snapshot.stale


async def _whole_minutes(redis: Redis, task: asyncio.Task[None]) -> bool:
    return task.done() or sum(map(_whole, await _told(redis))) >= 4


async def test_features_of_a_fast_market_are_those_of_its_prices(valkey: Redis, valkey_server: Server) -> None:
    clock = SystemClock(Anchor.at(virtual_start_ms=M + 30_000, speed=SPEED))
    prices = SyntheticPrices(symbols=COINS, seed=7)
    async with paper_exchange(prices=prices, clock=clock) as paper:
        process = Process(
            service="market_data",
            clock=clock,
            ids=Ids(1),
            stop=asyncio.Event(),
            log=structlog.get_logger(),
            health=Health(clock),
            environ={
                "REDIS_URL": valkey_server.url.get_secret_value(),
                "BOT_ID": "bot",
                "HL_HTTP_URL": paper.http_url,
                "HL_WS_URL": paper.ws_url,
                "PRICE_SOURCE": "synthetic",
                "CLOCK_ANCHOR": str(clock.anchor),
            },
        )
        task = asyncio.create_task(run(process))
        # A machine that stood still for a real second has stale prices, and says so: such minutes do not count.
        await until(lambda: _whole_minutes(valkey, task))
        process.stop.set()
        await asyncio.wait_for(task, 60)
    told = await _told(valkey)
    minutes = [to_ms(each.asof_minute) for each in told]
    assert minutes == [minutes[0] + n * MINUTE for n in range(len(minutes))]
    for snapshot, minute in zip(told, minutes, strict=True):
        if not _whole(snapshot):
            continue
        for coin in COINS:
            # On a busy machine the last poll may be as old as the feed allows; prices move in between.
            around = [prices.mid(coin, minute - ms) or 0 for ms in range(0, OLDEST_MS, 250)]
            mid = float(snapshot.mid_px[coin])
            assert min(around) * (1 - 2e-4) <= mid <= max(around) * (1 + 2e-4)
            hour_ago = prices.mid(coin, minute - 60 * MINUTE) or 0
            assert snapshot.ret_1h[coin] == pytest.approx(mid / hour_ago - 1, abs=5e-3)
            assert 0.05 < snapshot.vol_1h[coin] < 5
        assert set(snapshot.books) <= set(COINS)
        for coin, facts in snapshot.books.items():
            assert float(facts.bid_px) < float(facts.ask_px)
            assert abs(float(facts.bid_px) / float(snapshot.mid_px[coin]) - 1) < 0.01
            assert 0 < (snapshot.spread_bps or {})[coin] < 100
    streamed = [each for each in told if set(each.books) == set(COINS)]
    assert streamed, "books come over the WebSocket, to every coin"
    assert (streamed[-1].book_imbalance or {}).keys() == set(COINS)
