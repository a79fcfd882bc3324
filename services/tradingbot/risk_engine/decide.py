"""One decision of the gate: target, account, limits and mode in; what execution may work towards and its record out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tradingbot.domain.messages import (
    ApprovedTargetPortfolio,
    AuditLevel,
    AuditRecord,
    Inputs,
    StateSnapshot,
    TargetPortfolio,
    TargetWeight,
)
from tradingbot.domain.modes import EffectiveMode, Mode, ModeSource
from tradingbot.domain.params import RiskParams
from tradingbot.domain.portfolio import present_weights
from tradingbot.risk_engine.breaker import Judgement
from tradingbot.risk_engine.limits import approve


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The approved portfolio and its audit record."""

    approved: ApprovedTargetPortfolio
    audit: AuditRecord


def decide(
    target: TargetPortfolio,
    *,
    snapshot: StateSnapshot | None,
    mode: EffectiveMode,
    risk: RiskParams,
    universe: Iterable[str],
    inputs: Inputs,
) -> Decision:
    """Approve what the limits leave of a target. Without an account to measure against, nothing is approved."""
    if snapshot is None or snapshot.equity_usd <= 0:
        reason = "no state snapshot" if snapshot is None else "the account has no equity"
        mode = EffectiveMode(mode=Mode.HALT, source=ModeSource.BREAKER, reason=reason)
    approval = approve(
        target.targets,
        present={} if snapshot is None else present_weights(snapshot),
        universe=universe,
        risk=risk,
        mode=mode.mode,
    )
    approved = ApprovedTargetPortfolio(
        mode=mode.mode,
        approved_targets=tuple(TargetWeight(symbol=s, weight=weight) for s, weight in approval.weights.items()),
        rejections=approval.rejections,
        risk_summary=approval.summary,
        mode_source=mode.source,
        mode_reason=mode.reason,
        equity_usd=None if snapshot is None else snapshot.equity_usd,
        inputs=inputs,
    )
    return Decision(approved=approved, audit=_audit(approved))


def in_force(keys: EffectiveMode, judgement: Judgement) -> EffectiveMode:
    """The keys' mode, or the breaker's own where what it has just seen is stricter than what it wrote last.

    A milder judgement counts once it is written: until then nobody else knows of it.
    """
    if judgement.mode.rank <= keys.mode.rank:
        return keys
    return EffectiveMode(mode=judgement.mode, source=ModeSource.BREAKER, reason=judgement.reason)


def _audit(approved: ApprovedTargetPortfolio) -> AuditRecord:
    summary = approved.risk_summary
    return AuditRecord(
        kind="risk.approved",
        level=AuditLevel.INFO if approved.mode is Mode.NORMAL else AuditLevel.WARNING,
        cause=approved.inputs.target_id or "",
        details={
            "mode": approved.mode,
            "mode_source": approved.mode_source,
            "mode_reason": approved.mode_reason,
            "clamps": [each.model_dump(mode="json") for each in approved.rejections],
            "approved": {each.symbol: each.weight for each in approved.approved_targets},
            "gross": summary.gross,
            "net": summary.net,
            "turnover": summary.turnover,
            "flags": summary.flags,
            "params": approved.inputs.params,
        },
    )
