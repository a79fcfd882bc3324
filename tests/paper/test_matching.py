"""Matching and the modelled book as properties: nothing is created, priority holds, prices and lots stay legal."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.paper import SYMBOLS, SetPrices
from tradingbot.paper.assets import Universe
from tradingbot.paper.engine import Engine
from tradingbot.paper.market import REFILL_MS, Book, Level, Market, Shock
from tradingbot.paper.matching import quotes, reduce_only_trim
from tradingbot.paper.options import DuplicateCloid, PaperOptions, parse_quirks
from tradingbot.paper.orders import Order, Status
from tradingbot.paper.prices import SyntheticPrices
from tradingbot.paper.rules import prevalidate
from tradingbot.paper.world import World

NOW = 1_771_430_400_000
UNIVERSE = Universe.of(SYMBOLS)


def resting(oid: int, *, is_buy: bool, px: str, sz: str, user: str = "a", reduce_only: bool = False) -> Order:
    return Order(
        oid=oid,
        user=user,
        coin="SOL",
        is_buy=is_buy,
        limit_px=D(px),
        sz=D(sz),
        orig_sz=D(sz),
        tif="Gtc",
        reduce_only=reduce_only,
        cloid=None,
        placed_ms=NOW,
        status=Status.OPEN,
        status_ms=NOW,
        visible_ms=NOW,
    )


def engine(prices: SetPrices | SyntheticPrices, *accounts: str) -> Engine:
    options = PaperOptions(accounts=accounts, start_equity_usd=D(1_000_000))
    found = Engine(world=World(), market=Market(prices, UNIVERSE), universe=UNIVERSE, options=options)
    found.open_accounts(NOW)
    return found


def test_quotes_come_best_first_then_the_modelled_ones_then_the_oldest() -> None:
    book = Book(asks=(Level(D(101), D(1)), Level(D(102), D(1))))
    orders = [
        resting(9, is_buy=False, px="101", sz="1"),
        resting(3, is_buy=False, px="101", sz="1"),
        resting(5, is_buy=False, px="100.5", sz="1"),
        resting(6, is_buy=True, px="101", sz="1"),
        resting(7, is_buy=False, px="103", sz="1"),
    ]

    found = [(str(quote.px), quote.oid) for quote in quotes(book, orders, is_buy=True, limit_px=D(102))]

    assert found == [("100.5", 5), ("101", None), ("101", 3), ("101", 9), ("102", None)]


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=6), st.integers(-30, 30))
def test_resting_reduce_only_orders_never_exceed_the_position(orders: list[tuple[int, bool]], szi: int) -> None:
    placed = [
        resting(index, is_buy=is_buy, px="150", sz=str(sz), reduce_only=True)
        for index, (sz, is_buy) in enumerate(orders)
    ]

    trimmed = {order.oid: kept for order, kept in reduce_only_trim(placed, D(szi))}
    left = [replace(order, sz=trimmed.get(order.oid, order.sz)) for order in placed]

    assert sum(order.sz for order in left) <= abs(szi)
    assert all(order.sz == 0 for order in left if order.sign * szi >= 0)


@given(st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.integers(1, 60), st.integers(1470, 1530)), max_size=25))
def test_trading_moves_positions_and_money_and_creates_none(trades: list[tuple[int, bool, int, int]]) -> None:
    venue = engine(SetPrices(SOL=150.0), "a", "b")
    for index, (who, is_buy, sz, px) in enumerate(trades):
        order = resting(100 + index, is_buy=is_buy, px=f"{px / 10}", sz=str(sz), user="ab"[who])
        now_ms = NOW + 60_000 * index
        done = venue.trading.execute(order, now_ms=now_ms)
        venue.world.put_order(done)
    world = venue.world
    for user in "ab":
        account = world.accounts[user]
        fills = world.fills[user]
        signed = [(fill.sz if fill.is_buy else -fill.sz, fill.px, fill.fee) for fill in fills]
        assert account.szi("SOL") == sum(sz for sz, _, _ in signed)
        assert account.raw_usd == 1_000_000 - sum(sz * px + fee for sz, px, fee in signed)
    shared: dict[int, list[D]] = {}
    for user in "ab":
        for fill in world.fills[user]:
            shared.setdefault(fill.tid, []).append(fill.sz if fill.is_buy else -fill.sz)
    assert all(sum(sides) == 0 for sides in shared.values() if len(sides) == 2)
    for order in world.orders.values():
        executed = sum(fill.sz for fill in world.fills[order.user] if fill.oid == order.oid)
        assert order.orig_sz - order.sz == executed
        assert all(
            (fill.px <= order.limit_px) if order.is_buy else (fill.px >= order.limit_px)
            for fill in world.fills[order.user]
            if fill.oid == order.oid
        )


@pytest.mark.parametrize("coin", SYMBOLS)
@given(st.integers(0, 6 * 3_600_000), st.sampled_from([1.0, 0.37, 3.3]))
def test_the_modelled_book_has_legal_prices_and_sizes_and_does_not_cross(
    coin: str, offset_ms: int, factor: float
) -> None:
    market = Market(SOURCE, UNIVERSE)
    if factor != 1.0:
        market.shock(Shock(at_ms=NOW, coin=coin, factor=factor))
    asset, book = UNIVERSE.by_name[coin], market.book(coin, NOW + offset_ms)

    assert book.bids[0].px < book.asks[0].px
    for levels, sign in ((book.bids, -1), (book.asks, 1)):
        prices = [sign * level.px for level in levels]
        assert prices == sorted(set(prices))
        assert all(asset.is_legal_price(level.px) and asset.is_legal_size(level.sz) for level in levels)


SOURCE = SyntheticPrices(symbols=SYMBOLS, seed=7)


def test_what_is_taken_comes_back_after_the_refill_time() -> None:
    market = Market(SetPrices(), UNIVERSE)
    whole = market.book("SOL", NOW)
    market.take("SOL", asks=True, sz=whole.asks[0].sz + 1, at_ms=NOW)

    assert market.book("SOL", NOW + 1).asks[0].px == whole.asks[1].px
    assert market.book("SOL", NOW + 1).bids == whole.bids
    assert market.book("SOL", NOW + REFILL_MS) == whole


def test_time_cut_into_any_calls_moves_the_market_alike() -> None:
    def fills(steps: list[int]) -> list[tuple[D, D, int]]:
        venue = engine(SOURCE, "a")
        mid = venue.market.mid("SOL", NOW)
        assert mid is not None
        for index in range(10):
            px = f"{mid * (1 - D(index) / 1000):.2f}"
            venue.world.put_order(resting(100 + index, is_buy=True, px=px, sz="5"))
        for step in steps:
            venue.advance(venue.world.now_ms + step)
        return [(fill.px, fill.sz, fill.at_ms) for fill in venue.world.fills["a"]]

    assert fills([600_000]) == fills([7] * 10 + [599_930]) == fills([1_000] * 600)
    assert fills([600_000])


@pytest.mark.parametrize(
    ("px", "legal"),
    [
        ("123456", True),
        ("12345.6", False),
        ("1234.5", True),
        ("0.12345", True),
        ("0.123456", False),
        ("0.0001234", False),
    ],
)
def test_a_price_has_five_figures_and_its_coins_decimals_and_may_always_be_an_integer(px: str, legal: bool) -> None:
    assert (
        UNIVERSE.by_name["BTC" if D(px) > 1 else "ETH" if px == "0.0001234" else "DOGE"].is_legal_price(D(px)) is legal
    )


def test_delisted_fillers_keep_the_ids_of_the_others_and_cannot_be_traded() -> None:
    universe = Universe.of(["BTC", "SOL", "PEPE"])
    listed = {asset.name: asset.index for asset in universe.traded}

    assert listed == {"BTC": 0, "SOL": 5, "PEPE": 66}
    assert all(entry.get("isDelisted") for entry in universe.meta()["universe"] if entry["name"] not in listed)
    assert prevalidate([], universe, {}) == "Orders are empty."


def test_quirks_are_named_and_valued_as_options() -> None:
    assert parse_quirks(["duplicate_cloid=reject"]).duplicate_cloid is DuplicateCloid.REJECT
    assert parse_quirks(["tracked_users=15"]).tracked_users == 15
    for wrong in ("nope=1", "duplicate_cloid=maybe"):
        with pytest.raises(ValueError):
            parse_quirks([wrong])
