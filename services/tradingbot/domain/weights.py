"""The numeric kernel of limits and smoothing: scalar float64 loops over parallel vectors, changed in place.

The stabilizer and the risk gate call the same functions, so that what the one calls within limits the other leaves
alone. Only + − × ÷, min and max in a fixed order: called as Python when live or compiled, the result is equal to the
last bit. Vectors hold the coins that have a target; coins without one are *held* and come in as two sums, their gross
and their net, that no function here can change.

Every function but ``ewma`` only moves a weight towards zero or towards the present one, and acts only when a limit is
passed by more than ``TOLERANCE``: applied to its own result, it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tradingbot.domain.limits import TOLERANCE
from tradingbot.domain.params import RiskParams
from tradingbot.domain.portfolio import gross, net

Vector = list[float]

SHORT, CAP, REDUCE_ONLY, GROSS, NET, TURNOVER = 1, 2, 4, 8, 16, 32
"""The bits of a weight's reasons."""

REASONS = {SHORT: "short", CAP: "cap", REDUCE_ONLY: "reduce_only", GROSS: "gross", NET: "net", TURNOVER: "turnover"}

FIT_PASSES = 8
"""Rounds of gross, net and turnover before increases are given up: one is enough unless longs and shorts are mixed."""


def clip(weights: Vector, lows: Vector, highs: Vector) -> None:
    """Bring each weight into its own [low, high]."""
    for i in range(len(weights)):
        weights[i] = min(max(weights[i], lows[i]), highs[i])


def bound(weights: Vector, caps: Vector) -> bool:
    """Bring each |w| under its own cap; True when one was above."""
    changed = False
    for i in range(len(weights)):
        if weights[i] > caps[i] or weights[i] < -caps[i]:
            weights[i] = caps[i] if weights[i] > 0.0 else -caps[i]
            changed = True
    return changed


def forbid_shorts(weights: Vector) -> bool:
    """Bring each weight to zero at least; True when one was below."""
    changed = False
    for i in range(len(weights)):
        if weights[i] < 0.0:
            weights[i] = 0.0
            changed = True
    return changed


def scale(weights: Vector, factor: float) -> None:
    """Multiply every weight."""
    for i in range(len(weights)):
        weights[i] = weights[i] * factor


def scale_gross(weights: Vector, held_gross: float, max_gross: float) -> bool:
    """Scale all weights alike so that held gross + Σ|w| ≤ max_gross; to zero when what is held fills it already.

    True when it did.
    """
    total = 0.0
    for i in range(len(weights)):
        total += max(weights[i], -weights[i])
    if held_gross + total > max_gross + TOLERANCE and total > 0:
        scale(weights, max(0.0, max_gross - held_gross) / total)
        return True
    return False


def scale_net(weights: Vector, held_net: float, max_net: float) -> bool:
    """Scale the side that is in excess so that |held net + Σw| ≤ max_net, or as near as that side at zero brings it.

    True when it did.
    """
    longs, shorts = 0.0, 0.0
    for i in range(len(weights)):
        longs += max(weights[i], 0.0)
        shorts += max(-weights[i], 0.0)
    net = held_net + longs - shorts
    if net > max_net + TOLERANCE and longs > 0:
        _scale_side(weights, 1.0, max(0.0, max_net - held_net + shorts) / longs)
        return True
    if net < -max_net - TOLERANCE and shorts > 0:
        _scale_side(weights, -1.0, max(0.0, max_net + held_net + longs) / shorts)
        return True
    return False


def _scale_side(weights: Vector, sign: float, factor: float) -> None:
    for i in range(len(weights)):
        if weights[i] * sign > 0:
            weights[i] = weights[i] * factor


def reduce_only(weights: Vector, now: Vector) -> None:
    """Bring each weight between zero and the present one: nothing grows, nothing changes its side."""
    for i in range(len(weights)):
        weights[i] = min(max(weights[i], min(now[i], 0.0)), max(now[i], 0.0))


def increase_from(weight: float, now: float) -> float:
    """The point of the way from ``now`` to ``weight`` where |w| starts to grow; ``weight`` itself when it never does.

    A growing weight starts at ``now``; a flip starts at zero, its way there is a reduction.
    """
    if weight * now < 0:
        return 0.0
    return weight if max(weight, -weight) <= max(now, -now) else now


