"""The pure steps of a cycle, made again from what the record says they were made from.

Each takes its inputs as the bot took them, from the streams: the step before it as it was recorded, not as it was made
again, so that a difference shows where it arises and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from tradingbot.ai_decision.decide import Decision, DecisionState, decide, previous_weights
from tradingbot.ai_decision.strategies import NotRebuildable, from_record, rebuild
from tradingbot.ai_decision.strategy import Proposal, StrategyFailed, View
from tradingbot.bus.names import Stream
from tradingbot.domain.cycles import minute_id, to_ms
from tradingbot.domain.ids import digest
from tradingbot.domain.messages import (
    ApprovedTargetPortfolio,
    FeatureSnapshot1m,
    Inputs,
    StateSnapshot,
    TargetPortfolio,
)
from tradingbot.domain.model import Model
from tradingbot.domain.modes import EffectiveMode
from tradingbot.domain.params import Params
from tradingbot.execution.plan import make_plan, request_of
from tradingbot.market_data.liquidity import book_fields
from tradingbot.market_data.minute import moves
from tradingbot.market_data.told import Told
from tradingbot.replay.rerun.compare import Difference, difference, in_common, plain
from tradingbot.replay.rerun.reading import Recorded
from tradingbot.replay.rerun.tape import Meaning, Tape
from tradingbot.replay.rerun.verdicts import CannotCheck, CannotRead, Contradiction, Found, Step, Verdict, compared
from tradingbot.risk_engine import decide as gate

AUDITED = ("strategy", "used", "confidence", "signals", "steps", "gross", "net", "turnover", "held", "model", "error")
"""What a decision's audit record says of how the target came about, from the strategy on; compared in this order."""

DataT = TypeVar("DataT", bound=Model)

# ------------------------------------------------------------------ features


def features_again(tape: Tape) -> Iterator[Verdict]:
    """Each minute's features, from the prices that it and the snapshots before it tell."""
    told = Told()
    for entry in tape.features:
        minute_ms = to_ms(entry.data.asof_minute)
        told = told.after(entry.data, minute_ms=minute_ms)
        if tape.within(entry.cycle_id):
            yield _features(tape, entry.data, told, minute_ms=minute_ms)
    for unread in tape.unread:
        if unread.stream is Stream.FEATURES and tape.within(unread.cycle_id):
            yield Verdict(step=Step.FEATURES, cycle_id=unread.cycle_id, found=Found.UNREAD, why=str(unread))


def _features(tape: Tape, snapshot: FeatureSnapshot1m, told: Told, *, minute_ms: int) -> Verdict:
    windows = {symbol: told.window(symbol, minute_ms) for symbol in snapshot.mid_px}
    whole = {symbol: window for symbol, window in windows.items() if window is not None}
    if unknown := sorted(set(windows) - set(whole)):
        why = f"the hour of prices before it is not on the record: {', '.join(unknown)}"
        unread = tape.unread_of(Stream.FEATURES)
        found = Found.UNREAD if unread and unread.cycle_id <= minute_id(minute_ms) else Found.UNCHECKED
        return Verdict(step=Step.FEATURES, cycle_id=minute_id(minute_ms), found=found, why=why)
    again = snapshot.model_copy(update={**moves(whole), **book_fields(snapshot.books)})
    return compared(Step.FEATURES, minute_id(minute_ms), difference(snapshot, again))


# ------------------------------------------------------------------ the decision


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionGround:
    """Everything that a recorded decision was made from."""

    target: Recorded[TargetPortfolio]
    audit: Mapping[str, Any]
    features: FeatureSnapshot1m
    snapshot: StateSnapshot
    meaning: Meaning
    state: DecisionState


def decision_again(tape: Tape, cycle_id: str) -> Verdict:
    """The target, from features, account, parameters, the target before it, and the model's recorded answer."""
    target = tape.targets.get(cycle_id)
    if target is None:
        return _not_taken(tape, Step.DECISION, cycle_id, "alpha.target", of=Stream.FEATURES)
    ground = decision_ground(tape, target)
    view = view_of(ground)
    again = decide_again(ground, view, proposal_again(ground, view))
    if (found := in_common(ground.audit, plain(again.audit)["details"], AUDITED)) is not None:
        return compared(Step.DECISION, cycle_id, found.below("audit"))
    # What it names as its inputs is no result: those were looked up by it.
    made = again.target.model_copy(update={"inputs": target.data.inputs})
    return compared(Step.DECISION, cycle_id, difference(target.data, made))


