from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.domain.messages import Side
from tradingbot.venue.precision import (
    Direction,
    guarded_price,
    is_legal_price,
    is_legal_size,
    lots_to_size,
    meets_minimum,
    price_to_ticks,
    round_price,
    round_size_down,
    size_to_lots,
    tick_size,
    ticks_to_price,
    to_wire,
)

SZ_DECIMALS = st.integers(0, 5)
SIZES = st.decimals("0", "1e9", allow_nan=False, allow_infinity=False, places=10)
PRICES = st.decimals("0.0001", "9999999", allow_nan=False, allow_infinity=False, places=9).filter(lambda px: px > 0)
TRADED = st.decimals("0.5", "200000", allow_nan=False, allow_infinity=False, places=6)
GUARDS = st.decimals("0", "500", allow_nan=False, allow_infinity=False, places=2)


def legal_by_the_book(px: Decimal, sz_decimals: int) -> bool:
    """The venue's rule, counted on digits."""
    digits = px.normalize()
    exponent = digits.as_tuple().exponent
    decimals = max(0, -exponent)
    if decimals == 0:
        return True
    return len(digits.as_tuple().digits) <= 5 and decimals <= 6 - sz_decimals


@pytest.mark.parametrize(
    ("px", "sz_decimals", "legal"),
    [
        ("123456", 0, True),
        ("12345.6", 0, False),
        ("1234.5", 0, True),
        ("1234.56", 0, False),
        ("0.001234", 0, True),
        ("0.0012345", 0, False),
        ("0.01234", 1, True),
        ("0.012345", 1, False),
        ("65001.5", 5, False),
        ("65001", 5, True),
        ("100000", 5, True),
        ("0", 0, False),
        ("-1", 0, False),
        ("NaN", 0, False),
    ],
)
def test_the_published_examples_of_the_tick_rule_hold(px, sz_decimals, legal):
    assert is_legal_price(Decimal(px), sz_decimals=sz_decimals) is legal


@given(px=PRICES, sz_decimals=SZ_DECIMALS)
def test_a_price_is_legal_exactly_when_the_digits_say_so(px, sz_decimals):
    assert is_legal_price(px, sz_decimals=sz_decimals) is legal_by_the_book(px, sz_decimals)


@given(px=st.integers(1, 10**9), sz_decimals=SZ_DECIMALS)
def test_an_integer_price_is_always_legal(px, sz_decimals):
    assert is_legal_price(Decimal(px), sz_decimals=sz_decimals)


@given(px=TRADED, sz_decimals=SZ_DECIMALS, direction=st.sampled_from(Direction))
def test_a_rounded_price_is_legal_on_its_side_and_the_nearest_there(px, sz_decimals, direction):
    rounded = round_price(px, sz_decimals=sz_decimals, direction=direction)

    assert legal_by_the_book(rounded, sz_decimals)
    assert rounded <= px if direction is Direction.DOWN else rounded >= px
    assert abs(rounded - px) < tick_size(px, sz_decimals=sz_decimals)


@given(px=TRADED, sz_decimals=SZ_DECIMALS, direction=st.sampled_from(Direction))
def test_rounding_a_legal_price_changes_nothing(px, sz_decimals, direction):
    once = round_price(px, sz_decimals=sz_decimals, direction=direction)

    assert round_price(once, sz_decimals=sz_decimals, direction=Direction.UP) == once
    assert round_price(once, sz_decimals=sz_decimals, direction=Direction.DOWN) == once


@given(mid=TRADED, guard_bps=GUARDS, sz_decimals=SZ_DECIMALS, side=st.sampled_from(Side))
def test_a_limit_price_never_lies_beyond_the_guard(mid, guard_bps, sz_decimals, side):
    px = guarded_price(mid, side=side, guard_bps=guard_bps, sz_decimals=sz_decimals)

    assert legal_by_the_book(px, sz_decimals)
    if side is Side.BUY:
        assert px * 10_000 <= mid * (10_000 + guard_bps)
    else:
        assert px * 10_000 >= mid * (10_000 - guard_bps)


@given(mid=TRADED, sz_decimals=SZ_DECIMALS)
def test_without_a_guard_each_side_stays_on_its_own_side_of_the_mid(mid, sz_decimals):
    buy = guarded_price(mid, side=Side.BUY, guard_bps=Decimal(0), sz_decimals=sz_decimals)
    sell = guarded_price(mid, side=Side.SELL, guard_bps=Decimal(0), sz_decimals=sz_decimals)

    assert buy <= mid <= sell


@given(size=SIZES, sz_decimals=SZ_DECIMALS)
def test_a_size_is_never_rounded_up_and_loses_less_than_a_lot(size, sz_decimals):
    rounded = round_size_down(size, sz_decimals=sz_decimals)

    assert 0 <= size - rounded < Decimal(1).scaleb(-sz_decimals)
    assert rounded == 0 or is_legal_size(rounded, sz_decimals=sz_decimals)
    assert round_size_down(-size, sz_decimals=sz_decimals) == -rounded


@given(lots=st.integers(0, 10**12), sz_decimals=SZ_DECIMALS)
def test_lots_and_sizes_are_the_same_thing(lots, sz_decimals):
    assert size_to_lots(lots_to_size(lots, sz_decimals=sz_decimals), sz_decimals=sz_decimals) == lots


@given(px=TRADED, sz_decimals=SZ_DECIMALS)
def test_ticks_and_prices_are_the_same_thing(px, sz_decimals):
    legal = round_price(px, sz_decimals=sz_decimals, direction=Direction.DOWN)

    assert ticks_to_price(price_to_ticks(legal, sz_decimals=sz_decimals), sz_decimals=sz_decimals) == legal


def test_what_is_no_whole_lot_or_tick_is_refused():
    with pytest.raises(ValueError, match="size"):
        size_to_lots(Decimal("0.15"), sz_decimals=1)
    with pytest.raises(ValueError, match="price"):
        price_to_ticks(Decimal("0.15"), sz_decimals=5 + 1)


def test_a_price_below_the_smallest_tick_has_no_legal_price_below_it():
    with pytest.raises(ValueError, match="no legal price"):
        round_price(Decimal("0.05"), sz_decimals=5, direction=Direction.DOWN)


@pytest.mark.parametrize(("size", "px", "enough"), [("0.001", "10000", True), ("0.00099999", "10000", False)])
def test_the_minimum_is_ten_dollars_at_the_limit_price(size, px, enough):
    assert meets_minimum(Decimal(size), Decimal(px)) is enough


@pytest.mark.parametrize(
    ("number", "wire"),
    [("100.0", "100"), ("1E+3", "1000"), ("0.10", "0.1"), ("1E-7", "0.0000001"), ("0E-8", "0"), ("1670.1", "1670.1")],
)
def test_numbers_are_written_plainly(number, wire):
    assert to_wire(Decimal(number)) == wire


@given(st.decimals("0", "1e12", allow_nan=False, allow_infinity=False, places=8))
def test_the_wire_form_is_exact_and_canonical(number):
    text = to_wire(number)

    assert Decimal(text) == number
    assert "e" not in text.lower()
    assert "." not in text or not text.endswith(("0", "."))


@pytest.mark.parametrize("number", ["-1", "-0.5", "NaN", "Infinity", "0.123456789"])
def test_what_the_venue_would_not_read_is_refused(number):
    with pytest.raises(ValueError, match=r"no such number|decimals"):
        to_wire(Decimal(number))
