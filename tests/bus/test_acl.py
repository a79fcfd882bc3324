"""Each role may write what is its own, and nothing else: by ACL DRYRUN, and by really committing as each user."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from support.servers import Server
from support.sessions import process_for, settings_for, until
from tradingbot.bus.acl import ROLES, acl_rules
from tradingbot.bus.buckets import WeightBudget, write_share
from tradingbot.bus.client import connect
from tradingbot.bus.commit import ActionStamp, Add, HashPut, ModeGuard, SetAdd, TokenTake, ValuePut, Verdict
from tradingbot.bus.control import issue
from tradingbot.bus.dead_letters import drop_dead_letter, list_dead_letters
from tradingbot.bus.entries import Outcome
from tradingbot.bus.lease import free_lease
from tradingbot.bus.library import load_library, read_keys
from tradingbot.bus.memory import read_memory
from tradingbot.bus.names import (
    GROUP_OWNER,
    OPERATOR,
    PERSON,
    STREAMS,
    Key,
    Stream,
    dead_letter_stream,
    dedup_key,
    lease_key,
    state_key,
)
from tradingbot.bus.params import write_params, write_person_params
from tradingbot.bus.session import open_session
from tradingbot.bus.trim import trim_streams
from tradingbot.domain.messages import AuditRecord, Command, ControlCommand
from tradingbot.domain.model import Model
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.domain.params import Params
from tradingbot.domain.services import SERVICES
from tradingbot.runtime.clock import SystemClock

NOW_MS = 1_771_430_400_000


class Anything(Model):
    """A message or state of the tests."""

    n: int = 0


@pytest.fixture
async def users(any_redis: Redis) -> Redis:
    for role in ROLES:
        await any_redis.execute_command("ACL", "SETUSER", role, *acl_rules(role), ">secret")
    return any_redis


async def may(redis: Redis, role: str, *command: str) -> bool:
    with contextlib.suppress(ResponseError):
        return str(await redis.execute_command("ACL", "DRYRUN", role, *command)) == "OK"
    return False


def url_of(server: Server, role: str) -> SecretStr:
    return SecretStr(f"redis://{role}:secret@127.0.0.1:{server.port}/0")


@contextlib.asynccontextmanager
async def connected(server: Server, role: str) -> AsyncIterator[Redis]:
    redis = connect(url_of(server, role), client_name=role)
    yield redis
    await redis.aclose()


async def test_only_its_writers_add_to_a_stream(users: Redis) -> None:
    for stream, spec in STREAMS.items():
        retries = {OPERATOR} if spec.dead_letter else set()
        allowed = {role for role in ROLES if await may(users, role, "XADD", stream, "*", "p", "x")}
        assert allowed == set(spec.writers) | retries, stream


async def test_only_its_consumers_take_entries_of_a_stream_or_make_its_dead_letters(users: Redis) -> None:
    for stream, spec in STREAMS.items():
        owners = {GROUP_OWNER[group] for group in spec.groups}
        reads = ("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", stream, ">")
        letter = ("XADD", dead_letter_stream(stream), "*", "p", "x")
        for command in (reads, ("XACK", stream, "g", "1-0"), ("XGROUP", "CREATE", stream, "g", "0"), letter):
            assert {role for role in ROLES if await may(users, role, *command)} == owners, command


KEYS = {
    Key.MODE_SPEC: {OPERATOR},
    Key.MODE_BREAKER: {"risk_engine"},
    Key.MODE_PERSON: {PERSON, "monitor"},
    Key.APPLIED: {"execution"},
    Key.PARAMS: {OPERATOR},
    Key.PARAMS_PERSON: {PERSON},
    Key.LATEST_MIDS: {"market_data"},
    Key.LATEST_SNAPSHOT: {"portfolio_state"},
    Key.ACTIVE_OIDS: {"portfolio_state"},
    Key.NONCE: {"execution"},
    Key.SERVER: {OPERATOR},
    Key.LIMITS: {OPERATOR},
    Key.LATEST_PREFLIGHT: {"execution"},
    "dedup:x": {"execution"},
    "action:x": {"execution"},
    "bucket:ip_weight": {"market_data", "portfolio_state", "execution"},
    "bucket:orders": {"execution"},
    Key.ARCHIVE_POSITION: {PERSON},
    "anything.else": set(),
}


@pytest.mark.parametrize(("key", "writers"), KEYS.items())
async def test_only_its_owners_write_a_key(users: Redis, key: str, writers: set[str]) -> None:
    for command in (("SET", key, "1"), ("HSET", key, "f", "1"), ("DEL", key), ("SADD", key, "1")):
        assert {role for role in ROLES if await may(users, role, *command)} == writers, command
    assert {role for role in ROLES if await may(users, role, "GET", key)} == set(ROLES)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_services_own_keys_are_its_own(users: Redis, service: str) -> None:
    for key in (state_key(service), state_key(service, "more"), f"commit:{service}:1", f"lease.counter:{service}"):
        assert {role for role in ROLES if await may(users, role, "SET", key, "1")} == {service}, key
    assert {role for role in ROLES if await may(users, role, "DEL", lease_key(service))} == {service, OPERATOR}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("SHUTDOWN",),
        ("CONFIG", "SET", "appendonly", "no"),
        ("ACL", "SETUSER", "me", "on"),
        ("CLIENT", "KILL", "ID", "1"),
        ("EVAL", "return 1", "0"),
        ("XGROUP", "DESTROY", "exec.orders", "exec_orders_grp"),
        ("XTRIM", "dlq.exec.orders", "MAXLEN", "0"),
        ("DEBUG", "SLEEP", "1"),
    ],
)
async def test_nobody_may_do_harm_by_command(users: Redis, role: str, command: tuple[str, ...]) -> None:
    assert not await may(users, role, *command)


async def test_only_the_operator_loads_functions_and_removes_dead_letters(users: Redis) -> None:
    for command in (("FUNCTION", "LOAD", "x"), ("CONFIG", "GET", "appendfsync"), ("XDEL", "dlq.exec.orders", "1-0")):
        assert {role for role in ROLES if await may(users, role, *command)} == {OPERATOR}, command
    trimming = ("XTRIM", "audit.logs", "MINID", "0")
    assert {role for role in ROLES if await may(users, role, *trimming)} == {"portfolio_state"}


@pytest.mark.parametrize("service", SERVICES)
async def test_each_service_really_consumes_and_commits_as_its_user(
    users: Redis, any_server: Server, service: str
) -> None:
    """State, outputs, audit, dead letter and acknowledgement, with nothing but the service's own rights."""
    process = process_for(service)
    consumed = [(stream, group) for stream, spec in STREAMS.items() for group in spec.groups]
    mine = [(stream, group) for stream, group in consumed if GROUP_OWNER[group] == service]
    written = [stream for stream, spec in STREAMS.items() if service in spec.writers]
    settings = settings_for(any_server, redis_url=url_of(any_server, service))
    async with open_session(process, settings) as bus:
        cell = bus.cell(Anything, Anything())
        await cell.load()
        adds = tuple(bus.add(stream, Anything(), cycle_id=bus.cycle_id(), key="k") for stream in written)
        outcome = Outcome(state=Anything(n=1), adds=adds, audits=(AuditRecord(kind="x"),))
        for stream, group in mine:
            await users.xadd(stream, {"p": "no message"})
            [entry] = await bus.reader(stream=stream, group=group, model=Anything).new(block_ms=None)
            assert (await bus.dead_letter(entry, reason="r", error_type="t")).done
        assert (await bus.commit_step(cell, outcome, commit_id="1")).done
        assert await until(lambda: bus.lease.held)
    for stream in written:
        assert await users.xlen(stream) > 0


