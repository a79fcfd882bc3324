"""What becomes an intent: priced within the guard, within the limits, named for ever."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from support.execution_parts import MIDS, SPECS, START_MS, WIDE, a_plan, a_slice, an_order
from tradingbot.domain.limits import worst_case_breaches
from tradingbot.domain.messages import OrderAction, Side
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import OrderTif, RiskParams
from tradingbot.execution.intents import (
    Desk,
    cancel_intents,
    draft_flatten,
    draft_replacements,
    draft_slices,
    exposures,
    place_action_id,
    place_intents,
)
from tradingbot.execution.ledger import Ledger, Mark
from tradingbot.execution.pricing import Mid, fresh, limit_price
from tradingbot.venue.precision import is_legal_price

RISK = RiskParams(max_gross=0.5, max_net=0.4, caps={}, default_cap=0.2)


def desk(**changes: Any) -> Desk:
    return Desk(
        **{
            "bot_id": "bot",
            "lease_token": 3,
            "now_ms": START_MS,
            "specs": SPECS,
            "mids": MIDS,
            "marks": MIDS,
            **changes,
        }
    )


def holding(**positions: str) -> Ledger:
    return Ledger(marks={s: Mark(position=Decimal(qty), asked_ms=START_MS) for s, qty in positions.items()})


@given(
    symbol=st.sampled_from(sorted(SPECS)),
    side=st.sampled_from(list(Side)),
    guard=st.floats(0, 500),
    mid=st.decimals("0.0001", "200000", places=6),
)
def test_a_price_is_legal_and_never_beyond_the_guard(symbol: str, side: Side, guard: float, mid: Decimal) -> None:
    assume(mid * (1 - Decimal(str(guard)) / 10_000) > Decimal("0.001") * 10 ** SPECS[symbol].sz_decimals)

    px = limit_price(mid, side=side, guard_bps=guard, tif=OrderTif.GTC, spec=SPECS[symbol])

    bound = mid * (1 + side.sign * Decimal(str(guard)) / 10_000)
    assert is_legal_price(px, sz_decimals=SPECS[symbol].sz_decimals)
    assert px <= bound if side is Side.BUY else px >= bound


def test_a_post_only_order_is_priced_at_the_mid_on_its_own_side() -> None:
    mid = Decimal("60000.5")

    assert limit_price(mid, side=Side.BUY, guard_bps=20, tif=OrderTif.ALO, spec=SPECS["BTC"]) == 60_000
    assert limit_price(mid, side=Side.SELL, guard_bps=20, tif=OrderTif.ALO, spec=SPECS["BTC"]) == 60_001


def test_a_mid_counts_for_so_long_before_and_after_the_clock_stepped_back() -> None:
    at_ms = {"BTC": 1_000, "ETH": 999, "SOL": 11_000, "ADA": 11_001}
    mids = {symbol: Mid(px=Decimal(1), at_ms=each) for symbol, each in at_ms.items()}

    assert set(fresh(mids, now_ms=6_000, oldest_ms=5_000)) == {"BTC", "SOL"}


def test_an_intent_bears_everything_that_tells_it_apart() -> None:
    plan = a_plan(a_slice("BTC"), a_slice("ETH", qty=Decimal("0.1")))
    draft = draft_slices(Ledger(), plan, plan.slices, desk())

    intents = place_intents(place_action_id(draft.orders), draft.orders)

    assert [each.client_order_id for each in intents] == ["20260218T1600Z:BTC:0:BUY", "20260218T1600Z:ETH:0:BUY"]
    assert [(each.action_index, each.action_size) for each in intents] == [(0, 2), (1, 2)]
    assert {each.action for each in intents} == {OrderAction.PLACE}
    assert all(each.reference_mid == MIDS[each.symbol] and each.lease_token == 3 for each in intents)
    assert all(each.cloid.startswith("0x") and len(each.cloid) == 34 for each in intents)
    assert {each.reason for each in cancel_intents("c", draft.orders, reason="timeout", lease_token=4)} == {"timeout"}


def test_a_replacement_is_for_the_rest_with_half_the_guard_and_a_name_of_its_own() -> None:
    plan = a_plan(a_slice("BTC"))
    first = an_order(qty="0.01", filled_qty=Decimal("0.004"))

    (second,) = draft_replacements(Ledger(), plan, [(plan.slices[0], first)], desk()).orders

    assert (second.attempt, second.qty, second.limit_px) == (1, Decimal("0.006"), Decimal(60_060))
    assert second.cloid != first.cloid
    assert second.client_order_id == first.client_order_id


def test_a_rest_below_the_minimum_is_replaced_only_when_it_closes_the_position() -> None:
    tiny = an_order(qty="0.01", filled_qty=Decimal("0.0099"))  # 6 USD are left
    opening, closing = a_slice("BTC"), a_slice("BTC", "SELL", reduce_only=True, closes=True)

    refused = draft_replacements(Ledger(), a_plan(opening), [(opening, tiny)], desk())
    kept = draft_replacements(holding(BTC="0.0001"), a_plan(closing), [(closing, tiny)], desk())

    assert set(refused.refused.values()) == {"below_minimum"}
    assert [each.qty for each in kept.orders] == [Decimal("0.0001")]


@pytest.mark.parametrize(("lacking", "why"), [({"mids": {}}, "stale_mid"), ({"specs": {}}, "not_listed")])
def test_what_cannot_be_priced_is_refused(lacking: dict[str, Any], why: str) -> None:
    plan = a_plan(a_slice("BTC"))

    assert set(draft_slices(Ledger(), plan, plan.slices, desk(**lacking)).refused.values()) == {why}


quantities = st.decimals("0.01", "0.5", places=2)


@given(
    held=st.dictionaries(st.sampled_from(["BTC", "ETH", "SOL"]), st.decimals("0", "0.05", places=3)),
    open_rest=st.lists(quantities, max_size=3),
    wanted=st.lists(st.tuples(st.sampled_from(["BTC", "ETH", "SOL"]), quantities), min_size=1, max_size=5),
)
def test_no_subset_of_fills_leaves_the_limits(
    held: dict[str, Decimal], open_rest: list[Decimal], wanted: list[tuple[str, Decimal]]
) -> None:
    """I6: each intent leaves caps, gross and net whole in the worst case, whatever else is open."""
    base = holding(**{symbol: str(qty) for symbol, qty in held.items()})
    resting = [
        an_order(symbol="ETH", qty=str(qty), cloid=f"0x{n}", client_order_id=f"o{n}") for n, qty in enumerate(open_rest)
    ]
    ledger = base.with_orders(resting)
    slices = [a_slice(symbol, index=n, qty=qty) for n, (symbol, qty) in enumerate(wanted)]
    plan = a_plan(*slices, risk=RISK)

    draft = draft_slices(ledger, plan, plan.slices, desk())

    before = exposures(ledger, MIDS)
    after = exposures(ledger, MIDS, draft.orders)
    for symbol in {each.symbol for each in draft.orders}:
        assert not worst_case_breaches(after, equity_usd=10_000, risk=RISK, symbols=(symbol,)) or (
            before[symbol] == after[symbol]
        )
    for order in draft.orders:
        assert order.qty <= next(qty for n, (_, qty) in enumerate(wanted) if n == order.slice_idx)
    assert len(draft.orders) + len(draft.refused) == len(wanted)


def test_an_order_that_is_too_large_is_cut_down_and_one_that_leaves_no_room_is_refused() -> None:
    plan = a_plan(a_slice("BTC", qty=Decimal("0.05")), a_slice("BTC", index=1, qty=Decimal("0.05")), risk=RISK)

    draft = draft_slices(Ledger(), plan, plan.slices, desk())

    assert [each.qty for each in draft.orders] == [Decimal("0.03333")]  # 0.2 of 10,000 USD
    assert [reason.partition(":")[0] for reason in draft.refused.values()] == ["limits"]


def test_a_reduction_passes_when_limits_are_broken_already() -> None:
    plan = a_plan(a_slice("BTC", "SELL", qty=Decimal("0.1"), reduce_only=True), risk=RISK)

    draft = draft_slices(holding(BTC="1"), plan, plan.slices, desk())

    assert [each.qty for each in draft.orders] == [Decimal("0.1")]
    assert draft.at_most is Mode.REDUCE_ONLY


def test_flatten_closes_the_whole_position_whatever_its_size_and_under_halt() -> None:
    positions = {"BTC": Decimal("0.00001"), "ETH": Decimal(-2)}

    draft = draft_flatten(positions, cycle_id="20260218T1600Z", guard_bps=100, desk=desk())

    assert [(e.symbol, e.side, e.qty, e.tif, e.reduce_only) for e in draft.orders] == [
        ("BTC", Side.SELL, Decimal("0.00001"), "Ioc", True),
        ("ETH", Side.BUY, Decimal(2), "Ioc", True),
    ]
    assert [each.limit_px for each in draft.orders] == [Decimal(59_400), Decimal(3_030)]
    assert draft.at_most is Mode.HALT
    assert WIDE.allow_short
