"""The address's weight budget: 1200 a minute over all requests, of all clients together."""

from __future__ import annotations

from typing import Any

from tradingbot.paper.actions import Request, entries

MINUTE_MS = 60_000
LIGHT = frozenset(
    {"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState", "exchangeStatus"}
)
LIGHT_WEIGHT = 2
HEAVY = {"userRole": 60}
USUAL_WEIGHT = 20
PER_20_ITEMS = frozenset(
    {
        "recentTrades", "historicalOrders", "userFills", "userFillsByTime", "fundingHistory", "userFunding",
        "userNonFundingLedgerUpdates",
    }
)  # fmt: skip
PER_60_ITEMS = frozenset({"candleSnapshot"})
BATCH = 40


class IpBudget:
    """A token bucket of virtual time, full at the start."""

    def __init__(self, per_min: int, *, now_ms: int) -> None:
        self._per_min = per_min
        self._left = float(per_min)
        self._at_ms = now_ms

    def left(self, now_ms: int) -> float:
        """Weight that may be spent now."""
        earned = max(0, now_ms - self._at_ms) * self._per_min / MINUTE_MS
        self._left, self._at_ms = min(float(self._per_min), self._left + earned), max(now_ms, self._at_ms)
        return self._left

    def take(self, weight: int, *, now_ms: int) -> bool:
        """Spend; False (and nothing is spent) when there is too little."""
        if self.left(now_ms) < weight:
            return False
        self._left -= weight
        return True

    def add(self, weight: int) -> None:
        """Spend what an answer turned out to cost beyond the request; the bucket may go below zero."""
        self._left -= weight


def info_weight(type_: str) -> int:
    """What a read costs before its answer is known."""
    return LIGHT_WEIGHT if type_ in LIGHT else HEAVY.get(type_, USUAL_WEIGHT)


def answer_weight(type_: str, answer: Any) -> int:
    """What the items of an answer cost on top."""
    if not isinstance(answer, list):
        return 0
    if type_ in PER_20_ITEMS:
        return len(answer) // 20
    return len(answer) // 60 if type_ in PER_60_ITEMS else 0


def exchange_weight(request: Request) -> int:
    """1 + floor(n / 40)."""
    return 1 + entries(request.action) // BATCH
