"""The synthetic market: a function of seed, coin and minute that looks like a market."""

from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradingbot.paper.prices import SyntheticPrices
from tradingbot.paper.prices.synthetic import BLOCK_MS, ERA_BLOCKS, bridge

MINUTE = 60_000
T0 = 1_771_430_400_000
COINS = ("BTC", "ETH", "SOL", "ADA", "DOGE")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 3), minute=st.integers(0, 2_000_000), others=st.booleans())
def test_a_price_depends_on_seed_coin_and_minute_alone(seed: int, minute: int, others: bool) -> None:
    at_ms = T0 + minute * MINUTE
    warm = SyntheticPrices(symbols=COINS if others else ("ETH",), seed=seed)
    warm.candles("ETH", at_ms - 3 * MINUTE, at_ms)
    warm.candle("ETH", at_ms + BLOCK_MS)
    assert warm.candle("ETH", at_ms) == SyntheticPrices(symbols=("ETH",), seed=seed).candle("ETH", at_ms)


def test_another_process_sees_the_same_prices() -> None:
    program = (
        "from tradingbot.paper.prices import SyntheticPrices\n"
        f"print(SyntheticPrices(symbols=('BTC',), seed=7).mid('BTC', {T0} + 12345))"
    )
    other = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert float(other) == SyntheticPrices(symbols=("BTC",), seed=7).mid("BTC", T0 + 12345)


def test_another_seed_is_another_market() -> None:
    one, two = (SyntheticPrices(symbols=COINS, seed=seed) for seed in (1, 2))
    assert all(one.mid(symbol, T0) != two.mid(symbol, T0) for symbol in COINS)


def test_every_candle_is_sound_and_opens_at_the_close_before_it_across_blocks_and_eras() -> None:
    source = SyntheticPrices(symbols=COINS, seed=3)
    era_ms = ERA_BLOCKS * BLOCK_MS
    for around in (T0 - T0 % BLOCK_MS, T0 - T0 % era_ms):
        for symbol in COINS:
            candles = source.candles(symbol, around - 90 * MINUTE, around + 90 * MINUTE)
            assert len(candles) == 180
            for before, after in itertools.pairwise(candles):
                assert after.open == pytest.approx(before.close, rel=1e-12)
                assert 0 < after.low <= min(after.open, after.close) <= max(after.open, after.close) <= after.high
                assert after.volume > 0


def test_there_is_an_hour_of_back_fill_before_any_start() -> None:
    assert len(SyntheticPrices(symbols=("BTC",), seed=1).candles("BTC", T0 - 61 * MINUTE, T0)) == 61


def returns(source: SyntheticPrices, symbol: str, days: int) -> list[float]:
    candles = source.candles(symbol, T0, T0 + days * 86_400_000)
    return [math.log(candle.close / candle.open) for candle in candles]


def test_returns_are_correlated_heavy_tailed_and_cluster() -> None:
    source = SyntheticPrices(symbols=COINS, seed=11)
    btc, eth = returns(source, "BTC", 6), returns(source, "ETH", 6)
    assert 0.65 < statistics.correlation(btc, eth) < 0.9
    for sample, vol in ((btc, 0.38), (eth, 0.68)):
        variance = statistics.fmean(each**2 for each in sample)
        kurtosis = statistics.fmean(each**4 for each in sample) / variance**2
        sizes = [abs(each) for each in sample]
        assert 0.5 * vol < math.sqrt(variance * 525_600) < 1.8 * vol
        assert kurtosis > 6
        assert statistics.correlation(sizes[:-5], sizes[5:]) > 0.1
        assert abs(statistics.correlation(sample[:-1], sample[1:])) < 0.1


def test_prices_stay_of_their_coins_size_for_years() -> None:
    source = SyntheticPrices(symbols=COINS, seed=5)
    for year in range(-3, 4):
        at_ms = T0 + year * 31_536_000_000
        assert 40_000 < (source.mid("BTC", at_ms) or 0) < 300_000
        assert 0.05 < (source.mid("DOGE", at_ms) or 0) < 0.9


def test_a_coin_that_was_not_asked_for_has_no_price() -> None:
    assert SyntheticPrices(symbols=("BTC",), seed=1).mid("ETH", T0) is None


@given(start=st.floats(-9, 9), end=st.floats(-9, 9), steps=st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_a_bridge_joins_its_ends(start: float, end: float, steps: list[float]) -> None:
    walk = bridge(start, end, steps)
    assert (walk[0], walk[-1]) == (start, end)
    assert len(walk) == len(steps) + 1
    assert walk[-2] + steps[-1] + (end - start - math.fsum(steps)) / len(steps) == pytest.approx(end, abs=1e-9)