def decision_ground(tape: Tape, target: Recorded[TargetPortfolio]) -> DecisionGround:
    """What the record holds of a decision's inputs.

    Raises:
        CannotCheck: something is missing.
    """
    inputs = target.data.inputs
    record = tape.audit(target.cycle_id, "alpha.target")
    if record is None:
        _refuse_unread(tape, Stream.AUDIT, cycle_id=target.cycle_id)
        raise CannotCheck("the audit record of the decision is not on the record")
    if "previous" not in record.details:
        raise CannotCheck("the audit record does not name the target before")
    return DecisionGround(
        target=target,
        audit=record.details,
        features=_input(
            tape,
            Stream.FEATURES,
            tape.features_by_id.get(inputs.features_id or ""),
            named=(inputs.features_id, inputs.features_digest),
        ),
        snapshot=_snapshot(tape, inputs),
        meaning=_meaning(tape, inputs),
        state=_state_before(tape, record.details["previous"]),
    )


def view_of(ground: DecisionGround, *, params: Params | None = None) -> View:
    """What the strategy saw; or would have seen under other parameters."""
    cycle_id, meaning = ground.target.cycle_id, ground.meaning
    params = params or meaning.params
    return View(
        features=ground.features,
        snapshot=ground.snapshot,
        universe=meaning.universe,
        risk=params.risk,
        ai=params.ai,
        cycle_id=cycle_id,
        previous=previous_weights(ground.state, cycle_id=cycle_id, cycle_seconds=meaning.cycle_seconds),
    )


def proposal_again(ground: DecisionGround, view: View) -> Proposal:
    """The strategy's proposal, computed again; a plugin that cannot do so is taken at its recorded word.

    Raises:
        CannotCheck: the recorded answer gives no proposal.
    """
    audit = ground.audit
    try:
        return rebuild(
            audit.get("strategy", "baseline"),
            view,
            evidence=audit.get("evidence") or {},
            error=audit.get("error"),
        )
    except NotRebuildable:
        return from_record(audit, ground.target.data)
    except (StrategyFailed, ValidationError) as error:
        raise CannotCheck(f"the recorded answer gives no proposal: {error}") from None


def decide_again(ground: DecisionGround, view: View, proposal: Proposal) -> Decision:
    """The pipeline behind the strategy."""
    return decide(
        proposal,
        view,
        state=ground.state,
        cycle_id=ground.target.cycle_id,
        cycle_seconds=ground.meaning.cycle_seconds,
        ai=ground.meaning.params.ai,
        inputs=ground.target.data.inputs,
        strategy=ground.audit.get("strategy", "baseline"),
    )


def _state_before(tape: Tape, previous: str | None) -> DecisionState:
    if previous is None:
        return DecisionState()
    target = tape.targets.get(previous)
    if target is None:
        _refuse_unread(tape, Stream.TARGET, cycle_id=previous)
        raise CannotCheck(f"the target of {previous}, which it smooths from, is not on the record")
    return DecisionState(cycle_id=previous, weights={each.symbol: each.weight for each in target.data.targets})


# ------------------------------------------------------------------ the gate


def approval_again(tape: Tape, cycle_id: str) -> Verdict:
    """The approval, from the target, the account, the parameters, and the mode that was in force."""
    approved = tape.approved.get(cycle_id)
    if approved is None:
        return _not_taken(tape, Step.APPROVAL, cycle_id, "risk.approved", of=Stream.TARGET)
    again = approve_again(tape, approved)
    return compared(Step.APPROVAL, cycle_id, difference(approved.data, again))


def approve_again(tape: Tape, approved: Recorded[ApprovedTargetPortfolio]) -> ApprovedTargetPortfolio:
    """The gate's decision once more.

    Raises:
        CannotCheck: something that it was made from is missing.
    """
    data, inputs = approved.data, approved.data.inputs
    meaning = _meaning(tape, inputs)
    target = _input(
        tape,
        Stream.TARGET,
        tape.targets.get(approved.cycle_id),
        named=(inputs.target_id, inputs.target_digest),
    )
    return gate.decide(
        target,
        snapshot=None if inputs.snapshot_id is None else _snapshot(tape, inputs),
        mode=EffectiveMode(mode=data.mode, source=data.mode_source, reason=data.mode_reason),
        risk=meaning.params.risk,
        universe=meaning.universe,
        inputs=inputs,
    ).approved


