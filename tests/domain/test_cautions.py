"""Parameters that keep the bot from trading are told, and those that do not are left in peace."""

from __future__ import annotations

import pytest

from tradingbot.domain.cautions import LEAST_ORDER_USD, cautions
from tradingbot.domain.params import Params, merge_override
from tradingbot.execution.sizing import MIN_SLICE_USD

UNIVERSE = ("BTC", "ETH", "SOL", "ADA", "DOGE")


def told(values: dict[str, object], *, equity_usd: float | None = None, coins: tuple[str, ...] = UNIVERSE) -> str:
    return " ".join(cautions(merge_override(Params(), values), coins=coins, equity_usd=equity_usd))


@pytest.mark.parametrize("coins", [UNIVERSE, ("BTC",), ("SOL", "ADA")])
def test_the_defaults_need_no_caution(coins):
    assert cautions(Params(), coins=coins, equity_usd=10_000) == ()


@pytest.mark.parametrize(("band", "warns"), [(0.0199, False), (0.02, True), (0.05, True)])
def test_a_band_as_wide_as_an_even_part_of_the_turnover_cap_is_told(band, warns):
    text = told({"execution.min_rebalance_weight": band})
    assert ("TURNOVER_CAP / coins = 0.1 / 5 = 0.02" in text) is warns
    assert bool(text) is warns


def test_a_band_is_measured_against_all_that_may_be_held_too():
    wide = {"risk.turnover_cap": 1.0, "execution.min_rebalance_weight": 0.04}
    assert "MAX_NET / coins = 0.2 / 5 = 0.04" in told(wide)
    assert told(wide | {"risk.allow_short": True}) == ""
    assert "MAX_GROSS / coins" in told(wide | {"risk.allow_short": True, "execution.min_rebalance_weight": 0.08})


def test_coins_that_may_not_be_held_take_no_part():
    closed = {"risk.caps": {"BTC": 0.15}, "risk.default_cap": 0, "execution.min_rebalance_weight": 0.02}
    assert told(closed) == ""
    assert told({"risk.caps": {}, "risk.default_cap": 0}) == "No coin has a cap above 0: nothing is ever bought."


def test_a_coin_whose_cap_lies_within_the_band_is_named():
    text = told({"risk.caps": {"SOL": 0.004}})
    assert text == "MIN_REBALANCE_WEIGHT 0.005 is not below SOL's cap of 0.004: it is never bought."


@pytest.mark.parametrize(("equity_usd", "warns"), [(599.0, True), (601.0, False), (None, False)])
def test_too_little_money_for_the_smallest_order_is_told(equity_usd, warns):
    assert ("nothing below 12 USD is ordered" in told({}, equity_usd=equity_usd)) is warns


def test_the_smallest_order_is_the_one_that_execution_places():
    assert LEAST_ORDER_USD == MIN_SLICE_USD
