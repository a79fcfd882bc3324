"""Points 6 and 7 on a running exchange: funding at the hour, liquidations, scheduled cancels, leverage."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from paper.conftest import ALICE, ALICE_KEY
from support.paper import Paper, SetPrices, Trader, order, paper_exchange
from tradingbot.runtime.clock import ManualClock

SOL, BTC = 5, 0
HOUR_MS = 3_600_000


async def position(trader: Trader) -> dict[str, Any] | None:
    held = (await trader.state())["assetPositions"]
    return held[0]["position"] if held else None


async def test_a_long_pays_the_floor_rate_of_its_oracle_value_just_after_the_hour(paper: Paper, alice: Trader) -> None:
    await paper.step(1)
    await alice.place(order(SOL, "buy", "10", "155", tif="Ioc"))
    before = (await alice.state())["marginSummary"]["accountValue"]
    start = paper.clock.now_ms()

    await paper.step((HOUR_MS - start % HOUR_MS) / 1000 + 1)

    (paid,) = await paper.info("userFunding", user=ALICE, startTime=start)
    (rate,) = await paper.info("fundingHistory", coin="SOL", startTime=start)
    held = await position(alice)
    after = (await alice.state())["marginSummary"]["accountValue"]
    assert (paid["delta"]["usdc"], paid["delta"]["szi"]) == ("-0.01875", "10.0")
    assert rate["fundingRate"] == "0.0000125"
    assert 10 <= paid["time"] % HOUR_MS <= 400
    assert held is not None
    assert held["cumFunding"] == {"allTime": "0.01875", "sinceOpen": "0.01875", "sinceChange": "0.01875"}
    assert Decimal(before) - Decimal(after) == Decimal("0.01875")


async def test_leverage_is_kept_per_coin_and_read_back(paper: Paper, alice: Trader) -> None:
    done = await alice.send({"type": "updateLeverage", "asset": SOL, "isCross": True, "leverage": 3})
    again = await alice.send({"type": "updateLeverage", "asset": SOL, "isCross": True, "leverage": 3})
    wrong = await alice.send({"type": "updateLeverage", "asset": SOL, "isCross": True, "leverage": 21})
    shown = await paper.info("activeAssetData", user=ALICE, coin="SOL")

    assert done == again == {"status": "ok", "response": {"type": "default"}}
    assert wrong == {"status": "err", "response": "Invalid leverage value"}
    assert shown["leverage"] == {"type": "cross", "value": 3}
    assert [float(each) for each in shown["maxTradeSzs"]] == [200.0, 200.0]


async def test_the_kind_of_margin_cannot_be_switched_with_an_open_position(alice: Trader) -> None:
    await alice.place(order(SOL, "buy", "10", "155", tif="Ioc"))

    answer = await alice.send({"type": "updateLeverage", "asset": SOL, "isCross": False, "leverage": 3})

    assert answer["response"] == "Cannot switch leverage type with open position."


async def test_resting_orders_hold_margin(alice: Trader) -> None:
    await alice.send({"type": "updateLeverage", "asset": SOL, "isCross": True, "leverage": 1})

    first, second, other_side = await alice.place(
        order(SOL, "buy", "40", "150"), order(SOL, "buy", "40", "150"), order(SOL, "sell", "40", "160")
    )

    assert "resting" in first
    assert second["error"].startswith("Insufficient margin")
    assert "resting" in other_side


async def test_an_isolated_position_shows_its_own_margin_and_can_be_given_more(alice: Trader) -> None:
    await alice.send({"type": "updateLeverage", "asset": SOL, "isCross": False, "leverage": 5})
    await alice.place(order(SOL, "buy", "10", "155", tif="Ioc"))
    before = await position(alice)
    await alice.send({"type": "updateIsolatedMargin", "asset": SOL, "isBuy": True, "ntli": 50_000_000})
    after = await position(alice)

    assert before is not None
    assert after is not None
    assert before["leverage"]["type"] == "isolated"
    assert float(before["marginUsed"]) == pytest.approx(10 * 150.02 / 5 - 10 * 0.02)
    assert float(after["marginUsed"]) - float(before["marginUsed"]) == pytest.approx(50)
    assert (await alice.state())["crossMarginSummary"]["totalNtlPos"] == "0.0"


async def test_an_account_below_its_maintenance_margin_is_sold_and_its_orders_end(
    paper: Paper, prices: SetPrices, alice: Trader
) -> None:
    await alice.send({"type": "updateLeverage", "asset": SOL, "isCross": True, "leverage": 20})
    paper.venue.open_by_hand(ALICE, "SOL", Decimal(600))
    (resting,) = await alice.place(order(SOL, "sell", "1", "200"))

    prices.set("SOL", 136.6)
    await paper.step(4)

    fills = await alice.fills()
    ledger = await paper.info("userNonFundingLedgerUpdates", user=ALICE, startTime=0)
    assert await position(alice) is None
    assert (await alice.status_of(resting["resting"]["oid"]))["order"]["status"] == "liquidatedCanceled"
    assert {fill["liquidation"]["method"] for fill in fills if "liquidation" in fill} == {"market"}
    assert all(fill["fee"] == "0.0" for fill in fills if "liquidation" in fill)
    assert ledger[-1]["delta"]["type"] == "liquidation"
    assert float((await alice.state())["marginSummary"]["accountValue"]) > 0


async def test_a_position_above_100_000_usd_loses_a_fifth_first_and_all_of_it_within_30_s(
    paper: Paper, prices: SetPrices, alice: Trader
) -> None:
    await alice.send({"type": "updateLeverage", "asset": BTC, "isCross": True, "leverage": 40})
    paper.venue.open_by_hand(ALICE, "BTC", Decimal(5))

    prices.set("BTC", 58_700.0)
    await paper.step(4)
    after_first = await position(alice)
    prices.set("BTC", 58_500.0)
    await paper.step(4)

    assert after_first is not None
    assert after_first["szi"] == "4.0"
    assert await position(alice) is None
    assert {fill["liquidation"]["method"] for fill in await alice.fills() if "liquidation" in fill} == {"market"}


async def test_below_two_thirds_of_the_maintenance_margin_the_liquidator_takes_everything(
    paper: Paper, prices: SetPrices, alice: Trader
) -> None:
    await alice.send({"type": "updateLeverage", "asset": SOL, "isCross": True, "leverage": 20})
    paper.venue.open_by_hand(ALICE, "SOL", Decimal(600))

    prices.set("SOL", 134.5)
    await paper.step(4)

    (fill, *_) = await alice.fills()
    assert fill["liquidation"]["method"] == "backstop"
    assert await position(alice) is None
    assert (await alice.state())["marginSummary"]["accountValue"] == "0.0"


async def test_an_isolated_liquidation_leaves_the_rest_of_the_account_alone(
    paper: Paper, prices: SetPrices, alice: Trader
) -> None:
    await alice.send({"type": "updateLeverage", "asset": SOL, "isCross": False, "leverage": 10})
    await alice.place(order(SOL, "buy", "10", "155", tif="Ioc"))

    prices.set("SOL", 130.0)
    await paper.step(4)

    assert await position(alice) is None
    assert float((await alice.state())["marginSummary"]["accountValue"]) == pytest.approx(10_000 - 150.02, abs=1)


async def test_a_scheduled_cancel_needs_volume_five_seconds_and_fires_ten_times_a_day() -> None:
    clock = ManualClock()
    async with paper_exchange(
        prices=SetPrices(), clock=clock, accounts=[ALICE], schedule_cancel_volume_usd=Decimal(1_000)
    ) as paper:
        trader = Trader(paper, ALICE_KEY)
        poor = await trader.send({"type": "scheduleCancel", "time": clock.now_ms() + 6_000})
        await trader.place(order(SOL, "buy", "10", "155", tif="Ioc"))
        early = await trader.send({"type": "scheduleCancel", "time": clock.now_ms() + 4_000})
        endings = []
        for _ in range(11):
            (status,) = await trader.place(order(SOL, "buy", "1", "140"))
            await trader.send({"type": "scheduleCancel", "time": clock.now_ms() + 5_000})
            await paper.step(6)
            endings.append((await trader.status_of(status["resting"]["oid"]))["order"]["status"])

    assert poor["response"].startswith("Cannot set scheduled cancel time until enough volume traded. Required: $1000.")
    assert early["response"] == "Scheduled cancel time too early, must be at least 5 seconds from now."
    assert endings == ["scheduledCancel"] * 10 + ["open"]


async def test_an_exhausted_address_may_act_once_in_ten_seconds_and_cancel_longer(paper: Paper, alice: Trader) -> None:
    (status,) = await alice.place(order(SOL, "buy", "1", "140"))
    paper.venue.engine.world.accounts[ALICE].requests_used = 10_000

    first = await alice.send({"type": "noop"})
    second = await alice.send({"type": "noop"})
    canceled = await alice.cancel(SOL, status["resting"]["oid"])
    await paper.step(10)
    third = await alice.send({"type": "noop"})

    assert first["status"] == third["status"] == "ok"
    assert second["response"] == (
        "Too many cumulative requests sent (10002 > 10000) for cumulative volume traded $0.00. "
        "Place taker orders to free up 1 request per USDC traded."
    )
    assert canceled == "success"


async def test_a_batch_counts_each_of_its_orders_against_the_address_and_one_against_the_ip(
    paper: Paper, alice: Trader
) -> None:
    left = paper.venue.ip_budget.left(paper.clock.now_ms())

    await alice.place(*[order(SOL, "buy", "0.1", "140")] * 39)
    after_39 = paper.venue.ip_budget.left(paper.clock.now_ms())
    await alice.place(*[order(SOL, "buy", "0.1", "140")] * 40)
    after_40 = paper.venue.ip_budget.left(paper.clock.now_ms())

    assert (left - after_39, after_39 - after_40) == (1, 2)
    assert (await paper.info("userRateLimit", user=ALICE))["nRequestsUsed"] == 79


async def test_reads_cost_their_weight_and_their_items(paper: Paper, alice: Trader) -> None:
    for _ in range(25):
        await alice.place(order(SOL, "buy", "0.1", "155", tif="Ioc"))

    async def cost(type_: str, **fields: Any) -> float:
        before = paper.venue.ip_budget.left(paper.clock.now_ms())
        await paper.info(type_, **fields)
        return before - paper.venue.ip_budget.left(paper.clock.now_ms())

    now = paper.clock.now_ms()
    assert await cost("allMids") == 2
    assert await cost("userRole", user=ALICE) == 60
    assert await cost("meta") == 20
    assert await cost("userFills", user=ALICE) == 21
    request = {"coin": "SOL", "interval": "1m", "startTime": now - 7_200_000, "endTime": now}
    assert await cost("candleSnapshot", req=request) == 22
