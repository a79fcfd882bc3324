"""ai_decision's wiring: features at a cycle's boundary in, one target portfolio out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from tradingbot.ai_decision import baseline
from tradingbot.ai_decision.circuit_news import circuit_news, is_open
from tradingbot.ai_decision.decide import DecisionState, decide, previous_weights, skipped, snapshot_problem
from tradingbot.ai_decision.guard import ask, budget_s
from tradingbot.ai_decision.settings import AiDecisionSettings
from tradingbot.ai_decision.strategies import open_strategy
from tradingbot.ai_decision.strategy import Proposal, Strategy, StrategyFailed, View
from tradingbot.bus.consumer import MAX_SILENCE_S
from tradingbot.bus.entries import Entry, Outcome
from tradingbot.bus.names import Group, Stream
from tradingbot.bus.params import read_params
from tradingbot.bus.session import BusSession, open_session
from tradingbot.domain.cycles import cycle_id_at, is_boundary, minute_id, start_ms_of, to_ms
from tradingbot.domain.ids import digest
from tradingbot.domain.in_force import params_record, telling_of
from tradingbot.domain.messages import AuditRecord, FeatureSnapshot1m, Inputs, StateSnapshot
from tradingbot.domain.params import VersionedParams
from tradingbot.runtime.metrics import count_error, cycle_lag
from tradingbot.runtime.process import Process

POLL_S = 0.1


async def run(process: Process) -> None:
    """Decide once a cycle until the process stops."""
    settings = AiDecisionSettings.load(process.environ)
    async with open_session(process, settings) as bus:
        process.log.info("strategy", name=settings.ai_strategy)
        async with open_strategy(settings, redis=bus.redis, clock=bus.clock) as strategy:
            await AiDecision(bus, strategy, settings=settings).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What a decision rests on beside the features."""

    params: VersionedParams
    snapshot: Entry[StateSnapshot]


