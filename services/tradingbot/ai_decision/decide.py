"""One decision: features, account, parameters and the last target in; a target portfolio and its audit record out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from tradingbot.ai_decision.stabilize import STEPS, Stabilized, stabilize
from tradingbot.ai_decision.strategy import PastDecision, Proposal, View
from tradingbot.domain.cycles import start_ms_of
from tradingbot.domain.messages import (
    AuditLevel,
    AuditRecord,
    ConstraintsHint,
    Inputs,
    StateSnapshot,
    TargetPortfolio,
    TargetWeight,
)
from tradingbot.domain.model import Model
from tradingbot.domain.params import AiParams
from tradingbot.domain.portfolio import gross, net, reconciled_ms, turnover
from tradingbot.runtime.clock import guard_against_real_slowness

PREVIOUS_COUNTS_FOR_CYCLES = 5
"""A target older than this says nothing of what is held now: smoothing then starts from the present weights."""

REMEMBERED = 5
"""Decisions that a strategy is told of."""

SNAPSHOT_MAX_AGE_MS = 30_000
SNAPSHOT_REAL_AGE_MS = 6_000


class DecisionState(Model):
    """What a decision remembers: the last target, for smoothing, and the last few for strategies that learn of them."""

    cycle_id: str | None = None
    weights: dict[str, float] = {}
    recent: tuple[PastDecision, ...] = ()
    """Oldest first."""
    params_told: str | None = None
    """Which parameters audit.logs has been told of, and on which day."""
    circuit_open: bool = False
    """Whether audit.logs was last told that the model is left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A cycle's target, what is to be remembered of it, and its record."""

    target: TargetPortfolio
    state: DecisionState
    audit: AuditRecord


def decide(
    proposal: Proposal,
    view: View,
    *,
    state: DecisionState,
    cycle_id: str,
    cycle_seconds: int,
    ai: AiParams,
    inputs: Inputs,
    strategy: str = "baseline",
) -> Decision:
    """Stabilize a valid proposal into the target of a cycle. Coins without usable features are left out: held.

    ``strategy`` is the configured one, whoever made the proposal in the end.
    """
    if proposal.answer_digest is not None:
        inputs = inputs.model_copy(update={"model_answer_digest": proposal.answer_digest})
    usable = set(view.usable)
    steady = stabilize(
        {symbol: weight for symbol, weight in proposal.weights.items() if symbol in usable},
        confidence=proposal.confidence,
        previous=previous_weights(state, cycle_id=cycle_id, cycle_seconds=cycle_seconds),
        present=view.present,
        risk=view.risk,
        ai=ai,
    )
    whole = {**view.present, **steady.weights}
    target = TargetPortfolio(
        targets=tuple(TargetWeight(symbol=symbol, weight=weight) for symbol, weight in steady.weights.items()),
        cash_weight=1.0 - net(whole.values()),
        confidence=proposal.confidence,
        rationale=proposal.rationale,
        model=proposal.model,
        constraints_hint=ConstraintsHint(
            max_gross=view.risk.max_gross, max_net=view.risk.max_net, turnover_cap=view.risk.turnover_cap
        ),
        used=proposal.used,
        inputs=inputs,
    )
    return Decision(
        target=target,
        state=_remember(state, view, cycle_id=cycle_id, weights=steady.weights),
        audit=_audit(
            proposal,
            view,
            strategy=strategy,
            steady=steady,
            whole=whole,
            inputs=inputs,
            previous=state.cycle_id,
        ),
    )


def snapshot_problem(snapshot: StateSnapshot | None, *, now_ms: int, speed: float) -> str | None:
    """Why no decision can rest on this snapshot; None when one can."""
    if snapshot is None:
        return "no state snapshot"
    good_ms = reconciled_ms(snapshot)
    if good_ms is None:
        return "the state snapshot was never reconciled"
    age_ms = now_ms - good_ms
    limit_ms = guard_against_real_slowness(value_ms=SNAPSHOT_MAX_AGE_MS, real_ms=SNAPSHOT_REAL_AGE_MS, speed=speed)
    if abs(age_ms) > limit_ms:  # before a clock's step back is as long ago as it lies ahead
        return f"the state snapshot was reconciled {age_ms / 1000:.1f} s ago"
    if snapshot.equity_usd <= 0:
        return "the account has no equity"
    return None


def skipped(reason: str, *, inputs: Inputs) -> AuditRecord:
    """The record of a cycle without a target."""
    return AuditRecord(
        kind="alpha.target",
        level=AuditLevel.WARNING,
        cause=inputs.features_id or "",
        details={"used": "none", "skipped": reason},
    )


def previous_weights(state: DecisionState, *, cycle_id: str, cycle_seconds: int) -> dict[str, float]:
    """The last target's weights, while they still say something of what is held."""
    if state.cycle_id is None:
        return {}
    age_ms = start_ms_of(cycle_id) - start_ms_of(state.cycle_id)
    return state.weights if 0 < age_ms <= PREVIOUS_COUNTS_FOR_CYCLES * cycle_seconds * 1000 else {}


def _remember(state: DecisionState, view: View, *, cycle_id: str, weights: dict[str, float]) -> DecisionState:
    made = PastDecision(
        cycle_id=cycle_id,
        weights=weights,
        equity_usd=float(view.snapshot.equity_usd),
        mids={symbol: float(view.features.mid_px[symbol]) for symbol in weights},
    )
    recent = (*state.recent, made)[-REMEMBERED:]
    return state.model_copy(update={"cycle_id": cycle_id, "weights": weights, "recent": recent})


def _audit(
    proposal: Proposal,
    view: View,
    *,
    strategy: str,
    steady: Stabilized,
    whole: dict[str, float],
    inputs: Inputs,
    previous: str | None,
) -> AuditRecord:
    details: dict[str, object] = {
        "strategy": strategy,
        "used": proposal.used,
        **({} if proposal.error is None else {"error": proposal.error}),
        "model": f"{proposal.model.name} {proposal.model.version}",
        "confidence": proposal.confidence,
        "gross": gross(whole.values()),
        "net": net(whole.values()),
        "turnover": turnover(steady.weights, view.present),
        "steps": steady.steps,
        "changes": _changes(steady.steps),
        "signals": dict(proposal.signals),
        "previous": previous,
        "held": sorted(set(whole) - set(steady.weights)),
        "params": inputs.params,
        "prices": view.features.prices,
    }
    if proposal.evidence:
        details["evidence"] = dict(proposal.evidence)
    return AuditRecord(
        kind="alpha.target",
        level=AuditLevel.INFO if proposal.error is None else AuditLevel.WARNING,
        cause=inputs.features_id or "",
        details=details,
    )


def _changes(steps: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """What each step after the strategy changed, by coin; a coin that a step left alone is not named."""
    return {
        name: {symbol: w - steps[before][symbol] for symbol, w in steps[name].items() if w != steps[before][symbol]}
        for before, name in pairwise(STEPS)
    }
