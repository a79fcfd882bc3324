"""Own orders at the venue that the log does not know: cancelled through the log, like any other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tradingbot.execution.actions import Terms, cancel_strays
from tradingbot.execution.book import Book
from tradingbot.venue.budget import MAX_BATCH
from tradingbot.venue.models import VenueOrder


async def cancel_strays_of(book: Book, strays: Sequence[VenueOrder], *, terms: Terms) -> None:
    """Write the intents that cancel them; the sender carries them out."""
    cycle_id = book.bus.cycle_id()
    for start in range(0, len(strays), MAX_BATCH):
        decide = partial(cancel_strays, strays=strays[start : start + MAX_BATCH], terms=terms)
        await book.change(decide, cycle_id=cycle_id)
