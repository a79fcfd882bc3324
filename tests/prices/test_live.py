"""Live prices, over a real socket to a server that answers as the venue's documentation says."""

from __future__ import annotations

import asyncio

from support.scripted import http, ok, scripted_venue
from tradingbot.paper.prices import LivePrices, probe_live
from tradingbot.runtime.clock import ManualClock

T0 = 1_771_430_400_000


class Venue:
    """The public requests that live prices make, answered from fields that a test sets."""

    def __init__(self) -> None:
        self.mids = {"BTC": "100.5", "ETH": "20.25"}
        self.broken = False

    def __call__(self, request: dict) -> bytes:
        return http(500, "null") if self.broken else ok(self.answer(request))

    def answer(self, request: dict) -> object:
        if request["type"] == "allMids":
            return self.mids
        if request["type"] == "l2Book":
            return {"coin": request["coin"], "time": T0, "levels": [[_level("100.0")], [_level("101.0")]]}
        row = {"T": T0 - 1, "s": "BTC", "i": "1m", "o": "99.0", "c": "100.0", "h": "101.0", "l": "98.0", "v": "3.0"}
        return [{**row, "t": T0 - 60_000, "n": 4}]


def _level(px: str) -> dict:
    return {"px": px, "sz": "1.5", "n": 1}


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_mids_candles_and_books_are_as_polled_and_age() -> None:
    clock, stop, venue = ManualClock(T0 + 5_000), asyncio.Event(), Venue()
    async with scripted_venue(venue) as server:
        prices = LivePrices(symbols=("BTC", "ETH", "SOL"), url=server.http_url)
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
        await asyncio.wait_for(running, 60)


async def test_a_failed_poll_is_told_and_the_next_one_goes_on() -> None:
    clock, stop, venue = ManualClock(T0), asyncio.Event(), Venue()
    venue.broken = True
    async with scripted_venue(venue) as server:
        prices = LivePrices(symbols=("BTC",), url=server.http_url)
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
        await asyncio.wait_for(running, 60)


async def test_the_probe_says_whether_the_venue_answers() -> None:
    async with scripted_venue(Venue()) as server:
        assert await probe_live(url=server.http_url)
    assert not await probe_live(url=server.http_url, timeout_s=0.5)