def scale_increases(weights: Vector, now: Vector, turnover_cap: float) -> bool:
    """Scale what increases |w| alike so that Σ|w − now| ≤ turnover_cap; True when something changed.

    Reductions use up the cap but are never scaled: when they alone pass it, all increases wait.
    """
    total, increases = 0.0, 0.0
    for i in range(len(weights)):
        total += max(weights[i] - now[i], now[i] - weights[i])
        start = increase_from(weights[i], now[i])
        increases += max(weights[i] - start, start - weights[i])
    if total <= turnover_cap + TOLERANCE or increases <= 0:
        return False
    factor = max(0.0, turnover_cap - (total - increases)) / increases
    for i in range(len(weights)):
        start = increase_from(weights[i], now[i])
        weights[i] = start + factor * (weights[i] - start)
    return True


class Room(NamedTuple):
    """The limits of a portfolio as a whole, and what held coins already take of them."""

    held_gross: float
    held_net: float
    max_gross: float
    max_net: float
    turnover_cap: float


class Limits(NamedTuple):
    """What a vector of weights is brought within."""

    lows: Vector
    """The least that each may be: −cap, or 0 without shorts."""
    caps: Vector
    allow_short: bool
    room: Room


class Scratch(NamedTuple):
    """Vectors of the weights' length that a kernel may write to: it makes none itself."""

    before: Vector
    why: list[int]
    """The reasons' bits; all 0 at first."""


def scratch(count: int) -> Scratch:
    """New vectors to write to."""
    return Scratch(before=[0.0] * count, why=[0] * count)


def limits_of(symbols: Sequence[str], *, present: Mapping[str, float], risk: RiskParams) -> Limits:
    """The limits of a proposal for ``symbols`` in a portfolio of ``present`` weights."""
    caps = [risk.cap(symbol) for symbol in symbols]
    return Limits(
        lows=[low_of(cap, risk.allow_short) for cap in caps],
        caps=caps,
        allow_short=risk.allow_short,
        room=room_of((weight for symbol, weight in present.items() if symbol not in symbols), risk),
    )


def low_of(cap: float, allow_short: bool) -> float:  # noqa: FBT001 - compiled: by position
    """The least that a weight may be."""
    return -cap if allow_short else 0.0


def room_of(held: Iterable[float], risk: RiskParams) -> Room:
    """The limits of the whole, and what held coins take of them."""
    weights = tuple(held)
    return Room(
        held_gross=gross(weights),
        held_net=net(weights),
        max_gross=risk.max_gross,
        max_net=risk.max_net,
        turnover_cap=risk.turnover_cap,
    )


def mark(why: list[int], reason: int, weights: Vector, before: Vector) -> None:
    """Add a reason's bit to every weight that differs from ``before``, and bring ``before`` up to date."""
    for i in range(len(weights)):
        if weights[i] != before[i]:
            why[i] = why[i] | reason
            before[i] = weights[i]


def fit(weights: Vector, now: Vector, why: list[int], room: Room) -> None:
    """``fit_with`` where nobody keeps a vector to compare with."""
    fit_with(weights, now, room, Scratch(before=weights.copy(), why=why))


def fit_with(weights: Vector, now: Vector, room: Room, scratch: Scratch) -> None:
    """Gross, net and turnover together, until none of them changes anything; ``scratch.why`` gathers the reasons.

    ``scratch.before`` equals ``weights``, here and on return: it is there to see what changed.

    The turnover cap may hold back a short that net relies on; net then takes from the longs, which is turnover again.
    After ``FIT_PASSES`` rounds all increases are given up; what is left only reduces and so is settled in one round.
    """
    before, why = scratch.before, scratch.why
    for _ in range(FIT_PASSES):
        _fit_sums(weights, before, why, room)
        if not scale_increases(weights, now, room.turnover_cap):
            return
        mark(why, TURNOVER, weights, before)
    for i in range(len(weights)):
        weights[i] = increase_from(weights[i], now[i])
    mark(why, TURNOVER, weights, before)
    _fit_sums(weights, before, why, room)


def _fit_sums(weights: Vector, before: Vector, why: list[int], room: Room) -> None:
    if scale_gross(weights, room.held_gross, room.max_gross):
        mark(why, GROSS, weights, before)
    if scale_net(weights, room.held_net, room.max_net):
        mark(why, NET, weights, before)


def reasons(bits: int) -> tuple[str, ...]:
    """A weight's reasons in words, in the order in which the limits apply."""
    return tuple(word for bit, word in REASONS.items() if bits & bit)


def copy_to(row: Vector, weights: Vector) -> None:
    """Copy weights; + 0.0 turns the −0.0 of a short that was scaled to nothing into 0.0."""
    for i in range(len(weights)):
        row[i] = weights[i] + 0.0


def ewma(weights: Vector, previous: Vector, alpha: float) -> None:
    """w = alpha·target + (1 − alpha)·previous."""
    for i in range(len(weights)):
        weights[i] = alpha * weights[i] + (1.0 - alpha) * previous[i]
