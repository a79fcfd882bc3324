"""Margin, fees and funding against the venue's own worked examples, and as properties."""

from __future__ import annotations

import itertools
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.paper.account_view import clearinghouse_state
from tradingbot.paper.accounts import Account, Leverage, Position, apply_fill
from tradingbot.paper.assets import Asset, Tier, Universe
from tradingbot.paper.decimals import text
from tradingbot.paper.fees import fee_usd
from tradingbot.paper.funding import HOUR_MS, hourly_rate, hours_between, premium, stamp_ms
from tradingbot.paper.margin import liquidation_px, maintenance

UNIVERSE = Universe.of(["BTC", "ETH", "SOL", "ADA", "DOGE"])
SIZES = st.decimals(min_value="-50", max_value="50", places=2).filter(bool)
PRICES = st.decimals(min_value="1", max_value="500", places=2)


def asset(*tiers: tuple[int, int], sz_decimals: int = 4) -> Asset:
    found = tuple(Tier(D(bound), leverage) for bound, leverage in tiers)
    return Asset(
        index=0,
        name="X",
        sz_decimals=sz_decimals,
        max_leverage=found[0].max_leverage,
        margin_table_id=1,
        tiers=found,
    )


def test_the_documented_tiered_maintenance_example_holds() -> None:
    testnet_btc = asset((0, 40), (10_000, 25), (50_000, 10))

    assert maintenance(testnet_btc, D("12073.655")) == D("12073.655") * D("0.02") - 75


def test_the_documented_isolated_position_has_its_liquidation_price() -> None:
    position = Position(
        coin="X", szi=D("0.0335"), entry_ntl=D("0.0335") * D("2986.3"), isolated_raw_usd=D("-95.059824")
    )
    mark = D("2985.9")
    equity = D("-95.059824") + D("0.0335") * mark

    px = liquidation_px(
        asset((0, 50)), position, mark=mark, available=equity - maintenance(asset((0, 50)), D("0.0335") * mark)
    )

    assert equity == D("4.967826")
    assert px is not None
    assert px.quantize(D("0.0001")) == D("2866.2694")


def test_a_liquidation_price_in_another_tier_uses_that_tiers_rate() -> None:
    tiered = asset((0, 40), (10_000, 25))
    position = Position(coin="X", szi=D(-1), entry_ntl=D(-9_000))

    px = liquidation_px(tiered, position, mark=D(9_000), available=D(5_000) - maintenance(tiered, D(9_000)))

    assert px is not None
    assert D(5_000) - (px - 9_000) == pytest.approx(maintenance(tiered, px))


def test_the_real_account_of_the_record_adds_up() -> None:
    account = Account(address="0x1", raw_usd=D("-339414.3"))
    account.positions["BTC"] = Position(coin="BTC", szi=D("4.5"), entry_ntl=D("4.5") * 81_285)
    account.leverages["BTC"] = Leverage(10)

    state = clearinghouse_state(account, UNIVERSE, {"BTC": D(83926)}, 5)

    assert state["marginSummary"] == {
        "accountValue": "38252.7",
        "totalNtlPos": "377667.0",
        "totalRawUsd": "-339414.3",
        "totalMarginUsed": "37766.7",
    }
    assert state["crossMaintenanceMarginUsed"] == "4720.8375"
    assert state["withdrawable"] == "486.0"
    (held,) = state["assetPositions"]
    assert held["position"]["returnOnEquity"].startswith("0.324")
    assert held["position"]["marginUsed"] == "37766.7"


def test_fees_are_cut_and_not_rounded_to_six_decimals() -> None:
    assert text(fee_usd(px=D(65_239), sz=D("0.002"), crossed=False)) == "0.019571"
    assert fee_usd(px=D("0.000001"), sz=D(1), crossed=True) == 0


@pytest.mark.parametrize(
    ("average", "rate"),
    [("-0.00018753", "0.0000125"), ("0.0006", "0.0000125"), ("0.0016", "0.0001375"), ("-0.0014", "-0.0001125")],
)
def test_funding_is_the_floor_rate_inside_the_band_and_follows_the_premium_outside(average: str, rate: str) -> None:
    assert hourly_rate(D(average)) == D(rate)


