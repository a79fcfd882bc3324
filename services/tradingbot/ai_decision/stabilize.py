"""What every proposal goes through, whatever made it: the same steps in the same order, each one recorded.

1. *cap_and_scale*: shorts, caps, gross and net, as the risk gate counts them; coins that are held count too.
2. *low_confidence*: below ``min_confidence`` every weight is multiplied by ``low_conf_scale``.
3. *ewma*: w = α·target + (1 − α)·previous target.
4. *turnover*: caps, gross and net once more (the parameters may have become tighter since the previous target), and
   increases scaled so that Σ|w − present| keeps its cap.

The result keeps every limit that the risk gate will check, so that in a calm market the gate changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from tradingbot.domain.params import AiParams, RiskParams
from tradingbot.domain.weights import (
    Limits,
    Room,
    Scratch,
    Vector,
    clip,
    copy_to,
    ewma,
    fit_with,
    limits_of,
    scale,
    scale_gross,
    scale_net,
    scratch,
)

STEPS: Final = ("strategy", "cap_and_scale", "low_confidence", "ewma", "turnover")
"""The names of the recorded rows, in order."""


class Smoothing(NamedTuple):
    """The part of the AI parameters that the kernel needs."""

    alpha: float
    min_confidence: float
    low_conf_scale: float


class Ground(NamedTuple):
    """What a proposal is made steady against, over parallel vectors."""

    now: Vector
    """The present weights."""
    previous: Vector
    """The last target's weights."""
    limits: Limits
    smoothing: Smoothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Stabilized:
    """Weights that keep the limits, and how they came about."""

    weights: dict[str, float]
    steps: dict[str, dict[str, float]]
    """The weights after each step, by its name."""


def stabilize(
    proposed: Mapping[str, float],
    *,
    confidence: float,
    previous: Mapping[str, float],
    present: Mapping[str, float],
    risk: RiskParams,
    ai: AiParams,
) -> Stabilized:
    """Make a valid proposal steady.

    Args:
        proposed: the strategy's weights, finite; a coin that is missing is held.
        confidence: the strategy's own, 0 to 1.
        previous: the last target's weights; a coin that is missing starts from its present weight.
        present: the weight of every open position at present marks.
        risk: the limits.
        ai: smoothing and confidence.
    """
    symbols = tuple(proposed)
    now: Vector = [present.get(symbol, 0.0) for symbol in symbols]
    before = [previous.get(symbol, here) for symbol, here in zip(symbols, now, strict=True)]
    rows = [[0.0] * len(symbols) for _ in STEPS]
    steady(
        list(proposed.values()),
        Ground(
            now=now,
            previous=before,
            limits=limits_of(symbols, present=present, risk=risk),
            smoothing=Smoothing(ai.smooth_alpha, ai.min_confidence, ai.low_conf_scale),
        ),
        confidence,
        rows,
        scratch(len(symbols)),
    )
    steps = {name: dict(zip(symbols, row, strict=True)) for name, row in zip(STEPS, rows, strict=True)}
    return Stabilized(weights=steps[STEPS[-1]], steps=steps)


def steady(weights: Vector, ground: Ground, confidence: float, rows: list[Vector], scratch: Scratch) -> None:
    """All steps over parallel vectors, in place; ``rows`` gets the weights after each one, the last is the result."""
    limits, smoothing = ground.limits, ground.smoothing
    copy_to(rows[0], weights)
    cap_and_scale(weights, limits.lows, limits.caps, limits.room)
    copy_to(rows[1], weights)
    if confidence < smoothing.min_confidence:
        scale(weights, smoothing.low_conf_scale)
    copy_to(rows[2], weights)
    ewma(weights, ground.previous, smoothing.alpha)
    copy_to(rows[3], weights)
    clip(weights, limits.lows, limits.caps)
    for i in range(len(weights)):
        scratch.before[i] = weights[i]
    fit_with(weights, ground.now, limits.room, scratch)
    copy_to(rows[4], weights)


def cap_and_scale(weights: Vector, lows: Vector, highs: Vector, room: Room) -> None:
    """Each weight into its own range, then all of them into gross and net."""
    clip(weights, lows, highs)
    scale_gross(weights, room.held_gross, room.max_gross)
    scale_net(weights, room.held_net, room.max_net)
