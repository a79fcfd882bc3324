"""Own orders at the venue that the log does not know: cancelled through the log, like any other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tradingbot.execution.actions import Terms, cancel_strays
from tradingbot.execution.book import Book
from tradingbot.execution.ledger import Ledger
from tradingbot.venue.budget import MAX_BATCH
from tradingbot.venue.models import VenueOrder


def strays_of(ledger: Ledger, own: Sequence[VenueOrder]) -> list[VenueOrder]:
    """Those that the log does not know, or holds to have ended."""
    live = {each.cloid for each in ledger.live()}
    return [each for each in own if (each.cloid or "").lower() not in live]


async def cancel_strays_of(book: Book, strays: Sequence[VenueOrder], *, terms: Terms) -> None:
    """Write the intents that cancel them; the sender carries them out."""
    cycle_id = book.bus.cycle_id()
    for start in range(0, len(strays), MAX_BATCH):
        # Asked for again while an earlier try is on its way, it must be another action: a record is never changed.
        action_id = f"stray-{book.bus.ids.uuid()}"
        batch = strays[start : start + MAX_BATCH]
        await book.change(partial(cancel_strays, strays=batch, action_id=action_id, terms=terms), cycle_id=cycle_id)
