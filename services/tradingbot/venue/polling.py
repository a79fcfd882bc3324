"""The share of the request weight that polling may use: when it runs short, polling stretches before trading does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tradingbot.venue.budget import Budget

TRADING_SHARE: Final = 0.2
"""The part of a minute's weight that polling leaves to trading."""

NUDGE_SHARE: Final = 0.5
"""An early reconciliation happens only while this part of a minute's weight is left."""


class PollingBudget:
    """A budget that never takes the reserve.

    Args:
        inner: the budget that all requests of this address share.
        per_min: its capacity, weight a minute, in which its reserves are counted.
        in_force: the capacity as it is divided now, where that may change; by default ``per_min``.
    """

    def __init__(self, inner: Budget, *, per_min: float, in_force: Callable[[], float] | None = None) -> None:
        self._inner = inner
        self._reserve = TRADING_SHARE * per_min
        self._in_force = in_force or (lambda: per_min)

    async def take(self, weight: float, *, reserve: float = 0.0) -> None:
        """Wait until ``weight`` can be taken and the reserve is still left, then take it."""
        await self._inner.take(weight, reserve=max(reserve, self._reserve))

    async def left(self) -> float:
        """What polling could take now."""
        left = await self._inner.left()
        return max(0.0, left - TRADING_SHARE * self._in_force())

    async def is_rich(self) -> bool:
        """True when enough is left for a reconciliation that is not due yet."""
        left = await self._inner.left()
        return left >= NUDGE_SHARE * self._in_force()
