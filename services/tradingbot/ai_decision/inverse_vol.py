"""Inverse volatility: calm coins get more, so that each carries about the same risk. No opinion on direction.

weight = deployable · (1/vol) / Σ(1/vol), at most 0.8 of the coin's cap, with vol = vol_1h (at least 5 % a year) and
deployable = 0.9 · min(max_gross, max_net), over the coins with whole and fresh features. Confidence is 1.
"""

from __future__ import annotations

from tradingbot.ai_decision.budgets import Moves, Terms, inverse_vol_shares, moves_of, terms_of
from tradingbot.ai_decision.strategy import RATIONALE_MAX, Proposal, View
from tradingbot.domain.messages import ModelName
from tradingbot.domain.weights import Vector

MODEL = ModelName(name="inverse-volatility", version="1")


class InverseVol:
    """Weights by inverse volatility."""

    async def propose(self, view: View) -> Proposal:
        """Inverse-volatility weights."""
        return propose(view)


def propose(view: View) -> Proposal:
    """Inverse-volatility weights of the usable coins."""
    symbols = view.usable
    weights, signals = [0.0] * len(symbols), [0.0] * len(symbols)
    confidence = weigh(moves_of(view), terms_of(view), weights, signals)
    vols = ", ".join(f"{symbol} {view.features.vol_1h[symbol]:.2f}" for symbol in symbols)
    return Proposal(
        weights=dict(zip(symbols, weights, strict=True)),
        confidence=confidence,
        rationale=f"Weights by inverse volatility, a year: {vols}"[:RATIONALE_MAX],
        model=MODEL,
        used="inverse_vol",
    )


def weigh(moves: Moves, terms: Terms, weights: Vector, signals: Vector) -> float:  # noqa: ARG001 - as every kernel
    """Write the weights and return the confidence."""
    inverse_vol_shares(moves.vol_1h, terms.caps, terms.total, weights)
    return 1.0
