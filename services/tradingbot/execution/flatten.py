"""Flatten: after an acknowledged HALT, reduce-only Ioc orders until the venue shows no position, or a deadline."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from tradingbot.bus.params import read_params
from tradingbot.domain.cycles import cycle_id_at
from tradingbot.domain.params import ExecutionParams, ExternalPositions, HaltAction
from tradingbot.execution.actions import place_flatten
from tradingbot.execution.book import Book, Change
from tradingbot.execution.intents import Desk, draft_flatten
from tradingbot.execution.ledger import Ledger
from tradingbot.execution.tracker import Tracker
from tradingbot.execution.waiting import woken
from tradingbot.execution.worker import Worker
from tradingbot.runtime.clock import guard_against_real_slowness
from tradingbot.venue.errors import VenueError

DEADLINE_MS = 120_000
PAUSE_MS = 1000
ENDED_WITHIN_MS = 10_000


class Flattener:
    """Closes every position of the universe, and those outside it when externalPositions says Reduce."""

    def __init__(self, *, book: Book, tracker: Tracker, worker: Worker, universe: tuple[str, ...]) -> None:
        self._book = book
        self._tracker = tracker
        self._worker = worker
        self._universe = frozenset(universe)
        self._clock = book.bus.clock
        self._changed = book.watch()

    async def wanted(self) -> bool:
        """True when an acknowledged HALT is to be followed by it."""
        params = await read_params(self._book.bus.redis)
        return params is not None and params.params.risk.halt_action is HaltAction.FLATTEN

    async def run(self, *, while_halted: Callable[[], bool]) -> str:
        """``flat`` or ``failed``; gives up as ``failed`` when the HALT is lifted in between."""
        params = await read_params(self._book.bus.redis)
        execution = params.params.execution if params else ExecutionParams()
        external = params is not None and params.params.risk.external_positions is ExternalPositions.REDUCE
        deadline_ms = self._clock.now_ms() + self._scaled(DEADLINE_MS, 10_000)
        while while_halted() and self._clock.now_ms() < deadline_ms:
            await self._ended()
            try:
                found = await self._tracker.settle_now()
            except VenueError as error:
                self._book.bus.process.log.warning("flatten_delayed", error=str(error))
                found = None
            positions = self._positions(external=external)
            if not positions and found is not None and not found.unsettled:
                return "flat"
            if positions and found is not None and while_halted():
                await self._place(positions, execution)
            await self._clock.sleep(self._scaled(PAUSE_MS, 50) / 1000)
        return "failed"

    def _positions(self, *, external: bool) -> dict[str, Decimal]:
        marks = self._book.ledger.marks
        return {
            symbol: mark.position
            for symbol, mark in marks.items()
            if mark.position and mark.doubt_ms is None and (external or symbol in self._universe)
        }

    async def _place(self, positions: dict[str, Decimal], params: ExecutionParams) -> None:
        desk = await self._worker.desk()
        cycle_id = cycle_id_at(desk.now_ms, cycle_seconds=self._book.bus.cycle_seconds)

        def decide(ledger: Ledger) -> Change | None:
            closable = {symbol: each for symbol, each in positions.items() if not ledger.live(symbol)}
            return _flatten_change(ledger, closable, cycle_id=cycle_id, desk=desk, params=params, worker=self._worker)

        await self._book.change(decide, cycle_id=cycle_id)

    async def _ended(self) -> None:
        deadline_ms = self._clock.now_ms() + self._scaled(ENDED_WITHIN_MS, 1000)
        while self._book.ledger.live() and self._clock.now_ms() < deadline_ms:
            self._changed.clear()
            await woken(self._changed, clock=self._clock, due_ms=deadline_ms)

    def _scaled(self, value_ms: int, real_ms: int) -> int:
        return guard_against_real_slowness(value_ms=value_ms, real_ms=real_ms, speed=self._clock.speed)


def _flatten_change(
    ledger: Ledger,
    positions: dict[str, Decimal],
    *,
    cycle_id: str,
    desk: Desk,
    params: ExecutionParams,
    worker: Worker,
) -> Change | None:
    draft = draft_flatten(positions, cycle_id=cycle_id, guard_bps=params.flatten_guard_bps, desk=desk)
    return place_flatten(ledger, draft, params=params, terms=worker.terms()) if draft.orders else None
