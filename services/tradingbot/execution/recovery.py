"""After a start: no order of ours may be unaccounted for before the first one of this lease.

Own orders at the venue that the log does not know are cancelled; foreign ones are left alone and told. Every intent of
an earlier lease must be terminal or provably absent. Execution that finds no state of its own cancels what bears its
tag, settles, and plans from the next cycle on.
"""

from __future__ import annotations

from collections.abc import Sequence

from tradingbot.bus.params import read_params
from tradingbot.domain.cycles import cycle_id_at
from tradingbot.domain.messages import AuditLevel, AuditRecord
from tradingbot.domain.params import ExecutionParams
from tradingbot.execution.book import Book, Change
from tradingbot.execution.gate import Gate
from tradingbot.execution.ledger import Order, Stage
from tradingbot.execution.orders import Lost
from tradingbot.execution.sender import Sender
from tradingbot.execution.sending import LONGEST_TTL_MS
from tradingbot.execution.strays import Strays
from tradingbot.execution.tracker import Tracker
from tradingbot.execution.waiting import woken
from tradingbot.execution.worker import Worker
from tradingbot.runtime.clock import guard_against_real_slowness
from tradingbot.venue.errors import VenueError
from tradingbot.venue.models import VenueOrder

ASK_AGAIN_MS = 2000


class Recovery:
    """Opens the gate once the past is accounted for."""

    def __init__(
        self,
        *,
        book: Book,
        gate: Gate,
        sender: Sender,
        tracker: Tracker,
        worker: Worker,
        strays: Strays,
    ) -> None:
        self._book = book
        self._bus = book.bus
        self._gate = gate
        self._sender = sender
        self._tracker = tracker
        self._worker = worker
        self._strays = strays
        self._clock = book.bus.clock
        self._changed = book.watch()
        self._told: set[int] = set()
        """Foreign orders that were told, by oid."""
        self.not_before: str = ""
        """The first cycle that may be planned; empty when any may."""

    async def run(self) -> None:
        """Returns once the first order may be placed; a venue that does not answer is asked again."""
        quiet_ms = None if self._book.kept else await self._quiet_ms()
        if quiet_ms is not None:
            seconds = self._bus.cycle_seconds
            self.not_before = cycle_id_at(quiet_ms + seconds * 1000, cycle_seconds=seconds)
        await self._sender.caught_up.wait()
        while not await self._accounted():
            await self._pause()
        while not await self._settled():
            await self._pause()
        self._gate.lift("starting")
        self._worker.wake.set()
        self._bus.process.log.info("recovered", token=self._bus.lease.token, not_before=self.not_before)
        if quiet_ms is not None:
            await self._clock.sleep_until_ms(quiet_ms)
            while not await self._accounted():
                await self._pause()

    async def _quiet_ms(self) -> int:
        """From when on nothing can arrive any more that an earlier life has sent and nobody remembers."""
        found = await read_params(self._bus.redis)
        params = found.params.execution if found else ExecutionParams()
        ttl_ms = guard_against_real_slowness(value_ms=params.order_ttl_ms, real_ms=1000, speed=self._clock.speed)
        return self._clock.now_ms() + ttl_ms + self._tracker.timing.grace_ms

    async def _accounted(self) -> bool:
        """True when nothing of an earlier life is left to happen."""
        if self._sender.starved:
            return False
        try:
            seen = await self._strays.look()
        except VenueError as error:
            self._bus.process.log.warning("venue_not_read", error=str(error))
            return False
        await self._tell_foreign(seen.foreign)
        left = self._earlier()
        await self._doubt([each for each in left if each.stage is Stage.INTENT and self._sender.idle])
        await self._worker.cancel([each for each in left if _cancellable(each)], reason="earlier_lease", forced=True)
        if seen.powerless:
            await self._strays.pause()  # only a person can end them
        return not seen.strays and not left

    def _earlier(self) -> list[Order]:
        return [each for each in self._book.ledger.live() if each.lease_token != self._bus.lease.token]

    async def _doubt(self, orders: Sequence[Order]) -> None:
        """Intents whose entry is gone from the log: their bytes may have left, so only the venue can tell."""
        now_ms = self._clock.now_ms()
        lost = [(each.cloid, Lost(expires_after_ms=each.intent_ms + LONGEST_TTL_MS, at_ms=now_ms)) for each in orders]
        if lost:
            await self._book.apply(lost, cycle_id=self._cycle_id())

    async def _settled(self) -> bool:
        try:
            found = await self._tracker.settle_now()
        except VenueError as error:
            self._bus.process.log.warning("not_settled", error=str(error))
            return False
        # A doubted symbol is not planned, but it does not keep the others waiting.
        return found is not None and "asked_too_early" not in found.unsettled.values()

    async def _tell_foreign(self, foreign: Sequence[VenueOrder]) -> None:
        news = [each for each in foreign if each.oid not in self._told]
        if not news:
            return
        self._told |= {each.oid for each in news}
        details = {"orders": [{"oid": each.oid, "symbol": each.symbol, "cloid": each.cloid} for each in news]}
        record = AuditRecord(kind="foreign_order", level=AuditLevel.WARNING, cause=str(news[0].oid), details=details)
        await self._book.change(lambda ledger: Change(ledger=ledger, audits=(record,)), cycle_id=self._cycle_id())

    async def _pause(self) -> None:
        wait_ms = guard_against_real_slowness(value_ms=ASK_AGAIN_MS, real_ms=100, speed=self._clock.speed)
        self._changed.clear()
        await woken(self._changed, clock=self._clock, due_ms=self._clock.now_ms() + wait_ms)

    def _cycle_id(self) -> str:
        return self._bus.cycle_id()


def _cancellable(order: Order) -> bool:
    return order.stage is Stage.OPEN and order.outcome is None and order.cancel_asked_ms is None
