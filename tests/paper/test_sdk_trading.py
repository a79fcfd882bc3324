"""The official SDK trades here as it does on the venue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from eth_account import Account
from hyperliquid.exchange import Exchange
from hyperliquid.info import Info
from hyperliquid.utils.types import Cloid

from support.paper import Paper, SetPrices, paper_exchange
from tradingbot.runtime.clock import SystemClock

MASTER = Account.from_key("0x" + "11" * 32)
AGENT = Account.from_key("0x" + "22" * 32)
GTC = {"limit": {"tif": "Gtc"}}


class Sdk:
    """The SDK's two blocking clients, called from threads."""

    def __init__(self, paper: Paper) -> None:
        self.paper = paper
        self.exchange = Exchange(AGENT, paper.http_url, account_address=MASTER.address)
        self.info = Info(paper.http_url, skip_ws=True)

    async def do(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(method, *args, **kwargs)


@pytest.fixture
async def sdk() -> AsyncIterator[Sdk]:
    async with paper_exchange(
        prices=SetPrices(),
        clock=SystemClock(),
        accounts=[MASTER.address],
        agents=[AGENT.address],
        order_status_lag_ms=0,
    ) as paper:
        yield await asyncio.to_thread(Sdk, paper)


async def test_a_resting_order_is_placed_queried_and_canceled(sdk: Sdk) -> None:
    placed = await sdk.do(sdk.exchange.order, "ETH", True, 0.2, 2900, GTC)

    oid = placed["response"]["data"]["statuses"][0]["resting"]["oid"]
    status = await sdk.do(sdk.info.query_order_by_oid, MASTER.address, oid)
    assert status["status"] == "order"
    assert status["order"]["status"] == "open"
    assert [row["oid"] for row in await sdk.do(sdk.info.open_orders, MASTER.address)] == [oid]

    canceled = await sdk.do(sdk.exchange.cancel, "ETH", oid)
    assert canceled == {"status": "ok", "response": {"type": "cancel", "data": {"statuses": ["success"]}}}
    assert await sdk.do(sdk.info.open_orders, MASTER.address) == []


async def test_an_order_is_found_and_canceled_by_its_client_id(sdk: Sdk) -> None:
    cloid = Cloid.from_int(7)
    await sdk.do(sdk.exchange.order, "BTC", False, 0.01, 61_000, GTC, cloid=cloid)

    status = await sdk.do(sdk.info.query_order_by_cloid, MASTER.address, cloid)
    assert status["order"]["order"]["cloid"] == cloid.to_raw()
    canceled = await sdk.do(sdk.exchange.cancel_by_cloid, "BTC", cloid)
    assert canceled["response"]["data"]["statuses"] == ["success"]


async def test_a_position_is_opened_shown_and_closed(sdk: Sdk) -> None:
    opened = await sdk.do(sdk.exchange.market_open, "BTC", True, 0.05)
    filled = opened["response"]["data"]["statuses"][0]["filled"]
    assert filled["totalSz"] == "0.05"

    state = await sdk.do(sdk.info.user_state, MASTER.address)
    (held,) = state["assetPositions"]
    assert held["position"]["szi"] == "0.05"

    closed = await sdk.do(sdk.exchange.market_close, "BTC")
    assert closed["response"]["data"]["statuses"][0]["filled"]["totalSz"] == "0.05"
    state = await sdk.do(sdk.info.user_state, MASTER.address)
    assert state["assetPositions"] == []
    fills = await sdk.do(sdk.info.user_fills, MASTER.address)
    assert [fill["dir"] for fill in fills] == ["Close Long", "Open Long"]
