"""I4: whatever crashes, loses a reply, is delivered twice or comes back from the dead, every entry ends acknowledged
with its outputs exactly once, and the state has counted it exactly once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from redis.asyncio import Redis

from support.servers import Server
from support.sessions import process_for
from tradingbot.bus import lease as lease_module
from tradingbot.bus import session as session_module
from tradingbot.bus.client import connect
from tradingbot.bus.commit import Commit, CommitResult, commit
from tradingbot.bus.entries import Entry, InvalidEntry, Outcome
from tradingbot.bus.errors import BusUnavailable
from tradingbot.bus.library import load_library
from tradingbot.bus.names import Group, Stream, lease_key
from tradingbot.bus.session import BusSession, ensure_group
from tradingbot.domain.cycles import minute_id
from tradingbot.domain.envelope import message
from tradingbot.domain.model import Model

SERVICE = "risk_engine"
NOW_MS = 1_771_430_400_000
T = TypeVar("T")


class Number(Model):
    """A message."""

    n: int


class Counted(Model):
    """The state: how often each number was counted."""

    times: dict[int, int] = {}


class Crash(Exception):
    """The process dies here."""


class Faults:
    """Stands between the session and the commit, and does what the next fault says."""

    def __init__(self) -> None:
        self.next = "none"

    async def commit(self, redis: Redis, step: Commit) -> CommitResult:
        fault, self.next = self.next, "none"
        if fault == "crash_before":
            raise Crash
        if fault == "request_lost":
            raise BusUnavailable("the request was lost")
        result = await commit(redis, step)
        if fault == "crash_after":
            raise Crash
        if fault == "reply_lost":
            raise BusUnavailable("the reply was lost")
        return result


class Life:
    """One life of the service's process; a zombie is a life that does not know that it is over."""

    def __init__(self, redis: Redis) -> None:
        self.bus = BusSession(process_for(SERVICE), redis, bot_id="b", cycle_seconds=60)
        self.cell = self.bus.cell(Counted, Counted())
        self.reader = self.bus.reader(stream=Stream.TARGET, group=Group.RISK, model=Number)
        self.todo: list[Entry[Number] | InvalidEntry] = []

    async def begin(self) -> None:
        await self.bus.lease.acquire()
        await self.cell.load()
        self.todo = await self.reader.pending()

    async def step(self) -> None:
        entry = self.todo.pop(0)
        assert isinstance(entry, Entry)
        if self.cell.stale:
            await self.cell.load()
        times = Counter(self.cell.value.times)
        times[entry.data.n] += 1
        add = self.bus.add(Stream.APPROVED, entry.data, cycle_id=entry.message.env.cycle_id, key=str(entry.data.n))
        outcome = Outcome(state=Counted(times=dict(times)), adds=(add,))
        result = await self.bus.commit_step(self.cell, outcome, commit_id=entry.id, entries=[entry])
        if not result.done:
            self.todo = await self.reader.pending()


class ExactlyOnce(RuleBasedStateMachine):
    """Random lives of one service on a real server."""

    def __init__(self, server: Server, faults: Faults) -> None:
        super().__init__()
        self.server, self.faults = server, faults
        self.loop = asyncio.new_event_loop()
        self.sent = 0
        self.lives: list[Life] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def prepare(self) -> None:
        with self.server.admin() as admin:
            admin.flushall()
        self.redis = connect(self.server.url, client_name="machine")
        self.run(load_library(self.redis))
        self.run(ensure_group(self.redis, Stream.TARGET, Group.RISK))
        self.restart()

    @rule(count=st.integers(min_value=1, max_value=4))
    def send(self, count: int) -> None:
        for _ in range(count):
            self.sent += 1
            made = message(
                Number(n=self.sent),
                bot_id="b",
                stream=Stream.TARGET,
                source="ai_decision",
                cycle_id=minute_id(NOW_MS),
                key=str(self.sent),
                now_ms=NOW_MS,
            )
            self.run(self.redis.xadd(Stream.TARGET, {"p": made.model_dump_json(exclude={"event"})}))

    @rule()
    def restart(self) -> None:
        """The lease lapses or is freed and a new process takes it; what lived before lives on as a zombie."""
        self.run(self.redis.delete(lease_key(SERVICE)))
        life = Life(self.redis)
        self.run(life.begin())
        self.lives.append(life)

    @rule(data=st.data(), count=st.integers(min_value=1, max_value=3))
    def read(self, data: st.DataObject, count: int) -> None:
        life = self._any_life(data)
        life.todo += self.run(life.reader.new(count=count, block_ms=None))

    @rule(data=st.data())
    def reply_to_a_read_is_lost(self, data: st.DataObject) -> None:
        self.run(self._any_life(data).reader.new(count=1, block_ms=None))

    @rule(data=st.data())
    def read_own_pending_again(self, data: st.DataObject) -> None:
        life = self._any_life(data)
        life.todo = self.run(life.reader.pending())

    @precondition(lambda self: any(life.todo for life in self.lives))
    @rule(
        data=st.data(),
        fault=st.sampled_from(["none", "none", "crash_before", "crash_after", "reply_lost", "request_lost"]),
    )
    def handle(self, data: st.DataObject, fault: str) -> None:
        life = data.draw(st.sampled_from([life for life in self.lives if life.todo]))
        self.faults.next = fault
        try:
            self.run(life.step())
        except Crash:
            self.lives.remove(life)
        finally:
            self.faults.next = "none"
        if not self.lives:
            self.restart()

    def _any_life(self, data: st.DataObject) -> Life:
        return data.draw(st.sampled_from(self.lives))

    def teardown(self) -> None:
        if not self.lives:
            return
        self.restart()
        self.run(self._finish(self.lives[-1]))
        self.loop.close()

    async def _finish(self, life: Life) -> None:
        while life.todo or (new := await life.reader.new(block_ms=None)):
            life.todo = life.todo or new
            await life.step()
        rows = await self.redis.xrange(Stream.APPROVED)
        numbers = [json.loads(fields["p"])["data"]["n"] for _, fields in rows]
        [group] = await self.redis.xinfo_groups(Stream.TARGET)
        await self.redis.aclose()
        assert sorted(numbers) == list(range(1, self.sent + 1))
        assert life.cell.value.times == dict.fromkeys(range(1, self.sent + 1), 1)
        assert (group["pending"], group["lag"]) == (0, 0)


def test_every_entry_ends_finished_exactly_once(any_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults()
    monkeypatch.setattr(session_module, "commit", faults.commit)
    monkeypatch.setattr(session_module, "_RETRY_S", 0.0)
    monkeypatch.setattr(lease_module, "LEASE_MS", 600_000)
    run_state_machine_as_test(
        lambda: ExactlyOnce(any_server, faults),
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
