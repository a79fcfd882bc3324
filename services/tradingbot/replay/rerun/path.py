"""What a change would have made of the whole recorded time: each decision upon what the one before has led to.

Both settings are played on an account of their own, which begins as the bot's did. It decides in the cycles in which
the bot made a plan, sees the recorded features and its own positions, is stopped by the recorded modes and by its own
drawdown and fees, and trades whole plans at the recorded mids. So the two differ by their settings alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import dropwhile

from tradingbot.ai_decision.decide import DecisionState, decide
from tradingbot.domain.cycles import minute_id, to_ms
from tradingbot.domain.messages import FeatureSnapshot1m, Inputs, PlanBasis, TargetPortfolio
from tradingbot.domain.model import Model
from tradingbot.domain.modes import EffectiveMode, Mode, ModeSource, strictest
from tradingbot.domain.params import Params
from tradingbot.execution.plan import make_plan, request_of
from tradingbot.replay.rerun.account import Account, Costs, account_of
from tradingbot.replay.rerun.change import Change
from tradingbot.replay.rerun.per_cycle import proposed
from tradingbot.replay.rerun.reading import Recorded
from tradingbot.replay.rerun.steps import DecisionGround, decision_ground, view_of
from tradingbot.replay.rerun.tape import Tape
from tradingbot.replay.rerun.verdicts import CannotCheck
from tradingbot.risk_engine import decide as gate


class Outcome(Model):
    """What became of an account."""

    minutes: int
    decisions: int
    orders: int
    equity_first_usd: float
    equity_last_usd: float
    pnl_usd: float
    max_drawdown: float
    traded_usd: float
    turnover: float
    """Σ traded / equity at the time."""
    fees_usd: float
    slippage_usd: float
    gross_mean: float
    gross_max: float
    net_mean: float
    reduce_only: int
    """Decisions under REDUCE_ONLY."""
    halted: int
    """Decisions that its own drawdown forbade."""
    skipped: int
    """Decisions whose inputs are not on the record."""


@dataclass(slots=True)
class _Tally:
    equity: list[float] = field(default_factory=list)
    gross: list[float] = field(default_factory=list)
    net: list[float] = field(default_factory=list)
    drawdown: float = 0.0
    decisions: int = 0
    orders: int = 0
    turnover: float = 0.0
    reduce_only: int = 0
    halted: int = 0
    skipped: int = 0


class _Player:
    """One account under one set of settings."""

    def __init__(self, tape: Tape, change: Change, costs: Costs, account: Account) -> None:
        self._tape, self._change, self._costs, self._account = tape, change, costs, account
        self._state = DecisionState()
        self._tally = _Tally()
        self._sz_decimals: dict[str, int] = {}
        for plan in tape.plans.values():
            self._sz_decimals |= plan.data.basis.sz_decimals if plan.data.basis else {}

    def minute(self, features: Recorded[FeatureSnapshot1m]) -> None:
        """A minute's mids, and the decision where the bot made one."""
        account, tally, minute = self._account, self._tally, minute_id(to_ms(features.data.asof_minute))
        account.mark(features.data.mid_px)
        if minute in self._tape.plans and minute in self._tape.targets:
            try:
                self._decide(features.data, decision_ground(self._tape, self._tape.targets[minute]))
            except CannotCheck:
                tally.skipped += 1
        weights = account.weights().values()
        tally.equity.append(account.equity_usd)
        tally.gross.append(sum(map(abs, weights)))
        tally.net.append(sum(weights))
        tally.drawdown = max(tally.drawdown, account.drawdown)

    def _decide(self, features: FeatureSnapshot1m, recorded: DecisionGround) -> None:
        account, day = self._account, recorded.target.cycle_id[:8]
        plan = self._tape.plans[recorded.target.cycle_id].data
        if plan.basis is None:
            raise CannotCheck("the plan does not name what it was made from")
        params = self._change.params(recorded.meaning.params)
        ground = replace(recorded, snapshot=account.snapshot(features.asof_minute), state=self._state)
        target = self._target(ground, params)
        mode = self._mode(plan.basis, account.mode(params.risk, day=day))
        approved = gate.decide(
            target,
            snapshot=ground.snapshot,
            mode=EffectiveMode(mode=mode, source=ModeSource.BREAKER, reason=""),
            risk=params.risk,
            universe=recorded.meaning.universe,
            inputs=Inputs(),
        ).approved
        if mode is Mode.HALT:
            return
        targets = {each.symbol: each.weight for each in approved.approved_targets}
        basis = self._basis(plan.basis, features, mode=mode, equity_usd=ground.snapshot.equity_usd)
        made = make_plan(request_of(plan, basis, targets=targets, params=params.execution))
        before_usd, equity_usd = account.traded_usd, account.equity_usd
        account.trade(made, self._costs, day=day)
        self._tally.orders += len(made.slices)
        self._tally.turnover += (account.traded_usd - before_usd) / equity_usd

    def _target(self, ground: DecisionGround, params: Params) -> TargetPortfolio:
        view = view_of(ground, params=params)
        decision = decide(
            proposed(self._change, view, ground),
            view,
            state=self._state,
            cycle_id=ground.target.cycle_id,
            cycle_seconds=ground.meaning.cycle_seconds,
            ai=params.ai,
            inputs=Inputs(),
        )
        self._state = decision.state
        return decision.target

    def _basis(self, recorded: PlanBasis, features: FeatureSnapshot1m, *, mode: Mode, equity_usd: Decimal) -> PlanBasis:
        """The recorded one with this account's own: what the market was like stays."""
        own = {
            "mode": mode,
            "equity_usd": equity_usd,
            "positions": dict(self._account.qty),
            "mids": dict(features.mid_px),
            "sz_decimals": self._sz_decimals,
            "unplannable": {},
        }
        return recorded.model_copy(update=own)

    def _mode(self, basis: PlanBasis, own: Mode) -> Mode:
        mode = strictest(own, basis.mode)
        self._tally.decisions += 1
        self._tally.reduce_only += mode is Mode.REDUCE_ONLY
        self._tally.halted += own is Mode.HALT
        return mode

    def outcome(self) -> Outcome:
        """What it has come to."""
        tally, account = self._tally, self._account
        minutes = len(tally.equity)
        return Outcome(
            minutes=minutes,
            decisions=tally.decisions,
            orders=tally.orders,
            equity_first_usd=tally.equity[0],
            equity_last_usd=tally.equity[-1],
            pnl_usd=tally.equity[-1] - tally.equity[0],
            max_drawdown=tally.drawdown,
            traded_usd=account.traded_usd,
            turnover=tally.turnover,
            fees_usd=account.fees_usd,
            slippage_usd=account.slippage_usd,
            gross_mean=sum(tally.gross) / minutes,
            gross_max=max(tally.gross),
            net_mean=sum(tally.net) / minutes,
            reduce_only=tally.reduce_only,
            halted=tally.halted,
            skipped=tally.skipped,
        )


def play(tape: Tape, change: Change, costs: Costs) -> Outcome:
    """Play a change over the record, from the first decision on whose inputs are there.

    Raises:
        CannotCheck: there is none.
    """
    first = _first(tape)
    player = _Player(tape, change, costs, account_of(first.snapshot))
    since = dropwhile(lambda each: each.id != first.target.data.inputs.features_id, tape.features)
    for features in since:
        player.minute(features)
    return player.outcome()


def _first(tape: Tape) -> DecisionGround:
    why = CannotCheck("no cycle with a decision and a plan is on the record")
    for cycle_id in tape.cycles:
        if cycle_id in tape.plans and cycle_id in tape.targets:
            try:
                return decision_ground(tape, tape.targets[cycle_id])
            except CannotCheck as missing:
                why = missing
    raise why
