"""Obeys the modes: a task of its own that never waits for the slice loop.

A HALT has three stamps in ``ctl.applied``: received_at (from here on nothing is sent), cancelled_at (no own order is
open), acked_at (nothing can come any more: no request is in flight and every intent, of earlier leases too, is terminal
or provably absent). Flatten is a phase of its own after the acknowledgement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from redis.asyncio import Redis

from tradingbot.bus.commit import Ack
from tradingbot.bus.control import Applied, read_applied
from tradingbot.bus.entries import Entry, Outcome
from tradingbot.domain.messages import AuditLevel, AuditRecord, Command, ControlCommand
from tradingbot.domain.modes import EffectiveMode, Mode
from tradingbot.execution.book import Book, Superseded
from tradingbot.execution.flatten import Flattener
from tradingbot.execution.gate import STARTING, Gate
from tradingbot.execution.intents import FLATTEN
from tradingbot.execution.ledger import Ledger, Order, Stage
from tradingbot.execution.mode_reader import ModeReader
from tradingbot.execution.sender import Sender
from tradingbot.execution.strays import Strays
from tradingbot.execution.waiting import woken
from tradingbot.execution.worker import Worker
from tradingbot.runtime.clock import guard_against_real_slowness
from tradingbot.venue.errors import VenueError

WATCH_EVERY_S = 0.5
"""How often the mode keys are read without a command: a person's mode may lapse silently."""
ASK_AGAIN_MS = 1000
LOOK_AGAIN_MS = 3000
"""How often the venue's open orders are asked for while something else is still waited for."""


