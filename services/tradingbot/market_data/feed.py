"""What is known of the mids now: how old each one is and whether its book is crossed.

A mid that repeats its value is fine: markets stand still. A mid that has not been heard of for longer than the limit is
stale, and so is one stamped ahead of a clock that went back, and one whose book is crossed (bid at or above ask). None
is smoothed or carried on: the coin is named and left out until the feed is good again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

MAX_AGE_MS = 10_000
"""A mid older than this, in virtual time, is stale: five polls were lost."""
MAX_AGE_REAL_MS = 1_000
"""The least real time that counts as lost polls, whatever the speed."""


class Condition(StrEnum):
    """What a coin's mid is worth."""

    FRESH = "fresh"
    STALE = "stale"
    CROSSED = "crossed"
    ABSENT = "absent"
    """Never heard of."""


@dataclass(frozen=True, slots=True)
class Mid:
    """A mid price in USD and when it was received, virtual Unix milliseconds."""

    px: Decimal
    at_ms: int


class Feed:
    """The newest mid of each coin of the universe."""

    def __init__(self, universe: Sequence[str], *, max_age_ms: int = MAX_AGE_MS) -> None:
        self._universe = tuple(universe)
        self._max_age_ms = max_age_ms
        self._mids: dict[str, Mid] = {}
        self._known: tuple[str, ...] = ()
        self._crossed: set[str] = set()

    @property
    def known(self) -> tuple[str, ...]:
        """The coins that the venue has: those of its newest answer to allMids."""
        return self._known

    def put(self, mids: Mapping[str, Decimal], *, at_ms: int) -> dict[str, Mid]:
        """Take an answer to allMids; returns the coins of the universe that it holds with a usable price."""
        taken = {
            symbol: Mid(mids[symbol], at_ms)
            for symbol in self._universe
            if symbol in mids and mids[symbol].is_finite() and mids[symbol] > 0
        }
        self._mids.update(taken)
        self._known = tuple(taken)
        return taken

    def put_book(self, symbol: str, *, bid: Decimal | None, ask: Decimal | None) -> bool:
        """Take the best prices of a coin's book; True when they are crossed. One empty side crosses nothing."""
        crossed = bid is not None and ask is not None and bid >= ask
        (self._crossed.add if crossed else self._crossed.discard)(symbol)
        return crossed

    def condition(self, symbol: str, *, now_ms: int) -> Condition:
        """What the coin's mid is worth at a moment."""
        mid = self._mids.get(symbol)
        if mid is None:
            return Condition.ABSENT
        if not 0 <= now_ms - mid.at_ms <= self._max_age_ms:
            return Condition.STALE
        return Condition.CROSSED if symbol in self._crossed else Condition.FRESH


def latest_fields(mids: Mapping[str, Mid]) -> dict[str, str]:
    """The fields of ``latest.mids``: symbol → {"px": "…", "at_ms": …}."""
    return {symbol: json.dumps({"px": str(mid.px), "at_ms": mid.at_ms}) for symbol, mid in mids.items()}
