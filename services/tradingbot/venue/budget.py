"""The weight of every request, and the budget that it is taken from.

The venue allows 1200 weight a minute for all requests of one IP address, and bills answers with many items extra.
(Venue documentation, "Rate limits and user limits".)
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from tradingbot.runtime.clock import Clock

IP_WEIGHT_PER_MIN = 1200
MAX_BATCH = 200
DEFAULT_INFO_WEIGHT = 20

_LIGHT = frozenset(
    {"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState", "exchangeStatus"}
)
_INFO_WEIGHTS: Mapping[str, int] = MappingProxyType({**dict.fromkeys(_LIGHT, 2), "userRole": 60})
_ITEMS_PER_WEIGHT: Mapping[str, int] = MappingProxyType(
    {
        "candleSnapshot": 60,
        **dict.fromkeys(
            (
                "recentTrades",
                "historicalOrders",
                "userFills",
                "userFillsByTime",
                "fundingHistory",
                "userFunding",
                "userNonFundingLedgerUpdates",
                "twapHistory",
                "userTwapSliceFills",
                "userTwapSliceFillsByTime",
            ),
            20,
        ),
    }
)


class Budget(Protocol):
    """Weight per minute, shared by all who send from one address."""

    async def take(self, weight: float, *, reserve: float = 0.0) -> None:
        """Wait until ``weight`` can be taken and ``reserve`` is still left, then take it."""
        ...

    async def left(self) -> float:
        """What could be taken now."""
        ...


def info_weight(kind: str) -> int:
    """The weight of an /info request by its type, before its items are counted."""
    return _INFO_WEIGHTS.get(kind, DEFAULT_INFO_WEIGHT)


def items_weight(kind: str, items: int) -> int:
    """What an answer of so many items costs on top; rounded up, as the venue's rounding is not documented."""
    per = _ITEMS_PER_WEIGHT.get(kind)
    return -(-items // per) if per else 0


def action_weight(batch: int) -> int:
    """The weight of an /exchange action with a batch of this length."""
    return 1 + batch // 40


class MemoryBudget:
    """A token bucket in this process, for tools that run without Redis."""

    def __init__(self, clock: Clock, *, capacity_per_min: float = IP_WEIGHT_PER_MIN) -> None:
        self._clock = clock
        self._capacity = float(capacity_per_min)
        self._per_ms = self._capacity / 60_000
        self._left = self._capacity
        self._at_ms = clock.now_ms()

    async def take(self, weight: float, *, reserve: float = 0.0) -> None:
        """Wait until the weight can be taken and the reserve is left.

        Raises:
            ValueError: the bucket can never hold so much.
        """
        need = weight + reserve
        if need > self._capacity:
            raise ValueError(f"a weight of {need:g} never fits into {self._capacity:g} a minute")
        while (missing := need - await self.left()) > 0:
            await self._clock.sleep(max(missing / self._per_ms, 1.0) / 1000)
        self._left -= weight

    async def left(self) -> float:
        """What could be taken now."""
        now_ms = self._clock.now_ms()
        self._left = min(self._capacity, self._left + max(0, now_ms - self._at_ms) * self._per_ms)
        self._at_ms = now_ms
        return self._left
