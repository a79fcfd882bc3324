"""What a service learns of the server without the right to read its configuration."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from support.servers import Server
from tradingbot.bus.acl import acl_rules
from tradingbot.bus.client import connect
from tradingbot.bus.library import check_server, load_library
from tradingbot.bus.names import OPERATOR, Key


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