def test_funding_is_capped_at_four_percent_an_hour() -> None:
    assert hourly_rate(D(1)) == D("0.04")
    assert hourly_rate(D(-1)) == D("-0.04")


def test_the_premium_is_how_far_impact_prices_stand_from_the_oracle() -> None:
    assert premium(bid=D(101), ask=D(102), oracle=D(100)) == D("0.01")
    assert premium(bid=D(98), ask=D(99), oracle=D(100)) == D("-0.01")
    assert premium(bid=D(99), ask=D(101), oracle=D(100)) == 0


@given(st.integers(min_value=0, max_value=2_000_000_000_000), st.integers(1, 20 * HOUR_MS), st.data())
def test_however_time_is_cut_every_hour_is_paid_once(start: int, length: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=6)))
    points = [start, *(start + cut for cut in cuts), start + length]

    paid = [hour for left, right in itertools.pairwise(points) for hour in hours_between(left, right)]

    assert paid == list(hours_between(start, start + length))
    assert len(set(paid)) == len(paid)
    assert all(start < stamp_ms(hour) <= start + length for hour in paid)
    assert all(10 <= stamp_ms(hour) - hour <= 400 for hour in paid)


@given(st.lists(st.tuples(SIZES, PRICES), min_size=1, max_size=30), PRICES)
def test_account_value_is_deposits_plus_every_trades_profit_at_any_mark(trades: list[tuple[D, D]], mark: D) -> None:
    account = Account(address="0x1", raw_usd=D(1_000))
    closed = D(0)
    for sz, px in trades:
        closed += apply_fill(account, coin="SOL", signed_sz=sz, px=px, fee=D(0)).closed_pnl
    held = account.positions.get("SOL")
    value = account.raw_usd + (held.szi * mark if held else 0)

    assert value == 1_000 + sum(sz * (mark - px) for sz, px in trades)
    assert account.szi("SOL") == sum(sz for sz, _ in trades)
    unrealized = held.unrealized(mark) if held else D(0)
    assert float(closed + unrealized) == pytest.approx(float(value - 1_000), abs=1e-9)


@given(st.lists(st.tuples(SIZES, PRICES), min_size=1, max_size=30), PRICES)
def test_an_isolated_position_moves_money_and_never_makes_it(trades: list[tuple[D, D]], mark: D) -> None:
    account = Account(address="0x1", raw_usd=D(100_000))
    account.leverages["SOL"] = Leverage(5, is_cross=False)
    for sz, px in trades:
        apply_fill(account, coin="SOL", signed_sz=sz, px=px, fee=D(0))
    held = account.positions.get("SOL")
    isolated = (held.isolated_raw_usd or 0) + held.szi * mark if held else 0

    total = account.raw_usd + isolated

    assert float(total) == pytest.approx(float(100_000 + sum(sz * (mark - px) for sz, px in trades)))


@pytest.mark.parametrize(
    ("trades", "directions"),
    [
        ([1, 1, -1, -1], ["Open Long", "Open Long", "Close Long", "Close Long"]),
        ([-1, 2], ["Open Short", "Short > Long"]),
        ([1, -3, 2], ["Open Long", "Long > Short", "Close Short"]),
    ],
)
def test_a_fill_says_what_it_did_to_the_position(trades: list[int], directions: list[str]) -> None:
    account = Account(address="0x1", raw_usd=D(0))

    found = [apply_fill(account, coin="SOL", signed_sz=D(sz), px=D(100), fee=D(0)).direction for sz in trades]

    assert found == directions


def test_the_entry_price_averages_increases_keeps_on_reductions_and_restarts_on_a_flip() -> None:
    account = Account(address="0x1", raw_usd=D(0))
    entries = []
    for sz, px in ((2, 100), (2, 110), (-1, 200), (-4, 90)):
        apply_fill(account, coin="SOL", signed_sz=D(sz), px=D(px), fee=D(0))
        entries.append(account.positions["SOL"].entry_px)

    assert entries == [100, 105, 105, 90]
