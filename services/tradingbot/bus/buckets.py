"""The budget of request weight at the venue, shared by all processes through a token bucket in Redis."""

from __future__ import annotations

import math
from dataclasses import dataclass

from redis.asyncio import Redis

from tradingbot.bus import library
from tradingbot.bus.errors import BusError, bus_errors
from tradingbot.bus.names import bucket_key
from tradingbot.runtime.clock import Clock

IP_WEIGHT = "ip_weight"


@dataclass(slots=True)
class TokenBucket:
    """The arithmetic of a token bucket, the same to the last bit as the function library's. Times are virtual ms."""

    capacity: float
    refill_per_s: float
    tokens: float
    at_ms: int

    def level(self, now_ms: int) -> float:
        """Tokens in it now; time never runs backwards here."""
        elapsed_ms = max(0, now_ms - self.at_ms)
        return min(self.capacity, self.tokens + elapsed_ms * self.refill_per_s / 1000)

    def take(self, amount: float, *, now_ms: int, reserve: float = 0.0) -> int:
        """Take tokens and return 0, or take none and return the milliseconds to wait."""
        level = self.level(now_ms)
        if level - amount < reserve:
            return max(1, math.ceil((amount + reserve - level) / self.refill_per_s * 1000))
        self.tokens, self.at_ms = level - amount, max(self.at_ms, now_ms)
        return 0


class WeightBudget:
    """This bot's share of the venue's request weight per minute.

    While Redis is away each process falls back on a bucket of its own: cancelling and settling go on without Redis.
    """

    def __init__(self, redis: Redis, *, capacity_per_min: float, clock: Clock, name: str = IP_WEIGHT) -> None:
        self._redis = redis
        self._clock = clock
        self._key = bucket_key(name)
        self._capacity = float(capacity_per_min)
        self._refill_per_s = capacity_per_min / 60
        self._own = TokenBucket(
            capacity=self._capacity, refill_per_s=self._refill_per_s, tokens=self._capacity, at_ms=clock.now_ms()
        )

    async def take(self, weight: float, *, reserve: float = 0.0) -> None:
        """Wait, in virtual time, until the weight can be taken with the reserve left in the bucket.

        Raises:
            ValueError: the bucket can never hold that much.
        """
        if weight + reserve > self._capacity:
            raise ValueError(f"weight {weight} with reserve {reserve} exceeds the budget of {self._capacity} a minute")
        while wait_ms := await self._try(weight, reserve=reserve):
            await self._clock.sleep(wait_ms / 1000)

    async def left(self) -> float:
        """The weight that could be taken now."""
        now_ms = self._clock.now_ms()
        try:
            with bus_errors():
                tokens, at_ms = await self._redis.hmget(self._key, ["tokens", "at_ms"])
        except BusError:
            return self._own.level(now_ms)
        if tokens is None or at_ms is None:
            return self._capacity
        kept = TokenBucket(
            capacity=self._capacity, refill_per_s=self._refill_per_s, tokens=float(tokens), at_ms=int(at_ms)
        )
        return kept.level(now_ms)

    async def _try(self, weight: float, *, reserve: float) -> int:
        now_ms = self._clock.now_ms()
        figures = (float(weight), self._capacity, self._refill_per_s, float(reserve))
        try:
            wait_ms, _ = await library.call(self._redis, library.TAKE, [self._key], (str(now_ms), *map(repr, figures)))
        except BusError:
            return self._own.take(weight, now_ms=now_ms, reserve=reserve)
        return int(wait_ms)
