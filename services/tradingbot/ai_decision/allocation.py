"""From a regime, a risk multiplier and the market to the optimizer's problem: what is expected, risked and paid.

Everything is over one horizon h, a day (``HORIZON_MIN``), with σ the coin's volatility over it, vol_1h·√h:

* signal = 0.3·s(z5) + 0.7·s(z60), the baseline's, in (−1, 1);
* μ = SKILL · tilt · signal · σ: a forecast's usual form, skill times volatility times score;
* Σ = σσᵀ ∘ R, R the shrunk correlations (``correlation``);
* cost = the taker's fee and half the spread, per unit traded, once: it stands against a day's return;
* γ = AVERSION · the regime's caution / multiplier;
* gross and net at most the multiplier times the regime's share of the risk gate's.

| regime | tilt | share | caution | what it means |
|---|---|---|---|---|
| trend | +1 | 1 | 1 | momentum: moves go on |
| range | −0.5 | 0.75 | 1 | mean reversion, at half the strength: moves come back |
| stress | 0 | 0.25 | 4 | defensive: no view, what is held shrinks |

``SKILL`` is an assumption, and a kind one: on 43,000 recorded minutes of five coins (May and June 2025) the signal's
correlation with what followed was 0.02 over an hour, 0.01 over four and nothing over a day. The regime is what the
model has to contribute; without a view that pays for its cost the optimizer does not trade.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from tradingbot.ai_decision.baseline import FAST, MINUTES_A_YEAR, SLOW, strength
from tradingbot.ai_decision.budgets import MIN_VOL
from tradingbot.ai_decision.optimizer import Optimizer, Problem, Solution
from tradingbot.ai_decision.program import Array
from tradingbot.domain.params import ExternalPositions, RiskParams
from tradingbot.domain.portfolio import gross
from tradingbot.domain.weights import Room, Vector, room_of

HORIZON_MIN = 1440.0
"""Minutes of a forecast."""
SKILL = 0.05
"""The correlation that is assumed between a signal of full strength and the return of the horizon."""
AVERSION = 10.0
"""γ of a calm market: a position of 10 % in a coin of 70 % a year is charged 0.7 bp a day for its risk."""
TAKER_FEE = 0.00045
"""Of what is traded: the venue's lowest tier."""
HALF_SPREAD = 0.0001
"""Where the book is not known."""
LEAST_MULTIPLIER = 0.05
"""Below it γ does not grow further: gross and net shrink anyway."""
MOST_VOL = 50.0
"""Annualised, 5,000 %: what moves more is left alone as surely, and the numbers stay within the solver's reach."""
MOST_WEIGHT = 1.0
"""A strategy's weights are fractions of equity, whatever the caps."""


class Regime(StrEnum):
    """How the market behaves."""

    TREND = "trend"
    RANGE = "range"
    STRESS = "stress"


class Posture(NamedTuple):
    """What a regime asks for."""

    tilt: float
    share: float
    caution: float


POSTURES = {
    Regime.TREND: Posture(tilt=1.0, share=1.0, caution=1.0),
    Regime.RANGE: Posture(tilt=-0.5, share=0.75, caution=1.0),
    Regime.STRESS: Posture(tilt=0.0, share=0.25, caution=4.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stance:
    """The model's part of a decision."""

    regime: Regime
    multiplier: float
    """0 to 1: how much of the risk allowed is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What is known of the coins at a decision; parallel vectors."""

    vol_1h: Sequence[float]
    """Annualised."""
    ret_5m: Sequence[float]
    ret_1h: Sequence[float]
    correlation: Array
    half_spread: Sequence[float] | None = None
    """Fractions of the mid; None: ``HALF_SPREAD`` for all."""

    @property
    def signals(self) -> Vector:
        """The baseline's signals, −1 to 1."""
        return [
            FAST * strength(fast, max(vol, MIN_VOL), 5.0) + SLOW * strength(slow, max(vol, MIN_VOL), 60.0)
            for vol, fast, slow in zip(self.vol_1h, self.ret_5m, self.ret_1h, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """The account and its limits as the risk gate counts them; parallel vectors."""

    now: Vector
    lows: Vector
    highs: Vector
    room: Room


def holdings_of(
    symbols: Sequence[str], *, present: Mapping[str, float], universe: Sequence[str], risk: RiskParams
) -> Holdings:
    """The limits of a proposal for ``symbols``: other positions are held, or closed where the gate closes them.

    Args:
        symbols: the coins that get a weight.
        present: the weight of every open position, coins outside the universe too.
        universe: the coins that may be traded.
        risk: the limits.
    """
    closes = risk.external_positions is ExternalPositions.REDUCE
    closed = [weight for symbol, weight in present.items() if closes and symbol not in universe]
    held = [
        weight for symbol, weight in present.items() if symbol not in symbols and (symbol in universe or not closes)
    ]
    room = room_of(held, risk)
    highs = [min(risk.cap(symbol), MOST_WEIGHT) for symbol in symbols]
    return Holdings(
        now=[present.get(symbol, 0.0) for symbol in symbols],
        lows=[-high if risk.allow_short else 0.0 for high in highs],
        highs=highs,
        room=room._replace(turnover_cap=max(0.0, room.turnover_cap - gross(closed))),
    )


def problem_of(market: Market, holdings: Holdings, stance: Stance) -> Problem:
    """The optimizer's problem."""
    posture, n = POSTURES[stance.regime], len(market.vol_1h)
    horizon = math.sqrt(HORIZON_MIN / MINUTES_A_YEAR)
    vols = np.array([min(max(vol, MIN_VOL), MOST_VOL) * horizon for vol in market.vol_1h])
    spread = np.full(n, HALF_SPREAD) if market.half_spread is None else np.array(market.half_spread)
    share = posture.share * stance.multiplier
    room = holdings.room
    return Problem(
        mu=SKILL * posture.tilt * np.array(market.signals) * vols,
        sigma=market.correlation * vols[:, None] * vols,
        risk_aversion=AVERSION * posture.caution / max(stance.multiplier, LEAST_MULTIPLIER),
        cost=TAKER_FEE + spread,
        now=np.array(holdings.now),
        lows=np.array(holdings.lows),
        highs=np.array(holdings.highs),
        room=room._replace(max_gross=share * room.max_gross, max_net=share * room.max_net),
    )


def optimal_weights(market: Market, holdings: Holdings, stance: Stance, optimizer: Optimizer) -> Vector:
    """The weights alone, for a backtest: a pure function of its arguments, whatever ``optimizer`` solved before.

    Raises:
        UnsolvedError: as ``Optimizer.solve``.
    """
    return solve(market, holdings, stance, optimizer).weights


def solve(market: Market, holdings: Holdings, stance: Stance, optimizer: Optimizer) -> Solution:
    """The optimizer's answer with its reasons; raises UnsolvedError."""
    return optimizer.solve(problem_of(market, holdings, stance))
