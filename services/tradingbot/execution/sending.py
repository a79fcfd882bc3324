"""Sending one action, and what its answer means: the one place where orders leave this process.

Nothing is decided here that could change what is sent: nonce, expiry and order were fixed when the intents were
committed, so the bytes can be rebuilt after a crash and are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count

from tradingbot.bus.session import BusSession
from tradingbot.domain.errors import Temporary
from tradingbot.domain.messages import ReportStatus
from tradingbot.execution.gate import Gate
from tradingbot.execution.ledger import Order
from tradingbot.execution.orders import Accepted, Event, Final, Lost, Refused
from tradingbot.execution.venue_link import VenueLink
from tradingbot.execution.work import Record, Work, wire_cancels, wire_orders
from tradingbot.runtime import metrics
from tradingbot.venue import errors as venue_errors
from tradingbot.venue.errors import AlreadyAdmitted, OutcomeUnknown, RateLimited, Retryable, VenueError
from tradingbot.venue.exchange import ActionResult, Failed, Filled, Resting, Status, Success
from tradingbot.venue.wire import Action, SignedRequest, cancel_by_cloid_action, order_action

BACK_OFF_S = (0.1, 0.3, 1.0, 2.0)
CANCEL_BACK_OFF_S = (0.1, 0.2, 0.4)
"""A cancel weighs 1 of the venue's weight, and 20 come in a second: it is sent again soon, for as long as it takes."""
TRIES = 3
"""How often the same bytes of a PLACE are sent, before the venue is asked instead."""

Events = list[tuple[str, Event]]
"""What became of each order, by cloid."""


class HeldBack(Retryable):
    """It was forbidden while its connection was being made: nothing has left."""


