"""What is learned of the server without the right to read its configuration, and of several keys at one moment."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from support.servers import Server
from tradingbot.bus.acl import acl_rules
from tradingbot.bus.client import connect
from tradingbot.bus.control import issue
from tradingbot.bus.errors import BusFull, LibraryMissing
from tradingbot.bus.library import check_server, command, library_digest, load_library, read_keys
from tradingbot.bus.names import OPERATOR, Key, Stream
from tradingbot.domain.messages import Command, ControlCommand
from tradingbot.domain.modes import ModeSource


@pytest.mark.parametrize("policy", ["always", "everysec"])
async def test_a_service_learns_the_fsync_policy_that_only_the_operator_may_read(
    any_redis: Redis, any_server: Server, policy: str
) -> None:
    before = (await any_redis.config_get("appendfsync"))["appendfsync"]
    for role in ("execution", OPERATOR):
        await any_redis.execute_command("ACL", "SETUSER", role, *acl_rules(role), ">secret")
    try:
        await any_redis.config_set("appendfsync", policy)
        async with connect(SecretStr(f"redis://{OPERATOR}:secret@127.0.0.1:{any_server.port}/0"), client_name="o") as o:
            await load_library(o)
        async with connect(SecretStr(f"redis://execution:secret@127.0.0.1:{any_server.port}/0"), client_name="e") as e:
            with pytest.raises(NoPermissionError):
                await e.config_get("requirepass")
            facts = await check_server(e)
    finally:
        await any_redis.config_set("appendfsync", before)

    assert facts.appendfsync == policy
    assert facts.durable is (policy == "always" and facts.appendonly)
    assert facts.library_loaded is None


async def test_a_server_that_nobody_noted_is_told_as_not_known(any_redis: Redis, any_server: Server) -> None:
    await any_redis.execute_command("ACL", "SETUSER", "execution", *acl_rules("execution"), ">secret")
    await any_redis.delete(Key.SERVER)
    async with connect(SecretStr(f"redis://execution:secret@127.0.0.1:{any_server.port}/0"), client_name="e") as e:
        facts = await check_server(e)

    assert facts.appendfsync is None
    assert not facts.durable


async def test_what_keys_of_each_type_hold_is_read_at_once(any_redis: Redis) -> None:
    await any_redis.hset("h", mapping={"a": "1", "b": ""})
    await any_redis.set("s", "text")
    await any_redis.xadd("st", {"p": "old"})
    await any_redis.xadd("st", {"p": "new", "more": "x"})
    await any_redis.xadd("trimmed", {"p": "x"})
    await any_redis.xtrim("trimmed", maxlen=0)
    await any_redis.sadd("set", "member")

    found = await read_keys(any_redis, "absent", "h", "s", "st", "trimmed", "set")

    assert found.digest == library_digest()
    assert (found.hash("h"), found.text("s"), found.newest("st")) == ({"a": "1", "b": ""}, "text", "new")
    assert [found.held[key] for key in ("absent", "trimmed", "set")] == [None, None, None]
    assert (found.hash("absent"), found.text("h"), found.newest("s")) == ({}, None, None)


async def test_a_reading_is_one_moment(any_redis: Redis) -> None:
    """Two keys that a function writes together are never seen apart, however often somebody looks."""
    stop = asyncio.Event()

    async def write() -> None:
        generation = 0
        while not stop.is_set():
            generation += 1
            said = ControlCommand(
                command=Command.HALT, command_id=str(generation), source=ModeSource.SPEC, uid="u", generation=generation
            )
            await issue(any_redis, said, now_ms=1, bot_id="b")

    writing = asyncio.ensure_future(write())
    for _ in range(200):
        found = await read_keys(any_redis, Key.MODE_SPEC, Stream.COMMANDS)
        payload = found.newest(Stream.COMMANDS)
        if payload is not None:
            assert found.hash(Key.MODE_SPEC)["generation"] == str(json.loads(payload)["data"]["generation"])
    stop.set()
    await writing


async def test_a_full_server_is_still_read(any_redis: Redis) -> None:
    await any_redis.set("s", "text")
    await any_redis.config_set("maxmemory", "1")
    with pytest.raises(BusFull):
        await command(any_redis, "SET", "more", "x")
    assert (await read_keys(any_redis, "s")).text("s") == "text"


async def test_without_the_library_a_reading_says_so(any_redis: Redis) -> None:
    await any_redis.function_flush()
    with pytest.raises(LibraryMissing):
        await read_keys(any_redis, "s")
