"""Points 3 to 5: pre-validation, status records, reduce-only, the minimum, self trades, makers without margin."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from paper.conftest import ALICE, ALICE_KEY, BOB
from support.paper import Paper, SetPrices, Trader, order, paper_exchange
from tradingbot.paper.options import BboText, DuplicateCloid, PartMatch, PreValidation, Quirks

CLOID = "0x0000000000000000000000000000abcd"
SOL = 5


async def open_long(trader: Trader, sz: str = "2") -> None:
    (status,) = await trader.place(order(SOL, "buy", sz, "155", tif="Ioc"))
    assert status["filled"]["totalSz"].rstrip("0").rstrip(".") == sz


async def reasons(paper: Paper, oid: int) -> list[str]:
    return [line["status"] for line in paper.log("order") if line["oid"] == oid]


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (order(SOL, "buy", "0", "150"), "Order has zero size."),
        (order(SOL, "buy", "0.001", "150"), "Order has invalid size."),
        (order(SOL, "buy", "1", "0"), "Order has invalid price."),
        (order(SOL, "buy", "1", "900"), "Order price cannot be more than 80% away from the reference price"),
    ],
)
async def test_a_malformed_order_refuses_its_batch_with_one_entry_and_leaves_no_record(
    paper: Paper, alice: Trader, bad: dict[str, Any], text: str
) -> None:
    good = order(SOL, "buy", "1", "140", cloid=CLOID)

    statuses = await alice.place(good, bad | {"c": "0x" + "1" * 32})

    assert statuses == [{"error": text}]
    assert await alice.status_of(CLOID) == {"status": "unknownOid"}
    assert await alice.status_of("0x" + "1" * 32) == {"status": "unknownOid"}


async def test_pre_validation_may_also_be_answered_with_status_err() -> None:
    quirks = Quirks(prevalidation=PreValidation.ERR)
    async with paper_exchange(prices=SetPrices(), accounts=[ALICE], quirks=quirks) as paper:
        trader = Trader(paper, ALICE_KEY)
        answer = await trader.send({"type": "order", "orders": [order(SOL, "buy", "0", "150")], "grouping": "na"})

    assert answer == {"status": "err", "response": "Order has zero size."}


@pytest.mark.parametrize(
    ("refused", "status", "text"),
    [
        (order(SOL, "buy", "1", "150.12345", cloid=CLOID), "tickRejected", "Price must be divisible by tick size."),
        (order(SOL, "buy", "0.06", "150", cloid=CLOID), "minTradeNtlRejected", "Order must have minimum value of $10."),
        (order(SOL, "buy", "2000", "150", cloid=CLOID), "perpMarginRejected", "Insufficient margin to place order."),
        (
            order(SOL, "buy", "1", "140", tif="Ioc", cloid=CLOID),
            "iocCancelRejected",
            "Order could not immediately match against any resting orders.",
        ),
        (
            order(SOL, "sell", "1", "150", reduce_only=True, cloid=CLOID),
            "reduceOnlyRejected",
            "Reduce only order would increase position.",
        ),
        (
            order(SOL, "buy", "1", "151", tif="Alo", cloid=CLOID),
            "badAloPxRejected",
            "Post only order would have immediately matched, bbo was 149.98@150.02.",
        ),
    ],
)
async def test_a_refusal_at_run_time_names_the_asset_and_leaves_a_record(
    alice: Trader, refused: dict[str, Any], status: str, text: str
) -> None:
    assert await alice.place(refused) == [{"error": f"{text} asset=5"}]

    record = await alice.status_of(CLOID)
    assert record["order"]["status"] == status
    assert record["order"]["order"]["sz"] == record["order"]["order"]["origSz"]


async def test_the_quoted_best_prices_have_a_second_text_form() -> None:
    async with paper_exchange(prices=SetPrices(), accounts=[ALICE], quirks=Quirks(bbo_text=BboText.SPACED)) as paper:
        (status,) = await Trader(paper, ALICE_KEY).place(order(SOL, "buy", "1", "151", tif="Alo"))

    assert "bbo was 149.98 @ 150.02." in status["error"]


async def test_orders_of_a_batch_succeed_and_fail_one_by_one_in_their_order(alice: Trader) -> None:
    statuses = await alice.place(
        order(SOL, "buy", "1", "140"), order(SOL, "buy", "0.01", "150"), order(SOL, "buy", "1", "155", tif="Ioc")
    )

    assert [next(iter(each)) for each in statuses] == ["resting", "error", "filled"]


async def test_more_than_two_hundred_entries_are_over_the_weight_limit(alice: Trader) -> None:
    answer = await alice.send({"type": "cancel", "cancels": [{"a": SOL, "o": index} for index in range(201)]})

    assert answer == {"status": "err", "response": "Signed action over weight limit of 200."}


async def test_a_partly_filled_ioc_order_ends_filled_with_its_rest_kept(alice: Trader) -> None:
    await alice.send({"type": "updateLeverage", "asset": SOL, "isCross": True, "leverage": 20})

    (status,) = await alice.place(order(SOL, "buy", "500", "150.02", tif="Ioc", cloid=CLOID))

    executed = float(status["filled"]["totalSz"])
    record = (await alice.status_of(CLOID))["order"]
    assert 0 < executed < 500
    assert record["status"] == "filled"
    assert float(record["order"]["origSz"]) - float(record["order"]["sz"]) == pytest.approx(executed)


@pytest.mark.parametrize(("quirk", "word"), [(PartMatch.RESTING, "resting"), (PartMatch.FILLED, "filled")])
async def test_a_partly_matched_gtc_order_rests_and_is_acknowledged_either_way(quirk: PartMatch, word: str) -> None:
    quirks = Quirks(gtc_part_match=quirk)
    async with paper_exchange(prices=SetPrices(), accounts=[ALICE], quirks=quirks, order_status_lag_ms=0) as paper:
        trader = Trader(paper, ALICE_KEY)
        (status,) = await trader.place(order(SOL, "buy", "500", "150.02", cloid=CLOID))
        record = (await trader.status_of(CLOID))["order"]

    assert list(status) == [word]
    assert record["status"] == "open"
    assert 0 < float(record["order"]["sz"]) < 500


@pytest.mark.parametrize(("quirk", "word"), [(DuplicateCloid.ACCEPT, "resting"), (DuplicateCloid.REJECT, "error")])
async def test_a_second_order_under_an_open_client_id_is_taken_or_refused(quirk: DuplicateCloid, word: str) -> None:
    async with paper_exchange(prices=SetPrices(), accounts=[ALICE], quirks=Quirks(duplicate_cloid=quirk)) as paper:
        trader = Trader(paper, ALICE_KEY)
        await trader.place(order(SOL, "buy", "1", "140", cloid=CLOID))
        (second,) = await trader.place(order(SOL, "buy", "1", "141", cloid=CLOID))

    assert list(second) == [word]


async def test_a_client_id_may_be_used_again_after_its_order_ended_and_shows_the_newest(alice: Trader) -> None:
    (first,) = await alice.place(order(SOL, "buy", "1", "140", cloid=CLOID))
    await alice.cancel(SOL, first["resting"]["oid"])
    (second,) = await alice.place(order(SOL, "buy", "1", "141", cloid=CLOID))

    record = await alice.status_of(CLOID)

    assert record["order"]["order"]["oid"] == second["resting"]["oid"] != first["resting"]["oid"]


async def test_an_order_is_unknown_for_up_to_a_second_after_its_acknowledgement() -> None:
    async with paper_exchange(prices=SetPrices(), accounts=[ALICE]) as paper:
        trader = Trader(paper, ALICE_KEY)
        (status,) = await trader.place(order(SOL, "buy", "1", "140", cloid=CLOID))
        at_once = await trader.status_of(CLOID)
        listed = await paper.info("openOrders", user=ALICE)
        await paper.step(1)
        later = await trader.status_of(status["resting"]["oid"])

    assert at_once == {"status": "unknownOid"}
    assert len(listed) == 1
    assert later["order"]["status"] == "open"


async def test_an_order_is_known_to_its_own_user_alone(alice: Trader, bob: Trader) -> None:
    (status,) = await alice.place(order(SOL, "buy", "1", "140", cloid=CLOID))

    assert await bob.status_of(status["resting"]["oid"]) == {"status": "unknownOid"}
    assert await bob.status_of(CLOID) == {"status": "unknownOid"}


async def test_only_the_last_two_thousand_orders_are_remembered_and_open_ones_always(
    paper: Paper, alice: Trader
) -> None:
    await alice.place(order(SOL, "buy", "1", "140", cloid=CLOID))
    await alice.place(order(SOL, "buy", "0.01", "141", cloid="0x" + "2" * 32))
    for _ in range(10):
        await alice.place(*[order(SOL, "buy", "0.01", "142")] * 200)
        await paper.step(20)

    assert (await alice.status_of(CLOID))["order"]["status"] == "open"
    assert await alice.status_of("0x" + "2" * 32) == {"status": "unknownOid"}
    assert len(await paper.info("historicalOrders", user=ALICE)) == 2000


async def test_a_reduce_only_order_larger_than_the_position_is_cut_to_it(alice: Trader) -> None:
    await open_long(alice)

    await alice.place(order(SOL, "sell", "5", "160", reduce_only=True, cloid=CLOID))

    row = (await alice.status_of(CLOID))["order"]["order"]
    assert (row["sz"], row["origSz"], row["reduceOnly"]) == ("2.0", "5.0", True)


async def test_a_resting_reduce_only_order_shrinks_with_the_position_and_ends_when_it_is_flat(
    paper: Paper, alice: Trader
) -> None:
    await open_long(alice)
    (status,) = await alice.place(order(SOL, "sell", "2", "160", reduce_only=True))
    oid = status["resting"]["oid"]

    await alice.place(order(SOL, "sell", "1.5", "145", tif="Ioc"))
    shrunk = (await alice.status_of(oid))["order"]["order"]["sz"]
    await alice.place(order(SOL, "sell", "0.5", "145", tif="Ioc"))

    assert shrunk == "0.5"
    assert (await alice.status_of(oid))["order"]["status"] == "reduceOnlyCanceled"


async def test_of_two_resting_reduce_only_orders_beyond_the_position_the_older_is_dropped(alice: Trader) -> None:
    await open_long(alice)
    (older,) = await alice.place(order(SOL, "sell", "2", "160", reduce_only=True))
    (newer,) = await alice.place(order(SOL, "sell", "2", "161", reduce_only=True))

    assert (await alice.status_of(older["resting"]["oid"]))["order"]["status"] == "reduceOnlyCanceled"
    assert (await alice.status_of(newer["resting"]["oid"]))["order"]["status"] == "open"


async def test_closing_a_whole_small_position_is_exempt_from_the_minimum_and_a_part_of_it_is_not(
    paper: Paper, alice: Trader
) -> None:
    paper.venue.open_by_hand(ALICE, "SOL", Decimal("0.05"))

    (part,) = await alice.place(order(SOL, "sell", "0.04", "145", tif="Ioc", reduce_only=True))
    (whole,) = await alice.place(order(SOL, "sell", "0.05", "145", tif="Ioc", reduce_only=True))

    assert part == {"error": "Order must have minimum value of $10. asset=5"}
    assert whole["filled"]["totalSz"] == "0.05"


async def test_a_self_trade_cancels_the_resting_order_without_a_fee_and_the_taker_goes_on(alice: Trader) -> None:
    (resting,) = await alice.place(order(SOL, "sell", "1", "150.01"))

    (taker,) = await alice.place(order(SOL, "buy", "1", "155", tif="Ioc"))

    assert (await alice.status_of(resting["resting"]["oid"]))["order"]["status"] == "selfTradeCanceled"
    assert taker["filled"]["avgPx"] == "150.02"
    assert [fill["crossed"] for fill in await alice.fills()] == [True]


async def test_two_accounts_trade_with_one_another_at_the_makers_price_under_one_trade_id(
    alice: Trader, bob: Trader
) -> None:
    (maker,) = await alice.place(order(SOL, "sell", "1", "150.01"))
    (taker,) = await bob.place(order(SOL, "buy", "1", "155", tif="Ioc"))

    (sold,), (bought,) = await alice.fills(), await bob.fills()
    assert taker["filled"]["avgPx"] == sold["px"] == "150.01"
    assert sold["tid"] == bought["tid"]
    assert (sold["crossed"], bought["crossed"]) == (False, True)
    assert (sold["fee"], bought["fee"]) == ("0.022501", "0.067504")
    assert sold["oid"] == maker["resting"]["oid"]


async def test_earlier_orders_at_a_price_are_filled_first_and_better_prices_before_that(
    paper: Paper, alice: Trader, bob: Trader
) -> None:
    (early,) = await alice.place(order(SOL, "sell", "1", "150.01"))
    (late,) = await alice.place(order(SOL, "sell", "1", "150.01"))
    (best,) = await alice.place(order(SOL, "sell", "1", "150"))

    await bob.place(order(SOL, "buy", "2", "155", tif="Ioc"))

    assert (await alice.status_of(best["resting"]["oid"]))["order"]["status"] == "filled"
    assert (await alice.status_of(early["resting"]["oid"]))["order"]["status"] == "filled"
    assert (await alice.status_of(late["resting"]["oid"]))["order"]["status"] == "open"


async def test_a_maker_that_can_no_longer_pay_is_margin_canceled_when_it_matches(
    paper: Paper, prices: SetPrices, alice: Trader
) -> None:
    (status,) = await alice.place(order(SOL, "buy", "1000", "140"))
    paper.venue.deposit(ALICE, Decimal(-6000))

    prices.set("SOL", 139.0)
    await paper.step(1)

    assert (await alice.status_of(status["resting"]["oid"]))["order"]["status"] == "marginCanceled"


async def test_a_resting_buy_fills_at_its_price_as_maker_once_the_market_has_come_to_it(
    paper: Paper, prices: SetPrices, alice: Trader
) -> None:
    (status,) = await alice.place(order(SOL, "buy", "1", "149"))
    await paper.step(5)
    before = await alice.fills()

    prices.set("SOL", 148.9)
    await paper.step(0.25)

    (fill,) = await alice.fills()
    assert before == []
    assert (fill["px"], fill["crossed"], fill["dir"]) == ("149.0", False, "Open Long")
    assert (await alice.status_of(status["resting"]["oid"]))["order"]["status"] == "filled"


async def test_a_resting_order_larger_than_what_came_through_fills_in_parts(
    paper: Paper, prices: SetPrices, alice: Trader
) -> None:
    (status,) = await alice.place(order(SOL, "buy", "1000", "149"))
    prices.set("SOL", 148.98)
    await paper.step(0.25)
    partly = (await alice.status_of(status["resting"]["oid"]))["order"]
    await paper.step(10)
    finally_ = (await alice.status_of(status["resting"]["oid"]))["order"]

    assert partly["status"] == "open"
    assert 0 < float(partly["order"]["sz"]) < 1000
    assert finally_["status"] == "filled"


async def test_resting_orders_share_what_came_through_the_earlier_first(
    paper: Paper, prices: SetPrices, alice: Trader, bob: Trader
) -> None:
    (early,) = await alice.place(order(SOL, "buy", "300", "149"))
    (late,) = await bob.place(order(SOL, "buy", "300", "149"))
    prices.set("SOL", 148.98)
    await paper.step(0.25)

    first = (await alice.status_of(early["resting"]["oid"]))["order"]
    second = (await bob.status_of(late["resting"]["oid"]))["order"]
    assert first["status"] == "filled"
    assert float(second["order"]["sz"]) == pytest.approx(600 - 50_000 / 149, abs=0.1)


async def test_what_a_taker_took_is_gone_until_the_book_refills(paper: Paper, alice: Trader) -> None:
    first, second = [(await alice.place(order(SOL, "buy", "300", "150.02", tif="Ioc")))[0] for _ in range(2)]
    await paper.step(6)
    (third,) = await alice.place(order(SOL, "buy", "100", "150.02", tif="Ioc"))

    assert float(first["filled"]["totalSz"]) == 300
    assert float(second["filled"]["totalSz"]) < 300
    assert third["filled"]["totalSz"] == "100.0"


async def test_a_modification_cancels_and_places_anew_as_post_only(alice: Trader) -> None:
    (old,) = await alice.place(order(SOL, "buy", "1", "140"))
    oid = old["resting"]["oid"]
    new = order(SOL, "buy", "1", "141", cloid=CLOID)

    answer = await alice.send({"type": "batchModify", "modifies": [{"oid": oid, "order": new}]})
    single = await alice.send({"type": "modify", "oid": CLOID, "order": order(SOL, "buy", "1", "142")})

    assert answer["response"]["data"]["statuses"][0]["resting"]["oid"] != oid
    assert (await alice.status_of(oid))["order"]["status"] == "canceled"
    assert (await alice.status_of(CLOID))["order"]["order"]["tif"] == "Alo"
    assert single == {"status": "ok", "response": {"type": "default"}}


async def test_a_modification_whose_new_order_would_match_loses_the_old_one(alice: Trader) -> None:
    (old,) = await alice.place(order(SOL, "buy", "1", "140"))
    oid = old["resting"]["oid"]

    answer = await alice.send(
        {"type": "batchModify", "modifies": [{"oid": oid, "order": order(SOL, "buy", "1", "151")}]}
    )
    again = await alice.send(
        {"type": "batchModify", "modifies": [{"oid": oid, "order": order(SOL, "buy", "1", "140")}]}
    )

    assert answer["response"]["data"]["statuses"][0]["error"].startswith("Error placing new order during modify:")
    assert again["response"]["data"]["statuses"][0]["error"].startswith("Cannot modify canceled or filled order")


async def test_a_cancel_of_what_is_not_open_is_an_error_that_names_the_asset(alice: Trader) -> None:
    assert await alice.cancel(SOL, 1) == {"error": "Order was never placed, already canceled, or filled. asset=5"}


async def test_an_order_of_another_account_cannot_be_canceled(alice: Trader, bob: Trader) -> None:
    (status,) = await alice.place(order(SOL, "buy", "1", "140"))

    assert "error" in await bob.cancel(SOL, status["resting"]["oid"])
    assert (await alice.status_of(status["resting"]["oid"]))["order"]["status"] == "open"


async def test_after_a_network_upgrade_only_post_only_orders_are_taken(paper: Paper, alice: Trader) -> None:
    paper.faults({"kind": "post_only", "delay_ms": 10_000})

    (refused,) = await alice.place(order(SOL, "buy", "1", "155", tif="Ioc"))
    (taken,) = await alice.place(order(SOL, "buy", "1", "140", tif="Alo"))
    await paper.step(11)
    (later,) = await alice.place(order(SOL, "buy", "1", "155", tif="Ioc"))

    assert refused["error"].startswith("Only post-only orders allowed immediately after a network upgrade")
    assert "resting" in taken
    assert "filled" in later


async def test_a_stop_wakes_at_its_mark_and_its_sibling_ends(paper: Paper, prices: SetPrices, alice: Trader) -> None:
    def leg(tpsl: str, px: str) -> dict[str, Any]:
        terms = {"isMarket": True, "triggerPx": px, "tpsl": tpsl}
        return order(SOL, "sell", "2", px, reduce_only=True, trigger=terms)

    statuses = await alice.place(
        order(SOL, "buy", "2", "155"), leg("tp", "160"), leg("sl", "145"), grouping="normalTpsl"
    )
    waiting = await paper.info("frontendOpenOrders", user=alice.address)
    prices.set("SOL", 144.0)
    await paper.step(4)

    assert "filled" in statuses[0]
    assert [row["triggerCondition"] for row in waiting] == ["Price above 160.0", "Price below 145.0"]
    assert (await alice.state())["assetPositions"] == []
    ended = {row["order"]["triggerPx"]: row["status"] for row in await paper.info("historicalOrders", user=ALICE)}
    assert ended["145.0"] == "filled"
    assert ended["160.0"] == "siblingFilledCanceled"


async def test_children_wait_for_their_parent_and_go_with_it(paper: Paper, alice: Trader) -> None:
    child = order(
        SOL, "sell", "2", "130", reduce_only=True, trigger={"isMarket": True, "triggerPx": "130", "tpsl": "sl"}
    )
    parent, waiting = await alice.place(order(SOL, "buy", "2", "140"), child, grouping="normalTpsl")

    await alice.cancel(SOL, parent["resting"]["oid"])

    assert waiting == "waitingForFill"
    assert await paper.info("openOrders", user=ALICE) == []


async def test_a_trigger_that_would_fire_at_once_is_refused(alice: Trader) -> None:
    terms = {"isMarket": True, "triggerPx": "151", "tpsl": "sl"}

    (status,) = await alice.place(order(SOL, "sell", "2", "151", reduce_only=True, trigger=terms))

    assert status == {"error": "Invalid TP/SL price. asset=5"}


@pytest.mark.parametrize("user", [BOB])
async def test_an_account_that_was_never_funded_is_empty_and_not_an_error(paper: Paper, user: str) -> None:
    state = await paper.info("clearinghouseState", user="0x" + "ee" * 20)

    assert state["marginSummary"]["accountValue"] == "0.0"
    assert state["assetPositions"] == []
