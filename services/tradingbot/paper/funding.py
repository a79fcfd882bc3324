"""Hourly funding by the venue's formula: what a position pays to the other side.

F(8 h) = average premium P + clamp(0.0001 − P, −0.0005, 0.0005); each hour pays F/8, capped at 4 %. The premium is
how far the impact prices stand from the oracle, averaged over the hour before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal

from tradingbot.paper.decimals import ZERO
from tradingbot.paper.market import Book, Level, Market

HOUR_MS = 3_600_000
SAMPLE_MS = 60_000
"""The venue samples every 5 s; the modelled premium moves too little for that to matter."""
INTEREST = Decimal("0.0001")
CLAMP = Decimal("0.0005")
CAP = Decimal("0.04")
RATE_STEP = Decimal("0.0000000001")
IMPACT_USD = {"BTC": Decimal(20_000), "ETH": Decimal(20_000)}
IMPACT_USD_OTHERS = Decimal(6_000)
EARLIEST_STAMP_MS = 10
STAMP_SPREAD_MS = 390


def hourly_rate(premium: Decimal) -> Decimal:
    """The rate of one hour for the hour's average premium."""
    eight_hours = premium + max(-CLAMP, min(CLAMP, INTEREST - premium))
    return max(-CAP, min(CAP, eight_hours / 8)).quantize(RATE_STEP)


def premium(*, bid: Decimal, ask: Decimal, oracle: Decimal) -> Decimal:
    """(max(impact bid − oracle, 0) − max(oracle − impact ask, 0)) / oracle."""
    return (max(bid - oracle, ZERO) - max(oracle - ask, ZERO)) / oracle


def impact_px(levels: Sequence[Level], usd: Decimal) -> Decimal | None:
    """The average price of trading ``usd`` of notional; None when the side is empty."""
    paid = got = ZERO
    for level in levels:
        sz = min(level.sz, (usd - paid) / level.px)
        paid, got = paid + sz * level.px, got + sz
        if paid >= usd:
            break
    return paid / got if got else None


def impact_prices(book: Book, coin: str) -> tuple[Decimal, Decimal] | None:
    """Impact bid and ask of a book; None when a side is empty."""
    usd = IMPACT_USD.get(coin, IMPACT_USD_OTHERS)
    bid, ask = impact_px(book.bids, usd), impact_px(book.asks, usd)
    return None if bid is None or ask is None else (bid, ask)


def average_premium(market: Market, coin: str, hour_ms: int) -> Decimal:
    """The mean of the premium over the hour that ends at ``hour_ms``."""
    samples = []
    for at_ms in range(hour_ms - HOUR_MS, hour_ms, SAMPLE_MS):
        oracle = market.oracle(coin, at_ms)
        impact = impact_prices(market.whole_book(coin, at_ms), coin)
        if oracle is not None and impact is not None:
            samples.append(premium(bid=impact[0], ask=impact[1], oracle=oracle))
    return sum(samples, ZERO) / len(samples) if samples else ZERO


def stamp_ms(hour_ms: int) -> int:
    """The venue's stamps lie some 10 to 400 ms past the hour; the same hour always has the same one."""
    dice = int.from_bytes(hashlib.sha256(str(hour_ms).encode()).digest()[:4], "big")
    return hour_ms + EARLIEST_STAMP_MS + dice % STAMP_SPREAD_MS


def hours_between(from_ms: int, to_ms: int) -> range:
    """The full hours whose payment falls in (from_ms, to_ms]."""
    first = from_ms - from_ms % HOUR_MS
    if stamp_ms(first) <= from_ms:
        first += HOUR_MS
    last = to_ms - to_ms % HOUR_MS
    if stamp_ms(last) > to_ms:
        last -= HOUR_MS
    return range(first, last + 1, HOUR_MS)
