"""An intent is allowed when no way in which it and all open orders may fill leaves the limits, or when it reduces."""

from __future__ import annotations

from itertools import product

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tradingbot.domain.limits import (
    TOLERANCE,
    Exposure,
    ProposedOrder,
    intent_allowed,
    strictly_reduces,
    within_limits,
)
from tradingbot.domain.params import RiskParams

RISK = RiskParams(allow_short=True)
EQUITY = 10_000.0

amounts = st.just(0.0) | st.floats(0, 8)  # small enough that a good part of the orders is allowed
exposure = st.builds(
    Exposure,
    px=st.just(100.0),
    qty=st.floats(-12, 12),
    buys=amounts,
    sells=amounts,
    reducing_buys=amounts,
    reducing_sells=amounts,
)
books = st.dictionaries(st.sampled_from(["BTC", "ETH", "SOL"]), exposure).map(
    lambda book: {"BTC": Exposure(px=100.0), **book}
)
orders = st.builds(
    ProposedOrder,
    symbol=st.just("BTC"),
    sign=st.sampled_from([1, -1]),
    qty=st.floats(0.001, 12),
    reduce_only=st.booleans(),
)


def outcomes(book: dict[str, Exposure], order: ProposedOrder):
    """Every portfolio that full fills of any of the orders could lead to, reduce-only ones before the others."""
    ways = []
    for symbol, each in book.items():
        own = [0.0, order.sign * order.qty] if symbol == order.symbol else [0.0]
        reduced = each.qty + min(each.reducing_buys, max(-each.qty, 0.0)) - min(each.reducing_sells, max(each.qty, 0.0))
        starts = (each.qty, reduced)
        ways.append([q + b + s + o for q in starts for b in (0.0, each.buys) for s in (0.0, -each.sells) for o in own])
    for quantities in product(*ways):
        yield {symbol: qty * 100.0 / EQUITY for symbol, qty in zip(book, quantities, strict=True)}


@given(books, orders, st.booleans())
def test_no_outcome_of_an_allowed_increase_is_beyond_a_limit(book, order, allow_short):
    risk = RiskParams(allow_short=allow_short)
    if intent_allowed(order, book, equity_usd=EQUITY, risk=risk) is not None or strictly_reduces(order, book["BTC"]):
        return
    for weights in outcomes(book, order):
        beyond = [each for each in within_limits(weights, risk) if each.symbol in {"BTC", None}]
        assert all(abs(each.value) <= each.allowed + 2 * TOLERANCE for each in beyond)


@given(books, orders)
def test_no_outcome_of_a_strict_reduction_is_larger_or_on_the_other_side(book, order):
    own = book["BTC"]
    if not strictly_reduces(order, own) or order.reduce_only:
        return
    same_side = own.buys + own.reducing_buys if order.sign > 0 else own.sells + own.reducing_sells
    after = own.qty + order.sign * (order.qty + same_side)

    assert abs(own.qty + order.sign * order.qty) < abs(own.qty)
    assert after * own.qty >= -1e-6


def buy(qty: float, *, reduce_only: bool = False) -> ProposedOrder:
    return ProposedOrder(symbol="BTC", sign=1, qty=qty, reduce_only=reduce_only)


def sell(qty: float, *, reduce_only: bool = False) -> ProposedOrder:
    return ProposedOrder(symbol="BTC", sign=-1, qty=qty, reduce_only=reduce_only)


def ask(order: ProposedOrder, risk: RiskParams = RISK, equity: float = EQUITY, **book: Exposure) -> str | None:
    return intent_allowed(order, {"BTC": Exposure(px=100), **book}, equity_usd=equity, risk=risk)


def test_exactly_the_cap_is_allowed_and_a_cent_more_is_not():
    assert ask(buy(15.0)) is None
    assert "cap of BTC" in (ask(buy(15.0001)) or "")


def test_open_and_unknown_orders_of_the_same_side_count():
    assert ask(buy(6), BTC=Exposure(px=100, qty=5, buys=4)) is None
    assert ask(buy(6), BTC=Exposure(px=100, qty=5, buys=4.1)) is not None


def test_open_orders_of_the_other_side_do_not_make_room():
    assert ask(buy(6), BTC=Exposure(px=100, qty=10, sells=10)) is not None


