"""Books over the WebSocket: asked for only while it is away, absent when old, back by themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis
from websockets.asyncio.server import ServerConnection, serve

from market_data.test_service import COINS, MINUTE, M, World, world
from support.servers import Server
from support.sessions import until


@dataclass
class Stream:
    """A venue's WebSocket that sends books when the test says so."""

    w: World
    has: tuple[str, ...] = COINS
    connections: list[ServerConnection] = field(default_factory=list)
    asked: list[list[str]] = field(default_factory=list)
    """The coins that each connection asked for."""
    subscribed: int = 0

    async def __call__(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        asked: list[str] = []
        self.asked.append(asked)
        async for text in connection:
            request = json.loads(text)
            if request["method"] != "subscribe":
                continue
            asked.append(coin := request["subscription"]["coin"])
            if coin not in self.has:
                await connection.close()  # as the venue does, without a word
            else:
                await connection.send(json.dumps({"channel": "subscriptionResponse", "data": request}))
                self.subscribed += 1

    async def listening(self, connections: int) -> None:
        await until(lambda: self.subscribed >= connections * len(COINS))

    async def send(self, *books: dict) -> None:
        """Books, else one of each coin that it has, taken in before this returns."""
        socket = self.connections[-1]
        for book in books or [self.w.market.book(coin) for coin in self.has]:
            await socket.send(json.dumps({"channel": "l2Book", "data": book}))
        pong = await socket.ping()
        await pong
        for _ in range(100):  # the service reads in this very loop
            await asyncio.sleep(0)

    async def minute(self, number: int, *, with_books: bool = True) -> dict[str, list[str]]:
        """Bring the clock to a minute; what its record says is without a book."""
        await self.w.advance_to(M + number * MINUTE - 6_000)
        if with_books:
            await self.send()
        await self.w.advance_to(M + number * MINUTE)
        await self.w.until_told(number + 1)
        return (await self.w.records())[number].details


@asynccontextmanager
async def streaming(redis: Redis, server: Server, **environ: str) -> AsyncIterator[Stream]:
    async with world(redis, server) as w:
        stream = Stream(w)
        async with serve(stream, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            async with w.service(HL_WS_URL=f"ws://127.0.0.1:{port}", **environ):
                await w.until_told(1)
                await stream.listening(1)
                yield stream


async def test_without_a_stream_a_book_is_asked_for_once_a_minute(valkey: Redis, valkey_server: Server) -> None:
    async with world(valkey, valkey_server) as w, w.service():
        await w.until_told(1)
        await w.advance_to(M + 2 * MINUTE)
        await w.until_told(3)
        assert w.market.asked.count("l2Book") == 2 * len(COINS)
        snapshot = (await w.snapshots())[-1]
        assert snapshot.books.keys() == set(COINS)
        assert snapshot.spread_bps is not None
        assert abs(snapshot.spread_bps["ETH"] - 1 / 4_000 * 10_000) < 0.1
        assert snapshot.liquidity_score is None, "a book a minute does not say what is usual"
        assert any("l2Book stream" in each.details.get("failures", {}) for each in await w.records())


async def test_with_a_good_stream_no_book_is_asked_for(valkey: Redis, valkey_server: Server) -> None:
    async with streaming(valkey, valkey_server) as stream:
        for number in (1, 2, 3):
            assert (await stream.minute(number))["no_book"] == []
        assert "l2Book" not in stream.w.market.asked
        assert (await stream.w.snapshots())[-1].book_imbalance is not None


async def test_a_crossed_book_on_the_stream_takes_the_coin_out_of_the_minute(
    valkey: Redis, valkey_server: Server
) -> None:
    async with streaming(valkey, valkey_server) as stream:
        stream.w.market.crossed.add("BTC")
        details = await stream.minute(1)
        assert details["crossed"] == ["BTC"]
        snapshot = (await stream.w.snapshots())[-1]
        assert snapshot.stale == ("BTC",)
        assert snapshot.books.keys() == {"ETH"}


@pytest.mark.parametrize("change", [{"time": M}, {"coin": "DOGE"}], ids=["late", "of another coin"])
async def test_a_crossed_book_that_is_refused_takes_no_coin_out(
    valkey: Redis, valkey_server: Server, change: dict
) -> None:
    async with streaming(valkey, valkey_server) as stream:
        await stream.w.advance_to(M + MINUTE - 6_000)
        await stream.send()
        stream.w.market.crossed.add("BTC")
        await stream.send(stream.w.market.book("BTC") | change)
        details = await stream.minute(1, with_books=False)
        assert details["crossed"] == details["no_book"] == []


async def test_a_stream_that_breaks_costs_no_price_and_comes_back(valkey: Redis, valkey_server: Server) -> None:
    async with streaming(valkey, valkey_server) as stream:
        await stream.minute(1)
        await stream.connections[-1].close()
        details = await stream.minute(2, with_books=False)
        assert details["missing"] == details["stale"] == []
        assert stream.w.market.asked.count("l2Book") == len(COINS), "asked for while the stream is away"
        await stream.listening(2)
        assert (await stream.minute(3))["no_book"] == []
        assert stream.w.market.asked.count("l2Book") == len(COINS), "and no longer when it is back"


async def test_a_silent_stream_leaves_the_features_absent_when_questions_fail_too(
    valkey: Redis, valkey_server: Server
) -> None:
    async with streaming(valkey, valkey_server) as stream:
        await stream.minute(1)
        stream.w.market.no_books = True
        details = await stream.minute(2, with_books=False)
        assert details["no_book"] == list(COINS)
        snapshot = (await stream.w.snapshots())[-1]
        assert snapshot.mid_px.keys() == set(COINS)
        assert (snapshot.spread_bps, snapshot.books) == (None, {})


async def test_a_coin_that_the_venue_does_not_have_costs_the_others_no_book(
    valkey: Redis, valkey_server: Server
) -> None:
    async with streaming(valkey, valkey_server, UNIVERSE="BTC,NONE,ETH") as stream:
        assert (await stream.minute(1))["no_book"] == []
        assert len(stream.connections) == 1
        assert (await stream.w.snapshots())[-1].missing == ("NONE",)


async def test_a_coin_that_the_venue_drops_is_not_asked_for_again_and_costs_the_others_no_book(
    valkey: Redis, valkey_server: Server
) -> None:
    async with streaming(valkey, valkey_server) as stream:
        await stream.minute(1)
        stream.w.market.silent, stream.has = {"ETH"}, ("BTC",)
        await stream.w.advance_to(M + MINUTE + 5_000)
        await stream.connections[-1].close()
        await until(lambda: stream.subscribed > len(COINS))
        assert (await stream.minute(2))["no_book"] == []
        assert {coin for each in stream.asked[1:] for coin in each} == {"BTC"}
        assert (await stream.w.snapshots())[-1].books.keys() == {"BTC"}
