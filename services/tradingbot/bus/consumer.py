"""The loop that handles a stream's entries one by one, each at least once in and exactly once out.

A service's consumer bears the service's name, so that a restart finds its own unfinished entries at once: they come
first, then new ones. What goes wrong decides what becomes of an entry:

* no valid message, or ``Permanent``: a dead letter and its audit record, in one commit;
* ``Temporary``, or an error nobody foresaw: it stays pending and later ones wait; tried again after a back-off, a dead
  letter after ``MAX_RETRIES``. The count survives a restart, but only failures of the handler are counted, not crashes;
* a ``BusError``: nothing is counted; the loop waits for Redis and the lease and begins again with what is unfinished;
* ``Unknown``: ends the process. Whoever sends orders settles that case itself, before it gets here.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tradingbot.bus.commit import CommitResult
from tradingbot.bus.entries import PAGE, Entry, InvalidEntry, Outcome
from tradingbot.bus.errors import BusError, BusUnavailable, bus_errors
from tradingbot.bus.names import HOUR_MS, failures_key
from tradingbot.bus.state import StateCell
from tradingbot.domain.errors import Permanent, Temporary, Unknown
from tradingbot.domain.messages import AuditLevel, AuditRecord
from tradingbot.domain.model import Model
from tradingbot.runtime import metrics
from tradingbot.runtime.stopping import Stopped, unless_stopped
from tradingbot.runtime.tracing import span

if TYPE_CHECKING:
    from tradingbot.bus.session import BusSession

DataT = TypeVar("DataT", bound=Model)

MAX_RETRIES = 5
_BACKOFF_S = 1.0
_BACKOFF_MAX_S = 30.0
_RECONNECT_S = 0.5
MAX_SILENCE_S = 300.0
"""Real seconds after which a consumer that has not come back from its handler is taken to hang. Far above what a
handler may take: a model's answer, an order's settlement, the longest back-off."""
_FAILURES_TTL_MS = 24 * HOUR_MS


class _Superseded(Exception):  # noqa: N818 - not a failure
    """Someone else is the service, or the state moved on: begin again from what Redis holds."""


class Consumer(Generic[DataT]):
    """One stream, one group, one handler."""

    def __init__(
        self,
        session: BusSession,
        *,
        stream: str,
        group: str,
        model: type[DataT],
        handle: Callable[[Entry[DataT]], Awaitable[Outcome[Any]]],
        cell: StateCell[Any] | None,
        freshness: Callable[[Entry[DataT]], str | None] | None,
        latest_only: bool,
    ) -> None:
        self._session = session
        self._stop = session.process.stop
        self._log = session.process.log.bind(stream=str(stream), group=str(group))
        self._stream = str(stream)
        self._group = str(group)
        self._reader = session.reader(stream=stream, group=group, model=model)
        self._handle = handle
        self._cell = cell
        self._freshness = freshness
        self._latest_only = latest_only
        self._todo: deque[Entry[DataT] | InvalidEntry] = deque()

    async def run(self) -> None:
        """Handle entries until the process is told to stop.

        Raises:
            BusStateLost: the group is gone.
            Unknown: the handler did not settle an order's fate.
        """
        try:
            with contextlib.suppress(Stopped):
                while not self._stop.is_set():
                    self._beat()
                    await self._run_until_trouble()
        finally:
            self._session.process.health.forget(self._group)

    async def _run_until_trouble(self) -> None:
        try:
            await unless_stopped(self._stop, self._session.lease.wait_held())
            await self._begin_with_unfinished()
            while not self._stop.is_set():
                await self._next()
        except _Superseded as reason:
            self._log.warning("superseded", detail=str(reason))
            await self._pause(_RECONNECT_S * self._session.ids.uniform(0.1, 0.2))
        except BusError as error:
            metrics.count_error(error)
            self._log.warning("bus_error", error=str(error))
            await self._pause(error.delay_s or _RECONNECT_S * self._session.ids.uniform(0.5, 1.0))

    async def _begin_with_unfinished(self) -> None:
        self._todo = deque([await self._with_failures(entry) for entry in await self._reader.pending()])
        if self._latest_only and self._todo:
            await self._take_in_newer()

    def _beat(self) -> None:
        self._session.process.health.beat(self._group, max_age_s=MAX_SILENCE_S)

    async def _next(self) -> None:
        self._beat()
        if not self._todo:
            self._todo.extend(await unless_stopped(self._stop, self._reader.new()))
            if self._latest_only and len(self._todo) == PAGE:
                await self._take_in_newer()
        if self._latest_only and len(self._todo) > 1:
            await self._skip_older()
        if not self._todo:
            return
        entry = self._todo.popleft()
        delay_s = await self._attempt(entry)
        if delay_s is not None and isinstance(entry, Entry):
            self._todo.appendleft(entry.failed_again())
            await self._pause(delay_s)
            if self._latest_only:
                await self._take_in_newer()

    async def _attempt(self, entry: Entry[DataT] | InvalidEntry) -> float | None:
        """Finish an entry; or the real seconds after which to try again."""
        if isinstance(entry, InvalidEntry):
            await self._dead_letter(entry, reason=entry.error, error_type="InvalidMessage")
            return None
        return await self._attempt_valid(entry)

    async def _attempt_valid(self, entry: Entry[DataT]) -> float | None:
        async with self._cell.lock if self._cell else contextlib.nullcontext():
            if self._cell and self._cell.stale:
                await self._cell.load()
            reason = self._freshness(entry) if self._freshness else None
            if reason is not None:
                await self._finish(entry, Outcome(audits=(self._stale([entry], reason),)))
                return None
            try:
                outcome = await self._decide(entry)
            except (BusError, Unknown, Stopped):
                raise  # the entry stays pending, for the next process or the next try
            except (RedisConnectionError, RedisTimeoutError) as error:
                raise BusUnavailable(f"Redis does not answer: {error}") from error
            except Permanent as error:
                metrics.count_error(error)
                await self._dead_letter(entry, reason=str(error), error_type=type(error).__name__)
                return None
            except Temporary as error:
                return await self._failed(entry, error, at_least_s=error.delay_s or 0.0)
            except Exception as error:  # noqa: BLE001 - a poisonous entry must not stop trading: retried, then put aside
                self._log.exception("handler_failed", entry_id=entry.id)
                return await self._failed(entry, error, at_least_s=0.0)
            await self._finish(entry, outcome)
            return None

    async def _decide(self, entry: Entry[DataT]) -> Outcome[Any]:
        cycle_id = entry.message.env.cycle_id
        with span(self._stream, bot_id=self._session.bot_id, cycle_id=cycle_id), metrics.measured(self._stream):
            return await self._handle(entry)

    async def _finish(self, entry: Entry[DataT], outcome: Outcome[Any]) -> None:
        if outcome.committed:
            return
        commit_id = f"{self._stream}:{self._group}:{entry.id}"
        _insist(await self._session.commit_step(self._cell, outcome, commit_id=commit_id, entries=[entry]))

    async def _failed(self, entry: Entry[DataT], error: Exception, *, at_least_s: float) -> float | None:
        metrics.count_error(error)
        if entry.retries >= MAX_RETRIES:
            reason = f"failed {entry.retries + 1} times, at last: {error}"
            await self._dead_letter(entry, reason=reason, error_type=type(error).__name__)
            return None
        self._log.warning("will_retry", entry_id=entry.id, retries=entry.retries, error=str(error))
        await self._remember_failure(entry)
        backoff_s = min(_BACKOFF_MAX_S, _BACKOFF_S * 2**entry.retries) * self._session.ids.uniform(0.5, 1.0)
        return max(at_least_s, float(backoff_s))

    async def _dead_letter(self, entry: Entry[DataT] | InvalidEntry, *, reason: str, error_type: str) -> None:
        _insist(await self._session.dead_letter(entry, reason=reason, error_type=error_type))
        self._log.error("dead_letter", entry_id=entry.id, reason=reason)

    async def _remember_failure(self, entry: Entry[DataT]) -> None:
        key = failures_key(self._group, entry.id)
        with bus_errors():
            await self._session.redis.set(key, entry.retries + 1, px=_FAILURES_TTL_MS)

    async def _with_failures(self, entry: Entry[DataT] | InvalidEntry) -> Entry[DataT] | InvalidEntry:
        with bus_errors():
            failures = await self._session.redis.get(failures_key(self._group, entry.id))
        return replace(entry, retries=int(failures or 0))

    async def _take_in_newer(self) -> None:
        while page := await self._reader.new(block_ms=None):
            self._todo.extend(page)

    async def _skip_older(self) -> None:
        """Acknowledge all but the newest as stale, with one audit record; invalid ones become dead letters."""
        newest = self._todo[-1]
        older = [entry for entry in self._todo if entry is not newest]
        for entry in older:
            if isinstance(entry, InvalidEntry):
                await self._attempt(entry)
        stale = [entry for entry in older if isinstance(entry, Entry)]
        if stale:
            outcome: Outcome[Any] = Outcome(audits=(self._stale(stale, "a newer entry is there"),))
            commit_id = f"{self._stream}:{self._group}:{stale[0].id}..{stale[-1].id}"
            _insist(await self._session.commit_step(None, outcome, commit_id=commit_id, entries=stale))
        self._todo = deque([newest])

    def _stale(self, entries: Sequence[Entry[DataT]], reason: str) -> AuditRecord:
        return AuditRecord(
            kind="stale_cycle",
            level=AuditLevel.WARNING,
            cause=str(entries[-1].message.env.event_id),
            details={
                "stream": self._stream,
                "first_id": entries[0].id,
                "last_id": entries[-1].id,
                "entries": len(entries),
                "reason": reason,
            },
        )

    async def _pause(self, real_s: float) -> None:
        await unless_stopped(self._stop, self._session.clock.sleep_real(real_s))


def _insist(result: CommitResult) -> None:
    if not result.done:
        raise _Superseded(f"{result.verdict}: {result.detail}")
