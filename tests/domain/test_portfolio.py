"""Portfolio arithmetic in weights."""

from __future__ import annotations

import pytest

from risk_engine.bench import T0, snapshot
from tradingbot.domain.portfolio import gross, net, present_weights, reconciled_ms, turnover, weight_of


def test_gross_counts_both_sides_and_net_their_difference():
    assert gross([0.1, -0.2, 0.05]) == pytest.approx(0.35)
    assert net([0.1, -0.2, 0.05]) == pytest.approx(-0.05)
    assert gross([]) == net([]) == 0


def test_turnover_counts_closings_and_flips_and_leaves_out_what_is_held():
    now = {"BTC": 0.1, "ETH": 0.05, "SOL": 0.08}

    assert turnover({"BTC": 0.0, "ETH": -0.05}, now) == pytest.approx(0.1 + 0.1)
    assert turnover({"DOGE": 0.02}, now) == pytest.approx(0.02)
    assert turnover({}, now) == 0


def test_a_weight_is_a_fraction_of_equity_and_zero_without_any():
    assert weight_of(qty=-2, px=100, equity_usd=1000) == -0.2
    assert weight_of(qty=2, px=100, equity_usd=0) == 0
    assert weight_of(qty=2, px=100, equity_usd=-5) == 0


def test_present_weights_are_the_open_positions_at_their_marks():
    held = snapshot(positions={"BTC": 0.05, "PEPE": -0.02, "ETH": 0.0})

    assert present_weights(held) == pytest.approx({"BTC": 0.05, "PEPE": -0.02})


def test_a_snapshot_tells_when_it_last_agreed_with_the_venue():
    assert reconciled_ms(snapshot()) == T0
    assert reconciled_ms(snapshot(last_reconcile_ts=None)) is None
