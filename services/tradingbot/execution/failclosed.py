"""Cancelling without Redis: own orders are known at the venue by their cloid's tag, and a cancel needs no record.

Used when the bus is gone with orders open. No bucket delays it, and its nonces are max(last + 1, now): the bus is told
the last one (``VenueLink.min_nonce``), so that a later action never bears a smaller one.
"""

from __future__ import annotations

import asyncio
import contextlib

from tradingbot.domain.ids import Cloid, is_own
from tradingbot.execution.venue_link import VenueLink
from tradingbot.runtime import metrics
from tradingbot.runtime.clock import Clock
from tradingbot.venue.budget import MAX_BATCH
from tradingbot.venue.errors import Retryable, VenueError
from tradingbot.venue.info import InfoClient
from tradingbot.venue.models import VenueOrder
from tradingbot.venue.wire import cancel_by_cloid_action

RETRY_S = 0.25
LOOK_AGAIN_S = 2.0


async def own_open_orders(
    venue: VenueLink, *, bot_id: str, info: InfoClient | None = None
) -> tuple[list[VenueOrder], list[VenueOrder]]:
    """The account's open orders: own ones, by their tag, and foreign ones; asked without delay unless ``info`` does."""
    orders = await (info or venue.urgent).open_orders(venue.account)
    own = [each for each in orders if is_own(each.cloid, bot_id=bot_id)]
    return own, [each for each in orders if each not in own]


async def cancel_without_bus(
    venue: VenueLink, *, bot_id: str, clock: Clock, until: asyncio.Event, stop: asyncio.Event
) -> int:
    """Cancel own open orders until ``until`` is set; returns how many cancels were sent.

    It goes on looking while the bus is away: an order that was in flight when it went may still arrive. With ``stop``
    set it ends as soon as nothing is open.
    """
    sent = 0
    while venue.signer is not None and not until.is_set():
        wait_s = RETRY_S
        try:
            own, _ = await own_open_orders(venue, bot_id=bot_id)
            if own:
                await _send_cancels(venue, own[:MAX_BATCH], now_ms=clock.now_ms())
                sent += len(own[:MAX_BATCH])
            elif stop.is_set():
                break
            else:
                wait_s = LOOK_AGAIN_S
        except VenueError as error:
            metrics.count_error(error)  # asked again: an order that stays open is the one thing that must not be
            wait_s = max(RETRY_S, error.delay_s or 0.0) if isinstance(error, Retryable) else RETRY_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await until.wait()
    return sent


async def _send_cancels(venue: VenueLink, orders: list[VenueOrder], *, now_ms: int) -> None:
    assert venue.signer is not None
    cancels = [(venue.specs[each.symbol].asset_id, Cloid(each.cloid or "")) for each in orders]
    request = venue.signer.sign(cancel_by_cloid_action(cancels), nonce=venue.next_nonce(now_ms), expires_after_ms=None)
    await venue.exchange.send(request)
