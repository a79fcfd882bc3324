"""What a change would have made of each cycle by itself, with account, mode and the target before as recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from tradingbot.ai_decision.decide import decide
from tradingbot.ai_decision.strategies import PURE
from tradingbot.ai_decision.strategy import Proposal, View
from tradingbot.domain.messages import ExecutionPlan, PlanBasis, TargetPortfolio, TargetWeight
from tradingbot.domain.model import Model
from tradingbot.domain.modes import EffectiveMode
from tradingbot.domain.params import Params
from tradingbot.execution.plan import make_plan, request_of
from tradingbot.replay.rerun.change import Change
from tradingbot.replay.rerun.steps import DecisionGround, decision_ground, proposal_again, view_of
from tradingbot.replay.rerun.tape import Tape
from tradingbot.replay.rerun.verdicts import CannotCheck
from tradingbot.risk_engine import decide as gate


class Moved(Model):
    """How a cycle would have differed."""

    cycle_id: str
    target: float
    """Σ|new − recorded| of the target's weights."""
    approved: float
    """The same of the approved weights."""
    orders: int
    """Slices planned, as recorded."""
    orders_new: int
    traded_usd: float
    """What the plan would trade at its mids, as recorded."""
    traded_usd_new: float

    @property
    def any(self) -> bool:
        """Whether anything differs."""
        same = (self.orders, self.traded_usd) == (self.orders_new, self.traded_usd_new)
        return self.target > 0 or self.approved > 0 or not same


def moved_cycles(tape: Tape, change: Change) -> Iterator[Moved]:
    """Every cycle of which the record holds enough to tell."""
    for cycle_id in tape.cycles:
        if cycle_id not in tape.targets or cycle_id not in tape.approved:
            continue
        try:
            yield _moved(tape, change, decision_ground(tape, tape.targets[cycle_id]))
        except CannotCheck:
            continue


def _moved(tape: Tape, change: Change, ground: DecisionGround) -> Moved:
    cycle_id, params = ground.target.cycle_id, change.params(ground.meaning.params)
    target = target_under(change, params, ground)
    recorded = tape.approved[cycle_id].data
    approved = gate.decide(
        target,
        snapshot=ground.snapshot,
        mode=EffectiveMode(mode=recorded.mode, source=recorded.mode_source, reason=recorded.mode_reason),
        risk=params.risk,
        universe=ground.meaning.universe,
        inputs=recorded.inputs,
    ).approved
    plan = tape.plans.get(cycle_id)
    again = None if plan is None else _plan(plan.data, approved.approved_targets, params)
    return Moved(
        cycle_id=cycle_id,
        target=_distance(ground.target.data.targets, target.targets),
        approved=_distance(recorded.approved_targets, approved.approved_targets),
        orders=0 if plan is None else len(plan.data.slices),
        orders_new=0 if again is None else len(again.slices),
        traded_usd=0.0 if plan is None else traded_usd(plan.data, plan.data.basis),
        traded_usd_new=0.0 if again is None else traded_usd(again, again.basis),
    )


def target_under(change: Change, params: Params, ground: DecisionGround) -> TargetPortfolio:
    """The target of a cycle with another strategy or other parameters; a model's answer stays the recorded one."""
    view = view_of(ground, params=params)
    return decide(
        proposed(change, view, ground),
        view,
        state=ground.state,
        cycle_id=ground.target.cycle_id,
        cycle_seconds=ground.meaning.cycle_seconds,
        ai=params.ai,
        inputs=ground.target.data.inputs,
    ).target


def proposed(change: Change, view: View, ground: DecisionGround) -> Proposal:
    """What the strategy in question says to a view."""
    return proposal_again(ground, view) if change.strategy is None else PURE[change.strategy](view)


def traded_usd(plan: ExecutionPlan, basis: PlanBasis | None) -> float:
    """What a plan would trade at the mids that it was made from."""
    if basis is None:
        return 0.0
    return float(sum((each.qty * basis.mids[each.symbol] for each in plan.slices), Decimal(0)))


def _plan(plan: ExecutionPlan, approved: Iterable[TargetWeight], params: Params) -> ExecutionPlan | None:
    if plan.basis is None:
        return None
    targets = {each.symbol: each.weight for each in approved}
    return make_plan(request_of(plan, plan.basis, targets=targets, params=params.execution))


def _distance(before: Iterable[TargetWeight], after: Iterable[TargetWeight]) -> float:
    old: Mapping[str, float] = {each.symbol: each.weight for each in before}
    new = {each.symbol: each.weight for each in after}
    return sum(abs(new.get(symbol, 0.0) - old.get(symbol, 0.0)) for symbol in sorted({*old, *new}))