# ------------------------------------------------------------------ the plan


def plan_again(tape: Tape, cycle_id: str) -> Verdict:
    """The plan, from the approval, the parameters, and the basis that it names."""
    plan = tape.plans.get(cycle_id)
    if plan is None:
        return _not_taken(tape, Step.PLAN, cycle_id, "exec.plan", of=Stream.APPROVED)
    basis, inputs = plan.data.basis, plan.data.inputs
    if basis is None:
        raise CannotCheck("the plan does not name what it was made from")
    approved = _input(
        tape,
        Stream.APPROVED,
        tape.approved.get(cycle_id),
        named=(inputs.approved_id, inputs.approved_digest),
    )
    execution = _meaning(tape, inputs).params.execution
    targets = {each.symbol: each.weight for each in approved.approved_targets}
    again = make_plan(request_of(plan.data, basis, targets=targets, params=execution))
    return compared(Step.PLAN, cycle_id, difference(plan.data, again))


# ------------------------------------------------------------------ inputs


_INPUT_NAMES = {
    Stream.FEATURES: "features",
    Stream.SNAPSHOT: "snapshot",
    Stream.TARGET: "target",
    Stream.APPROVED: "approved",
}


def _input(tape: Tape, stream: Stream, entry: Recorded[DataT] | None, *, named: tuple[str | None, str | None]) -> DataT:
    """An input that a message names by id and digest, whose text is what it was then.

    Raises:
        CannotCheck: it is not on the record.
        CannotRead: it is, and is no message of this version.
        Contradiction: it is, with another text.
    """
    what, (id_text, named_digest) = _INPUT_NAMES[stream], named
    if entry is None or entry.id != id_text:
        _refuse_unread(tape, stream, id_text=id_text)
        raise CannotCheck(f"{what} {id_text or ''} that it was made from is not on the record")
    if (held := digest(entry.raw)) != named_digest:
        raise Contradiction(Difference(f"inputs.{what}_digest", named_digest, held))
    return entry.data


def _snapshot(tape: Tape, inputs: Inputs) -> StateSnapshot:
    entry = tape.snapshots.get(inputs.snapshot_id or "")
    return _input(tape, Stream.SNAPSHOT, entry, named=(inputs.snapshot_id, inputs.snapshot_digest))


def _meaning(tape: Tape, inputs: Inputs) -> Meaning:
    meaning = tape.params.get(inputs.params or "")
    if meaning is None:
        _refuse_unread(tape, Stream.AUDIT)
        raise CannotCheck(f"what the parameters {inputs.params} are is not on the record")
    return meaning


def _refuse_unread(tape: Tape, stream: Stream, *, cycle_id: str | None = None, id_text: str | None = None) -> None:
    """Something is missing: perhaps only because it cannot be read.

    Raises:
        CannotRead: so it is.
    """
    if (unread := tape.unread_of(stream, cycle_id=cycle_id, id_text=id_text)) is not None:
        raise CannotRead(str(unread))


_OUTPUT = {Step.DECISION: Stream.TARGET, Step.APPROVAL: Stream.APPROVED, Step.PLAN: Stream.PLAN}


def _not_taken(tape: Tape, step: Step, cycle_id: str, kind: str, *, of: Stream) -> Verdict:
    """There is no output: the bot says why, or there was nothing to decide on, or nobody can tell."""
    for stream in (_OUTPUT[step], Stream.AUDIT):
        _refuse_unread(tape, stream, cycle_id=cycle_id)
    record = tape.audit(cycle_id, kind)
    said = "" if record is None else record.details.get("skipped") or record.details.get("why")
    if why := said or tape.stale(cycle_id, of):
        return Verdict(step=step, cycle_id=cycle_id, found=Found.NOT_TAKEN, why=why)
    _refuse_unread(tape, of, cycle_id=cycle_id)
    if not tape.has(of, cycle_id):
        return Verdict(step=step, cycle_id=cycle_id, found=Found.NOT_TAKEN, why=f"no {of} to act on")
    why = f"neither {kind} nor why there is none is on the record"
    return Verdict(step=step, cycle_id=cycle_id, found=Found.UNCHECKED, why=why)