class ActionSender:
    """Sends actions, and knows which of them may have left this process."""

    def __init__(self, *, bus: BusSession, venue: VenueLink, gate: Gate) -> None:
        self._bus = bus
        self._venue = venue
        self._gate = gate
        self._left: set[str] = set()
        """Actions whose bytes may have left; known across a loss of the bus."""
        self.in_flight = 0
        """Requests that have left and are not answered."""

    def forget(self, work: Work) -> None:
        """The action is finished and recorded."""
        self._left.discard(work.action_id)

    async def place(self, work: Work, record: Record) -> Events:
        """Send the orders, or say why they were not sent; every path ends in an event for each order."""
        request = self._signed(order_action(wire_orders(work.intents, record)), record)
        reason = "not answered"
        for tries in range(TRIES):
            if (refusal := self._refusal(work, record)) or request is None:
                return self.unsent(work, record, reason=refusal or "dry_run")
            try:
                result = await self._send(request, work, record)
            except AlreadyAdmitted:
                break
            except OutcomeUnknown:
                await self._pause(tries)
            except Retryable as error:
                self._left.discard(work.action_id)  # nothing was admitted, and no earlier sending is in doubt
                reason = type(error).__name__
                if self._too_long(error, record):
                    break
                await self._pause(tries, error)
            except venue_errors.Refused as error:
                return self._each(work, self._refused(error))
            else:
                answered = zip(work.cloids, result.statuses, strict=True)
                return [(cloid, self._placed(status, result.raw)) for cloid, status in answered]
        return self.unsent(work, record, reason=reason)

    async def cancel(self, work: Work, record: Record) -> Events:
        """Carried out until the venue answers: a cancel has no expiry and is never dropped for age."""
        request = self._signed(cancel_by_cloid_action(wire_cancels(work.intents, record)), record)
        try:
            return [] if request is None else await self._carry_out(request, work, record)
        finally:
            self._venue.first.over(work.action_id)

    async def _carry_out(self, request: SignedRequest, work: Work, record: Record) -> Events:
        for tries in count():
            try:
                result = await self._send(request, work, record)
            except (AlreadyAdmitted, venue_errors.Refused):
                break  # admitted before, or its nonce is too old: if an order still stands, it is asked for again
            except (OutcomeUnknown, Retryable) as error:
                if isinstance(error.__cause__, venue_errors.Refused):
                    break  # sent again and refused for good: its nonce has become too old, say; it is asked for again
                if isinstance(error, Retryable):
                    self._left.discard(work.action_id)  # nothing was admitted, and no earlier sending is in doubt
                await self._wait_to_cancel(work, tries, error)
            else:
                # Any other answer says that it does not rest, not how it ended: the tracker asks.
                gone = Final(outcome=ReportStatus.CANCELED, at_ms=self._now_ms())
                answered = zip(work.cloids, result.statuses, strict=True)
                return [(cloid, gone) for cloid, status in answered if isinstance(status, Success)]
        return []

    async def _wait_to_cancel(self, work: Work, tries: int, error: VenueError) -> None:
        """Until it is sent again: soon, whatever the cause, unless the venue itself names the time."""
        starved = _wants_weight(error)
        self._venue.first.failed(work.action_id, work.cloids, starved=starved)
        named = error if isinstance(error, Retryable) and not starved else None
        await self._pause(tries, named, back_off_s=CANCEL_BACK_OFF_S)

    def unsent(self, work: Work, record: Record | None, *, reason: str) -> Events:
        """Orders whose bytes may have left are unknown; those whose bytes provably did not are over."""
        now_ms = self._now_ms()
        earlier_life = record is None or record.lease_token != self._bus.lease.token
        if not earlier_life and work.action_id not in self._left:
            return self._each(work, Refused(error=reason, at_ms=now_ms, outcome=ReportStatus.CANCELED))
        expires_ms = record.expires_after_ms if record else None
        return self._each(work, Lost(expires_after_ms=expires_ms or now_ms + LONGEST_TTL_MS, at_ms=now_ms))

    def orphaned(self, order: Order) -> tuple[str, Event]:
        """What to make of an order of this lease whose entries were put aside."""
        now_ms = self._now_ms()
        if order.action_id in self._left:
            return order.cloid, Lost(expires_after_ms=order.intent_ms + LONGEST_TTL_MS, at_ms=now_ms)
        return order.cloid, Refused(error="unreadable", at_ms=now_ms, outcome=ReportStatus.CANCELED)

    def _refusal(self, work: Work, record: Record) -> str | None:
        """Why it must not be sent now. Asked without waiting, right before the request."""
        if self._venue.signer is None:
            return "dry_run"
        if record.lease_token != self._bus.lease.token:
            return "earlier_lease"  # its bytes may have left: only the venue knows
        if record.expires_after_ms is None or self._now_ms() > record.expires_after_ms:
            return "expired"
        if not self._bus.lease.held:
            return "lease_lost"
        return self._gate.refusal(at_most=work.at_most)

    def _hold_back(self, work: Work, record: Record) -> None:
        """Asked again right before the first byte: until then a new connection may have taken seconds."""
        if refusal := self._refusal(work, record):
            raise HeldBack(refusal)

    def _placed(self, status: Status, raw: str) -> Event:
        match status:
            case Resting(oid=oid) | Filled(oid=oid):
                return Accepted(oid=str(oid), at_ms=self._now_ms(), raw=raw)
            case Failed(error=error):
                return self._refused(error)
            case _:
                return Refused(error="UnexpectedStatus", at_ms=self._now_ms(), raw=raw)

    def _refused(self, error: VenueError) -> Event:
        # Those two are a missed slice, not a refusal: the market was elsewhere.
        missed = isinstance(error, venue_errors.PostOnlyWouldMatch | venue_errors.IocNoMatch)
        outcome = ReportStatus.CANCELED if missed else ReportStatus.REJECTED
        return Refused(error=type(error).__name__, at_ms=self._now_ms(), raw=str(error), outcome=outcome)

    def _signed(self, action: Action, record: Record) -> SignedRequest | None:
        if self._venue.signer is None:
            return None
        return self._venue.signer.sign(action, nonce=record.nonce, expires_after_ms=record.expires_after_ms)

    async def _send(self, request: SignedRequest, work: Work, record: Record) -> ActionResult:
        resend = work.action_id in self._left
        self.in_flight += 1
        self._left.add(work.action_id)
        self._venue.used(request.nonce)
        try:
            hold_back = partial(self._hold_back, work, record) if work.place else None
            return await self._venue.exchange.send(request, resend=resend, before_leaving=hold_back)
        finally:
            self.in_flight -= 1
            metrics.orders.labels(action="PLACE" if work.place else "CANCEL").inc(work.size)

    def _too_long(self, error: Retryable, record: Record) -> bool:
        """True when the orders expire before the venue wants to hear of them again."""
        wait_ms = (error.delay_s or 0.0) * 1000 * self._bus.clock.speed
        return record.expires_after_ms is not None and self._now_ms() + wait_ms > record.expires_after_ms

    async def _pause(
        self, tries: int, error: Temporary | None = None, *, back_off_s: Sequence[float] = BACK_OFF_S
    ) -> None:
        least_s = error.delay_s if error is not None and error.delay_s is not None else 0.0
        base_s = back_off_s[min(tries, len(back_off_s) - 1)]
        await self._bus.clock.sleep_real(max(least_s, base_s * self._bus.ids.uniform(0.5, 1.0)))

    @staticmethod
    def _each(work: Work, event: Event) -> Events:
        return [(cloid, event) for cloid in work.cloids]

    def _now_ms(self) -> int:
        return self._bus.clock.now_ms()


def _wants_weight(error: VenueError) -> bool:
    """True when the address's weight is used up; on a resend that is only the cause of what was raised."""
    return isinstance(error, RateLimited) or isinstance(error.__cause__, RateLimited)


LONGEST_TTL_MS = 60_000
"""No order can be admitted later than this after now, whatever its action said (ORDER_TTL_MS is at most this)."""