class Control:
    """Holds the gate to the modes and carries their consequences through."""

    def __init__(
        self,
        *,
        redis: Redis,
        book: Book,
        gate: Gate,
        sender: Sender,
        worker: Worker,
        strays: Strays,
        flattener: Flattener,
        modes: ModeReader,
    ) -> None:
        self._redis = redis
        self._book = book
        self._bus = book.bus
        self._gate = gate
        self._sender = sender
        self._worker = worker
        self._strays = strays
        self._flattener = flattener
        self._modes = modes
        self._clock = book.bus.clock
        self._changed = book.watch()
        self._stamped = book.watch()
        self._turning = asyncio.Lock()
        self._looked_ms = 0
        """When the venue's open orders were last asked for."""
        self.applied = Applied(mode=Mode.HALT, reason="starting")

    # ---------------------------------------------------------------- reading the modes

    async def begin(self) -> None:
        """Take up what was applied before: stamps of a HALT that still lasts are kept."""
        self.applied = await read_applied(self._redis) or self.applied
        self.applied = replace(self.applied, acked_at=None)
        self._gate.mode = STARTING
        await self._obey()

    async def handle(self, entry: Entry[ControlCommand]) -> Outcome[Ledger]:
        """Obey a command: the mode keys say what counts now, the command only that they changed."""
        command = entry.data
        if command.command in (Command.SET, Command.CLEAR_BREAKER):
            return Outcome()
        await self._obey(command_id=command.command_id, acks=(entry.ack,))
        return Outcome(committed=True)

    async def watch(self) -> None:
        """Read the modes now and then until cancelled."""
        while True:
            await self._clock.sleep_real(WATCH_EVERY_S)
            await self._obey()

    async def _obey(self, *, command_id: str = "", acks: Sequence[Ack] = ()) -> None:
        """Take in the modes as they are now, one reading at a time: an older one must not overrule a newer."""
        async with self._turning:
            spec, mode = await self._read()
            if acks or mode != self._gate.mode:
                applied, audits = self._observe(mode, spec, command_id=command_id)
                await self._write(applied, audits, acks=acks)

    async def _read(self) -> tuple[tuple[int | None, str], EffectiveMode]:
        """Generation and uid of the spec's key, and then the effective mode: no generation is called applied whose
        mode was not read."""
        return await self._modes.spec(), await self._modes.read()

    def _observe(
        self, mode: EffectiveMode, spec: tuple[int | None, str], *, command_id: str
    ) -> tuple[Applied, tuple[AuditRecord, ...]]:
        """Turn the gate and say so, in one go: from here on nothing is sent that the mode forbids."""
        before, self._gate.mode = self._gate.mode, mode
        now_ms = self._clock.now_ms()
        stated = Applied(
            mode=mode.mode,
            source=mode.source,
            reason=mode.reason,
            command_id=command_id or self.applied.command_id,
            spec_generation=spec[0],
            spec_uid=spec[1],
        )
        self.applied = _carried(self.applied, stated, now_ms=now_ms)
        self._worker.wake.set()
        self._changed.set()
        self._stamped.set()
        if before == mode:
            return self.applied, ()
        return self.applied, (_mode_audit(before, mode, command_id=command_id),)

    # ---------------------------------------------------------------- carrying it through

    def hurry(self) -> None:
        """Look again now: a stop of our own was set."""
        self._changed.set()

    async def enforce(self) -> None:
        """Cancel what the mode or a stop of our own forbids, and stamp what has been reached, until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self._enforce_once()
            except VenueError as error:
                self._bus.process.log.warning("halt_delayed", error=str(error))
            busy = self._forbidden() or self.applied.acked_at is None
            due_ms = self._clock.now_ms() + self._scaled(ASK_AGAIN_MS, 100) if busy else None
            await woken(self._changed, clock=self._clock, due_ms=due_ms)

    async def _enforce_once(self) -> None:
        await self._worker.cancel(self._to_cancel(), reason=self._why(), forced=True)
        if self._halted:
            await self._stamp_halt()
            return
        async with self._turning:
            left = self._forbidden() or self._on_their_way()
            if not self._halted and not left and self.applied.acked_at is None:
                now_ms = self._clock.now_ms()
                await self._write(replace(self.applied, cancelled_at=now_ms, acked_at=now_ms))

    @property
    def _halted(self) -> bool:
        return self._gate.mode.mode is Mode.HALT

    def _forbidden(self) -> list[Order]:
        """Live orders that must not rest under the present mode."""
        live = [each for each in self._book.ledger.live() if each.outcome is None and each.stage is not Stage.INTENT]
        match self._gate.strictness:
            case Mode.HALT:
                return [each for each in live if each.reason != FLATTEN]
            case Mode.REDUCE_ONLY:
                return [each for each in live if not each.reduce_only]
            case _:
                return []

    def _on_their_way(self) -> list[Order]:
        """Intents that the venue may be taking right now and that REDUCE_ONLY forbids."""
        live = self._book.ledger.live() if self._gate.mode.mode is Mode.REDUCE_ONLY else ()
        return [each for each in live if each.stage is Stage.INTENT and not each.reduce_only]

    def _to_cancel(self) -> list[Order]:
        """The forbidden orders whose cancellation was not asked for, or long ago."""
        retry_ms, now_ms = self._scaled(ASK_AGAIN_MS, 100), self._clock.now_ms()
        return [
            each
            for each in self._forbidden()
            if each.cancel_asked_ms is None or now_ms - each.cancel_asked_ms >= retry_ms
        ]

    def _why(self) -> str:
        """The reason of a cancel: the mode's name, or that of our own stop."""
        if self._halted or not self._gate.stops:
            return self._gate.mode.mode.lower()
        return next(iter(self._gate.stops))

    async def _stamp_halt(self) -> None:
        if self.applied.acked_at is not None:
            return
        if any(each.stage is Stage.OPEN and each.outcome is None for each in self._book.ledger.live()):
            return
        if self._sender.starved:
            return
        if self._clock.now_ms() - self._looked_ms < self._scaled(LOOK_AGAIN_MS, 200) and not self._nothing_can_come():
            return
        self._looked_ms, halt = self._clock.now_ms(), self.applied.received_at
        seen = await self._strays.look()
        async with self._turning:
            reached = self._reached(len(seen.own), now_ms=self._clock.now_ms())
            if reached != self.applied and self._halted and self.applied.received_at == halt:
                await self._write(reached, (_stamp_audit(reached),))

    def _reached(self, open_orders: int, *, now_ms: int) -> Applied:
        reached = replace(self.applied, open_orders=open_orders)
        if not open_orders and reached.cancelled_at is None:
            reached = replace(reached, cancelled_at=now_ms)
        if not open_orders and self._nothing_can_come():
            reached = replace(reached, acked_at=now_ms)
        return reached

    def _nothing_can_come(self) -> bool:
        return self._sender.idle and not self._book.ledger.live() and "starting" not in self._gate.stops

    # ---------------------------------------------------------------- flatten

    async def follow(self) -> None:
        """Flatten after an acknowledged HALT, until cancelled; a task of its own, so that it delays no other mode."""
        while True:
            self._stamped.clear()
            if self._halted and self.applied.acked_at is not None:
                await self._flatten(halt=self.applied.received_at)
            await self._stamped.wait()

    async def _flatten(self, *, halt: int | None) -> None:
        def lasts() -> bool:
            return self._halted and self.applied.received_at == halt

        if self.applied.flatten in ("flat", "failed") or not await self._flattener.wanted():
            return
        async with self._turning:
            if lasts() and self.applied.flatten != "pending":
                await self._write(replace(self.applied, flatten="pending"))
        outcome = await self._flattener.run(while_halted=lasts)
        async with self._turning:
            stated = replace(self.applied, flatten=outcome) if lasts() else self.applied
            await self._write(stated, (_flatten_audit(outcome),))

    # ---------------------------------------------------------------- edges

    async def _write(self, applied: Applied, audits: Sequence[AuditRecord] = (), *, acks: Sequence[Ack] = ()) -> None:
        """Hold ``_turning`` from the decision to here, so that what is written last is what was decided last."""
        self.applied = applied
        cycle_id = self._bus.cycle_id()
        result = await self._bus.commit(
            commit_id=self._bus.ids.uuid(),
            writes=(applied.put(),),
            adds=[self._bus.audit(each, cycle_id=cycle_id) for each in audits],
            acks=acks,
        )
        if not result.done:
            raise Superseded(result.detail)
        self._changed.set()
        self._stamped.set()

    def _scaled(self, value_ms: int, real_ms: int) -> int:
        return guard_against_real_slowness(value_ms=value_ms, real_ms=real_ms, speed=self._clock.speed)


