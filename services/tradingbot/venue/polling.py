"""The share of the request weight that polling may use: when it runs short, polling stretches before trading does."""

from __future__ import annotations

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
        per_min: its capacity, weight a minute.
    """

    def __init__(self, inner: Budget, *, per_min: float) -> None:
        self._inner = inner
        self._reserve = TRADING_SHARE * per_min
        self._rich = NUDGE_SHARE * per_min

    async def take(self, weight: float, *, reserve: float = 0.0) -> None:
        """Wait until ``weight`` can be taken and the reserve is still left, then take it."""
        await self._inner.take(weight, reserve=max(reserve, self._reserve))

    async def left(self) -> float:
        """What polling could take now."""
        return max(0.0, await self._inner.left() - self._reserve)

    async def is_rich(self) -> bool:
        """True when enough is left for a reconciliation that is not due yet."""
        return await self._inner.left() >= self._rich
