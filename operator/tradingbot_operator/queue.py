"""A deduplicating, level-triggered work queue with lanes.

A key in a lane means: look at this bot again. However often it is put, it is worked on once; what is put while it is
worked on is worked on once more after. Within a lane one key is never worked on twice at a time; lanes know nothing
of one another, so that a bot's HALT never waits for its children. A new event cancels a back-off: without that a HALT
patched during a retry would wait for the old delay.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

from tradingbot.domain.errors import Temporary, TradingBotError
from tradingbot.runtime.clock import Clock, Ids
from tradingbot.runtime.stopping import end
from tradingbot_operator import metrics

log = structlog.stdlib.get_logger("tradingbot.operator.queue")

Handler = Callable[[str], Awaitable[None]]
_LONGEST_SLEEP_S = 3600.0


class Lane(StrEnum):
    """What of a bot is to be looked at."""

    MODE = "mode"
    CHILDREN = "children"
    STATUS = "status"
    """What follows in the cluster from what the others found: its writes never hold up a mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """How a lane works; seconds are real seconds."""

    workers: int
    """Keys that are worked on at a time."""
    first_backoff_s: float
    """Before the second try; doubles with every failure."""
    longest_backoff_s: float


LIMITS: Final[Mapping[Lane, LaneLimits]] = {
    # A mode job may wait for a Redis that does not answer: one broken bot must not hold up another's HALT.
    Lane.MODE: LaneLimits(workers=64, first_backoff_s=0.1, longest_backoff_s=5.0),
    Lane.CHILDREN: LaneLimits(workers=8, first_backoff_s=0.5, longest_backoff_s=60.0),
    Lane.STATUS: LaneLimits(workers=8, first_backoff_s=0.2, longest_backoff_s=10.0),
}


class WorkQueue:
    """The operator's work.

    Args:
        clock: real time is what back-offs and ages are measured in.
        ids: the jitter's randomness.
        limits: per lane.
    """

    def __init__(self, clock: Clock, ids: Ids, limits: Mapping[Lane, LaneLimits] = LIMITS) -> None:
        self._lanes = {lane: _LaneQueue(lane, clock, ids, each) for lane, each in limits.items()}

    def add(self, key: str, *lanes: Lane) -> None:
        """Have the key looked at as soon as may be; cancels its back-off."""
        for lane in lanes:
            self._lanes[lane].add(key)

    def retry(self, key: str, lane: Lane, after_s: float) -> None:
        """Have the key looked at after so many real seconds, unless something wakes it before."""
        self._lanes[lane].later(key, after_s)

    def forget(self, key: str) -> None:
        """Drop what is planned for a key that is no more; what is being worked on ends by itself."""
        for lane in self._lanes.values():
            lane.forget(key)

    def depth(self, lane: Lane) -> int:
        """Keys that wait for a worker."""
        return self._lanes[lane].depth

    def oldest_dirty_s(self, lane: Lane) -> float:
        """Age of the oldest change that no reconcile has finished, in real seconds; 0 when there is none."""
        return self._lanes[lane].oldest_dirty_s

    def idle(self, lane: Lane) -> bool:
        """Whether nothing waits and nothing is worked on; planned retries do not count."""
        return self._lanes[lane].idle

    async def run(self, handlers: Mapping[Lane, Handler]) -> None:
        """Work until cancelled; the jobs that are under way are cancelled too."""
        async with asyncio.TaskGroup() as group:
            for lane, queue in self._lanes.items():
                group.create_task(queue.run(handlers[lane]), name=f"queue {lane}")


