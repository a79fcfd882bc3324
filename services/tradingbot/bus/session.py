"""What a service holds of the bus: its connection, its lease, and the ways to read and to commit.

A session survives an outage of Redis: reads wait, the lease is taken anew under a new token, and whatever was decided
in between is refused by the commit. It does not survive the loss of Redis's data: then the process ends and starts
anew (BusStateLost).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tradingbot.bus import entries as bus_entries
from tradingbot.bus.client import connect
from tradingbot.bus.commit import (
    Ack,
    ActionStamp,
    Add,
    Commit,
    CommitResult,
    ModeGuard,
    StateWrite,
    TokenTake,
    Verdict,
    Write,
    commit,
)
from tradingbot.bus.consumer import Consumer
from tradingbot.bus.entries import Entry, InvalidEntry, Outcome, Reader
from tradingbot.bus.errors import BusError, BusUnavailable, IdentityMismatch, bus_errors
from tradingbot.bus.lease import Lease
from tradingbot.bus.names import Key, Stream, dead_letter_stream, groups_of, state_key
from tradingbot.bus.state import StateCell
from tradingbot.domain.cycles import CycleId, cycle_id_at, from_ms
from tradingbot.domain.envelope import message
from tradingbot.domain.messages import AuditLevel, AuditRecord, DeadLetter
from tradingbot.domain.model import Model
from tradingbot.runtime import metrics
from tradingbot.runtime.clock import Clock, Ids
from tradingbot.runtime.process import Process
from tradingbot.runtime.stopping import end, unless_stopped

DataT = TypeVar("DataT", bound=Model)
StateT = TypeVar("StateT", bound=Model)

_RETRY_S = 0.05
_RETRY_MAX_S = 1.0


class SessionSettings(Protocol):
    """What a session needs of a service's settings."""

    @property
    def redis_url(self) -> SecretStr: ...
    @property
    def bot_id(self) -> str: ...
    @property
    def cycle_seconds(self) -> int: ...
    @property
    def hl_network(self) -> str: ...
    @property
    def hl_account_address(self) -> str | None: ...


