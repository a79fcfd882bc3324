"""What a coin's book says of its liquidity, from a handful of facts about it.

The facts go onto the bus beside the features, so that the features can be made again from them. Scalar float64
arithmetic: the result is the same to the last bit wherever it runs. What cannot be known is None, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

from tradingbot.domain.messages import BookFacts

BAND_BPS = 25.0
"""Depth counts within this far from the mid, on each side: about what an order of the bot may reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookFeatures:
    """The four features of a book; None where the book does not tell."""

    spread_bps: float
    """(ask − bid) / mid · 10,000."""
    book_imbalance: float | None
    """(bids − asks) / (bids + asks) within the band, in USD: −1 only asks, 1 only bids."""
    liquidity_score: float | None
    """The thinner side's depth over its usual one, the last hour's median, 1 at most: 0 nothing is there, 1 as ever.
    A coin that never has anything within the band scores 0; else it is compared with itself alone."""
    liq_intensity: float | None
    """How many times the depth within the band was renewed in the last minute: what was added, taken or withdrawn,
    in USD, over the depth."""


def book_features(facts: BookFacts) -> BookFeatures:
    """The features that follow from a book's facts."""
    bid, ask = float(facts.bid_px), float(facts.ask_px)
    depth_usd, thinner_usd = facts.bid_usd + facts.ask_usd, min(facts.bid_usd, facts.ask_usd)
    typical_usd, churn_usd = facts.typical_usd, facts.churn_usd
    score = None if typical_usd is None else min(1.0, thinner_usd / typical_usd) if typical_usd > 0 else 0.0
    return BookFeatures(
        spread_bps=(ask - bid) / ((ask + bid) / 2.0) * 10_000.0,
        book_imbalance=(facts.bid_usd - facts.ask_usd) / depth_usd if depth_usd > 0 else None,
        liquidity_score=score,
        liq_intensity=churn_usd / depth_usd if churn_usd is not None and depth_usd > 0 else None,
    )


def book_fields(books: dict[str, BookFacts]) -> dict[str, dict[str, float] | None]:
    """The features by name, each by coin, as ``md.features.1m`` holds them; None where no coin has one."""
    features = {symbol: book_features(facts) for symbol, facts in books.items()}
    fields: dict[str, dict[str, float] | None] = {}
    for name in ("spread_bps", "book_imbalance", "liquidity_score", "liq_intensity"):
        values = {symbol: getattr(each, name) for symbol, each in features.items()}
        fields[name] = {symbol: value for symbol, value in values.items() if value is not None} or None
    return fields