class _LaneQueue:
    """One lane. Keys wait in ``_ready`` (in order), are in ``_running``, or are planned in ``_due``."""

    def __init__(self, lane: Lane, clock: Clock, ids: Ids, limits: LaneLimits) -> None:
        self._lane, self._clock, self._ids, self._limits = lane, clock, ids, limits
        self._ready: dict[str, None] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._failures: dict[str, int] = {}
        self._dirty_since: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._handler: Handler | None = None
        metrics.observe_queue(
            lane,
            depth=lambda: self.depth,
            running=lambda: len(self._running),
            oldest_s=lambda: self.oldest_dirty_s,
        )

    @property
    def depth(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> bool:
        return not self._ready and not self._running

    @property
    def oldest_dirty_s(self) -> float:
        return self._clock.real_s() - min(self._dirty_since.values()) if self._dirty_since else 0.0

    def add(self, key: str) -> None:
        self._dirty_since.setdefault(key, self._clock.real_s())
        self._due.pop(key, None)
        if key in self._running:
            self._again.add(key)
        else:
            self._ready[key] = None
            self._start()

    def later(self, key: str, after_s: float) -> None:
        due_s = self._clock.real_s() + max(0.0, after_s)
        if key in self._ready or key in self._again or self._due.get(key, due_s + 1) <= due_s:
            return
        self._due[key] = due_s
        heapq.heappush(self._heap, (due_s, key))
        self._wake.set()

    def forget(self, key: str) -> None:
        self._ready.pop(key, None)
        self._again.discard(key)
        self._due.pop(key, None)
        self._failures.pop(key, None)
        self._dirty_since.pop(key, None)

    async def run(self, handler: Handler) -> None:
        self._handler = handler
        self._start()
        try:
            while True:
                self._wake.clear()
                delay_s = self._promote()
                self._start()
                await self._wait(delay_s)
        finally:
            self._handler = None
            for task in list(self._running.values()):
                await end(task)

    def _promote(self) -> float:
        """Make ready what is due; returns the real seconds until the next that is planned."""
        now_s = self._clock.real_s()
        while self._heap:
            due_s, key = self._heap[0]
            if self._due.get(key) != due_s:
                heapq.heappop(self._heap)  # superseded or cancelled
            elif due_s > now_s:
                return due_s - now_s
            else:
                heapq.heappop(self._heap)
                del self._due[key]
                if key in self._running:
                    self._again.add(key)
                else:
                    self._ready[key] = None
        return _LONGEST_SLEEP_S

    async def _wait(self, delay_s: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep_real(delay_s))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(sleeping)
            await end(waking)

    def _start(self) -> None:
        if self._handler is None:
            return
        while self._ready and len(self._running) < self._limits.workers:
            key = next(iter(self._ready))
            del self._ready[key]
            task = asyncio.create_task(self._work(key, self._handler), name=f"{self._lane} {key}")
            self._running[key] = task

    async def _work(self, key: str, handler: Handler) -> None:
        started_s = self._clock.real_s()
        dirty_since_s = self._dirty_since.get(key)
        try:
            await handler(key)
        except TradingBotError as error:
            self._failed(key, error)
        except Exception as error:
            # A fault of ours in one bot's work must not end the process, and with it another bot's HALT.
            log.exception("reconcile_broke", lane=self._lane, key=key)
            self._failed(key, error)
        else:
            self._succeeded(key, dirty_since_s)
        finally:
            metrics.reconcile_seconds.labels(lane=self._lane).observe(self._clock.real_s() - started_s)
            del self._running[key]
            if key in self._again:
                self._again.discard(key)
                self._due.pop(key, None)
                self._ready[key] = None
            self._start()

    def _succeeded(self, key: str, dirty_since_s: float | None) -> None:
        metrics.reconciles.labels(lane=self._lane).inc()
        self._failures.pop(key, None)
        if key in self._again:
            self._dirty_since[key] = self._clock.real_s()
        elif self._dirty_since.get(key) == dirty_since_s:
            self._dirty_since.pop(key, None)

    def _failed(self, key: str, error: Exception) -> None:
        metrics.reconcile_errors.labels(lane=self._lane, kind=type(error).__name__).inc()
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._dirty_since.setdefault(key, self._clock.real_s())
        delay_s = self._backoff_s(failures, error)
        if isinstance(error, TradingBotError):
            log.warning("reconcile_failed", lane=self._lane, key=key, error=str(error), retry_s=round(delay_s, 2))
        self.later(key, delay_s)

    def _backoff_s(self, failures: int, error: Exception) -> float:
        """Doubling, within bounds, less up to a half of jitter; never less than the error asks for."""
        doubled_s = self._limits.first_backoff_s * 2.0 ** min(failures - 1, 30)
        jittered_s = min(self._limits.longest_backoff_s, doubled_s) * self._ids.uniform(0.5, 1.0)
        asked_s = error.delay_s if isinstance(error, Temporary) and error.delay_s else 0.0
        return max(jittered_s, min(asked_s, self._limits.longest_backoff_s))