class BusSession:
    """A service's hold on the bus; made by ``open_session``."""

    def __init__(self, process: Process, redis: Redis, *, bot_id: str, cycle_seconds: int) -> None:
        self.process = process
        self.redis = redis
        self.bot_id = bot_id
        self.cycle_seconds = cycle_seconds
        self.service: str = process.service
        self.clock: Clock = process.clock
        self.ids: Ids = process.ids
        self.lease = Lease(redis, service=process.service, clock=process.clock)

    def add(
        self,
        stream: str,
        data: Model,
        *,
        cycle_id: str,
        key: str,
        event: str | None = None,
        retry_count: int = 0,
    ) -> Add:
        """A message for a stream, wrapped in its envelope; ``key`` as in DESIGN's stream table."""
        wrapped = message(
            data,
            bot_id=self.bot_id,
            stream=stream,
            source=self.service,
            cycle_id=cycle_id,
            key=key,
            now_ms=self.clock.now_ms(),
            event=event,
        )
        if retry_count:
            env = wrapped.env.model_copy(update={"retry_count": retry_count})
            wrapped = wrapped.model_copy(update={"env": env})
        return Add(str(stream), wrapped.model_dump_json(exclude=None if event else {"event"}))

    def audit(self, record: AuditRecord, *, cycle_id: str) -> Add:
        """An audit record, wrapped; one without a cause bears the time as its cause, so that no two are one event."""
        if not record.cause:
            record = record.model_copy(update={"cause": from_ms(self.clock.now_ms()).isoformat()})
        return self.add(Stream.AUDIT, record, cycle_id=cycle_id, key=f"{self.service}:{record.cause}:{record.kind}")

    def cell(self, model: type[StateT], initial: StateT, *, name: str | None = None) -> StateCell[StateT]:
        """This service's state under ``state:{service}`` or ``state:{service}:{name}``; load it before use."""
        return StateCell(self.redis, key=state_key(self.service, name), model=model, initial=initial)

    def reader(self, *, stream: str, group: str, model: type[DataT]) -> Reader[DataT]:
        """Reads a stream through a group, for a service that makes its own loop."""
        return Reader(self.redis, stream=stream, group=group, consumer=self.service, model=model)

    async def newest(self, stream: str, model: type[DataT]) -> Entry[DataT] | None:
        """The newest entry of a stream, read without a group; None when there is none or it is not valid."""
        return await bus_entries.newest(self.redis, stream=stream, model=model)

    async def commit(
        self,
        *,
        commit_id: str,
        state: StateWrite | None = None,
        acks: Sequence[Ack] = (),
        adds: Sequence[Add] = (),
        writes: Sequence[Write] = (),
        mode_guard: ModeGuard | None = None,
        takes: Sequence[TokenTake] = (),
        action: ActionStamp | None = None,
    ) -> CommitResult:
        """Make a step under the present lease; a lost answer is asked for again while the lease is held.

        Raises:
            BusUnavailable: Redis did not answer before the lease lapsed; whether it is written is not known.
            BusFull, LibraryMissing, WrongKeyType: nothing was written.
        """
        step = Commit(
            commit_id=commit_id,
            service=self.service,
            lease_token=self.lease.token,
            now_ms=self.clock.now_ms(),
            state=state,
            acks=acks,
            adds=adds,
            writes=writes,
            mode_guard=mode_guard,
            takes=takes,
            action=action,
        )
        result = await self._commit_surely(step)
        if result.done:
            for add in adds:
                metrics.bus_messages_out.labels(stream=add.stream).inc()
        elif result.verdict is Verdict.SUPERSEDED:
            self.lease.doubt()
        return result

    async def _commit_surely(self, step: Commit) -> CommitResult:
        delay_s = _RETRY_S
        while True:
            try:
                return await commit(self.redis, step)
            except BusUnavailable as error:
                metrics.count_error(error)
                if not self.lease.held or self.lease.token != step.lease_token:
                    raise
            await self.clock.sleep_real(delay_s * self.ids.uniform(0.5, 1.0))
            delay_s = min(_RETRY_MAX_S, 2 * delay_s)

    async def commit_step(
        self,
        cell: StateCell[StateT] | None,
        outcome: Outcome[StateT],
        *,
        commit_id: str,
        entries: Sequence[Entry[Any] | InvalidEntry] = (),
        cycle_id: str | None = None,
    ) -> CommitResult:
        """State, outputs, audits and acknowledgements of a step in one; hold ``cell.lock`` from the decision to here.

        ``cycle_id`` names the audit records' cycle; without it that of the entries, else the present one.

        When the cell turns out not to be what Redis holds, it is read again and the answer is SUPERSEDED: decide anew.

        Raises:
            BusUnavailable, BusFull, LibraryMissing, WrongKeyType: as ``commit``.
        """
        if cell is not None and cell.stale:
            await cell.load()
            return CommitResult(verdict=Verdict.SUPERSEDED, detail="the state had to be read again")
        write = cell.write(outcome.state) if cell is not None and outcome.state is not None else None
        cycle_id = cycle_id or self._cycle_of(entries)
        audits = tuple(self.audit(record, cycle_id=cycle_id) for record in outcome.audits)
        try:
            result = await self.commit(
                commit_id=commit_id,
                state=write,
                acks=[entry.ack for entry in entries],
                adds=(*outcome.adds, *audits),
                writes=outcome.writes,
            )
        except BusUnavailable:
            if cell is not None:
                cell.stale = True
            raise
        await self._settle(cell, outcome.state, result)
        return result

    async def _settle(self, cell: StateCell[StateT] | None, value: StateT | None, result: CommitResult) -> None:
        if cell is None:
            return
        if not result.done:
            cell.stale = True
            await cell.load()
        elif value is not None:
            cell.committed(value, version=result.version)

    async def consume(
        self,
        *,
        stream: str,
        group: str,
        model: type[DataT],
        handle: Callable[[Entry[DataT]], Awaitable[Outcome[Any]]],
        cell: StateCell[Any] | None = None,
        freshness: Callable[[Entry[DataT]], str | None] | None = None,
        latest_only: bool = False,
    ) -> None:
        """Handle a stream's entries one by one until the process stops; see ``bus.consumer``."""
        consumer = Consumer(
            self,
            stream=stream,
            group=group,
            model=model,
            handle=handle,
            cell=cell,
            freshness=freshness,
            latest_only=latest_only,
        )
        await consumer.run()

    async def dead_letter(
        self, entry: Entry[Any] | InvalidEntry, *, reason: str, error_type: str, commit_id: str | None = None
    ) -> CommitResult:
        """Put an entry aside for a person: the dead letter, its audit record and the acknowledgement in one."""
        letter = DeadLetter(
            stream=entry.stream,
            group=entry.group,
            entry_id=entry.id,
            payload=entry.raw,
            reason=reason,
            error_type=error_type,
            retry_count=entry.retries,
            failed_at=from_ms(self.clock.now_ms()),
        )
        cycle_id = self._cycle_of([entry])
        cause = str(entry.message.env.event_id) if isinstance(entry, Entry) else entry.id
        record = AuditRecord(
            kind="dlq",
            level=AuditLevel.ERROR,
            cause=cause,
            details=letter.model_dump(mode="json", exclude={"payload", "failed_at"}),
        )
        target = dead_letter_stream(entry.stream)
        result = await self.commit(
            commit_id=commit_id or f"dlq:{entry.stream}:{entry.group}:{entry.id}",
            acks=[entry.ack],
            adds=[
                self.add(target, letter, cycle_id=cycle_id, key=entry.id, retry_count=entry.retries),
                self.audit(record, cycle_id=cycle_id),
            ],
        )
        if result.done:
            metrics.dead_letters.labels(stream=entry.stream).inc()
        return result

    def cycle_id(self) -> CycleId:
        """The cycle that it is now."""
        return cycle_id_at(self.clock.now_ms(), cycle_seconds=self.cycle_seconds)

    def _cycle_of(self, entries: Sequence[Entry[Any] | InvalidEntry]) -> CycleId:
        known = [entry.message.env.cycle_id for entry in entries if isinstance(entry, Entry)]
        return known[-1] if known else self.cycle_id()


