"""Cancels first, where the venue says that the address's weight is used up (HTTP 429).

Someone else behind the same address may use it up, and what comes in again, 20 a second, goes to whoever asks first: a
cancel weighs 1, but one round of questions about 15 orders weighs 30. So while a cancel is refused for want of weight,
what this process wants to read waits, and the bot's shared bucket is emptied, because it counted on more than there is:
the other services' polls then wait for their reserve.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Protocol

from tradingbot.venue.budget import Budget

YIELD_S = 5.0
"""How long a read that has its weight still waits for the cancels, real seconds: who asks has a deadline of its own.

Before that it waits for the weight, without bound: each try of a cancel that is refused for want of it empties the
bucket, so a read that weighs more than comes in between two tries gets none before the last such cancel is through.
"""


class Exhaustible(Budget, Protocol):
    """A budget that can be told that it counts on too much."""

    async def exhaust(self) -> None:
        """Nothing is left in it now."""
        ...


class NoWait:
    """A budget that never waits: its requests are few, and 100 of the venue's weight a minute are kept free of ours."""

    async def take(self, weight: float, *, reserve: float = 0.0) -> None:
        """At once."""

    async def left(self) -> float:
        """Always something."""
        return float("inf")

    async def exhaust(self) -> None:
        """It counts nothing."""


class CancelsFirst:
    """The budget of reads that give way to cancels."""

    def __init__(self, budget: Exhaustible) -> None:
        self._budget = budget
        self._failing: dict[str, frozenset[str]] = {}
        self._starved: set[str] = set()
        self._clear = asyncio.Event()
        self._clear.set()
        self._emptying: asyncio.Task[None] | None = None

    @property
    def starved(self) -> bool:
        """True while a cancel waits for weight."""
        return bool(self._starved)

    def holds(self, cloid: str) -> bool:
        """True when a cancel of this order has failed and is tried again: it need not be asked for again."""
        return any(cloid in each for each in self._failing.values())

    def failed(self, action_id: str, cloids: Iterable[str], *, starved: bool) -> None:
        """This cancel is going to be sent again; ``starved``: it was refused for want of weight.

        The bucket is emptied meanwhile: a slow Redis holds up no cancel.
        """
        self._failing[action_id] = frozenset(cloids)
        if not starved:
            self._fed(action_id)
            return
        self._starved.add(action_id)
        self._clear.clear()
        if self._emptying is None or self._emptying.done():
            self._emptying = asyncio.create_task(self._budget.exhaust(), name="empty the bucket")

    def over(self, action_id: str) -> None:
        """This cancel is not tried any more."""
        self._failing.pop(action_id, None)
        self._fed(action_id)

    def _fed(self, action_id: str) -> None:
        self._starved.discard(action_id)
        if self._starved:
            return
        self._clear.set()
        if self._emptying is not None:
            self._emptying.cancel()

    async def take(self, weight: float, *, reserve: float = 0.0) -> None:
        """Take the weight, and let the cancels go first."""
        await self._budget.take(weight, reserve=reserve)
        if self._clear.is_set():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(YIELD_S):
                await self._clear.wait()

    async def left(self) -> float:
        """What could be taken now."""
        return await self._budget.left()