async def test_execution_stamps_actions_under_the_modes_it_may_not_write(users: Redis, any_server: Server) -> None:
    await users.hset(Key.MODE_BREAKER, mapping={"mode": "NORMAL"})
    settings = settings_for(any_server, redis_url=url_of(any_server, "execution"))
    async with open_session(process_for("execution"), settings) as bus:
        made = await bus.commit(
            commit_id="1",
            mode_guard=ModeGuard(Mode.NORMAL),
            takes=[TokenTake("orders", 1, 10, 1), TokenTake("ip_weight", 1, 10, 1)],
            action=ActionStamp("a", 5000),
            adds=[Add(Stream.ORDERS, "x")],
            writes=[HashPut(dedup_key("c"), {"0": "sent"}, ttl_ms=60_000), HashPut(Key.APPLIED, {"mode": "NORMAL"})],
        )
        assert made.done
        assert made.nonce
        with pytest.raises(ResponseError):
            await bus.redis.hset(Key.MODE_BREAKER, "mode", "NORMAL")


@pytest.mark.parametrize(
    "forbidden",
    [
        {"adds": [Add(Stream.ORDERS, "x")]},
        {"writes": [HashPut(dedup_key("c"), {"0": "x"})]},
        {"action": ActionStamp("a", 5000)},
        {"writes": [HashPut(Key.MODE_PERSON, {"mode": "NORMAL"})]},
        {"takes": [TokenTake("orders", 1, 10, 1)]},
    ],
)
async def test_a_commit_beyond_ones_rights_writes_nothing_at_all(
    users: Redis, any_server: Server, forbidden: dict[str, list[object]]
) -> None:
    settings = settings_for(any_server, redis_url=url_of(any_server, "risk_engine"))
    async with open_session(process_for("risk_engine"), settings) as bus:
        cell = bus.cell(Anything, Anything())
        with pytest.raises(NoPermissionError):
            await bus.commit(commit_id="1", state=cell.write(Anything(n=1)), **forbidden)
    assert await users.exists(state_key("risk_engine"), Stream.ORDERS) == 0


