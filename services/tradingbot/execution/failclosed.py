"""Cancelling without Redis: own orders are known at the venue by their cloid's tag, and a cancel needs no record.

Used when the bus is gone with orders open. No bucket delays it, and its nonces are max(last + 1, now): the bus is told
the last one (``VenueLink.min_nonce``), so that a later action never bears a smaller one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence

from tradingbot.domain.ids import Cloid, is_own
from tradingbot.execution.ledger import Order
from tradingbot.execution.venue_link import VenueLink
from tradingbot.runtime import metrics
from tradingbot.runtime.clock import Clock
from tradingbot.venue.budget import MAX_BATCH
from tradingbot.venue.errors import OutcomeUnknown, RateLimited, Retryable, VenueError
from tradingbot.venue.info import InfoClient
from tradingbot.venue.models import VenueOrder
from tradingbot.venue.precision import AssetSpec
from tradingbot.venue.wire import cancel_by_cloid_action

RETRY_S = 0.25
LOOK_AGAIN_S = 2.0
WEIGHT_OF_A_LOOK_S = 1.0
"""A look weighs 20, which is what the venue lets an address have in a second."""

Cancel = tuple[int, Cloid]
"""The asset and the order."""


async def own_open_orders(
    venue: VenueLink, *, bot_id: str, info: InfoClient | None = None
) -> tuple[list[VenueOrder], list[VenueOrder]]:
    """The account's open orders: own ones, by their tag, and foreign ones; asked without delay unless ``info`` does."""
    orders = await (info or venue.urgent).open_orders(venue.account)
    own = [each for each in orders if is_own(each.cloid, bot_id=bot_id)]
    return own, [each for each in orders if each not in own]


def known_cancels(orders: Iterable[Order], specs: Mapping[str, AssetSpec]) -> list[Cancel]:
    """The orders that the ledger holds to be live; a cancel of one that is not there does no harm."""
    return [(specs[each.symbol].asset_id, Cloid(each.cloid)) for each in orders if each.symbol in specs]


async def cancel_without_bus(
    venue: VenueLink,
    *,
    bot_id: str,
    clock: Clock,
    until: asyncio.Event,
    stop: asyncio.Event,
    known: Sequence[Cancel] = (),
) -> int:
    """Cancel own open orders until ``until`` is set; returns how many cancels were sent.

    What is ``known`` is cancelled before the venue is asked for more: a cancel weighs 1 of the address's weight, the
    question 20. It goes on looking while the bus is away: an order that was in flight when it went may still arrive.
    With ``stop`` set it ends as soon as nothing is open.
    """
    sent, due = 0, list(known)
    while venue.signer is not None and not until.is_set():
        wait_s = RETRY_S
        try:
            due = due or await _found(venue, bot_id=bot_id)
            if due:
                await _send_cancels(venue, due[:MAX_BATCH], now_ms=clock.now_ms())
                sent, due = sent + len(due[:MAX_BATCH]), due[MAX_BATCH:]
            elif stop.is_set():
                break
            else:
                wait_s = LOOK_AGAIN_S
        except VenueError as error:
            metrics.count_error(error)  # asked again: an order that stays open is the one thing that must not be
            wait_s = _wait_s(error, cancelling=bool(due))
            due = due if isinstance(error, Retryable | OutcomeUnknown) else []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await until.wait()
    return sent


def _wait_s(error: VenueError, *, cancelling: bool) -> float:
    """Real seconds until the next try; where weight is wanting, until about as much has come in as it needs."""
    if isinstance(error, RateLimited):
        return RETRY_S if cancelling else WEIGHT_OF_A_LOOK_S
    return max(RETRY_S, error.delay_s or 0.0) if isinstance(error, Retryable) else RETRY_S


async def _found(venue: VenueLink, *, bot_id: str) -> list[Cancel]:
    own, _ = await own_open_orders(venue, bot_id=bot_id)
    return [(venue.specs[each.symbol].asset_id, Cloid(each.cloid or "")) for each in own]


async def _send_cancels(venue: VenueLink, cancels: list[Cancel], *, now_ms: int) -> None:
    assert venue.signer is not None
    request = venue.signer.sign(cancel_by_cloid_action(cancels), nonce=venue.next_nonce(now_ms), expires_after_ms=None)
    await venue.exchange.send(request)
