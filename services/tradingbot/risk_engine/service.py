"""risk_engine's wiring: targets in, approved portfolios out; and the breaker, on every snapshot and on a timer."""

from __future__ import annotations

import asyncio
from typing import Final

from tradingbot.bus.control import read_modes
from tradingbot.bus.entries import Entry, Outcome
from tradingbot.bus.errors import BusError
from tradingbot.bus.names import Group, Stream
from tradingbot.bus.params import read_params
from tradingbot.bus.session import BusSession, open_session
from tradingbot.bus.trim import entry_id
from tradingbot.domain.cycles import start_ms_of, to_ms
from tradingbot.domain.errors import Temporary
from tradingbot.domain.ids import digest
from tradingbot.domain.in_force import params_record, telling_of
from tradingbot.domain.messages import (
    AuditLevel,
    AuditRecord,
    Command,
    ControlCommand,
    FeatureSnapshot1m,
    StateSnapshot,
    TargetPortfolio,
)
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import RiskParams, VersionedParams
from tradingbot.risk_engine.breaker import BreakerState, Facts, Judgement, clear, judge
from tradingbot.risk_engine.decide import decide, in_force
from tradingbot.risk_engine.outputs import change_of
from tradingbot.risk_engine.settings import RiskEngineSettings
from tradingbot.runtime.metrics import count_error, cycle_lag
from tradingbot.runtime.process import Process
from tradingbot.runtime.stopping import Stopped, unless_stopped

BUS_RETRY_S: Final = 0.5


async def run(process: Process) -> None:
    """Guard the account until the process stops."""
    settings = RiskEngineSettings.load(process.environ)
    async with open_session(process, settings) as bus:
        await RiskEngine(bus, settings=settings).run()


