"""A killed exchange loses nothing that it acknowledged."""

from __future__ import annotations

import asyncio
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from paper.conftest import ALICE, ALICE_KEY
from support.paper import SYMBOLS, Paper, PaperProcess, SetPrices, Trader, order, paper_exchange, paper_process
from tradingbot.paper.decimals import wire
from tradingbot.paper.options import PaperOptions
from tradingbot.paper.prices import SyntheticPrices
from tradingbot.paper.server import _until_stopped, serving
from tradingbot.paper.venue import OtherPrices, StoreBroken
from tradingbot.runtime.clock import ManualClock, SystemClock


class Remote:
    """What Trader needs of a paper exchange, for one that lives in another process."""

    def __init__(self, process: PaperProcess) -> None:
        self.http_url = process.http_url
        self.clock = SystemClock()

    async def info(self, type_: str, **fields: Any) -> Any:
        async with httpx.AsyncClient(verify=False) as client:
            return (await client.post(f"{self.http_url}/info", json={"type": type_, **fields})).json()


async def state_of(trader: Trader) -> dict[str, Any]:
    info = trader.paper.info
    state = await info("clearinghouseState", user=ALICE)
    return {
        "raw": state["marginSummary"]["totalRawUsd"],
        "positions": [held["position"]["szi"] for held in state["assetPositions"]],
        "orders": sorted(row["cloid"] for row in await info("openOrders", user=ALICE)),
        "fills": await info("userFills", user=ALICE),
        "used": (await info("userRateLimit", user=ALICE))["nRequestsUsed"],
    }


async def test_everything_acknowledged_before_sigkill_is_there_after_the_restart(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    async with paper_process(data_dir=tmp_path, accounts=[ALICE]) as process:
        trader = Trader(Remote(process), ALICE_KEY)  # type: ignore[arg-type]
        mid = float((await trader.paper.info("allMids"))["SOL"])
        await trader.place(order(5, "buy", "1", wire(Decimal(f"{mid * 1.02:.2f}")), tif="Ioc"))
        low = wire(Decimal(f"{mid * 0.8:.1f}"))

        before = await state_of(trader)
        for index in range(20):
            cloid = f"0x{index:032x}"
            await trader.place(order(5, "buy", "1", low, cloid=cloid))
            acknowledged.append(cloid)
        await process.kill()

    async with paper_process(data_dir=tmp_path, accounts=[ALICE]) as process:
        trader = Trader(Remote(process), ALICE_KEY)  # type: ignore[arg-type]
        after = await state_of(trader)

    assert after["orders"] == acknowledged
    assert after["used"] == before["used"] + len(acknowledged)
    assert (before["raw"], before["positions"], before["fills"]) == (after["raw"], after["positions"], after["fills"])


async def test_nonces_leverage_agents_shocks_and_the_log_survive_too(tmp_path: Path) -> None:
    clock, agent = ManualClock(), "0x" + "ab" * 20
    async with paper_exchange(
        prices=SetPrices(), clock=clock, accounts=[ALICE], agents=[agent], data_dir=tmp_path
    ) as paper:
        trader = Trader(paper, ALICE_KEY)
        nonce = trader.next_nonce()
        await trader.send({"type": "updateLeverage", "asset": 5, "isCross": True, "leverage": 3}, nonce=nonce)
        paper.venue.shock("SOL", 0.5)
        log = paper.log()

    async with paper_exchange(prices=SetPrices(), clock=clock, accounts=[ALICE], data_dir=tmp_path) as paper:
        trader = Trader(paper, ALICE_KEY)
        again = await trader.send({"type": "noop"}, nonce=nonce)
        shown = await paper.info("activeAssetData", user=ALICE, coin="SOL")
        role = await paper.info("userRole", user=agent)
        mids = await paper.info("allMids")

        assert paper.log()[: len(log)] == log
    assert again["response"].startswith("Invalid nonce: duplicate")
    assert shown["leverage"]["value"] == 3
    assert role["role"] == "agent"
    assert mids["SOL"] == "75.0"


async def test_the_market_goes_on_while_the_exchange_is_down(tmp_path: Path) -> None:
    clock, prices = ManualClock(), SetPrices()
    async with paper_exchange(prices=prices, clock=clock, accounts=[ALICE], data_dir=tmp_path) as paper:
        await Trader(paper, ALICE_KEY).place(order(5, "buy", "1", "149"))
    prices.set("SOL", 140.0)
    await clock.advance(60)

    async with paper_exchange(prices=prices, clock=clock, accounts=[ALICE], data_dir=tmp_path) as paper:
        fills = await paper.info("userFills", user=ALICE)

    assert [fill["px"] for fill in fills] == ["149.0"]


async def test_a_data_folder_refuses_other_prices(tmp_path: Path) -> None:
    source = SyntheticPrices(symbols=SYMBOLS, seed=7)
    async with paper_exchange(prices=source, accounts=[ALICE], data_dir=tmp_path):
        pass

    with pytest.raises(OtherPrices):
        async with paper_exchange(prices=source, accounts=[ALICE], data_dir=tmp_path, prices_name="synthetic:8"):
            pass


async def test_an_exchange_that_cannot_write_acknowledges_nothing_and_stops(tmp_path: Path) -> None:
    stop = asyncio.Event()
    options = PaperOptions(port=0, data_dir=tmp_path, accounts=(ALICE,))
    clock = ManualClock()
    source = SetPrices()
    async with serving(options, clock=clock, prices=source) as running:
        paper = Paper(running, clock)
        trader = Trader(paper, ALICE_KEY)
        running.venue.store.close()
        refused = await trader.post(trader.signed({"type": "noop"}))
        until = asyncio.create_task(_until_stopped(stop, running.tasks))
        await clock.advance(1)

        with pytest.raises((StoreBroken, sqlite3.Error)):
            await asyncio.wait_for(until, 60)
        running.venue._unwritten = sqlite3.OperationalError()

    assert refused.status_code == 500
    async with paper_exchange(prices=source, clock=clock, accounts=[ALICE], data_dir=tmp_path) as paper:
        assert paper.log("action") == []
