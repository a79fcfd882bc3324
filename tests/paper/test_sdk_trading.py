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


async def test_a_batch_is_placed_modified_and_canceled(sdk: Sdk) -> None:
    requests = [
        {"coin": "SOL", "is_buy": True, "sz": 1, "limit_px": 140 + n, "order_type": GTC, "reduce_only": False}
        for n in range(3)
    ]
    placed = await sdk.do(sdk.exchange.bulk_orders, requests)
    oids = [status["resting"]["oid"] for status in placed["response"]["data"]["statuses"]]

    modified = await sdk.do(sdk.exchange.modify_order, oids[0], "SOL", True, 1, 139, GTC)
    new_oid = modified["response"]["data"]["statuses"][0]["resting"]["oid"]
    canceled = await sdk.do(sdk.exchange.bulk_cancel, [{"coin": "SOL", "oid": oid} for oid in (new_oid, *oids[1:])])

    assert canceled["response"]["data"]["statuses"] == ["success"] * 3
    assert await sdk.do(sdk.info.frontend_open_orders, MASTER.address) == []


async def test_leverage_is_set_and_read_back(sdk: Sdk) -> None:
    assert (await sdk.do(sdk.exchange.update_leverage, 3, "ETH"))["status"] == "ok"
    await sdk.do(sdk.exchange.market_open, "ETH", True, 0.1)

    (held,) = (await sdk.do(sdk.info.user_state, MASTER.address))["assetPositions"]

    assert held["position"]["leverage"] == {"type": "cross", "value": 3}


async def test_a_master_approves_an_agent_that_then_trades(sdk: Sdk) -> None:
    master = await sdk.do(Exchange, MASTER, sdk.paper.http_url)
    answer, key = await sdk.do(master.approve_agent, "second")
    agent = await sdk.do(Exchange, Account.from_key(key), sdk.paper.http_url, account_address=MASTER.address)

    placed = await sdk.do(agent.order, "ETH", True, 0.2, 2900, GTC)

    assert answer["status"] == "ok"
    assert "resting" in placed["response"]["data"]["statuses"][0]
    assert (await sdk.do(sdk.info.extra_agents, MASTER.address))[-1]["name"] == "second"


async def test_an_expired_order_is_refused(sdk: Sdk) -> None:
    sdk.exchange.set_expires_after(sdk.paper.clock.now_ms() - 1)

    answer = await sdk.do(sdk.exchange.order, "ETH", True, 0.2, 2900, GTC)

    assert answer == {"status": "err", "response": "Action already expired"}


async def test_money_is_withdrawn_and_sent_by_the_master_and_never_by_an_agent(sdk: Sdk) -> None:
    other = "0x" + "ee" * 20
    master = await sdk.do(Exchange, MASTER, sdk.paper.http_url)

    assert (await sdk.do(master.withdraw_from_bridge, 100, MASTER.address))["status"] == "ok"
    assert (await sdk.do(master.usd_transfer, 50, other))["status"] == "ok"
    refused = await sdk.do(sdk.exchange.withdraw_from_bridge, 100, MASTER.address)
    too_much = await sdk.do(master.withdraw_from_bridge, 100_000, MASTER.address)

    assert refused["response"] == f"Must deposit before performing actions. User: {AGENT.address.lower()}"
    assert too_much["response"] == "Insufficient balance for withdrawal"
    state = await sdk.do(sdk.info.user_state, MASTER.address)
    assert state["withdrawable"] == "9850.0"
    assert (await sdk.do(sdk.info.user_state, other))["withdrawable"] == "50.0"


async def test_the_reads_of_the_sdk_answer_in_their_documented_shapes(sdk: Sdk) -> None:
    await sdk.do(sdk.exchange.market_open, "SOL", True, 1.0)
    now = sdk.paper.clock.now_ms()

    meta, contexts = await sdk.do(sdk.info.meta_and_asset_ctxs)
    book = await sdk.do(sdk.info.l2_snapshot, "BTC")
    candles = await sdk.do(sdk.info.candles_snapshot, "BTC", "5m", now - 3_600_000, now)
    fills = await sdk.do(sdk.info.user_fills_by_time, MASTER.address, now - 60_000)
    history = await sdk.do(sdk.info.historical_orders, MASTER.address)

    names = [entry["name"] for entry in meta["universe"]]
    assert [names.index(coin) for coin in ("BTC", "ETH", "SOL", "DOGE", "ADA")] == [0, 1, 5, 12, 65]
    assert len(contexts) == len(names)
    assert contexts[0]["midPx"] == "60000.0"
    assert [len(side) for side in book["levels"]] == [10, 10]
    assert candles[0]["t"] <= now - 3_600_000 < candles[0]["T"]
    assert candles[0]["T"] == candles[0]["t"] + 5 * 60_000 - 1
    assert fills[0]["dir"] == "Open Long"
    assert history[0]["status"] == "filled"
    assert (await sdk.do(sdk.info.user_rate_limit, MASTER.address))["nRequestsCap"] == 10_150
    assert (await sdk.do(sdk.info.user_role, AGENT.address))["data"]["user"] == MASTER.address.lower()
    assert (await sdk.do(sdk.info.user_fees, MASTER.address))["userCrossRate"] == "0.00045"
    assert await sdk.do(sdk.info.funding_history, "BTC", now) == []


async def test_the_sdks_own_socket_hears_fills_and_mids(sdk: Sdk) -> None:
    heard: dict[str, list[Any]] = {"userFills": [], "allMids": [], "orderUpdates": []}
    info = await sdk.do(Info, sdk.paper.http_url)
    for subscription in (
        {"type": "userFills", "user": MASTER.address},
        {"type": "allMids"},
        {"type": "orderUpdates", "user": MASTER.address},
    ):
        await sdk.do(info.subscribe, subscription, heard[subscription["type"]].append)
    try:
        await asyncio.wait_for(_until(lambda: heard["userFills"] and heard["allMids"]), 60)
        await sdk.do(sdk.exchange.market_open, "SOL", True, 1.0)
        await asyncio.wait_for(_until(lambda: len(heard["userFills"]) > 1 and heard["orderUpdates"]), 60)
    finally:
        await sdk.do(_stop, info)

    assert heard["userFills"][1]["data"]["fills"][0]["coin"] == "SOL"
    assert heard["orderUpdates"][0]["data"][0]["status"] == "filled"


async def _until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


def _stop(info: Info) -> None:
    info.disconnect_websocket()
    info.ws_manager.join(60)