async def test_a_right_that_is_missing_inside_is_found_before_the_first_write(users: Redis, any_server: Server) -> None:
    """Even a user that may declare a key of another's may not write it inside the function, nor anything before it."""
    loose = [rule.replace("(+fcall ", "(+fcall %RW~* ") for rule in acl_rules("risk_engine")]
    await users.execute_command("ACL", "SETUSER", "risk_engine", *loose, ">secret")
    settings = settings_for(any_server, redis_url=url_of(any_server, "risk_engine"))
    async with open_session(process_for("risk_engine"), settings) as bus:
        cell = bus.cell(Anything, Anything())
        for writes in ([ValuePut("other", "1")], [SetAdd("other", ["1"])], [HashPut("other", {"a": "1"})]):
            with pytest.raises(ResponseError, match="may not"):
                await bus.commit(commit_id="1", state=cell.write(Anything(n=1)), writes=writes)
        with pytest.raises(ResponseError, match=r"may not XADD exec\.orders"):
            await bus.commit(commit_id="1", state=cell.write(Anything(n=1)), adds=[Add(Stream.ORDERS, "x")])
    assert await users.exists(state_key("risk_engine"), "other") == 0


async def test_a_person_and_the_monitor_halt_and_resume(users: Redis, any_server: Server) -> None:
    for role in (PERSON, "monitor"):
        async with connected(any_server, role) as redis:
            command = ControlCommand(command=Command.HALT, command_id=role, source=ModeSource.PERSON)
            await issue(redis, command, now_ms=NOW_MS, bot_id="b")
            spec = command.model_copy(update={"source": ModeSource.SPEC, "command_id": f"{role}-2"})
            with pytest.raises(NoPermissionError):
                await issue(redis, spec, now_ms=NOW_MS, bot_id="b")
    assert await users.xlen(Stream.COMMANDS) == 2


async def test_the_operator_loads_sets_params_frees_leases_and_drops_dead_letters(
    users: Redis, any_server: Server
) -> None:
    settings = settings_for(any_server, redis_url=url_of(any_server, "ai_decision"))
    async with open_session(process_for("ai_decision"), settings) as bus:
        await users.xadd(Stream.FEATURES, {"p": "x"})
        [entry] = await bus.reader(stream=Stream.FEATURES, group="ai_grp", model=Anything).new(block_ms=None)
        await bus.dead_letter(entry, reason="r", error_type="t")
        async with connected(any_server, OPERATOR) as redis:
            await load_library(redis)
            assert await write_params(redis, Params(), generation=1) == 1
            command = ControlCommand(command=Command.HALT, command_id="c", source=ModeSource.SPEC, generation=1)
            await issue(redis, command, now_ms=NOW_MS, bot_id="b")
            [kept] = await list_dead_letters(redis)
            await drop_dead_letter(redis, stream=Stream.FEATURES, letter_id=kept.id, now_ms=NOW_MS, bot_id="b")
            assert await free_lease(redis, "ai_decision", bus.lease.token)
    async with connected(any_server, PERSON) as redis:
        assert (await write_person_params(redis, {"risk.max_gross": 0.3})).person_version == 1


async def test_portfolio_state_trims_and_three_services_share_the_weight(users: Redis, any_server: Server) -> None:
    for role in ("market_data", "portfolio_state", "execution"):
        async with connected(any_server, role) as redis:
            budget = WeightBudget(redis, capacity_per_min=1000, clock=SystemClock())
            await budget.take(300)
    assert float(await users.hget("bucket:ip_weight", "tokens")) < 200
    async with connected(any_server, "portfolio_state") as redis:
        assert set(await trim_streams(redis)) == set(Stream)


async def test_a_share_that_the_operator_sets_binds_services_that_may_not_set_it(
    users: Redis, any_server: Server
) -> None:
    async with connected(any_server, OPERATOR) as redis:
        await write_share(redis, 100)
    for role in ("market_data", "portfolio_state", "execution"):
        async with connected(any_server, role) as redis:
            budget = WeightBudget(redis, capacity_per_min=1000, clock=SystemClock())
            await budget.take(20)
            assert await budget.left() <= 81
            with pytest.raises(NoPermissionError):
                await write_share(redis, 1000)
    settings = settings_for(any_server, redis_url=url_of(any_server, "execution"))
    async with open_session(process_for("execution"), settings) as bus:
        taken = await bus.commit(commit_id="1", takes=[TokenTake("ip_weight", 50, 1000, 1000 / 60)])
    assert taken.verdict is Verdict.RATE_LIMITED


@pytest.mark.parametrize("role", ROLES)
async def test_every_role_reads_one_moment_of_what_it_may_not_write(
    users: Redis, any_server: Server, role: str
) -> None:
    await users.hset(Key.MODE_SPEC, mapping={"mode": "HALT"})
    async with connected(any_server, role) as redis:
        found = await read_keys(redis, Key.MODE_SPEC, Key.MODE_BREAKER, Stream.AUDIT)
    assert found.hash(Key.MODE_SPEC) == {"mode": "HALT"}


async def test_portfolio_state_sees_how_full_the_server_is(users: Redis, any_server: Server) -> None:
    async with connected(any_server, "portfolio_state") as redis:
        assert (await read_memory(redis)).used > 0
