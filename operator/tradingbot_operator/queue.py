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
    """One lane. A key waits in ``_ready`` or ``_doubtful``, has a job in ``_jobs``, or is planned in ``_due``."""

    def __init__(self, lane: Lane, clock: Clock, ids: Ids, limits: LaneLimits) -> None:
        self._lane, self._clock, self._ids, self._limits = lane, clock, ids, limits
        self._ready: dict[str, None] = {}
        self._doubtful: dict[str, None] = {}
        """Those that failed last time: many that wait for a server that is away hold up no other."""
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._begun: set[str] = set()
        """Those whose job may have looked already: what comes now, it may not have seen."""
        self._again: set[str] = set()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._failures: dict[str, int] = {}
        self._dirty_since: dict[str, float] = {}
        self._group: asyncio.TaskGroup | None = None
        self._handler: Handler | None = None
        self._alarm: tuple[float, asyncio.Task[None]] | None = None
        metrics.observe_queue(
            lane,
            depth=lambda: self.depth,
            running=lambda: len(self._jobs),
            oldest_s=lambda: self.oldest_dirty_s,
        )

    @property
    def depth(self) -> int:
        return len(self._ready) + len(self._doubtful)

    @property
    def idle(self) -> bool:
        return not self.depth and not self._jobs

    @property
    def oldest_dirty_s(self) -> float:
        return self._clock.real_s() - min(self._dirty_since.values()) if self._dirty_since else 0.0

    def add(self, key: str) -> None:
        self._dirty_since.setdefault(key, self._clock.real_s())
        self._due.pop(key, None)
        self._want(key)
        self._start()

    def later(self, key: str, after_s: float) -> None:
        due_s = self._clock.real_s() + max(0.0, after_s)
        if key in self._line(key) or key in self._again or self._due.get(key, due_s + 1) <= due_s:
            return
        self._due[key] = due_s
        heapq.heappush(self._heap, (due_s, key))
        self._set_alarm()

    async def run(self, handler: Handler) -> None:
        async with asyncio.TaskGroup() as group:
            self._group, self._handler = group, handler
            self._start()
            self._set_alarm()
            try:
                await asyncio.Event().wait()
            finally:
                self._group = self._handler = None
                for task in list(self._jobs.values()):
                    await end(task)

    def _want(self, key: str) -> None:
        if key in self._begun:
            self._again.add(key)
        elif key not in self._jobs:
            self._line(key)[key] = None

    def _line(self, key: str) -> dict[str, None]:
        """Where the key waits; that changes only while it is worked on."""
        return self._doubtful if key in self._failures else self._ready

    def _set_alarm(self) -> None:
        """Wake at the earliest that is planned."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # superseded or cancelled
        if self._group is None or not self._heap:
            return
        due_s = self._heap[0][0]
        if self._alarm is not None:
            set_for_s, task = self._alarm
            if set_for_s <= due_s:
                return
            task.cancel()
        self._alarm = due_s, self._group.create_task(self._ring(due_s), name=f"{self._lane} alarm")

    async def _ring(self, due_s: float) -> None:
        await self._clock.sleep_real(due_s - self._clock.real_s())
        self._alarm = None
        now_s = max(due_s, self._clock.real_s())  # a timer may wake a little early
        while self._heap and self._heap[0][0] <= now_s:
            planned_s, key = heapq.heappop(self._heap)
            if self._due.get(key) == planned_s:
                del self._due[key]
                self._want(key)
        self._start()
        self._set_alarm()

    def _start(self) -> None:
        if self._group is None or self._handler is None:
            return
        while (line := self._ready or self._doubtful) and len(self._jobs) < self._limits.workers:
            key = next(iter(line))
            del line[key]
            self._jobs[key] = self._group.create_task(self._work(key, self._handler), name=f"{self._lane} {key}")

    async def _work(self, key: str, handler: Handler) -> None:
        started_s = self._clock.real_s()
        self._begun.add(key)
        try:
            await handler(key)
        except TradingBotError as error:
            self._failed(key, error)
        except asyncio.CancelledError as error:
            if self._handler is None:
                raise
            # Not by us: what the job awaited was cancelled by another, and its key is still to be looked at.
            log.warning("reconcile_cancelled", lane=self._lane, key=key)
            self._failed(key, error)
        except Exception as error:
            # A fault of ours in one bot's work must not end the process, and with it another bot's HALT.
            log.exception("reconcile_broke", lane=self._lane, key=key)
            self._failed(key, error)
        else:
            self._succeeded(key, started_s)
        finally:
            metrics.reconcile_seconds.labels(lane=self._lane).observe(self._clock.real_s() - started_s)
            self._begun.discard(key)
            del self._jobs[key]
            if key in self._again:
                self._again.discard(key)
                self._due.pop(key, None)
                self._line(key)[key] = None
            self._start()

    def _succeeded(self, key: str, started_s: float) -> None:
        metrics.reconciles.labels(lane=self._lane).inc()
        self._failures.pop(key, None)
        if key in self._again:
            # What came meanwhile came after the start: no need to know when exactly.
            self._dirty_since[key] = started_s
        else:
            self._dirty_since.pop(key, None)

    def _failed(self, key: str, error: BaseException) -> None:
        metrics.reconcile_errors.labels(lane=self._lane, kind=type(error).__name__).inc()
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._dirty_since.setdefault(key, self._clock.real_s())
        delay_s = self._backoff_s(failures, error)
        if isinstance(error, TradingBotError):
            log.warning("reconcile_failed", lane=self._lane, key=key, error=str(error), retry_s=round(delay_s, 2))
        self.later(key, delay_s)

    def _backoff_s(self, failures: int, error: BaseException) -> float:
        """Doubling, within bounds, less up to a half of jitter; never less than the error asks for."""
        doubled_s = self._limits.first_backoff_s * 2.0 ** min(failures - 1, 30)
        jittered_s = min(self._limits.longest_backoff_s, doubled_s) * self._ids.uniform(0.5, 1.0)
        asked_s = error.delay_s if isinstance(error, Temporary) and error.delay_s else 0.0
        return max(jittered_s, min(asked_s, self._limits.longest_backoff_s))
