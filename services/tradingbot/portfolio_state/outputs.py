"""What a step of the mirror writes to the bus, in one commit."""

from __future__ import annotations

from typing import Final

from tradingbot.bus.commit import Add, SetAdd, SetRemove, ValuePut, Write
from tradingbot.bus.entries import Outcome
from tradingbot.bus.memory import Memory
from tradingbot.bus.names import Key, Stream
from tradingbot.bus.session import BusSession
from tradingbot.domain.messages import AuditLevel, AuditRecord, StateEvent, StateSnapshot
from tradingbot.portfolio_state.mirror import Mirror, Step
from tradingbot.runtime.clock import guard_against_real_slowness

SNAPSHOT_TTL_MS: Final = 60_000
_SLOW_MS: Final = 6_000
"""Real milliseconds that a snapshot may be late for lack of speed alone."""


def latest_ttl_ms(*, speed: float) -> int:
    """How long ``latest.state.snapshot`` lives, real milliseconds: 60 virtual seconds, never below 6 real ones."""
    virtual_ms = guard_against_real_slowness(value_ms=SNAPSHOT_TTL_MS, real_ms=_SLOW_MS, speed=speed)
    return round(virtual_ms / speed)


def outcome_of(
    bus: BusSession, before: Mirror, step: Step, *, cycle_id: str, snapshot: StateSnapshot | None = None
) -> Outcome[Mirror]:
    """The step as one commit: state, snapshot, events, audits, and the set of active orders."""
    adds = [_event(bus, event, cycle_id=cycle_id) for event in step.events]
    writes = _active_set(before, step.mirror)
    if snapshot is not None:
        now_ms = bus.clock.now_ms()
        add = bus.add(Stream.SNAPSHOT, snapshot, cycle_id=cycle_id, key=str(now_ms))
        adds.append(add)
        writes.append(ValuePut(Key.LATEST_SNAPSHOT, add.payload, ttl_ms=latest_ttl_ms(speed=bus.clock.speed)))
    return Outcome(state=step.mirror, adds=tuple(adds), writes=tuple(writes), audits=step.audits)


def memory_record(memory: Memory) -> AuditRecord:
    """That the server runs short of memory, or no more."""
    return AuditRecord(
        kind="redis_memory",
        level=AuditLevel.ERROR if memory.runs_short else AuditLevel.INFO,
        details={"ratio": round(memory.ratio, 3), "used_bytes": memory.used, "maxmemory_bytes": memory.bound},
    )


def _event(bus: BusSession, event: StateEvent, *, cycle_id: str) -> Add:
    about = event.exchange_order_id or event.symbol or ""
    key = f"{about}:{event.kind}:{event.status or event.tid or ''}:{event.at_ms}"
    return bus.add(Stream.EVENTS, event, cycle_id=cycle_id, key=key, event=event.kind.value)


def _active_set(before: Mirror, after: Mirror) -> list[Write]:
    added = sorted(after.active.keys() - before.active.keys())
    removed = sorted(before.active.keys() - after.active.keys())
    writes: list[Write] = []
    if added:
        writes.append(SetAdd(Key.ACTIVE_OIDS, added))
    if removed:
        writes.append(SetRemove(Key.ACTIVE_OIDS, removed))
    return writes