class RiskEngine:
    """The gate and the breaker around one state."""

    def __init__(self, bus: BusSession, *, settings: RiskEngineSettings) -> None:
        self._bus = bus
        self._process = bus.process
        self._clock = bus.clock
        self._settings = settings
        self._cell = bus.cell(BreakerState, BreakerState())
        self._snapshot: Entry[StateSnapshot] | None = None
        self._params: VersionedParams | None = None
        """Those of the present cycle: a change counts from the next target on."""
        self._priced_ms: int | None = None
        """The newest minute that had a price."""
        self._started_ms = self._clock.now_ms()

    async def run(self) -> None:
        """Run all loops until the process stops; any of them failing ends the service."""
        await self._cell.load()
        self._snapshot = await self._bus.newest(Stream.SNAPSHOT, StateSnapshot)
        bus = self._bus
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                bus.consume(
                    stream=Stream.TARGET,
                    group=Group.RISK,
                    model=TargetPortfolio,
                    handle=self._on_target,
                    cell=self._cell,
                    freshness=self._stale,
                    latest_only=True,
                )
            )
            tasks.create_task(
                bus.consume(
                    stream=Stream.SNAPSHOT,
                    group=Group.RISK_STATE,
                    model=StateSnapshot,
                    handle=self._on_snapshot,
                    cell=self._cell,
                    latest_only=True,
                )
            )
            tasks.create_task(
                bus.consume(
                    stream=Stream.COMMANDS,
                    group=Group.RISK_CTL,
                    model=ControlCommand,
                    handle=self._on_command,
                    cell=self._cell,
                )
            )
            tasks.create_task(self._look_in_turn())

    def _stale(self, entry: Entry[TargetPortfolio]) -> str | None:
        own, present = entry.message.env.cycle_id, self._bus.cycle_id()
        return None if own == present else f"a target of cycle {own}, it is {present}"

    async def _on_target(self, entry: Entry[TargetPortfolio]) -> Outcome[BreakerState]:
        cycle_id = entry.message.env.cycle_id
        params, modes, features_ms = await asyncio.gather(
            self._refresh_params(), read_modes(self._bus.redis), self._features_ms()
        )
        if params is None:
            return Outcome(audits=(_not_approved("no parameters yet", cause=entry.id),))
        facts = self._facts(params.params.risk, features_ms=features_ms)
        state, judgement = judge(self._cell.value, facts, fresh=False)
        target = entry.data
        decision = decide(
            target,
            snapshot=facts.snapshot,
            mode=in_force(modes, judgement),
            risk=params.params.risk,
            universe=self._settings.universe,
            inputs=target.inputs.model_copy(
                update={
                    "target_id": entry.id,
                    "target_digest": digest(entry.raw),
                    "snapshot_id": self._snapshot.id if self._snapshot else None,
                    "snapshot_digest": digest(self._snapshot.raw) if self._snapshot else None,
                    "params": params.label,
                }
            ),
        )
        cycle_lag.set((self._clock.now_ms() - start_ms_of(cycle_id)) / 1000)
        judged = self._outcome(state, judgement, facts)
        approved = self._bus.add(Stream.APPROVED, decision.approved, cycle_id=cycle_id, key=cycle_id)
        telling = telling_of(params, cycle_id=cycle_id)
        return Outcome(
            state=(judged.state or state).model_copy(update={"params_told": telling}),
            adds=(approved, *judged.adds),
            writes=judged.writes,
            audits=(*self._params_news(params, cycle_id), decision.audit, *judged.audits),
        )

    def _params_news(self, params: VersionedParams, cycle_id: str) -> tuple[AuditRecord, ...]:
        if self._cell.value.params_told == telling_of(params, cycle_id=cycle_id):
            return ()
        settings = self._settings
        return (
            params_record(params, cycle_id=cycle_id, cycle_seconds=settings.cycle_seconds, universe=settings.universe),
        )

    async def _on_snapshot(self, entry: Entry[StateSnapshot]) -> Outcome[BreakerState]:
        if self._snapshot is not None and entry_id(entry.id) < entry_id(self._snapshot.id):
            return Outcome()  # unfinished by an earlier process; ids tell the order, times may have stepped back
        self._snapshot = entry
        params = self._params or await self._refresh_params()
        if params is None:
            return Outcome()
        facts = self._facts(params.params.risk, features_ms=await self._features_ms())
        state, judgement = judge(self._cell.value, facts, fresh=True)
        return self._outcome(state, judgement, facts)

    async def _on_command(self, entry: Entry[ControlCommand]) -> Outcome[BreakerState]:
        command = entry.data
        if command.command is not Command.CLEAR_BREAKER:
            return Outcome()
        params = self._params or await self._refresh_params()
        if params is None:
            raise Temporary("no parameters yet: what a person accepts cannot be judged")
        facts = self._facts(params.params.risk, features_ms=await self._features_ms())
        cleared = clear(self._cell.value, facts, command.breaker_id or "")
        record = _clearing(command, done=cleared is not None, state=self._cell.value)
        if cleared is None:
            return Outcome(audits=(record,))
        state, judgement = judge(cleared, facts, fresh=False)
        judged = self._outcome(state, judgement, facts)
        return Outcome(state=judged.state, adds=judged.adds, writes=judged.writes, audits=(record, *judged.audits))

    async def _look_in_turn(self) -> None:
        """Look every few virtual seconds; an outage of Redis only makes a look late."""
        while not self._process.stop.is_set():
            self._process.health.beat("breaker", max_age_s=60.0)
            try:
                await self._look()
                pause = self._clock.sleep(self._settings.breaker_interval_s)
            except Stopped:
                return
            except BusError as error:
                count_error(error)
                pause = self._clock.sleep_real(BUS_RETRY_S)
            waits = [asyncio.ensure_future(each) for each in (pause, self._process.stop.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for each in waits:
                each.cancel()

    async def _look(self) -> None:
        await unless_stopped(self._process.stop, self._bus.lease.wait_held())
        async with self._cell.lock:
            if self._cell.stale:
                await self._cell.load()
            params = self._params or await self._refresh_params()
            if params is None:
                self._process.health.ready(is_ready=False, why="no parameters yet")
                return
            facts = self._facts(params.params.risk, features_ms=await self._features_ms())
            state, judgement = judge(self._cell.value, facts, fresh=False)
            self._process.health.ready(is_ready=facts.snapshot is not None, why="no state snapshot yet")
            outcome = self._outcome(state, judgement, facts)
            if outcome.state != self._cell.value:
                commit_id = f"look:{facts.now_ms}:{self._cell.version}"
                await self._bus.commit_step(self._cell, outcome, commit_id=commit_id)

    def _outcome(self, state: BreakerState, judgement: Judgement, facts: Facts) -> Outcome[BreakerState]:
        """The state, and the key, the command and the record when the judgement changed."""
        change = change_of(state, judgement, facts, version=self._cell.version)
        if change is None:
            return Outcome(state=state)
        log = self._process.log.info if judgement.mode is Mode.NORMAL else self._process.log.warning
        log("breaker", mode=judgement.mode.value, reason=judgement.reason)
        command = self._bus.add(
            Stream.COMMANDS, change.command, cycle_id=self._bus.cycle_id(), key=change.command.command_id
        )
        return Outcome(state=change.state, adds=(command,), writes=(change.key,), audits=(change.audit,))

    async def _features_ms(self) -> int | None:
        """The minute of the newest features with any price: a minute without one tells nothing of the market."""
        newest = await self._bus.newest(Stream.FEATURES, FeatureSnapshot1m)
        if newest is not None and newest.data.mid_px:
            self._priced_ms = to_ms(newest.data.asof_minute)
        return self._priced_ms

    def _facts(self, risk: RiskParams, *, features_ms: int | None) -> Facts:
        return Facts(
            now_ms=self._clock.now_ms(),
            started_ms=self._started_ms,
            speed=self._clock.speed,
            cycle_seconds=self._settings.cycle_seconds,
            snapshot=self._snapshot.data if self._snapshot else None,
            features_ms=features_ms,
            risk=risk,
        )

    async def _refresh_params(self) -> VersionedParams | None:
        """Read the parameters; those of before stay in force while what is kept cannot be used."""
        try:
            self._params = await read_params(self._bus.redis) or self._params
        except ValueError as error:
            count_error(error)
            self._process.log.warning("params_unusable", error=str(error))
        return self._params


def _not_approved(reason: str, *, cause: str) -> AuditRecord:
    return AuditRecord(kind="risk.approved", level=AuditLevel.WARNING, cause=cause, details={"skipped": reason})


def _clearing(command: ControlCommand, *, done: bool, state: BreakerState) -> AuditRecord:
    return AuditRecord(
        kind="breaker_cleared" if done else "breaker_clear_refused",
        level=AuditLevel.WARNING,
        cause=command.command_id,
        details={
            "breaker_id": command.breaker_id,
            "issued_by": command.issued_by,
            "reason": command.reason,
            "latches": [latch.id for latch in state.latches],
        },
    )
