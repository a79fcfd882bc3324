"""What a source of prices is: candles of one minute and a mid at any moment, the same answer every time.

Floats on purpose: this is the market, not money. The paper exchange rounds to the venue's ticks and lots and takes
``Decimal`` from there on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from tradingbot.domain.errors import Permanent
from tradingbot.runtime.clock import Clock

MINUTE_MS = 60_000


class PricesError(Permanent):
    """Prices that cannot be used; the text names the file, the row and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """One minute (or, inside a source, one longer bar) of trading."""

    t_ms: int
    """The bar's open time, Unix milliseconds."""
    open: float
    high: float
    low: float
    close: float
    volume: float
    """In coins."""
    still: bool = False
    """The source has no such bar: the market stands still at the last close, with volume 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """A book at a moment: ``(price, size in coins)`` a level, best first."""

    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]
    tick: float
    """Every price is a multiple of it."""


class PriceSource(Protocol):
    """Where the paper exchange's prices come from.

    ``candle`` and ``candles`` tell whole minutes, also ones that are not over yet: whoever serves them to a client
    cuts the present one with :func:`tradingbot.paper.prices.candles_until`.
    """

    @property
    def label(self) -> str:
        """recorded, synthetic or live: shown wherever prices are shown."""
        ...

    @property
    def symbols(self) -> tuple[str, ...]:
        """The coins it has."""
        ...

    @property
    def start_ms(self) -> int | None:
        """The first minute that all coins share; None: no bound."""
        ...

    @property
    def end_ms(self) -> int | None:
        """The end (exclusive) of the span that all coins share; None: no bound."""
        ...

    def candle(self, symbol: str, minute_ms: int) -> Candle | None:
        """The whole minute that contains ``minute_ms``; None outside the span or for a coin it does not have."""
        ...

    def mid(self, symbol: str, at_ms: int) -> float | None:
        """The mid price in USD at a moment; None where it is not known."""
        ...

    def candles(self, symbol: str, start_ms: int, end_ms: int) -> list[Candle]:
        """The minutes from the one that contains ``start_ms`` to the last that starts before ``end_ms``."""
        ...

    def forming(self, symbol: str, now_ms: int) -> Candle | None:
        """The minute that contains ``now_ms`` as it stands then: its close is the mid, nothing later is in it."""
        ...

    def depth(self, symbol: str, at_ms: int) -> Depth | None:
        """The real book where the source knows it; None: model it (:func:`tradingbot.paper.prices.book`)."""
        ...

    async def run(self, *, clock: Clock, stop: asyncio.Event) -> None:
        """Keep the source current until ``stop``; returns at once where nothing has to be fetched."""
        ...


def minute_of(at_ms: int) -> int:
    """The start of the minute that contains ``at_ms``."""
    return at_ms - at_ms % MINUTE_MS
