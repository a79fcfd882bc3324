"""Asks the venue and the log for what a reconciliation needs."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError
from redis.asyncio import Redis

from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import PAYLOAD_FIELD, Stream
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import OrderIntent
from tradingbot.portfolio_state.fills import fills_start_ms
from tradingbot.portfolio_state.funding import funding_due
from tradingbot.portfolio_state.health import skew_ms
from tradingbot.portfolio_state.ledger import ledger_start_ms
from tradingbot.portfolio_state.mirror import Mirror
from tradingbot.portfolio_state.orders import absorb_intents
from tradingbot.portfolio_state.reconcile import Reading, must_read_fills
from tradingbot.runtime.clock import Clock
from tradingbot.venue.info import InfoClient

PAGE: Final = 500


async def read_venue(venue: InfoClient, mirror: Mirror, *, account: str, clock: Clock) -> Reading:
    """Read orders, account, mids, fills and ledger when anything moved, and funding once an hour.

    Raises:
        VenueError: the venue gave no usable answer.
    """
    orders = await venue.open_orders(account)
    asked_ms = clock.now_ms()
    state = await venue.clearinghouse_state(account)
    answered_ms = clock.now_ms()
    mids = await venue.all_mids()
    moved = must_read_fills(mirror, state, now_ms=answered_ms)
    # Fills after the account, so that they cover all that the account shows.
    fills = await venue.fills_since(account, fills_start_ms(mirror, now_ms=state.time_ms)) if moved else None
    ledger = await venue.ledger_updates(account, ledger_start_ms(mirror, now_ms=state.time_ms)) if moved else None
    due = mirror.began_ms > 0 and funding_due(mirror, venue_ms=state.time_ms)
    funding = await venue.funding_payments(account, mirror.funding_cursor_ms) if due else None
    return Reading(
        orders=orders,
        account=state,
        mids=mids,
        fills=fills,
        ledger=ledger,
        funding=funding,
        asked_ms=asked_ms,
        skew_ms=skew_ms(venue_ms=state.time_ms, asked_ms=asked_ms, answered_ms=answered_ms),
    )


async def read_intents(redis: Redis, mirror: Mirror, *, now_ms: int) -> Mirror:
    """Learn the intents that were written since the last reading.

    Called after the fills were read: an intent is written before its order is sent, so it is there before its fill.

    Raises:
        BusError: Redis does not answer.
    """
    while True:
        with bus_errors():
            rows: Any = await redis.xrange(Stream.ORDERS.value, min=f"({mirror.orders_cursor}", count=PAGE)
        if not rows:
            return mirror
        intents = [intent for _, fields in rows if (intent := _intent(fields)) is not None]
        mirror = absorb_intents(mirror, intents, cursor=rows[-1][0], now_ms=now_ms)


def _intent(fields: dict[str, str]) -> OrderIntent | None:
    """The intent of an entry; None for one that is not valid, which its consumer makes a dead letter of."""
    try:
        return Message[OrderIntent].read(fields.get(PAYLOAD_FIELD, "")).data
    except ValidationError:
        return None
