"""What a judgement of the breaker writes: its key, its command and its record, and only when something changed."""

from __future__ import annotations

from dataclasses import dataclass

from tradingbot.bus.commit import HashPut
from tradingbot.bus.control import breaker_fields
from tradingbot.domain.messages import AuditLevel, AuditRecord, Command, ControlCommand
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.risk_engine.breaker import BreakerState, Facts, Judgement, drawdown

_COMMAND = {Mode.NORMAL: Command.RESUME, Mode.REDUCE_ONLY: Command.REDUCE_ONLY, Mode.HALT: Command.HALT}
_LEVEL = {Mode.NORMAL: AuditLevel.INFO, Mode.REDUCE_ONLY: AuditLevel.WARNING, Mode.HALT: AuditLevel.ERROR}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A judgement that differs from what ``ctl.mode.breaker`` says, ready to be committed."""

    state: BreakerState
    key: HashPut
    command: ControlCommand
    audit: AuditRecord


def change_of(state: BreakerState, judgement: Judgement, facts: Facts, *, version: int) -> Change | None:
    """What has to be written; None while the key says it already, or before the first snapshot was judged.

    ``version`` is that of the state, so that the command's id is the same when the same step is tried again.
    """
    first = state.written is None
    if judgement.signature == state.written or (first and facts.snapshot is None):
        return None
    command_id = f"breaker-{facts.now_ms}-{version}"
    latch_id = judgement.latch_ids[0] if judgement.latch_ids else None
    return Change(
        state=state.model_copy(update={"written": judgement.signature}),
        key=breaker_fields(
            mode=judgement.mode,
            reason=judgement.reason,
            at_ms=facts.now_ms,
            latch_id=latch_id,
            command_id=command_id,
            latch_ids=",".join(judgement.latch_ids),
            causes=",".join(cause.code for cause in judgement.causes),
        ),
        command=ControlCommand(
            command=_COMMAND[judgement.mode],
            command_id=command_id,
            source=ModeSource.BREAKER,
            reason=judgement.reason,
            issued_by="risk_engine",
            breaker_id=latch_id,
        ),
        audit=_audit(state, judgement, facts, cause=command_id),
    )


def _audit(state: BreakerState, judgement: Judgement, facts: Facts, *, cause: str) -> AuditRecord:
    figures: dict[str, object] = {}
    if facts.snapshot is not None:
        figures = {
            "equity_usd": str(facts.snapshot.equity_usd),
            "peak_usd": None if state.peak_usd is None else str(state.peak_usd),
            "deposits_net_usd": str(facts.snapshot.health.deposits_net_usd),
            "drawdown": drawdown(state, facts.snapshot),
        }
    return AuditRecord(
        kind="breaker",
        level=_LEVEL[judgement.mode],
        cause=cause,
        details={
            "mode": judgement.mode,
            "was": state.written.partition(" ")[0] if state.written else None,
            "causes": {cause.code: cause.reason for cause in judgement.causes},
            "latches": judgement.latch_ids,
            **figures,
        },
    )
