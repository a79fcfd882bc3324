"""The one seam for time, ids and randomness.

Two kinds of time exist (docs/architecture.md, "Time"):

* *virtual* time: cycles, slices, buckets, nonces, ``expiresAfter``, everything the paper exchange does. It runs
  ``speed`` times as fast as real time from one anchor that every process of a run shares.
* *real* time: leases, BLOCK, claim idle, HTTP time-outs; it guards against real slowness and never scales.

No other module may ask the operating system for time, ids or randomness; a check in CI holds that. This is what
makes replay and simulation exact.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
import uuid
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Virtual and real time, and the only ways to wait."""

    @property
    def speed(self) -> float:
        """Virtual seconds per real second."""
        ...

    def now_ms(self) -> int:
        """Virtual time, Unix milliseconds, UTC."""
        ...

    def real_s(self) -> float:
        """Real monotonic seconds; only differences mean anything."""
        ...

    async def sleep(self, virtual_s: float) -> None:
        """Wait for virtual seconds."""
        ...

    async def sleep_until_ms(self, at_ms: int) -> None:
        """Wait until the virtual time ``at_ms``; returns at once when it has passed."""
        ...

    async def sleep_real(self, real_s: float) -> None:
        """Wait for real seconds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Where virtual time is tied to real time; kept in the data folder and given to every process of a run."""

    real_start_ms: int
    """Unix milliseconds of the machine's clock at the anchor."""

    virtual_start_ms: int
    """Virtual Unix milliseconds at the anchor."""

    speed: float
    """Virtual seconds per real second, > 0."""

    @classmethod
    def real(cls) -> Anchor:
        """Virtual time is real time."""
        return cls(real_start_ms=0, virtual_start_ms=0, speed=1.0)

    @classmethod
    def at(cls, *, virtual_start_ms: int, speed: float) -> Anchor:
        """Virtual time starts now at ``virtual_start_ms`` and runs ``speed`` times as fast."""
        return cls(real_start_ms=time.time_ns() // 1_000_000, virtual_start_ms=virtual_start_ms, speed=speed)

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """The inverse of ``str``: ``real_start_ms:virtual_start_ms:speed``.

        Raises:
            ValueError: the text has another form.
        """
        real, virtual, speed = text.split(":")
        return cls(real_start_ms=int(real), virtual_start_ms=int(virtual), speed=float(speed))

    def __str__(self) -> str:
        return f"{self.real_start_ms}:{self.virtual_start_ms}:{self.speed!r}"


class SystemClock:
    """The machine's clock, scaled by an anchor."""

    def __init__(self, anchor: Anchor | None = None) -> None:
        self._anchor = anchor or Anchor.real()

    @property
    def anchor(self) -> Anchor:
        return self._anchor

    @property
    def speed(self) -> float:
        return self._anchor.speed

    def now_ms(self) -> int:
        elapsed_ms = time.time_ns() / 1_000_000 - self._anchor.real_start_ms
        return self._anchor.virtual_start_ms + int(elapsed_ms * self._anchor.speed)

    def real_s(self) -> float:
        return time.monotonic()

    async def sleep(self, virtual_s: float) -> None:
        await asyncio.sleep(max(0.0, virtual_s) / self.speed)

    async def sleep_until_ms(self, at_ms: int) -> None:
        # A loop, because the wall clock may be stepped while we sleep; 1 ms is the clock's own resolution.
        while (left_ms := at_ms - self.now_ms()) > 0:  # noqa: ASYNC110 - time has no event to wait for
            await asyncio.sleep(min(left_ms / 1000 / self.speed, 1.0))

    async def sleep_real(self, real_s: float) -> None:
        await asyncio.sleep(max(0.0, real_s))


class ManualClock:
    """Time that a test moves by hand; sleepers wake in order of their due time."""

    def __init__(self, now_ms: int = 1_771_430_400_000) -> None:
        self._now_ms = now_ms
        self._order = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    @property
    def speed(self) -> float:
        return 1.0

    def now_ms(self) -> int:
        return self._now_ms

    def real_s(self) -> float:
        return self._now_ms / 1000

    async def sleep(self, virtual_s: float) -> None:
        await self.sleep_until_ms(self._now_ms + round(virtual_s * 1000))

    async def sleep_until_ms(self, at_ms: int) -> None:
        if at_ms <= self._now_ms:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (at_ms, self._order, future))
        await future

    async def sleep_real(self, real_s: float) -> None:
        await self.sleep(real_s)

    async def advance(self, seconds: float) -> None:
        """Move time forward, waking every sleeper at its own due time."""
        end_ms = self._now_ms + round(seconds * 1000)
        while self._sleepers and self._sleepers[0][0] <= end_ms:
            due_ms, _, future = heapq.heappop(self._sleepers)
            self._now_ms = max(self._now_ms, due_ms)
            if not future.done():
                future.set_result(None)
            await self._settle()
        self._now_ms = end_ms
        await self._settle()

    @staticmethod
    async def _settle() -> None:
        for _ in range(20):
            await asyncio.sleep(0)


class Ids:
    """Fresh ids and randomness; seeded, the same sequence every time."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311 - jitter and ids, never keys

    def uuid(self) -> str:
        """A fresh UUIDv4."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high], for jitter."""
        return self._random.uniform(low, high)


def guard_against_real_slowness(*, value_ms: int, real_ms: int, speed: float) -> int:
    """A virtual limit that must not fire merely because real work takes real time: max(value, speed · real)."""
    return max(value_ms, int(speed * real_ms))
