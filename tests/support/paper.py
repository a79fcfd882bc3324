"""The paper exchange for tests: in this process on a free port, or as a process of its own that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account
from hyperliquid.utils.signing import sign_l1_action

from tradingbot.paper.faults import Fault
from tradingbot.paper.options import PaperOptions
from tradingbot.paper.prices import Candle, Depth, PriceSource, SyntheticPrices
from tradingbot.paper.server import Running, serving
from tradingbot.paper.venue import Venue
from tradingbot.runtime.clock import Clock, ManualClock

ACCOUNT = "0x1111111111111111111111111111111111111111"
SYMBOLS = ("BTC", "ETH", "SOL", "ADA", "DOGE")


class SetPrices:
    """Mids that a test sets by hand, with a book of its own: LEVELS levels a basis point apart, USD_A_LEVEL each."""

    LEVELS = 10
    USD_A_LEVEL = 50_000.0

    label = "synthetic"
    start_ms: int | None = None
    end_ms: int | None = None

    def __init__(self, **mids: float) -> None:
        self.mids = mids or {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0, "ADA": 0.5, "DOGE": 0.1}

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self.mids)

    def set(self, symbol: str, mid: float) -> None:
        self.mids[symbol] = mid

    def mid(self, symbol: str, at_ms: int) -> float | None:
        return self.mids.get(symbol)

    def candle(self, symbol: str, minute_ms: int) -> Candle | None:
        mid = self.mids.get(symbol)
        return mid and Candle(t_ms=minute_ms - minute_ms % 60_000, open=mid, high=mid, low=mid, close=mid, volume=10.0)

    def candles(self, symbol: str, start_ms: int, end_ms: int) -> list[Candle]:
        minutes = range(start_ms - start_ms % 60_000, end_ms, 60_000)
        return [candle for minute in minutes if (candle := self.candle(symbol, minute)) is not None]

    def forming(self, symbol: str, now_ms: int) -> Candle | None:
        return self.candle(symbol, now_ms)

    def depth(self, symbol: str, at_ms: int) -> Depth | None:
        mid = self.mids.get(symbol)
        if mid is None:
            return None
        sides = [
            tuple((px := mid * (1 + sign * (step + 1) / 1e4), self.USD_A_LEVEL / px) for step in range(self.LEVELS))
            for sign in (-1, 1)
        ]
        return Depth(bids=sides[0], asks=sides[1], tick=mid / 1e5)

    async def run(self, *, clock: Clock, stop: asyncio.Event) -> None:
        return


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper exchange that a test holds in its hands."""

    running: Running
    clock: Clock

    @property
    def http_url(self) -> str:
        return self.running.http_url

    @property
    def ws_url(self) -> str:
        return self.running.ws_url

    @property
    def venue(self) -> Venue:
        return self.running.venue

    def log(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The control log: kind action, order, fill, ledger or shock."""
        self.venue.commit()
        return self.venue.store.log(limit=1_000_000, kind=kind)

    def faults(self, *rules: Fault | dict[str, Any]) -> None:
        """Put troubles into force: ``paper.faults({"kind": "drop_after", "path": "/exchange", "count": 1})``."""
        for rule in rules:
            self.venue.add_fault(rule if isinstance(rule, Fault) else Fault.model_validate(rule))

    def clear_faults(self) -> None:
        self.venue.clear_faults()

    async def step(self, seconds: float = 0.25) -> None:
        """Move a ManualClock and the market with it."""
        if not isinstance(self.clock, ManualClock):
            raise TypeError("only a ManualClock can be moved by hand")
        await self.clock.advance(seconds)
        self.venue.turn()

    async def info(self, type_: str, **fields: Any) -> Any:
        """One request to /info."""
        async with httpx.AsyncClient(verify=False) as client:
            answer = await client.post(f"{self.http_url}/info", json={"type": type_, **fields})
        return answer.raise_for_status().json()


@contextlib.asynccontextmanager
async def paper_exchange(
    *,
    prices: PriceSource | None = None,
    clock: Clock | None = None,
    accounts: Sequence[str] = (ACCOUNT,),
    agents: Sequence[str] = (),
    prices_name: str = "synthetic",
    **options: Any,
) -> AsyncIterator[Paper]:
    """Serve on a free loopback port; a ManualClock and seeded synthetic prices unless told otherwise.

    ``options`` are the further fields of PaperOptions (``order_status_lag_ms=0``, ``quirks=Quirks(…)``, …).
    """
    clock = clock or ManualClock()
    prices = prices or SyntheticPrices(symbols=SYMBOLS, seed=7)
    wanted = PaperOptions(port=0, accounts=tuple(accounts), agents=tuple(agents), prices=prices_name, **options)
    async with serving(wanted, clock=clock, prices=prices) as running:
        yield Paper(running, clock)


@dataclass(frozen=True, slots=True)
class PaperProcess:
    """A paper exchange in a process of its own."""

    process: asyncio.subprocess.Process
    http_url: str
    ws_url: str

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        await self.process.wait()


@contextlib.asynccontextmanager
async def paper_process(
    *, data_dir: Path, accounts: Sequence[str] = (ACCOUNT,), agents: Sequence[str] = (), prices: str = "synthetic:7"
) -> AsyncIterator[PaperProcess]:
    """Start it on a free port with its state in ``data_dir``; killed at the end if it still runs."""
    arguments = [str(data_dir), prices, ",".join(accounts), ",".join(agents)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("paper_main.py")),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), 60))
        yield PaperProcess(process, f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/ws")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Trader:
    """A wallet that signs with the SDK and sends by hand, so that a test sees exactly what was answered."""

    def __init__(self, paper: Paper, key: str) -> None:
        self.paper = paper
        self.wallet = Account.from_key(key)
        self.address = str(self.wallet.address).lower()
        self._nonce = 0

    def next_nonce(self) -> int:
        self._nonce = max(self._nonce + 1, self.paper.clock.now_ms())
        return self._nonce

    def signed(self, action: dict[str, Any], *, nonce: int | None = None, expires: int | None = None) -> dict[str, Any]:
        """The envelope of an action."""
        nonce = self.next_nonce() if nonce is None else nonce
        signature = sign_l1_action(self.wallet, action, None, nonce, expires, False)
        return {
            "action": action,
            "nonce": nonce,
            "signature": signature,
            "vaultAddress": None,
            "expiresAfter": expires,
        }

    async def post(self, body: Any, path: str = "/exchange") -> httpx.Response:
        async with httpx.AsyncClient(verify=False) as client:
            return await client.post(self.paper.http_url + path, json=body)

    async def send(self, action: dict[str, Any], *, nonce: int | None = None, expires: int | None = None) -> Any:
        """Sign, send, and return the JSON of the answer."""
        return (await self.post(self.signed(action, nonce=nonce, expires=expires))).raise_for_status().json()

    async def place(self, *orders: dict[str, Any], grouping: str = "na", **options: Any) -> list[Any]:
        """Place orders made by ``order``; the status entries."""
        answer = await self.send({"type": "order", "orders": list(orders), "grouping": grouping}, **options)
        return answer["response"]["data"]["statuses"]

    async def cancel(self, asset: int, oid: int) -> Any:
        answer = await self.send({"type": "cancel", "cancels": [{"a": asset, "o": oid}]})
        return answer["response"]["data"]["statuses"][0]

    async def state(self) -> Any:
        return await self.paper.info("clearinghouseState", user=self.address)

    async def status_of(self, key: int | str) -> Any:
        return await self.paper.info("orderStatus", user=self.address, oid=key)

    async def fills(self) -> Any:
        return await self.paper.info("userFills", user=self.address)


def order(
    asset: int,
    side: str,
    sz: str,
    px: str,
    *,
    tif: str = "Gtc",
    reduce_only: bool = False,
    cloid: str | None = None,
    trigger: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One order as it goes over the wire; ``side`` is buy or sell."""
    kind = {"trigger": trigger} if trigger else {"limit": {"tif": tif}}
    wire = {"a": asset, "b": side == "buy", "p": px, "s": sz, "r": reduce_only, "t": kind}
    return wire | ({"c": cloid} if cloid else {})
