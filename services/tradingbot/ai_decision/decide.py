"""One decision: features, account, parameters and the last target in; a target portfolio and its audit record out."""

from __future__ import annotations

from dataclasses import dataclass

from tradingbot.ai_decision.stabilize import Stabilized, stabilize
from tradingbot.ai_decision.strategy import Proposal, View
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

SNAPSHOT_MAX_AGE_MS = 30_000
SNAPSHOT_REAL_AGE_MS = 6_000


class DecisionState(Model):
    """What a decision remembers: the last target, for smoothing."""

    cycle_id: str | None = None
    weights: dict[str, float] = {}


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
) -> Decision:
    """Stabilize a valid proposal into the target of a cycle. Coins without usable features are left out: held."""
    usable = set(view.usable)
    steady = stabilize(
        {symbol: weight for symbol, weight in proposal.weights.items() if symbol in usable},
        confidence=proposal.confidence,
        previous=_previous(state, cycle_id=cycle_id, cycle_seconds=cycle_seconds),
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
        state=DecisionState(cycle_id=cycle_id, weights=steady.weights),
        audit=_audit(proposal, view, steady=steady, whole=whole, inputs=inputs),
    )


def snapshot_problem(snapshot: StateSnapshot | None, *, now_ms: int, speed: float) -> str | None:
    """Why no decision can rest on this snapshot; None when one can."""
    if snapshot is None:
        return "no state snapshot"
    good_ms = reconciled_ms(snapshot)
    if good_ms is None:
        return "the state snapshot was never reconciled"
    age_ms = now_ms - good_ms
    if age_ms > guard_against_real_slowness(value_ms=SNAPSHOT_MAX_AGE_MS, real_ms=SNAPSHOT_REAL_AGE_MS, speed=speed):
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


def _previous(state: DecisionState, *, cycle_id: str, cycle_seconds: int) -> dict[str, float]:
    if state.cycle_id is None:
        return {}
    age_ms = start_ms_of(cycle_id) - start_ms_of(state.cycle_id)
    return state.weights if 0 < age_ms <= PREVIOUS_COUNTS_FOR_CYCLES * cycle_seconds * 1000 else {}


def _audit(
    proposal: Proposal, view: View, *, steady: Stabilized, whole: dict[str, float], inputs: Inputs
) -> AuditRecord:
    details: dict[str, object] = {
        "used": proposal.used,
        "confidence": proposal.confidence,
        "gross": gross(whole.values()),
        "net": net(whole.values()),
        "turnover": turnover(steady.weights, view.present),
        "steps": steady.steps,
        "signals": dict(proposal.signals),
        "held": sorted(set(whole) - set(steady.weights)),
        "params": inputs.params,
        "prices": view.features.prices,
    }
    if proposal.error is not None:
        details["error"] = proposal.error
    return AuditRecord(
        kind="alpha.target",
        level=AuditLevel.INFO if proposal.error is None else AuditLevel.WARNING,
        cause=inputs.features_id or "",
        details=details,
    )
