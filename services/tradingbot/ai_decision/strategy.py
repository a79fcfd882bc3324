"""What a strategy is: it sees the market and the account, and proposes weights with a confidence.

Whatever it is, its answer is only a proposal: it is validated and stabilized here and cut by the risk gate after that.
A language model takes this place by implementing ``Strategy``; its time budget and its errors stay its own affair, as
long as it raises ``StrategyFailed`` for what it could not answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tradingbot.domain.errors import Permanent
from tradingbot.domain.messages import FeatureSnapshot1m, ModelName, StateSnapshot
from tradingbot.domain.model import Model
from tradingbot.domain.params import AiParams, RiskParams
from tradingbot.domain.portfolio import present_weights

RATIONALE_MAX = 800


class StrategyFailed(Permanent):
    """A strategy gave no usable answer for this cycle; the baseline decides instead.

    Args:
        message: why, for a person.
        evidence: what a model answered all the same, for the record.
        answer_digest: domain.ids.digest of that answer.
    """

    def __init__(
        self, message: str, *, evidence: Mapping[str, Any] | None = None, answer_digest: str | None = None
    ) -> None:
        super().__init__(message)
        self.evidence: Mapping[str, Any] = evidence or {}
        self.answer_digest = answer_digest


class PastDecision(Model):
    """An earlier decision, and what the account and the market were when it was made."""

    cycle_id: str
    weights: dict[str, float]
    """Its target."""
    equity_usd: float
    mids: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a strategy may see."""

    features: FeatureSnapshot1m
    snapshot: StateSnapshot
    universe: tuple[str, ...]
    risk: RiskParams
    ai: AiParams = field(default_factory=AiParams)
    cycle_id: str = ""
    previous: Mapping[str, float] = field(default_factory=dict)
    """The last target's weights, while they count."""
    recent: tuple[PastDecision, ...] = ()
    """The last decisions, oldest first."""
    deadline_s: float = 0.0
    """The real second (Clock.real_s) by which the answer must be there; 0: none is set. No part of what decides."""

    @property
    def usable(self) -> tuple[str, ...]:
        """The coins whose features are whole and fresh; the others keep their weight."""
        features = self.features
        return tuple(
            symbol
            for symbol in self.universe
            if symbol not in features.stale
            and all(symbol in each for each in (features.mid_px, features.ret_5m, features.ret_1h, features.vol_1h))
        )

    @property
    def present(self) -> dict[str, float]:
        """The weight of every open position."""
        return present_weights(self.snapshot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A strategy's answer, as it came."""

    weights: Mapping[str, float]
    confidence: float
    rationale: str
    model: ModelName
    used: str
    """Which strategy decided: baseline, baseline_fallback, …"""
    error: str | None = None
    """Why the intended strategy could not, when the baseline stands in for it."""
    signals: Mapping[str, float] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What the answer rests on beside the view, such as a model's parsed answers: JSON-able, enough to compute the
    proposal again without asking anybody."""
    answer_digest: str | None = None
    """domain.ids.digest of the raw answers; None where nobody was asked."""


class Strategy(Protocol):
    """Proposes weights, once a cycle."""

    async def propose(self, view: View) -> Proposal:
        """The weights for this cycle; a coin that is left out is held.

        Raises:
            StrategyFailed: there is no usable answer.
        """
        ...


def validate(proposal: Proposal, view: View) -> None:
    """Refuse an answer that cannot be meant.

    Raises:
        StrategyFailed: an unknown coin, a weight that is no number or beyond ±1, or a confidence outside 0 to 1.
    """
    unknown = sorted(set(proposal.weights) - set(view.universe))
    if unknown:
        raise StrategyFailed(f"weights for coins outside the universe: {', '.join(unknown)}")
    odd = sorted(
        symbol for symbol, weight in proposal.weights.items() if not (math.isfinite(weight) and -1 <= weight <= 1)
    )
    if odd:
        raise StrategyFailed(f"weights that are no fraction of equity: {', '.join(odd)}")
    if not 0 <= proposal.confidence <= 1:
        raise StrategyFailed(f"confidence must be from 0 to 1, was {proposal.confidence}")
