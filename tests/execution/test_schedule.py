"""When slices are due, gated, late, timed out, replaced."""

from __future__ import annotations

from decimal import Decimal

import pytest

from support.execution_parts import CYCLE, START_MS, a_plan, a_slice, an_order
from tradingbot.domain.messages import ReportStatus
from tradingbot.execution.ledger import CurrentPlan, Ledger, Order, Stage
from tradingbot.execution.schedule import due, end_ms_of, finished, late, next_wake_ms, replaceable, timed_out

END_MS = START_MS + 60_000


def at(seconds: float) -> int:
    return START_MS + round(seconds * 1000)


def ledger(plan: CurrentPlan, *orders: Order) -> Ledger:
    return Ledger(plan=plan).with_orders(orders)


def placed(symbol: str, side: str, **fields: object) -> Order:
    return an_order(symbol=symbol, side=side, qty="0.01", **{"intent_ms": START_MS, "end_ms": at(20), **fields})


def filled(symbol: str, side: str, **fields: object) -> Order:
    return placed(
        symbol,
        side,
        stage=Stage.ENDED,
        outcome=ReportStatus.FILLED,
        filled_qty=Decimal("0.01"),
        ended_ms=START_MS,
        **fields,
    )


def names(works: list) -> list[str]:
    return [each.client_order_id.removeprefix(f"{CYCLE}:") for each in works]


def test_a_slice_is_due_from_its_start_until_five_seconds_before_the_cycles_end() -> None:
    kept = ledger(a_plan(a_slice(start_ms=at(40))))

    assert names(due(kept, now_ms=at(39.9))) == []
    assert names(due(kept, now_ms=at(40))) == ["BTC:0:BUY"]
    assert names(due(kept, now_ms=at(55))) == ["BTC:0:BUY"]
    assert names(due(kept, now_ms=at(55.001))) == []
    assert names(late(kept, now_ms=at(55))) == []
    assert names(late(kept, now_ms=at(55.001))) == ["BTC:0:BUY"]


def test_a_slice_that_is_placed_or_given_up_is_not_due_again() -> None:
    plan = a_plan(a_slice(), a_slice("ETH").model_copy(update={"skipped": "stale_mid"}))

    assert due(ledger(plan, placed("BTC", "BUY")), now_ms=at(1)) == []


def test_an_increase_waits_for_a_reduction_to_end_or_to_time_out() -> None:
    plan = a_plan(a_slice("ETH", "SELL", reduce_only=True), a_slice("BTC"))
    resting = placed("ETH", "SELL", reduce_only=True, stage=Stage.OPEN)

    assert names(due(ledger(plan), now_ms=at(0))) == ["ETH:0:SELL"]
    assert names(due(ledger(plan, resting), now_ms=at(19))) == []
    assert names(due(ledger(plan, resting), now_ms=at(20))) == ["BTC:0:BUY"]
    assert names(due(ledger(plan, filled("ETH", "SELL")), now_ms=at(1))) == ["BTC:0:BUY"]


def test_an_increase_waits_only_for_reductions_that_are_due_before_it() -> None:
    plan = a_plan(a_slice("ETH", "SELL", reduce_only=True, start_ms=at(20)), a_slice("BTC"))

    assert names(due(ledger(plan), now_ms=at(0))) == ["BTC:0:BUY"]


@pytest.mark.parametrize(("qty", "opens"), [("0.01", True), ("0.009", False)])
def test_the_second_half_of_a_flip_waits_until_the_first_has_filled(qty: str, opens: bool) -> None:
    plan = a_plan(a_slice("BTC", "SELL", reduce_only=True, closes=True), a_slice("BTC", "SELL", index=1))
    first = filled("BTC", "SELL").model_copy(update={"filled_qty": Decimal(qty)})

    assert names(due(ledger(plan, first), now_ms=at(1))) == (["BTC:1:SELL"] if opens else [])


def test_a_symbol_with_an_unknown_outcome_gets_no_increase_but_reduces() -> None:
    plan = a_plan(a_slice("BTC", index=1), a_slice("BTC", "SELL", index=2, reduce_only=True))
    unknown = placed("BTC", "BUY", stage=Stage.UNKNOWN)

    assert names(due(ledger(plan, unknown), now_ms=at(1))) == ["BTC:2:SELL"]


def test_an_order_ends_at_its_time_out_or_three_seconds_before_the_cycles_end() -> None:
    plan = a_plan()

    assert end_ms_of(plan, timeout_s=20, now_ms=at(0)) == at(20)
    assert end_ms_of(plan, timeout_s=20, now_ms=at(40)) == at(57)


def test_a_timed_out_order_is_cancelled_and_asked_for_again_when_that_did_not_end_it() -> None:
    order = placed("BTC", "BUY", stage=Stage.OPEN)
    asked = order.model_copy(update={"cancel_asked_ms": at(20)})

    assert timed_out([order], now_ms=at(19.9), retry_ms=2_000) == []
    assert timed_out([order], now_ms=at(20), retry_ms=2_000) == [order]
    assert timed_out([asked], now_ms=at(21), retry_ms=2_000) == []
    assert timed_out([asked], now_ms=at(22), retry_ms=2_000) == [asked]


def canceled(**fields: object) -> Order:
    return placed(
        "BTC",
        "BUY",
        **{
            "stage": Stage.ENDED,
            "outcome": ReportStatus.CANCELED,
            "cancel_asked_ms": at(20),
            "ended_ms": at(20),
            "filled_qty": Decimal("0.004"),
            **fields,
        },
    )


def test_the_rest_of_a_timed_out_slice_is_replaced_once_and_with_five_seconds_left() -> None:
    plan = a_plan(a_slice("BTC"))
    first = canceled()

    assert [order for _, order in replaceable(ledger(plan, first), now_ms=at(21))] == [first]
    assert replaceable(ledger(plan, first), now_ms=at(52.001)) == []
    assert replaceable(ledger(plan, first, canceled(attempt=1, cloid="0x2")), now_ms=at(21)) == []
    assert replaceable(ledger(a_plan(a_slice("BTC"), replace_once=False), first), now_ms=at(21)) == []


def test_what_was_not_cancelled_for_its_time_out_is_not_replaced() -> None:
    plan = a_plan(a_slice("BTC"))

    assert replaceable(ledger(plan, canceled(cancel_asked_ms=at(5))), now_ms=at(21)) == []
    assert replaceable(ledger(plan, canceled(cancel_asked_ms=None)), now_ms=at(21)) == []
    assert replaceable(ledger(plan, canceled(filled_qty=Decimal("0.01"))), now_ms=at(21)) == []


def test_the_loop_wakes_for_the_next_start_time_out_or_lateness() -> None:
    plan = a_plan(a_slice("BTC", start_ms=at(20)))
    order = placed("ETH", "BUY", end_ms=at(13))

    assert next_wake_ms(ledger(plan, order), now_ms=at(0)) == at(13)
    assert next_wake_ms(ledger(plan), now_ms=at(0)) == at(20)
    assert next_wake_ms(ledger(plan), now_ms=at(21)) == END_MS - 5_000 + 1
    assert next_wake_ms(Ledger(), now_ms=at(0)) is None


def test_a_plan_is_finished_when_every_slice_has_ended_or_was_given_up() -> None:
    plan = a_plan(a_slice("BTC"))

    assert not finished(Ledger())
    assert not finished(ledger(plan))
    assert not finished(ledger(plan, placed("BTC", "BUY")))
    assert finished(ledger(plan, filled("BTC", "BUY")))
    assert finished(ledger(a_plan(a_slice("BTC").model_copy(update={"skipped": "late_slice"}))))
