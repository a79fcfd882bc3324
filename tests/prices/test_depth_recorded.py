"""The modelled book beside recorded ones, when TB_RECORDED_BOOKS names a folder that holds some (docs/prices.md).

The folder has COIN_l2book.parquet (20 levels: bid_price_0, bid_size_0, …, exchange_timestamp_ms) and
COIN_trades.parquet (price, size, trade_id, exchange_timestamp_ms). Run with -s to see the table.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tradingbot.paper.prices import Candle, Depth, Liquidity
from tradingbot.paper.prices.depth import LEVELS, MIN_SIGMA_BPS, liquidity, modelled

MINUTE = 60_000
SHOWN = (1, 2, 3, 5, 10, 20)
COINS = {"BTC": 5, "ETH": 4, "SOL": 2}


@dataclass
class Shape:
    """A book in figures that do not depend on the price: bps, and USD a side down to each level."""

    spread_bps: float
    distance_bps: dict[int, float]
    depth_usd: dict[int, float]


def shape(depth: Depth) -> Shape:
    mid = (depth.bids[0][0] + depth.asks[0][0]) / 2
    usd = [(bid[0] * bid[1] + ask[0] * ask[1]) / 2 for bid, ask in zip(depth.bids, depth.asks, strict=True)]
    return Shape(
        spread_bps=(depth.asks[0][0] - depth.bids[0][0]) / mid * 1e4,
        distance_bps={k: (depth.asks[k - 1][0] - depth.bids[k - 1][0]) / 2 / mid * 1e4 for k in SHOWN},
        depth_usd={k: sum(usd[:k]) for k in SHOWN},
    )


def median(shapes: list[Shape]) -> Shape:
    return Shape(
        spread_bps=statistics.median(each.spread_bps for each in shapes),
        distance_bps={k: statistics.median(each.distance_bps[k] for each in shapes) for k in SHOWN},
        depth_usd={k: statistics.median(each.depth_usd[k] for each in shapes) for k in SHOWN},
    )


def columns(path: Path) -> dict[str, list]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pydict()


def books(folder: Path, coin: str) -> Iterator[tuple[int, Depth]]:
    table = columns(folder / f"{coin}_l2book.parquet")
    for row, at_ms in enumerate(table["exchange_timestamp_ms"]):
        sides = [
            tuple((table[f"{side}_price_{k}"][row], table[f"{side}_size_{k}"][row]) for k in range(LEVELS))
            for side in ("bid", "ask")
        ]
        yield at_ms, Depth(bids=sides[0], asks=sides[1], tick=0.0)


class TradedCandles:
    """One-minute candles made of recorded trades."""

    def __init__(self, folder: Path, coin: str, *, from_ms: int) -> None:
        table = columns(folder / f"{coin}_trades.parquet")
        names = ("exchange_timestamp_ms", "trade_id", "price", "size")
        trades = sorted(set(zip(*(table[name] for name in names), strict=True)))
        self._minutes: dict[int, list[tuple[float, float]]] = {}
        for at_ms, _, px, size in trades:
            if at_ms >= from_ms:
                self._minutes.setdefault(at_ms // MINUTE, []).append((px, size))

    def candles(self, symbol: str, start_ms: int, end_ms: int) -> list[Candle]:
        found = [(m, self._minutes.get(m, [])) for m in range(start_ms // MINUTE, end_ms // MINUTE)]
        return [candle(minute, trades) for minute, trades in found if trades]


def candle(minute: int, trades: list[tuple[float, float]]) -> Candle:
    px = [each[0] for each in trades]
    volume = sum(size for _, size in trades)
    return Candle(t_ms=minute * MINUTE, open=px[0], high=max(px), low=min(px), close=px[-1], volume=volume)


def table_of(coin: str, real: Shape, model: Shape, known: Liquidity) -> str:
    lines = [f"{coin}: V {known.volume_usd:,.0f} USD/min, sigma {known.sigma_bps:.1f} bps"]
    lines.append(f"  spread bps: recorded {real.spread_bps:.3f}, model {model.spread_bps:.3f}")
    lines += [
        f"  {k:2} levels: within bps {real.distance_bps[k]:.2f} | {model.distance_bps[k]:.2f},"
        f" USD a side {real.depth_usd[k]:>12,.0f} | {model.depth_usd[k]:>12,.0f}"
        f" ({model.depth_usd[k] / real.depth_usd[k]:.2f}x)"
        for k in SHOWN
    ]
    return "\n".join(lines)


@pytest.mark.skipif("TB_RECORDED_BOOKS" not in os.environ, reason="TB_RECORDED_BOOKS names no folder of recorded books")
@pytest.mark.parametrize("coin", COINS)
def test_the_modelled_book_is_near_the_recorded_ones(coin: str) -> None:
    folder = Path(os.environ["TB_RECORDED_BOOKS"])
    recorded = list(books(folder, coin))
    source = TradedCandles(folder, coin, from_ms=recorded[0][0] // MINUTE * MINUTE + MINUTE)
    real, model, known = [], [], Liquidity(volume_usd=1_000, sigma_bps=MIN_SIGMA_BPS)
    for at_ms, depth in recorded[::10]:
        minute = at_ms // MINUTE * MINUTE
        if len(source.candles(coin, minute - 10 * MINUTE, minute)) < 10:
            continue
        known = liquidity(source, coin, minute)  # type: ignore[arg-type]
        mid = (depth.bids[0][0] + depth.asks[0][0]) / 2
        real.append(shape(depth))
        model.append(shape(modelled(mid, known, sz_decimals=COINS[coin])))
    real_median, model_median = median(real), median(model)
    print("\n" + table_of(coin, real_median, model_median, known))  # noqa: T201
    assert model_median.spread_bps == pytest.approx(real_median.spread_bps, rel=0.25)
    for k in SHOWN:
        assert 0.5 < model_median.depth_usd[k] / real_median.depth_usd[k] < 2
