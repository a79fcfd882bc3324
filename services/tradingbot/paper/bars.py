"""Candles of every interval, made of the minutes that are known now."""

from __future__ import annotations

from typing import Any

from tradingbot.paper.assets import Asset
from tradingbot.paper.decimals import text
from tradingbot.paper.market import Market
from tradingbot.paper.prices import Candle

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
INTERVALS_MS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
    "1M": 30 * DAY_MS,
}
"""The month is 30 days here."""
NEWEST = 5_000
"""Only so many candles exist for a client."""
TYPICAL_TRADE_USD = 1_000.0
"""Candles do not tell how many trades they hold; ``n`` is the volume in such trades."""


def candle_rows(
    market: Market, asset: Asset, *, interval: str, start_ms: int, end_ms: int, now_ms: int
) -> list[dict[str, Any]]:
    """The rows of ``candleSnapshot``: from the candle that contains the start; the last one may still be forming."""
    length_ms = INTERVALS_MS[interval]
    end_ms = min(end_ms, now_ms)
    first_ms = max(start_ms - start_ms % length_ms, end_ms - end_ms % length_ms - (NEWEST - 1) * length_ms)
    minutes = market.candles(asset.name, start_ms=first_ms, end_ms=end_ms + 1, now_ms=now_ms)
    groups: dict[int, list[Candle]] = {}
    for minute in minutes:
        groups.setdefault(minute.t_ms - minute.t_ms % length_ms, []).append(minute)
    return [_row(asset, interval, start, group) for start, group in groups.items()]


def _row(asset: Asset, interval: str, start_ms: int, minutes: list[Candle]) -> dict[str, Any]:
    volume = sum(minute.volume for minute in minutes)
    traded_usd = sum(minute.volume * minute.close for minute in minutes)
    return {
        "t": start_ms,
        "T": start_ms + INTERVALS_MS[interval] - 1,
        "s": asset.name,
        "i": interval,
        "o": _px(asset, minutes[0].open),
        "c": _px(asset, minutes[-1].close),
        "h": _px(asset, max(minute.high for minute in minutes)),
        "l": _px(asset, min(minute.low for minute in minutes)),
        "v": text(asset.nearest_size(volume)),
        "n": round(traded_usd / TYPICAL_TRADE_USD),
    }


def _px(asset: Asset, px: float) -> str:
    return text(asset.nearest_price(px))
