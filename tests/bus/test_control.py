"""Keys and commands of the control state never disagree, and each source lifts only its own restriction."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tradingbot.bus.commit import Commit, ModeGuard, Verdict, commit
from tradingbot.bus.control import (
    Applied,
    StaleGeneration,
    breaker_fields,
    issue,
    read_applied,
    read_modes,
)
from tradingbot.bus.errors import WrongKeyType
from tradingbot.bus.names import Key, Stream, lease_key
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import Command, ControlCommand
from tradingbot.domain.modes import Mode, ModeSource

NOW_MS = 1_771_430_400_000
counter = itertools.count()


def said(command: Command, source: ModeSource = ModeSource.PERSON, **fields: object) -> ControlCommand:
    given_id = fields.pop("command_id", f"c{next(counter)}")
    return ControlCommand.model_validate(
        {"command": command, "source": source, "command_id": given_id, "reason": "because", **fields}
    )


async def send(redis: Redis, command: ControlCommand) -> str:
    return await issue(redis, command, now_ms=NOW_MS, bot_id="b")


async def breaker_says(redis: Redis, mode: Mode) -> None:
    put = breaker_fields(mode=mode, reason="measured", at_ms=NOW_MS)
    await redis.hset(put.key, mapping=dict(put.fields))


async def test_until_the_risk_engine_speaks_the_bot_is_halted(any_redis: Redis) -> None:
    assert (await read_modes(any_redis)).mode is Mode.HALT
    await breaker_says(any_redis, Mode.NORMAL)
    assert (await read_modes(any_redis)).mode is Mode.NORMAL


async def test_a_mode_command_writes_its_key_and_its_entry_at_once(any_redis: Redis) -> None:
    await breaker_says(any_redis, Mode.NORMAL)
    entry_id = await send(any_redis, said(Command.HALT, issued_by="me"))
    found = await read_modes(any_redis)
    assert (found.mode, found.source, found.reason) == (Mode.HALT, ModeSource.PERSON, "because")
    [(row_id, fields)] = await any_redis.xrange(Stream.COMMANDS)
    assert row_id == entry_id
    message = Message[ControlCommand].read(fields["p"])
    assert (message.data.command, message.env.source) == (Command.HALT, "person")


async def test_the_same_command_twice_is_one(any_redis: Redis) -> None:
    command = said(Command.HALT)
    first = await send(any_redis, command)
    await send(any_redis, said(Command.RESUME))
    assert await send(any_redis, command) == first
    assert await any_redis.xlen(Stream.COMMANDS) == 2
    assert await any_redis.hget(Key.MODE_PERSON, "mode") == "NORMAL"


@pytest.mark.parametrize("source", [ModeSource.SPEC, ModeSource.PERSON])
async def test_a_command_whose_mode_key_was_deleted_writes_it_again(any_redis: Redis, source: ModeSource) -> None:
    await breaker_says(any_redis, Mode.NORMAL)
    command = said(Command.HALT, source, uid="u", generation=1)
    first = await send(any_redis, command)
    await any_redis.delete(Key.MODE_SPEC, Key.MODE_PERSON)
    again = await send(any_redis, command)
    assert again != first
    assert (await read_modes(any_redis)).mode is Mode.HALT
    assert await send(any_redis, command) == again, "once is enough"
    assert await any_redis.xlen(Stream.COMMANDS) == 2


async def test_resume_lifts_its_own_source_only(any_redis: Redis) -> None:
    await breaker_says(any_redis, Mode.REDUCE_ONLY)
    await send(any_redis, said(Command.HALT, ModeSource.SPEC, uid="u", generation=1))
    await send(any_redis, said(Command.HALT))
    await send(any_redis, said(Command.RESUME))
    assert (await read_modes(any_redis)).source is ModeSource.SPEC
    await send(any_redis, said(Command.RESUME, ModeSource.SPEC, uid="u", generation=2))
    found = await read_modes(any_redis)
    assert (found.mode, found.source) == (Mode.REDUCE_ONLY, ModeSource.BREAKER)


async def test_a_lower_generation_of_the_same_resource_is_refused_whole(any_redis: Redis) -> None:
    await send(any_redis, said(Command.HALT, ModeSource.SPEC, uid="u", generation=5))
    with pytest.raises(StaleGeneration, match="4"):
        await send(any_redis, said(Command.RESUME, ModeSource.SPEC, uid="u", generation=4))
    assert await any_redis.hget(Key.MODE_SPEC, "mode") == "HALT"
    assert await any_redis.xlen(Stream.COMMANDS) == 1
    await send(any_redis, said(Command.REDUCE_ONLY, ModeSource.SPEC, uid="u", generation=5))
    await send(any_redis, said(Command.RESUME, ModeSource.SPEC, uid="new", generation=1))
    assert await any_redis.hget(Key.MODE_SPEC, "mode") == "NORMAL"


async def test_a_persons_mode_can_end_with_the_next_generation(any_redis: Redis) -> None:
    await breaker_says(any_redis, Mode.NORMAL)
    await send(any_redis, said(Command.HALT, until_generation=3))
    assert (await read_modes(any_redis)).mode is Mode.HALT
    await send(any_redis, said(Command.RESUME, ModeSource.SPEC, uid="u", generation=3))
    assert (await read_modes(any_redis)).mode is Mode.NORMAL
    await send(any_redis, said(Command.HALT))
    assert await any_redis.hexists(Key.MODE_PERSON, "until_generation") == 0
    assert (await read_modes(any_redis)).mode is Mode.HALT


@pytest.mark.parametrize("command", [Command.SET, Command.CLEAR_BREAKER])
async def test_an_announcement_writes_no_key(any_redis: Redis, command: Command) -> None:
    await send(any_redis, said(command, breaker_id="latch-1", values={"risk.max_gross": 0.3}))
    assert await any_redis.xlen(Stream.COMMANDS) == 1
    assert await any_redis.exists(Key.MODE_PERSON, Key.MODE_SPEC, Key.MODE_BREAKER) == 0


@pytest.mark.parametrize("source", [ModeSource.BREAKER, ModeSource.LOCAL])
async def test_other_sources_do_not_set_modes_by_command(any_redis: Redis, source: ModeSource) -> None:
    with pytest.raises(ValueError, match=source):
        await send(any_redis, said(Command.HALT, source))
    assert await any_redis.xlen(Stream.COMMANDS) == 0


async def test_a_mode_key_of_another_type_leaves_no_command_behind(any_redis: Redis) -> None:
    await any_redis.set(Key.MODE_PERSON, "text")
    with pytest.raises(WrongKeyType):
        await send(any_redis, said(Command.HALT))
    assert await any_redis.xlen(Stream.COMMANDS) == 0


async def test_what_execution_applied_is_read_as_it_was_written(any_redis: Redis) -> None:
    assert await read_applied(any_redis) is None
    applied = Applied(
        mode=Mode.HALT,
        source=ModeSource.PERSON,
        reason="r",
        spec_generation=4,
        command_id="c",
        received_at=NOW_MS,
        cancelled_at=NOW_MS + 1,
        open_orders=2,
        flatten="pending",
    )
    put = applied.put()
    await any_redis.hset(put.key, mapping={**put.fields, "unknown": "field"})
    assert await read_applied(any_redis) == applied


modes = st.sampled_from(["NORMAL", "REDUCE_ONLY", "HALT", "WHAT", ""])
generations = st.integers(min_value=0, max_value=4).map(str) | st.sampled_from(["", "-1", "soon", "1.5", "0x2"])
hashes = st.tuples(
    st.none() | st.fixed_dictionaries({"mode": modes}, optional={"generation": generations}),
    st.none() | st.fixed_dictionaries({"mode": modes}),
    st.none() | st.fixed_dictionaries({"mode": modes}, optional={"until_generation": generations}),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=hashes, at_most=st.sampled_from(list(Mode)), file_mode=st.sampled_from(list(Mode)))
async def test_the_commit_and_the_readers_agree_on_the_mode(
    any_redis: Redis, kept: tuple[dict[str, str] | None, ...], at_most: Mode, file_mode: Mode
) -> None:
    keys = (Key.MODE_SPEC, Key.MODE_BREAKER, Key.MODE_PERSON)
    await any_redis.delete(*keys)
    await any_redis.set(lease_key("execution"), "1")
    for key, fields in zip(keys, kept, strict=True):
        if fields:
            await any_redis.hset(key, mapping=fields)
    found = await read_modes(any_redis, file_mode=file_mode)
    guarded = Commit(
        commit_id=f"c{next(counter)}",
        service="execution",
        lease_token=1,
        now_ms=NOW_MS,
        mode_guard=ModeGuard(at_most, file_mode),
    )
    result = await commit(any_redis, guarded)
    assert (result.verdict is Verdict.DONE) == (found.mode.rank <= at_most.rank)
    if result.verdict is Verdict.MODE:
        assert result.detail.endswith(f" by {found.source}")