@contextlib.asynccontextmanager
async def open_session(process: Process, settings: SessionSettings) -> AsyncIterator[BusSession]:
    """Connect, check that this Redis is this bot's, make the groups, take the lease and keep it.

    Waits while Redis is away or another process holds the lease; a stop ends the wait.

    Raises:
        IdentityMismatch: this Redis belongs to another bot, network or account.
        Stopped: the process was told to stop before Redis and the lease were ours.
    """
    redis = connect(settings.redis_url, client_name=process.service)
    session = BusSession(process, redis, bot_id=settings.bot_id, cycle_seconds=settings.cycle_seconds)
    identity = identity_of(
        bot_id=settings.bot_id, network=str(settings.hl_network), account=settings.hl_account_address
    )
    try:
        await unless_stopped(process.stop, _prepare(session, identity))
        renewals = asyncio.create_task(session.lease.run(), name="lease")
        told = asyncio.create_task(_tell_readiness(session), name="readiness")
        try:
            yield session
        finally:
            await end(told)
            await end(renewals)
            await session.lease.release()
    finally:
        await redis.aclose()


async def _tell_readiness(session: BusSession) -> None:
    """A service without its lease can commit nothing: it is not ready, whatever it did before; and it is alive, however
    long its loops wait, since a restart would bring neither Redis nor the lease back.
    """
    lease, health = session.lease, session.process.health
    while True:
        await lease.lost.wait()
        health.hinder("lease", "Redis is away, or another process is this service")
        health.pause()
        await lease.wait_held()
        health.resume()
        health.hinder("lease", None)


async def _prepare(session: BusSession, identity: Mapping[str, str]) -> None:
    while True:
        try:
            await check_identity(session.redis, identity)
            for stream, group in groups_of(session.service):
                await ensure_group(session.redis, stream, group)
            break
        except BusError as error:
            session.process.log.warning("waiting_for_redis", error=str(error))
            await session.clock.sleep_real(_RETRY_MAX_S * session.ids.uniform(0.5, 1.0))
    await session.lease.acquire()


def identity_of(*, bot_id: str, network: str, account: str | None) -> dict[str, str]:
    """What ``bot.identity`` holds of a bot."""
    return {"bot_id": bot_id, "network": str(network), "account": (account or "").lower()}


async def check_identity(redis: Redis, identity: Mapping[str, str]) -> None:
    """Make this Redis the bot's when it is nobody's yet.

    Raises:
        IdentityMismatch: it is another bot's, or that of another network or account.
    """
    ours = json.dumps(dict(identity), sort_keys=True)
    with bus_errors():
        await redis.set(Key.IDENTITY, ours, nx=True)
        kept: Any = await redis.get(Key.IDENTITY)
    if kept != ours:
        raise IdentityMismatch(f"this Redis belongs to {kept}, not to {ours}: use another, or adopt its bot id")


async def ensure_group(redis: Redis, stream: str, group: str) -> None:
    """Make a consumer group that begins at the stream's beginning, unless it is there."""
    with bus_errors():
        try:
            await redis.xgroup_create(stream, group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