def _carried(before: Applied, stated: Applied, *, now_ms: int) -> Applied:
    """What is stated now, with the stamps that still hold: those of the same mode, said again."""
    if before.mode is not stated.mode:
        return replace(stated, received_at=now_ms, acked_at=now_ms if stated.mode is Mode.NORMAL else None)
    return replace(
        stated,
        received_at=before.received_at or now_ms,
        cancelled_at=before.cancelled_at,
        acked_at=before.acked_at,
        open_orders=before.open_orders,
        flatten=before.flatten,
    )


def _mode_audit(before: EffectiveMode, after: EffectiveMode, *, command_id: str) -> AuditRecord:
    return AuditRecord(
        kind="mode",
        level=AuditLevel.WARNING if after.mode is not Mode.NORMAL else AuditLevel.INFO,
        cause=command_id or "watch",
        details={"before": before.mode, "after": after.mode, "source": after.source, "reason": after.reason},
    )


def _stamp_audit(applied: Applied) -> AuditRecord:
    reached = "acked" if applied.acked_at else "cancelled" if applied.cancelled_at else "open"
    return AuditRecord(
        kind="halt",
        cause=f"{applied.received_at}:{reached}",
        details={
            "received_at": applied.received_at,
            "cancelled_at": applied.cancelled_at,
            "acked_at": applied.acked_at,
            "open_orders": applied.open_orders,
        },
    )


def _flatten_audit(outcome: str) -> AuditRecord:
    level = AuditLevel.INFO if outcome == "flat" else AuditLevel.ERROR
    return AuditRecord(kind="flatten", level=level, cause="halt", details={"flatten": outcome})
