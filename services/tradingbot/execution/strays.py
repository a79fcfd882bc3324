"""Own orders at the venue that the log does not know: cancelled through the log, like any other.

They are looked for at the start, in a HALT, and once a minute: whatever left them there, they bind margin and may fill.
DRY_RUN has no key to cancel anything with: own open orders of an earlier, live run stop it until a person has ended
them, which is said once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from tradingbot.domain.messages import AuditLevel, AuditRecord
from tradingbot.execution.actions import cancel_strays
from tradingbot.execution.book import Book, Change
from tradingbot.execution.failclosed import own_open_orders
from tradingbot.execution.gate import Gate
from tradingbot.execution.ledger import Ledger
from tradingbot.execution.venue_link import VenueLink
from tradingbot.execution.worker import Worker
from tradingbot.runtime.clock import guard_against_real_slowness
from tradingbot.venue.budget import MAX_BATCH
from tradingbot.venue.errors import VenueError
from tradingbot.venue.info import InfoClient
from tradingbot.venue.models import VenueOrder

STOP = "dry_run"
LOOK_EVERY_MS = 60_000
"""A look costs 20 of the venue's weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The account's open orders."""

    own: Sequence[VenueOrder]
    foreign: Sequence[VenueOrder]
    strays: Sequence[VenueOrder]
    """The own ones that the log does not know, or holds to have ended."""
    powerless: bool
    """True when own orders are open and there is no key to cancel them with."""


class Strays:
    """Looks for own orders that nobody remembers, and has them cancelled."""

    def __init__(self, *, book: Book, venue: VenueLink, gate: Gate, worker: Worker) -> None:
        self._book = book
        self._bus = book.bus
        self._venue = venue
        self._gate = gate
        self._worker = worker
        self._clock = book.bus.clock

    async def watch(self) -> None:
        """Look once a minute until cancelled; before the start is accounted for, the recovery looks itself."""
        while True:
            await self.pause()
            if "starting" in self._gate.stops or not self._venue.account:
                continue
            try:
                await self.look(self._venue.info)
            except VenueError as error:
                self._bus.process.log.warning("venue_not_read", error=str(error))

    async def pause(self) -> None:
        """Until the next look is due."""
        every_ms = guard_against_real_slowness(value_ms=LOOK_EVERY_MS, real_ms=1000, speed=self._clock.speed)
        await self._clock.sleep(every_ms / 1000)

    async def look(self, info: InfoClient | None = None) -> Seen:
        """Ask the venue, and write the intents that cancel what is found; the sender carries them out.

        Args:
            info: whom to ask; by default the client that no budget delays.

        Raises:
            VenueError: the venue did not answer.
            BusError: Redis or the lease is lost.
        """
        known = _live(self._book.ledger)
        own, foreign = await own_open_orders(self._venue, bot_id=self._bus.bot_id, info=info)
        # What was placed or has ended while the venue was asked is no stray.
        strays = strays_of(own, known=known | _live(self._book.ledger))
        powerless = self._venue.signer is None and bool(own)
        if self._venue.signer is None:
            await self._tell_powerless(own)
        else:
            await self._cancel(strays)
        return Seen(own=own, foreign=foreign, strays=strays, powerless=powerless)

    async def _cancel(self, strays: Sequence[VenueOrder]) -> None:
        terms = self._worker.terms()
        strays = [each for each in strays if not self._venue.first.holds((each.cloid or "").lower())]
        for start in range(0, len(strays), MAX_BATCH):
            # Asked for again while an earlier try is on its way, it must be another action: a record is never changed.
            action_id = f"stray-{self._bus.ids.uuid()}"
            decide = partial(cancel_strays, strays=strays[start : start + MAX_BATCH], action_id=action_id, terms=terms)
            await self._book.change(decide, cycle_id=self._bus.cycle_id())

    async def _tell_powerless(self, own: Sequence[VenueOrder]) -> None:
        reason = (
            f"{len(own)} orders of this bot are open and DRY_RUN has no key to cancel them: cancel them on the venue's "
            "page, or run with the key and DRY_RUN=false until they have ended"
        )
        if not (self._gate.stop(STOP, reason) if own else self._gate.lift(STOP)):
            return
        self._bus.process.log.warning("local_stop", stop=STOP, reason=reason if own else "over")
        record = AuditRecord(
            kind="local_stop",
            level=AuditLevel.ERROR if own else AuditLevel.INFO,
            cause=STOP,
            details={"stop": STOP, "reason": reason if own else "over", "oids": [each.oid for each in own]},
        )
        await self._book.change(lambda ledger: Change(ledger=ledger, audits=(record,)), cycle_id=self._bus.cycle_id())


def strays_of(own: Iterable[VenueOrder], *, known: frozenset[str]) -> list[VenueOrder]:
    """Those whose cloid is not known to be live."""
    return [each for each in own if (each.cloid or "").lower() not in known]


def _live(ledger: Ledger) -> frozenset[str]:
    return frozenset(each.cloid for each in ledger.live())
