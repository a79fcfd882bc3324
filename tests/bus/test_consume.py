"""Every entry ends acknowledged with its outputs, acknowledged as stale, or as a dead letter."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from support.servers import Server
from support.sessions import process_for, settings_for, until
from tradingbot.bus import consumer as consumer_module
from tradingbot.bus import lease as lease_module
from tradingbot.bus import session as session_module
from tradingbot.bus.client import BLOCK_MS
from tradingbot.bus.dead_letters import list_dead_letters
from tradingbot.bus.entries import Entry, Outcome
from tradingbot.bus.errors import BusStateLost, BusUnavailable, IdentityMismatch
from tradingbot.bus.library import library_source, load_library
from tradingbot.bus.names import Group, Stream, lease_key
from tradingbot.bus.session import BusSession, open_session
from tradingbot.bus.state import StateCell
from tradingbot.domain.cycles import minute_id
from tradingbot.domain.envelope import Message, message
from tradingbot.domain.errors import Permanent, Temporary, Unknown
from tradingbot.domain.messages import AuditRecord
from tradingbot.domain.model import Model
from tradingbot.runtime.clock import ManualClock
from tradingbot.runtime.process import Process
from tradingbot.runtime.stopping import Stopped

SERVICE = "risk_engine"
NOW_MS = 1_771_430_400_000


class Number(Model):
    """A message of the tests."""

    n: int


class Total(Model):
    """A state of the tests."""

    total: int = 0


Handler = Callable[[Entry[Number]], Awaitable[Outcome[Any]]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "_BACKOFF_S", 0.002)
    monkeypatch.setattr(consumer_module, "_RECONNECT_S", 0.01)
    monkeypatch.setattr(lease_module, "_POLL_S", 0.01)


def payload(n: int, *, at_ms: int = NOW_MS) -> str:
    wrapped = message(
        Number(n=n),
        bot_id="b",
        stream=Stream.TARGET,
        source="ai_decision",
        cycle_id=minute_id(at_ms),
        key=str(n),
        now_ms=at_ms,
    )
    return wrapped.model_dump_json(exclude={"event"})


async def send(redis: Redis, *numbers: int) -> list[str]:
    return [await redis.xadd(Stream.TARGET, {"p": payload(n)}) for n in numbers]


async def outputs(redis: Redis) -> list[int]:
    rows = await redis.xrange(Stream.APPROVED)
    return [json.loads(fields["p"])["data"]["n"] for _, fields in rows]


async def audits(redis: Redis) -> list[AuditRecord]:
    return [Message[AuditRecord].read(fields["p"]).data for _, fields in await redis.xrange(Stream.AUDIT)]


async def at_rest(redis: Redis) -> bool:
    groups = {group["name"]: group for group in await redis.xinfo_groups(Stream.TARGET)}
    return groups[Group.RISK]["pending"] == 0 and groups[Group.RISK]["lag"] == 0


def adding(bus: BusSession, cell: StateCell[Total] | None = None) -> Handler:
    """A handler that passes numbers on and adds them up."""

    async def handle(entry: Entry[Number]) -> Outcome[Any]:
        add = bus.add(Stream.APPROVED, entry.data, cycle_id=entry.message.env.cycle_id, key=str(entry.data.n))
        return Outcome(state=Total(total=cell.value.total + entry.data.n) if cell else None, adds=(add,))

    return handle


class Running:
    """A consumer at work."""

    def __init__(self, bus: BusSession, process: Process, task: asyncio.Task[None]) -> None:
        self.bus, self.process, self.task = bus, process, task


@contextlib.asynccontextmanager
async def consuming(
    server: Server, make: Callable[[BusSession], Handler], *, with_cell: bool = False, **options: Any
) -> AsyncIterator[Running]:
    process = process_for(SERVICE)
    async with open_session(process, settings_for(server)) as bus:
        cell = bus.cell(Total, Total()) if with_cell else None
        handle = adding(bus, cell) if with_cell else make(bus)
        loop = bus.consume(stream=Stream.TARGET, group=Group.RISK, model=Number, handle=handle, cell=cell, **options)
        task = asyncio.create_task(loop)
        try:
            yield Running(bus, process, task)
        finally:
            process.stop.set()
            if not task.done():
                await asyncio.wait_for(task, 60)


def failing_on(n: int, error: Exception, calls: list[int]) -> Callable[[BusSession], Handler]:
    def make(bus: BusSession) -> Handler:
        add = adding(bus)

        async def handle(entry: Entry[Number]) -> Outcome[Any]:
            calls.append(entry.data.n)
            if entry.data.n == n:
                raise error
            return await add(entry)

        return handle

    return make


async def test_entries_are_handled_in_order_with_their_state(any_redis: Redis, any_server: Server) -> None:
    await send(any_redis, 1, 2)
    async with consuming(any_server, adding, with_cell=True):
        await until(lambda: outputs_equal(any_redis, [1, 2]))
        await send(any_redis, 3)
        await until(lambda: outputs_equal(any_redis, [1, 2, 3]))
    assert await at_rest(any_redis)
    assert json.loads(await any_redis.hget("state:risk_engine", "value")) == {"total": 6}


async def outputs_equal(redis: Redis, numbers: list[int]) -> bool:
    return await outputs(redis) == numbers


async def test_a_restart_finds_what_it_left_unfinished_first(valkey: Redis, valkey_server: Server) -> None:
    async with consuming(valkey_server, adding):
        pass  # makes the group
    await send(valkey, 1)
    await valkey.xreadgroup(Group.RISK, SERVICE, {Stream.TARGET: ">"})  # read, then killed
    await send(valkey, 2)
    async with consuming(valkey_server, adding):
        await until(lambda: outputs_equal(valkey, [1, 2]))
    assert await at_rest(valkey)


async def test_a_permanent_error_is_a_dead_letter_and_the_stream_goes_on(valkey: Redis, valkey_server: Server) -> None:
    ids = await send(valkey, 1, 2, 3)
    calls: list[int] = []
    async with consuming(valkey_server, failing_on(2, Permanent("cannot be"), calls)):
        await until(lambda: outputs_equal(valkey, [1, 3]))
    assert calls == [1, 2, 3]
    assert await at_rest(valkey)
    [kept] = await list_dead_letters(valkey)
    letter = kept.letter
    assert (letter.entry_id, letter.reason, letter.error_type) == (ids[1], "cannot be", "Permanent")
    assert letter.payload == payload(2)
    assert [record.kind for record in await audits(valkey)] == ["dlq"]


@pytest.mark.parametrize("raw", ["no json", "{}", json.dumps({"env": {}, "data": {"n": "x"}}), ""])
async def test_what_is_no_valid_message_is_a_dead_letter_with_the_validation_error(
    valkey: Redis, valkey_server: Server, raw: str
) -> None:
    await valkey.xadd(Stream.TARGET, {"p": raw})
    await send(valkey, 2)
    async with consuming(valkey_server, adding):
        await until(lambda: outputs_equal(valkey, [2]))
    [kept] = await list_dead_letters(valkey)
    assert kept.letter.error_type == "InvalidMessage"
    assert "validation error" in kept.letter.reason
    assert kept.letter.payload == raw


async def test_an_entry_without_the_payload_field_is_a_dead_letter(valkey: Redis, valkey_server: Server) -> None:
    await valkey.xadd(Stream.TARGET, {"q": "?"})
    async with consuming(valkey_server, adding):
        [kept] = await until(lambda: list_dead_letters(valkey))
    assert "no field 'p'" in kept.letter.reason


async def test_bytes_that_are_no_text_are_a_dead_letter(valkey: Redis, valkey_server: Server) -> None:
    with valkey_server.admin() as admin:
        admin.xadd(Stream.TARGET, {"p": b"\xff\xfe"})
    await send(valkey, 2)
    async with consuming(valkey_server, adding):
        await until(lambda: outputs_equal(valkey, [2]))
    assert len(await list_dead_letters(valkey)) == 1


async def test_an_unfinished_entry_that_was_trimmed_away_is_a_dead_letter(valkey: Redis, valkey_server: Server) -> None:
    async with consuming(valkey_server, adding):
        pass
    await send(valkey, 1)
    await valkey.xreadgroup(Group.RISK, SERVICE, {Stream.TARGET: ">"})
    await valkey.xtrim(Stream.TARGET, maxlen=0, approximate=False)
    async with consuming(valkey_server, adding):
        [kept] = await until(lambda: list_dead_letters(valkey))
    assert "trimmed" in kept.letter.reason
    assert (await valkey.xpending(Stream.TARGET, Group.RISK))["pending"] == 0


async def test_unknown_fields_are_ignored_by_readers(valkey: Redis, valkey_server: Server) -> None:
    newer = json.loads(payload(1))
    newer["data"]["new"] = newer["env"]["new"] = newer["new"] = 1
    await valkey.xadd(Stream.TARGET, {"p": json.dumps(newer)})
    async with consuming(valkey_server, adding):
        await until(lambda: outputs_equal(valkey, [1]))


async def test_a_temporary_error_holds_later_entries_until_it_passes(valkey: Redis, valkey_server: Server) -> None:
    failures = iter([Temporary("not yet"), Temporary("not yet"), None])
    seen: list[tuple[int, int]] = []

    def make(bus: BusSession) -> Handler:
        add = adding(bus)

        async def handle(entry: Entry[Number]) -> Outcome[Any]:
            seen.append((entry.data.n, entry.retries))
            error = next(failures) if entry.data.n == 1 else None
            if error:
                raise error
            return await add(entry)

        return handle

    await send(valkey, 1, 2)
    async with consuming(valkey_server, make):
        await until(lambda: outputs_equal(valkey, [1, 2]))
    assert seen == [(1, 0), (1, 1), (1, 2), (2, 0)]


@pytest.mark.parametrize("error", [Temporary("never"), KeyError("a fault of ours")])
async def test_after_all_retries_it_is_a_dead_letter_that_says_how_often(
    valkey: Redis, valkey_server: Server, error: Exception
) -> None:
    await send(valkey, 1, 2)
    calls: list[int] = []
    async with consuming(valkey_server, failing_on(1, error, calls)):
        await until(lambda: outputs_equal(valkey, [2]))
    assert calls == [1] * 6 + [2]
    [kept] = await list_dead_letters(valkey)
    assert kept.letter.retry_count == 5
    assert kept.letter.error_type == type(error).__name__
    raw = (await valkey.xrange("dlq.alpha.target"))[0][1]["p"]
    assert json.loads(raw)["env"]["retry_count"] == 5


async def test_the_count_of_failures_survives_a_restart(valkey: Redis, valkey_server: Server) -> None:
    await send(valkey, 1)
    calls: list[int] = []
    async with consuming(valkey_server, failing_on(1, Temporary("no"), calls)):
        await until(lambda: len(calls) >= 3)
    done = len(calls)
    async with consuming(valkey_server, failing_on(1, Temporary("no"), calls)):
        await until(lambda: list_dead_letters(valkey))
    assert len(calls) == 6
    assert done < 6


async def test_an_unknown_outcome_ends_the_loop_and_keeps_the_entry(valkey: Redis, valkey_server: Server) -> None:
    await send(valkey, 1)
    async with consuming(valkey_server, failing_on(1, Unknown("was it sent?"), [])) as running:
        with pytest.raises(Unknown):
            await asyncio.wait_for(running.task, 60)
    assert (await valkey.xpending(Stream.TARGET, Group.RISK))["pending"] == 1


async def test_a_stale_entry_is_acknowledged_with_one_audit_record_and_no_output(
    valkey: Redis, valkey_server: Server
) -> None:
    await send(valkey, 1, 2)

    def freshness(entry: Entry[Number]) -> str | None:
        return "its cycle is over" if entry.data.n == 1 else None

    async with consuming(valkey_server, adding, freshness=freshness):
        await until(lambda: outputs_equal(valkey, [2]))
    assert await at_rest(valkey)
    [record] = await audits(valkey)
    assert (record.kind, record.details["reason"]) == ("stale_cycle", "its cycle is over")


async def test_only_the_newest_is_decided_on_after_an_absence(valkey: Redis, valkey_server: Server) -> None:
    async with consuming(valkey_server, adding, latest_only=True):
        pass
    await send(valkey, 0)
    await valkey.xreadgroup(Group.RISK, SERVICE, {Stream.TARGET: ">"})
    await valkey.xadd(Stream.TARGET, {"p": "no json"})
    await send(valkey, *range(1, 250))
    async with consuming(valkey_server, adding, latest_only=True):
        await until(lambda: at_rest(valkey))
    assert await outputs(valkey) == [249]
    kinds = {record.kind: record for record in await audits(valkey)}
    assert set(kinds) == {"dlq", "stale_cycle"}
    assert kinds["stale_cycle"].details["entries"] == 249


async def test_a_newer_entry_replaces_one_that_is_being_retried(valkey: Redis, valkey_server: Server) -> None:
    await send(valkey, 1)
    calls: list[int] = []
    async with consuming(valkey_server, failing_on(1, Temporary("no"), calls), latest_only=True):
        await until(lambda: calls)
        await send(valkey, 2)
        await until(lambda: outputs_equal(valkey, [2]))
    assert await at_rest(valkey)
    assert await list_dead_letters(valkey) == []


async def test_a_stop_ends_a_blocking_read_at_once(valkey: Redis, valkey_server: Server) -> None:
    async def took_s(n: int) -> float:
        async with consuming(valkey_server, adding) as running:
            await send(valkey, n)
            await until(lambda: outputs_equal(valkey, list(range(n + 1))))
            running.process.stop.set()
            stopped_s = asyncio.get_running_loop().time()
            await asyncio.wait_for(running.task, 60)
        return asyncio.get_running_loop().time() - stopped_s

    # One of them on a machine that is busy at the wrong moment proves nothing.
    assert min([await took_s(n) for n in range(3)]) < BLOCK_MS / 1000 / 2


async def test_a_zombie_writes_nothing_after_its_lease_is_gone(valkey: Redis, valkey_server: Server) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    def make(bus: BusSession) -> Handler:
        add = adding(bus)

        async def handle(entry: Entry[Number]) -> Outcome[Any]:
            entered.set()
            await go_on.wait()
            return await add(entry)

        return handle

    await send(valkey, 1)
    async with consuming(valkey_server, make) as running:
        await entered.wait()
        await valkey.set(lease_key(SERVICE), "99")
        go_on.set()
        await until(running.bus.lease.lost.is_set)
        assert await outputs(valkey) == []
        await valkey.delete(lease_key(SERVICE))
        await until(lambda: outputs_equal(valkey, [1]))
        assert running.bus.lease.token not in {1, 99}
    assert await at_rest(valkey)


async def test_a_lost_reply_is_asked_for_again_and_written_once(
    valkey: Redis, valkey_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = session_module.commit
    lost = iter([True, True, False])

    async def commit_without_reply(redis: Redis, step: Any) -> Any:
        result = await made(redis, step)
        if next(lost, False):
            raise BusUnavailable("the reply was lost")
        return result

    monkeypatch.setattr(session_module, "commit", commit_without_reply)
    await send(valkey, 1, 2)
    async with consuming(valkey_server, adding, with_cell=True):
        await until(lambda: outputs_equal(valkey, [1, 2]))
    assert json.loads(await valkey.hget("state:risk_engine", "value")) == {"total": 3}


async def test_the_loop_comes_back_by_itself_after_redis_was_killed(
    durable_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LEASE_MS", 500)
    admin = durable_server.admin()
    with admin:
        admin.function_load(library_source(), replace=True)
    async with consuming(durable_server, adding, with_cell=True) as running:
        with admin:
            admin.xadd(Stream.TARGET, {"p": payload(1)})
        await until(lambda: not running.bus.lease.lost.is_set() and sync_outputs(durable_server) == [1])
        durable_server.kill()
        await asyncio.wait_for(running.bus.lease.lost.wait(), 60)
        durable_server.start()
        with durable_server.admin() as again:
            again.xadd(Stream.TARGET, {"p": payload(2)})
        await until(lambda: sync_outputs(durable_server) == [1, 2])
        assert not running.task.done()


async def test_a_handler_that_hangs_is_found_dead_and_one_that_goes_on_is_not(
    valkey: Redis, valkey_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "MAX_SILENCE_S", 0.05)
    go_on = asyncio.Event()

    def hanging(bus: BusSession) -> Handler:
        async def handle(entry: Entry[Number]) -> Outcome[Any]:
            await go_on.wait()
            return await adding(bus)(entry)

        return handle

    await send(valkey, 1)
    async with consuming(valkey_server, hanging) as running:
        await until(running.process.health.late)
        assert list(running.process.health.late()) == [Group.RISK]
        go_on.set()
        await until(lambda: not running.process.health.late())
    assert running.process.health.late() == {}


async def test_an_outage_of_redis_makes_a_service_not_ready_and_leaves_it_alive(
    durable_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LEASE_MS", 300)
    with durable_server.admin() as admin:
        admin.function_load(library_source(), replace=True)
    async with consuming(durable_server, adding) as running:
        health, clock = running.process.health, running.process.clock
        health.ready(True)
        await until(lambda: health.readiness[0])
        durable_server.kill()
        await until(lambda: not health.readiness[0])
        health.beat("loop", max_age_s=0.02)
        away_s = clock.real_s()

        await until(lambda: clock.real_s() > away_s + 0.1 or health.late())
        assert health.late() == {}

        durable_server.start()
        await until(lambda: health.readiness[0])
        await until(lambda: "loop" in health.late())


def sync_outputs(server: Server) -> list[int]:
    with server.admin() as admin:
        return [json.loads(fields["p"])["data"]["n"] for _, fields in admin.xrange(Stream.APPROVED)]


async def test_lost_data_ends_the_loop_so_that_the_process_starts_anew(valkey: Redis, valkey_server: Server) -> None:
    async with consuming(valkey_server, adding) as running:
        await until(lambda: valkey.xinfo_consumers(Stream.TARGET, Group.RISK))
        await valkey.xgroup_destroy(Stream.TARGET, Group.RISK)
        with pytest.raises(BusStateLost):
            await asyncio.wait_for(running.task, 60)


async def test_a_missing_library_is_waited_for_and_never_counted(valkey: Redis, valkey_server: Server) -> None:
    await send(valkey, 1)
    calls: list[int] = []
    async with consuming(valkey_server, failing_on(0, Permanent("-"), calls)):
        await until(lambda: outputs_equal(valkey, [1]))
        await valkey.function_flush()
        await send(valkey, 2)
        await until(lambda: len(calls) > 8)
        await load_library(valkey)
        await until(lambda: outputs_equal(valkey, [1, 2]))
    assert await list_dead_letters(valkey) == []


@pytest.mark.parametrize("other", [{"bot_id": "another"}, {"hl_network": "testnet"}, {"hl_account_address": "0xdef"}])
async def test_another_bots_redis_refuses_the_start(
    valkey: Redis, valkey_server: Server, other: dict[str, str]
) -> None:
    async with open_session(process_for(SERVICE), settings_for(valkey_server)):
        pass
    async with open_session(process_for("execution"), settings_for(valkey_server, hl_account_address="0xABC")):
        pass  # the same account, written otherwise
    with pytest.raises(IdentityMismatch):
        async with open_session(process_for(SERVICE), settings_for(valkey_server, **other)):
            pass


async def test_a_stop_ends_the_wait_for_redis(durable_server: Server) -> None:
    durable_server.kill()
    process = process_for(SERVICE)
    process.stop.set()
    with pytest.raises(Stopped):
        async with open_session(process, settings_for(durable_server)):
            pass


async def test_a_timer_that_decided_on_an_old_state_reads_it_again(valkey: Redis, valkey_server: Server) -> None:
    async with open_session(process_for(SERVICE), settings_for(valkey_server)) as bus:
        mine, other = bus.cell(Total, Total()), bus.cell(Total, Total())
        await mine.load()
        await other.load()
        assert (await bus.commit_step(other, Outcome(state=Total(total=5)), commit_id="theirs")).done
        refused = await bus.commit_step(mine, Outcome(state=Total(total=1)), commit_id="mine")
        assert not refused.done
        assert (mine.value, mine.version, mine.stale) == (Total(total=5), 1, False)
        again = await bus.commit_step(mine, Outcome(state=Total(total=6)), commit_id="mine-2")
        assert (again.done, again.version, mine.value) == (True, 2, Total(total=6))


async def test_no_two_audit_records_of_a_cycle_are_one_event(valkey: Redis, valkey_server: Server) -> None:
    clock = ManualClock(NOW_MS)
    sessions = [
        BusSession(process_for(service, clock=clock), valkey, bot_id="b", cycle_seconds=60)
        for service in ("risk_engine", "execution")
    ]
    records = [AuditRecord(kind="failed"), AuditRecord(kind="failed", cause="1-0")]

    said = [bus.audit(record, cycle_id=minute_id(NOW_MS)) for bus in sessions for record in records]
    await clock.advance(1)
    said.append(sessions[0].audit(records[0], cycle_id=minute_id(NOW_MS)))
    again = sessions[0].audit(records[1], cycle_id=minute_id(NOW_MS))

    read = [Message[AuditRecord].read(each.payload) for each in said]
    assert len({each.env.event_id for each in read}) == len(said)
    assert all(each.data.cause for each in read)
    assert Message[AuditRecord].read(again.payload).env.event_id == read[1].env.event_id


async def test_the_newest_entry_is_read_without_a_group(valkey: Redis, valkey_server: Server) -> None:
    async with open_session(process_for(SERVICE), settings_for(valkey_server)) as bus:
        assert await bus.newest(Stream.TARGET, Number) is None
        ids = await send(valkey, 1, 2)
        entry = await bus.newest(Stream.TARGET, Number)
        assert entry is not None
        assert (entry.id, entry.data.n, entry.raw) == (ids[1], 2, payload(2))