def test_a_short_that_an_open_order_closes_does_not_carry_the_net():
    long, short = Exposure(px=100, qty=15), Exposure(px=100, qty=-10)
    closing = Exposure(px=100, qty=-10, reducing_buys=10)

    assert ask(buy(10), ETH=long, SOL=short) is None
    assert ask(buy(10), ETH=long, SOL=closing) == "net 0.250000 is beyond 0.200000"


def test_a_flip_counts_whole_while_the_order_that_closes_is_open():
    risk = RiskParams(allow_short=True, max_net=1, max_gross=1)

    assert ask(sell(15), risk, BTC=Exposure(px=100, qty=1)) is None
    assert ask(sell(15.5), risk, BTC=Exposure(px=100, qty=1)) is None
    assert "cap of BTC" in (ask(sell(15.5), risk, BTC=Exposure(px=100, qty=1, reducing_sells=1)) or "")


def test_other_coins_count_in_gross_and_net():
    held = {"ETH": Exposure(px=100, qty=15), "SOL": Exposure(px=100, qty=-4, sells=11)}

    assert ask(buy(10), ETH=held["ETH"], SOL=held["SOL"]) == "net 0.210000 is beyond 0.200000"
    assert ask(sell(10), ETH=held["ETH"], SOL=held["SOL"]) is None
    assert "gross" in (ask(sell(10.01), ETH=held["ETH"], SOL=held["SOL"]) or "")


def test_a_reduction_passes_however_far_beyond_the_limits_the_account_is():
    far = Exposure(px=100, qty=60)

    assert ask(sell(10), BTC=far) is None
    assert ask(sell(60), BTC=far) is None
    assert ask(sell(10), equity=-5, BTC=far) is None


def test_a_flip_in_one_order_is_no_reduction():
    assert ask(sell(16), RiskParams(), BTC=Exposure(px=100, qty=15)) is not None


def test_reductions_that_together_cross_zero_are_no_reductions():
    assert ask(sell(10), RiskParams(), BTC=Exposure(px=100, qty=15, sells=6)) is not None
    assert ask(sell(10, reduce_only=True), RiskParams(), BTC=Exposure(px=100, qty=15, sells=6)) is None


def test_a_reduce_only_order_without_a_position_is_refused():
    assert "nothing to reduce" in (ask(buy(1, reduce_only=True)) or "")


def test_shorts_need_permission():
    assert ask(sell(1)) is None
    assert "short of BTC" in (ask(sell(1), RiskParams()) or "")


def test_without_equity_or_a_mark_nothing_increases():
    assert ask(buy(1), equity=0) == "no equity"
    assert ask(buy(1), BTC=Exposure(px=0)) == "no mark for BTC"
    assert "no mark for PEPE" in (ask(buy(1), PEPE=Exposure(px=0, qty=1)) or "")
    assert ask(buy(1), PEPE=Exposure(px=0)) is None


def test_several_orders_of_one_action_are_judged_one_after_the_other():
    book = {"BTC": Exposure(px=100)}
    first = buy(10)
    assert intent_allowed(first, book, equity_usd=EQUITY, risk=RISK) is None
    book["BTC"] = book["BTC"].with_order(first)

    assert intent_allowed(buy(10), book, equity_usd=EQUITY, risk=RISK) is not None
    reducing = book["BTC"].with_order(sell(3, reduce_only=True))
    assert (reducing.reducing_sells, reducing.most, reducing.least) == (3, book["BTC"].most, book["BTC"].least)


@pytest.mark.parametrize(
    ("weights", "limits"),
    [
        ({"BTC": 0.15, "ETH": 0.05}, []),
        ({"BTC": 0.16}, ["cap"]),
        ({"BTC": 0.15, "ETH": 0.15, "SOL": -0.1}, []),
        ({"BTC": 0.15, "ETH": 0.15}, ["net"]),
        ({"BTC": 0.15, "ETH": -0.15, "SOL": 0.11}, ["cap", "gross"]),
    ],
)
def test_a_portfolios_breaches_are_named(weights, limits):
    assert [breach.limit for breach in within_limits(weights, RISK)] == limits
