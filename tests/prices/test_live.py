"""Live prices, over a real socket to a server that answers as the venue's documentation says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tradingbot.paper.prices import LivePrices, probe_live
from tradingbot.runtime.clock import ManualClock

T0 = 1_771_430_400_000


class Venue:
    """The public requests that live prices make, answered from fields that a test sets."""

    def __init__(self) -> None:
        self.mids = {"BTC": "100.5", "ETH": "20.25"}
        self.broken = False
        self.asked: list[dict] = []

    def answer(self, request: dict) -> object:
        self.asked.append(request)
        if request["type"] == "allMids":
            return self.mids
        if request["type"] == "l2Book":
            return {"coin": request["coin"], "time": T0, "levels": [[_level("100.0")], [_level("101.0")]]}
        row = {"T": T0 - 1, "s": "BTC", "i": "1m", "o": "99.0", "c": "100.0", "h": "101.0", "l": "98.0", "v": "3.0"}
        return [{**row, "t": T0 - 60_000, "n": 4}]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
            length = int(header.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            request = json.loads(await reader.readexactly(length))
            status, body = (
                ("500 Oops", b"null") if self.broken else ("200 OK", json.dumps(self.answer(request)).encode())
            )
            head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()


def _level(px: str) -> dict:
    return {"px": px, "sz": "1.5", "n": 1}


@asynccontextmanager
async def served(venue: Venue) -> AsyncIterator[str]:
    tasks: set[asyncio.Task] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await venue.serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_mids_candles_and_books_are_as_polled_and_age() -> None:
    clock, stop, venue = ManualClock(T0 + 5_000), asyncio.Event(), Venue()
    async with served(venue) as url:
        prices = LivePrices(symbols=("BTC", "ETH", "SOL"), url=url)
        assert prices.mid("BTC", T0 + 5_000) is None
        running = asyncio.create_task(prices.run(clock=clock, stop=stop))
        await until(
            lambda: prices.mid("BTC", T0 + 5_000) and prices.depth("SOL", T0 + 5_000) and prices.candle("SOL", T0 - 1)
        )
        assert prices.mid("BTC", T0 + 5_000) == 100.5
        assert prices.mid("BTC", T0 + 4_999) is None
        assert prices.mid("SOL", T0 + 5_000) is None
        assert prices.mid("BTC", T0 + 5_000 + 15_001) is None
        candle = prices.candle("BTC", T0 - 30_000)
        assert candle is not None
        assert (candle.open, candle.high, candle.low, candle.close, candle.volume) == (99, 101, 98, 100, 3)
        assert prices.candle("BTC", T0) is None
        stop.set()
        await asyncio.wait_for(running, 5)


async def test_a_failed_poll_is_told_and_the_next_one_goes_on() -> None:
    clock, stop, venue = ManualClock(T0), asyncio.Event(), Venue()
    venue.broken = True
    async with served(venue) as url:
        prices = LivePrices(symbols=("BTC",), url=url)
        running = asyncio.create_task(prices.run(clock=clock, stop=stop))
        await until(lambda: prices.last_error)
        assert "500" in (prices.last_error or "")
        venue.broken = False
        for _ in range(200):
            await clock.advance(2)
            await asyncio.sleep(0.01)
            if prices.mid("BTC", clock.now_ms()):
                break
        assert prices.mid("BTC", clock.now_ms()) == 100.5
        stop.set()
        await asyncio.wait_for(running, 5)


async def test_the_probe_says_whether_the_venue_answers() -> None:
    async with served(Venue()) as url:
        assert await probe_live(url=url)
    assert not await probe_live(url=url, timeout_s=0.5)
