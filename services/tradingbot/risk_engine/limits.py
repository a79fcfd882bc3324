"""What a proposed portfolio is cut to: every limit of the mission, with a reason for each change.

A coin without a target is *held*: it is not touched, and its present weight counts in gross and net. What no cut can
bring within the limits (a held coin that the market carried beyond its cap, held gross above the whole) is flagged;
everything else then only gets smaller. Nothing is ever scaled through zero, and only an explicit 0 closes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tradingbot.domain.limits import TOLERANCE, within_limits
from tradingbot.domain.messages import Rejection, RiskSummary, TargetWeight
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import ExternalPositions, RiskParams
from tradingbot.domain.portfolio import gross, net, turnover
from tradingbot.domain.weights import (
    CAP,
    REDUCE_ONLY,
    SHORT,
    Limits,
    Scratch,
    Vector,
    bound,
    copy_to,
    fit_with,
    forbid_shorts,
    limits_of,
    mark,
    reasons,
    reduce_only,
    scratch,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The gate's answer in weights."""

    weights: dict[str, float]
    """What execution may work towards; a coin that is missing is held."""
    rejections: tuple[Rejection, ...]
    summary: RiskSummary


def approve(
    targets: Iterable[TargetWeight],
    *,
    present: Mapping[str, float],
    universe: Iterable[str],
    risk: RiskParams,
    mode: Mode,
) -> Approval:
    """Cut targets to the limits in force.

    Order: universe, shorts, caps, REDUCE_ONLY, then gross, net and turnover together. In HALT nothing is approved and
    nothing is closed.

    Args:
        targets: the proposal; a coin that is named twice is refused, because nobody can tell which weight was meant.
        present: the weight of every open position at present marks, coins outside the universe too.
        universe: the coins that may be traded.
        risk: the limits.
        mode: the effective mode.
    """
    proposed = tuple(targets)
    refused = _refused(proposed, universe=frozenset(universe), mode=mode)
    accepted = {target.symbol: target.weight for target in proposed if target.symbol not in refused}
    external = _external(present, universe=frozenset(universe), risk=risk, mode=mode)
    accepted.update(dict.fromkeys(external, 0.0))
    weights, why = _cut(accepted, present=present, risk=risk, mode=mode)
    rejections = tuple(
        Rejection(
            symbol=symbol,
            reason=reason,
            original_weight=original,
            approved_weight=weights.get(symbol, present.get(symbol, 0.0)),
        )
        for symbol, original in {target.symbol: target.weight for target in proposed}.items()
        if (reason := refused.get(symbol) or ", ".join(why.get(symbol, ())))
    )
    flags = [each.reason for each in rejections if each.symbol in refused]
    flags += [reason for words in why.values() for reason in words]
    flags += [f"external {symbol}" for symbol in present if symbol not in universe]
    return Approval(
        weights=weights,
        rejections=rejections,
        summary=_summary(weights, present=present, risk=risk, flags=flags),
    )


def _refused(targets: tuple[TargetWeight, ...], *, universe: frozenset[str], mode: Mode) -> dict[str, str]:
    """The symbols that get no weight at all, and why: they are held."""
    seen: set[str] = set()
    refused: dict[str, str] = {}
    for target in targets:
        if mode is Mode.HALT:
            refused[target.symbol] = "halt"
        elif target.symbol not in universe:
            refused[target.symbol] = "not in the universe"
        elif target.symbol in seen:
            refused[target.symbol] = "named twice"
        seen.add(target.symbol)
    return refused


def _external(
    present: Mapping[str, float], *, universe: frozenset[str], risk: RiskParams, mode: Mode
) -> tuple[str, ...]:
    """The positions outside the universe that are to be closed."""
    if risk.external_positions is not ExternalPositions.REDUCE or mode is Mode.HALT:
        return ()
    return tuple(symbol for symbol in present if symbol not in universe)


def _cut(
    accepted: Mapping[str, float], *, present: Mapping[str, float], risk: RiskParams, mode: Mode
) -> tuple[dict[str, float], dict[str, tuple[str, ...]]]:
    symbols = tuple(accepted)
    weights: Vector = list(accepted.values())
    now: Vector = [present.get(symbol, 0.0) for symbol in symbols]
    notes = scratch(len(symbols))
    cut(weights, now, limits_of(symbols, present=present, risk=risk), notes, reduces=mode is Mode.REDUCE_ONLY)
    approved = dict(zip(symbols, weights, strict=True))
    return approved, {symbol: reasons(bits) for symbol, bits in zip(symbols, notes.why, strict=True)}


def cut(weights: Vector, now: Vector, limits: Limits, scratch: Scratch, *, reduces: bool) -> None:
    """Every limit over parallel vectors, in place; ``scratch.why`` gathers each weight's reasons."""
    before, why = scratch.before, scratch.why
    for i in range(len(weights)):
        before[i] = weights[i]
    if not limits.allow_short and forbid_shorts(weights):
        mark(why, SHORT, weights, before)
    if bound(weights, limits.caps):
        mark(why, CAP, weights, before)
    if reduces:
        reduce_only(weights, now)
        mark(why, REDUCE_ONLY, weights, before)
    fit_with(weights, now, limits.room, scratch)
    copy_to(weights, weights)


def _summary(
    weights: Mapping[str, float], *, present: Mapping[str, float], risk: RiskParams, flags: Iterable[str]
) -> RiskSummary:
    whole = {**present, **weights}
    changed = turnover(weights, present)
    beyond = [
        f"{breach.limit} {breach.symbol} beyond" if breach.symbol else f"{breach.limit} beyond"
        for breach in within_limits(whole, risk)
    ]
    if changed > risk.turnover_cap + TOLERANCE:
        beyond.append("turnover beyond, by reductions alone")
    return RiskSummary(
        gross=gross(whole.values()),
        net=net(whole.values()),
        turnover=changed,
        flags=tuple(dict.fromkeys((*flags, *beyond))),
    )
