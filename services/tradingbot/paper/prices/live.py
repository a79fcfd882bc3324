"""The live venue's public data as a price source: polled, never faster than real time, no key.

Candles come from candleSnapshot, mids from allMids, books from l2Book. What has not been fetched is not known: the
answers are None, nothing is filled in. A mid older than MID_MAX_AGE_MS is not given either.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import httpx

from tradingbot.paper.prices.depth import tick_decimals
from tradingbot.paper.prices.model import MINUTE_MS, Candle, Depth, minute_of
from tradingbot.runtime.clock import Clock

MAINNET_URL = "https://api.hyperliquid.xyz"
MIDS_EVERY_S = 2.0
BOOK_EVERY_S = 5.0
CANDLES_EVERY_S = 30.0
MID_MAX_AGE_MS = 15_000
BOOK_MAX_AGE_MS = 15_000
BACK_FILL_MS = 75 * MINUTE_MS
KEPT_MIDS = 900
"""Half an hour of mids a coin."""
KEPT_CANDLES = 1_440


class LivePrices:
    """Mids, candles and books of the live venue, as they were polled.

    Weights a minute for n coins: 30 allMids (60), 12·n l2Book (24·n), 2·n candleSnapshot (about 42·n): 390 for five
    coins, of the address's 1,200.
    """

    label: Final = "live"
    start_ms: int | None = None
    end_ms: int | None = None

    def __init__(self, *, symbols: Sequence[str], url: str = MAINNET_URL) -> None:
        self.symbols = tuple(symbols)
        self._url = url
        self._mids: dict[str, deque[tuple[int, float]]] = {each: deque(maxlen=KEPT_MIDS) for each in symbols}
        self._candles: dict[str, dict[int, Candle]] = {each: {} for each in symbols}
        self._books: dict[str, tuple[int, Depth]] = {}
        self.last_error: str | None = None

    def candle(self, symbol: str, minute_ms: int) -> Candle | None:
        """The minute as candleSnapshot told it; the present one as it stood at the last poll."""
        return self._candles.get(symbol, {}).get(minute_of(minute_ms))

    def candles(self, symbol: str, start_ms: int, end_ms: int) -> list[Candle]:
        """The minutes that were fetched."""
        found = (self.candle(symbol, minute) for minute in range(minute_of(start_ms), end_ms, MINUTE_MS))
        return [candle for candle in found if candle is not None]

    def mid(self, symbol: str, at_ms: int) -> float | None:
        """The last mid polled at or before ``at_ms``, unless it is too old."""
        mids = self._mids.get(symbol, deque())
        if mids and mids[-1][0] <= at_ms:
            found = mids[-1]
        else:
            index = bisect_right([each[0] for each in mids], at_ms) - 1
            if index < 0:
                return None
            found = mids[index]
        return found[1] if at_ms - found[0] <= MID_MAX_AGE_MS else None

    def forming(self, symbol: str, now_ms: int) -> Candle | None:
        """The present minute as it stood at the last poll."""
        return self.candle(symbol, now_ms)

    def depth(self, symbol: str, at_ms: int) -> Depth | None:
        """The last book polled, unless it is too old."""
        known = self._books.get(symbol)
        return known[1] if known is not None and 0 <= at_ms - known[0] <= BOOK_MAX_AGE_MS else None

    async def run(self, *, clock: Clock, stop: asyncio.Event) -> None:
        """Poll until ``stop``; a failed poll is kept in ``last_error`` and tried again at the next turn."""
        timeout = httpx.Timeout(5.0, connect=3.0)
        async with httpx.AsyncClient(base_url=self._url, timeout=timeout) as http, asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(self._every(CANDLES_EVERY_S, self._poll_candles, http, clock)),
                tasks.create_task(self._every(MIDS_EVERY_S, self._poll_mids, http, clock)),
                tasks.create_task(self._every(BOOK_EVERY_S, self._poll_books, http, clock)),
            ]
            await stop.wait()
            for loop in loops:
                loop.cancel()

    async def _every(
        self,
        seconds: float,
        poll: Callable[[httpx.AsyncClient, Clock], Awaitable[None]],
        http: httpx.AsyncClient,
        clock: Clock,
    ) -> None:
        while True:
            try:
                await poll(http, clock)
                self.last_error = None
            except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
                self.last_error = f"{type(error).__name__}: {error}"
            await clock.sleep(seconds)

    async def _poll_mids(self, http: httpx.AsyncClient, clock: Clock) -> None:
        answer = await _info(http, {"type": "allMids"})
        now_ms = clock.now_ms()
        for symbol in self.symbols:
            if symbol in answer:
                self._mids[symbol].append((now_ms, float(answer[symbol])))

    async def _poll_candles(self, http: httpx.AsyncClient, clock: Clock) -> None:
        for symbol in self.symbols:
            known, now_ms = self._candles[symbol], clock.now_ms()
            # The newest candle that we hold was still forming: ask for it again.
            start_ms = max(known, default=now_ms - BACK_FILL_MS)
            request = {"coin": symbol, "interval": "1m", "startTime": start_ms, "endTime": now_ms}
            for row in await _info(http, {"type": "candleSnapshot", "req": request}):
                known[int(row["t"])] = _candle(row)
            for minute in sorted(known)[:-KEPT_CANDLES]:
                del known[minute]

    async def _poll_books(self, http: httpx.AsyncClient, clock: Clock) -> None:
        for symbol in self.symbols:
            answer = await _info(http, {"type": "l2Book", "coin": symbol})
            bids, asks = (tuple((float(each["px"]), float(each["sz"])) for each in side) for side in answer["levels"])
            if bids and asks:
                self._books[symbol] = (
                    clock.now_ms(),
                    Depth(bids=bids, asks=asks, tick=10.0 ** -tick_decimals(bids[0][0], sz_decimals=0)),
                )


async def probe_live(*, url: str = MAINNET_URL, timeout_s: float = 3.0) -> bool:
    """True when the live venue's public data answers within ``timeout_s`` real seconds."""
    try:
        async with asyncio.timeout(timeout_s), httpx.AsyncClient(base_url=url, timeout=timeout_s) as http:
            return "BTC" in await _info(http, {"type": "allMids"})
    except (TimeoutError, httpx.HTTPError, ValueError, TypeError):
        return False


async def _info(http: httpx.AsyncClient, request: dict[str, Any]) -> Any:
    answer = await http.post("/info", json=request)
    answer.raise_for_status()
    return answer.json()


def _candle(row: dict[str, Any]) -> Candle:
    return Candle(
        t_ms=int(row["t"]),
        open=float(row["o"]),
        high=float(row["h"]),
        low=float(row["l"]),
        close=float(row["c"]),
        volume=float(row["v"]),
    )
