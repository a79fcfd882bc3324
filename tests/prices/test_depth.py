"""The modelled book."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.paper.prices import BookModel, Liquidity, SyntheticPrices, book
from tradingbot.paper.prices.depth import LEVELS, POWER, SLOPE, TOUCH, modelled, tick_decimals

T0 = 1_771_430_400_000

mids = st.floats(0.001, 200_000)
liquidities = st.builds(
    lambda volume, sigma: Liquidity(volume_usd=volume, sigma_bps=sigma), st.floats(1_000, 1e8), st.floats(1, 200)
)


@given(mid=mids, known=liquidities, sz_decimals=st.integers(0, 3))
def test_a_book_is_never_crossed_lies_around_the_mid_and_is_sorted(
    mid: float, known: Liquidity, sz_decimals: int
) -> None:
    depth = modelled(mid, known, sz_decimals=sz_decimals)
    bids, asks = [px for px, _ in depth.bids], [px for px, _ in depth.asks]
    assert len(asks) == LEVELS
    assert asks == sorted(asks)
    assert bids == sorted(bids, reverse=True)
    assert all(size >= 0 for _, size in (*depth.bids, *depth.asks))
    if bids:
        assert bids[0] < asks[0]
        assert bids[0] - depth.tick <= mid <= asks[0] + depth.tick


@given(mid=mids, known=liquidities)
def test_prices_are_multiples_of_the_tick(mid: float, known: Liquidity) -> None:
    decimals = tick_decimals(mid, sz_decimals=0)
    for px, _ in modelled(mid, known, sz_decimals=0).asks:
        assert px == round(px, decimals)


@pytest.mark.parametrize(
    ("px", "sz_decimals", "decimals"),
    [(110_071.0, 5, 0), (98_765.0, 5, 0), (9_876.5, 5, 1), (4_290.3, 4, 1), (202.88, 2, 2), (0.5811, 0, 5)],
)
def test_the_tick_is_the_venues(px: float, sz_decimals: int, decimals: int) -> None:
    assert tick_decimals(px, sz_decimals=sz_decimals) == decimals


def test_the_depth_within_a_distance_is_what_the_formula_says() -> None:
    known = Liquidity(volume_usd=2_000_000, sigma_bps=5.0)
    depth = modelled(4_000.03, known, sz_decimals=4)
    far = depth.asks[-1][0]
    held = sum(px * size for px, size in depth.asks)
    distance_bps = (far - 4_000.03) / 4_000.03 * 1e4
    assert held == pytest.approx(2_000_000 * (TOUCH + SLOPE * (distance_bps / 5.0) ** POWER))


def test_the_book_uses_only_minutes_that_are_over() -> None:
    source = SyntheticPrices(symbols=("BTC",), seed=1)

    class Cut(SyntheticPrices):
        def candle(self, symbol: str, minute_ms: int):
            assert minute_ms < T0 or symbol != "BTC" or minute_ms == T0 + 30_000
            return super().candle(symbol, minute_ms)

    assert book(Cut(symbols=("BTC",), seed=1), "BTC", T0 + 30_000) == book(source, "BTC", T0 + 30_000)


def test_more_volatility_widens_the_spread_and_thins_the_book() -> None:
    calm, wild = (Liquidity(volume_usd=50_000, sigma_bps=sigma) for sigma in (5.0, 100.0))
    assert calm.spread_bps < wild.spread_bps
    assert calm.within_usd(10) > wild.within_usd(10)


def test_a_model_answers_as_one_that_remembers_nothing() -> None:
    source = SyntheticPrices(symbols=("BTC",), seed=1)
    model = BookModel(source)
    for at_ms in (T0, T0 + 250, T0 + 59_999, T0 + 60_000, T0):
        assert model.book("BTC", at_ms, sz_decimals=5) == book(source, "BTC", at_ms, sz_decimals=5)