class AiDecision:
    """Consumes features; the newest entry counts, for its own cycle only."""

    def __init__(self, bus: BusSession, strategy: Strategy, *, settings: AiDecisionSettings) -> None:
        self._bus = bus
        self._strategy = strategy
        self._settings = settings
        self._cell = bus.cell(DecisionState, DecisionState())

    async def run(self) -> None:
        """Consume until the process stops."""
        await self._cell.load()
        self._bus.process.health.ready(is_ready=True)
        await self._bus.consume(
            stream=Stream.FEATURES,
            group=Group.AI,
            model=FeatureSnapshot1m,
            handle=self._on_features,
            cell=self._cell,
            freshness=self._stale,
            latest_only=True,
        )

    def _stale(self, entry: Entry[FeatureSnapshot1m]) -> str | None:
        cycle_seconds = self._settings.cycle_seconds
        own = cycle_id_at(to_ms(entry.data.asof_minute), cycle_seconds=cycle_seconds)
        present = cycle_id_at(self._bus.clock.now_ms(), cycle_seconds=cycle_seconds)
        return None if own == present else f"features of cycle {own}, it is {present}"

    async def _on_features(self, entry: Entry[FeatureSnapshot1m]) -> Outcome[DecisionState]:
        minute_ms = to_ms(entry.data.asof_minute)
        if not is_boundary(minute_ms, cycle_seconds=self._settings.cycle_seconds):
            return Outcome()
        state = self._cell.value
        inputs = Inputs(features_id=entry.id, features_digest=digest(entry.raw))
        if state.cycle_id is not None and start_ms_of(state.cycle_id) >= minute_ms:
            return Outcome(audits=(skipped(f"cycle {state.cycle_id} has its target already", inputs=inputs),))
        deadline_s = self._deadline_s()
        ground = await self._wait_for_ground(deadline_s)
        if isinstance(ground, str):
            self._bus.process.log.warning("no_target", reason=ground)
            return Outcome(audits=(skipped(ground, inputs=inputs),))
        return await self._decide(entry, ground, inputs=inputs, cycle_id=minute_id(minute_ms), deadline_s=deadline_s)

    async def _decide(
        self, entry: Entry[FeatureSnapshot1m], ground: _Ground, *, inputs: Inputs, cycle_id: str, deadline_s: float
    ) -> Outcome[DecisionState]:
        params, state, settings = ground.params.params, self._cell.value, self._settings
        view = View(
            features=entry.data,
            snapshot=ground.snapshot.data,
            universe=tuple(settings.universe),
            risk=params.risk,
            ai=params.ai,
            cycle_id=cycle_id,
            previous=previous_weights(state, cycle_id=cycle_id, cycle_seconds=settings.cycle_seconds),
            recent=state.recent,
            deadline_s=deadline_s,
        )
        proposal = await self._propose(view)
        circuit_open = is_open(proposal, strategy=settings.ai_strategy, before=state.circuit_open)
        decision = decide(
            proposal,
            view,
            state=state,
            cycle_id=cycle_id,
            cycle_seconds=settings.cycle_seconds,
            ai=params.ai,
            strategy=settings.ai_strategy,
            inputs=inputs.model_copy(
                update={
                    "snapshot_id": ground.snapshot.id,
                    "snapshot_digest": digest(ground.snapshot.raw),
                    "params": ground.params.label,
                }
            ),
        )
        cycle_lag.set((self._bus.clock.now_ms() - start_ms_of(cycle_id)) / 1000)
        telling = telling_of(ground.params, cycle_id=cycle_id)
        return Outcome(
            state=decision.state.model_copy(update={"params_told": telling, "circuit_open": circuit_open}),
            adds=(self._bus.add(Stream.TARGET, decision.target, cycle_id=cycle_id, key=cycle_id),),
            audits=(
                *self._params_news(ground.params, cycle_id),
                decision.audit,
                *circuit_news(proposal, was_open=state.circuit_open, now_open=circuit_open, cause=entry.id),
            ),
        )

    def _params_news(self, params: VersionedParams, cycle_id: str) -> tuple[AuditRecord, ...]:
        if self._cell.value.params_told == telling_of(params, cycle_id=cycle_id):
            return ()
        settings = self._settings
        return (
            params_record(params, cycle_id=cycle_id, cycle_seconds=settings.cycle_seconds, universe=settings.universe),
        )

    async def _propose(self, view: View) -> Proposal:
        """The strategy's answer, or the baseline's when there is none that can be meant."""
        within_s = view.deadline_s - self._bus.clock.real_s()
        try:
            return await ask(self._strategy, view, within_s=within_s, stop=self._bus.process.stop)
        except StrategyFailed as error:
            count_error(error)
            # The cause is an error that nobody foresaw: its traceback is wanted.
            self._bus.process.log.warning("baseline_fallback", error=str(error), exc_info=error.__cause__)
            instead = baseline.propose(view, error=str(error))
            return replace(instead, evidence=error.evidence, answer_digest=error.answer_digest)

    def _deadline_s(self) -> float:
        """The real second by which this decision must be made; a longer budget is no hang."""
        settings, clock = self._settings, self._bus.clock
        within_s = budget_s(given_s=settings.decision_budget_s, cycle_seconds=settings.cycle_seconds, speed=clock.speed)
        self._bus.process.health.beat(Group.AI, max_age_s=MAX_SILENCE_S + within_s)
        return clock.real_s() + within_s

    async def _wait_for_ground(self, deadline_s: float) -> _Ground | str:
        """Parameters and a fresh snapshot, or why there are none; gives a system that is starting a moment."""
        clock = self._bus.clock
        until_s = min(clock.real_s() + self._settings.decision_wait_s, deadline_s)
        while True:
            ground = await self._ground()
            if isinstance(ground, _Ground) or clock.real_s() >= until_s or self._bus.process.stop.is_set():
                return ground
            await clock.sleep_real(POLL_S)

    async def _ground(self) -> _Ground | str:
        try:
            params, snapshot = await asyncio.gather(
                read_params(self._bus.redis), self._bus.newest(Stream.SNAPSHOT, StateSnapshot)
            )
        except ValueError as error:
            return f"the parameters cannot be used: {error}"
        if params is None:
            return "no parameters yet"
        problem = snapshot_problem(
            None if snapshot is None else snapshot.data, now_ms=self._bus.clock.now_ms(), speed=self._bus.clock.speed
        )
        if problem is not None or snapshot is None:
            return problem or "no state snapshot"
        return _Ground(params=params, snapshot=snapshot)
