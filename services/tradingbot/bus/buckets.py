"""The budget of request weight at the venue, shared by all processes through a token bucket in Redis.

Several bots behind one address share the venue's limit. Who starts them (the operator) divides it: a share in
``ctl.limits`` stands above the figure that a process was started with, from its next request on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from tradingbot.bus import library
from tradingbot.bus.errors import BusError, bus_errors
from tradingbot.bus.names import Key, bucket_key
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


@dataclass(frozen=True, slots=True)
class Figures:
    """What a take counts with."""

    capacity: float
    refill_per_s: float
    reserve: float


def under_share(per_min: int | None, own: Figures, *, amount: float) -> Figures:
    """The figures in force: ``own`` or, under a share per minute, the share's, with the reserve in proportion.

    An amount above the share waits until that much has come in. The same to the last bit as the function library's.
    """
    if not per_min:
        return own
    reserve = max(0.0, min(own.reserve * per_min / own.capacity, per_min - amount))
    return Figures(max(float(per_min), amount), per_min / 60, reserve)


async def read_share(redis: Redis, name: str = IP_WEIGHT) -> int | None:
    """This bot's share per minute of what several bots share; None where nobody has divided it."""
    with bus_errors():
        kept: Any = await redis.hget(Key.LIMITS, name)
    return _share(kept)


async def write_share(redis: Redis, per_min: int, name: str = IP_WEIGHT) -> None:
    """Set this bot's share per minute; it counts from each process's next request on."""
    with bus_errors():
        await redis.hset(Key.LIMITS, name, str(per_min))


def _share(text: str | None) -> int | None:
    return int(text) or None if text and text.isdecimal() else None


class WeightBudget:
    """This bot's share of the venue's request weight per minute.

    While Redis is away each process falls back on a bucket of its own, under the share that it saw last: cancelling
    and settling go on without Redis.
    """

    def __init__(self, redis: Redis, *, capacity_per_min: float, clock: Clock, name: str = IP_WEIGHT) -> None:
        self._redis = redis
        self._clock = clock
        self._name = name
        self._key = bucket_key(name)
        self._capacity = float(capacity_per_min)
        self._refill_per_s = capacity_per_min / 60
        self._own = TokenBucket(
            capacity=self._capacity, refill_per_s=self._refill_per_s, tokens=self._capacity, at_ms=clock.now_ms()
        )
        self._share: int | None = None

    async def take(self, weight: float, *, reserve: float = 0.0) -> None:
        """Wait, in virtual time, until the weight can be taken with the reserve left in the bucket.

        Raises:
            ValueError: the bucket can never hold that much.
        """
        if weight + reserve > self._capacity:
            raise ValueError(f"weight {weight} with reserve {reserve} exceeds the budget of {self._capacity} a minute")
        while wait_ms := await self._try(weight, reserve=reserve):
            await self._clock.sleep(wait_ms / 1000)

    @property
    def per_min(self) -> float:
        """The capacity in force, as it was last seen."""
        return float(self._share or self._capacity)

    async def left(self) -> float:
        """The weight that could be taken now."""
        now_ms = self._clock.now_ms()
        try:
            found = await library.read_keys(self._redis, self._key, Key.LIMITS)
        except BusError:
            return self._fallen_back(0).level(now_ms)
        self._share = _share(found.hash(Key.LIMITS).get(self._name))
        kept = found.hash(self._key)
        figures = under_share(self._share, self._figures(), amount=0)
        if not kept:
            return figures.capacity
        bucket = TokenBucket(
            capacity=figures.capacity,
            refill_per_s=figures.refill_per_s,
            tokens=float(kept["tokens"]),
            at_ms=int(kept["at_ms"]),
        )
        return bucket.level(now_ms)

    async def exhaust(self) -> None:
        """Take all that is left: the venue has said that there is less than was counted."""
        if (left := await self.left()) > 0:
            await self._try(left, reserve=0.0)

    async def _try(self, weight: float, *, reserve: float) -> int:
        now_ms = self._clock.now_ms()
        own = (float(weight), self._capacity, self._refill_per_s, float(reserve))
        try:
            args = (str(now_ms), *map(repr, own), "1")
            wait_ms, _, *share = await library.call(self._redis, library.TAKE, [self._key], args)
        except BusError:
            figures = under_share(self._share, self._figures(reserve), amount=weight)
            return self._fallen_back(weight).take(weight, now_ms=now_ms, reserve=figures.reserve)
        self._share = _share(share[0]) if share else None
        return int(wait_ms)

    def _figures(self, reserve: float = 0.0) -> Figures:
        return Figures(self._capacity, self._refill_per_s, reserve)

    def _fallen_back(self, amount: float) -> TokenBucket:
        """The bucket of this process alone, under the share that was seen last."""
        figures = under_share(self._share, self._figures(), amount=amount)
        self._own.capacity, self._own.refill_per_s = figures.capacity, figures.refill_per_s
        return self._own
