"""When a model begins to be left alone, and when it answers again: one record each.

Read from the decision's own evidence, so that a strategy that asks no model needs nothing of it. What was told last is
kept with the decisions: a process that starts anew, whose circuit is closed, says so.
"""

from __future__ import annotations

from tradingbot.ai_decision.strategy import Proposal
from tradingbot.domain.messages import AuditLevel, AuditRecord
from tradingbot.domain.static import MODEL_STRATEGIES

KIND = "llm.circuit"


def is_open(proposal: Proposal, *, strategy: str, before: bool) -> bool:
    """Whether the model is left alone after this decision; as before where the decision does not tell."""
    if strategy not in MODEL_STRATEGIES:
        return False
    circuit = proposal.evidence.get("circuit")
    return before if circuit is None else bool(circuit["open"])


def circuit_news(proposal: Proposal, *, was_open: bool, now_open: bool, cause: str) -> tuple[AuditRecord, ...]:
    """The record of a change; nothing where there is none."""
    if was_open == now_open:
        return ()
    circuit = proposal.evidence.get("circuit", {})
    details = {"state": "open", **circuit, "error": proposal.error} if now_open else {"state": "closed"}
    level = AuditLevel.WARNING if now_open else AuditLevel.INFO
    return (AuditRecord(kind=KIND, level=level, cause=cause, details=details),)
