"""Prices for the paper exchange: recorded, synthetic or live candles, mids at any moment, and a modelled book."""

from tradingbot.paper.prices.depth import BookModel, Liquidity, book
from tradingbot.paper.prices.live import LivePrices, probe_live
from tradingbot.paper.prices.load import load_prices
from tradingbot.paper.prices.model import MINUTE_MS, Candle, Depth, PricesError, PriceSource, minute_of
from tradingbot.paper.prices.path import candles_until
from tradingbot.paper.prices.recorded import RecordedPrices
from tradingbot.paper.prices.synthetic import SyntheticPrices

__all__ = [
    "MINUTE_MS",
    "BookModel",
    "Candle",
    "Depth",
    "Liquidity",
    "LivePrices",
    "PriceSource",
    "PricesError",
    "RecordedPrices",
    "SyntheticPrices",
    "book",
    "candles_until",
    "load_prices",
    "minute_of",
    "probe_live",
]
