"""Equal weights: each coin the same share, whatever the market does. The honest yardstick, and often hard to beat.

weight = deployable / n, at most 0.8 of the coin's cap, with deployable = 0.9 · min(max_gross, max_net) and n the coins
with whole and fresh features. Confidence is 1: nothing is estimated.
"""

from __future__ import annotations

from tradingbot.ai_decision.budgets import Moves, Terms, equal_shares, moves_of, terms_of
from tradingbot.ai_decision.strategy import Proposal, View
from tradingbot.domain.messages import ModelName
from tradingbot.domain.weights import Vector

MODEL = ModelName(name="equal-weight", version="1")


class Equal:
    """The same share of every usable coin."""

    async def propose(self, view: View) -> Proposal:
        """Equal weights."""
        return propose(view)


def propose(view: View) -> Proposal:
    """Equal weights of the usable coins."""
    symbols = view.usable
    weights, signals = [0.0] * len(symbols), [0.0] * len(symbols)
    confidence = weigh(moves_of(view), terms_of(view), weights, signals)
    return Proposal(
        weights=dict(zip(symbols, weights, strict=True)),
        confidence=confidence,
        rationale=f"Equal weights of {len(symbols)} coins.",
        model=MODEL,
        used="equal",
    )


def weigh(moves: Moves, terms: Terms, weights: Vector, signals: Vector) -> float:  # noqa: ARG001 - as every kernel
    """Write the weights and return the confidence."""
    equal_shares(terms.caps, terms.total, weights)
    return 1.0
