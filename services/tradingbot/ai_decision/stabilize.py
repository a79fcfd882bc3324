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

from tradingbot.domain.params import AiParams, RiskParams
from tradingbot.domain.weights import Room, Vector, clip, ewma, fit, room_of, scale, scale_gross, scale_net


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
    room = room_of((weight for symbol, weight in present.items() if symbol not in proposed), risk)
    now: Vector = [present.get(symbol, 0.0) for symbol in symbols]
    caps: Vector = [risk.cap(symbol) for symbol in symbols]
    lows: Vector = [-cap if risk.allow_short else 0.0 for cap in caps]
    weights: Vector = list(proposed.values())
    steps: dict[str, dict[str, float]] = {}

    def record(name: str) -> None:
        steps[name] = {symbol: weight + 0.0 for symbol, weight in zip(symbols, weights, strict=True)}

    record("strategy")
    cap_and_scale(weights, lows, caps, room)
    record("cap_and_scale")
    if confidence < ai.min_confidence:
        scale(weights, ai.low_conf_scale)
    record("low_confidence")
    ewma(weights, [previous.get(symbol, here) for symbol, here in zip(symbols, now, strict=True)], ai.smooth_alpha)
    record("ewma")
    clip(weights, lows, caps)
    fit(weights, now, [0] * len(weights), room)
    record("turnover")
    return Stabilized(weights=steps["turnover"], steps=steps)


def cap_and_scale(weights: Vector, lows: Vector, highs: Vector, room: Room) -> None:
    """Each weight into its own range, then all of them into gross and net."""
    clip(weights, lows, highs)
    scale_gross(weights, room.held_gross, room.max_gross)
    scale_net(weights, room.held_net, room.max_net)
