"""The operator's Redis side of a bot, on real servers and under the real access rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from support.operator_bus import (
    MASTER,
    UID,
    Secrets,
    Woken,
    add_users,
    applied_of,
    bot_of,
    breaker_says,
    execution_says,
    links_to,
)
from support.servers import Server
from tradingbot.bus.control import read_applied, read_modes
from tradingbot.bus.library import library_digest, read_keys
from tradingbot.bus.names import Key, Stream
from tradingbot.bus.params import read_params, write_person_params
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import ControlCommand
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot_operator.bus_link import MAX_IDLE, BusUnreachable


async def commands(redis: Redis) -> list[ControlCommand]:
    entries = await redis.xrange(Stream.COMMANDS)
    return [Message[ControlCommand].read(fields["p"]).data for _, fields in entries]


async def until(condition: Callable[[], bool], *, deadline_s: float = 5.0) -> bool:
    for _ in range(int(deadline_s / 0.01)):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


@pytest.fixture
async def bare(any_server: Server) -> Redis:
    """A Redis with the bot's users and nothing else: no library, no key."""
    redis = Redis(port=any_server.port, decode_responses=True)
    await add_users(redis, bot_of())
    yield redis
    await redis.aclose()


async def test_an_empty_redis_gets_library_identity_and_mode(bare: Redis, any_server: Server) -> None:
    bot = bot_of()
    async with links_to(any_server) as links:
        found = await links.of(bot).apply_mode(bot)
    assert found.issued
    assert found.view.spec is not None
    assert (found.view.spec.mode, found.view.spec.uid, found.view.spec.generation) == (Mode.NORMAL, UID, 1)
    assert (await read_keys(bare, Key.MODE_SPEC)).digest == library_digest()
    assert json.loads(await bare.get(Key.IDENTITY)) == {
        "bot_id": UID,
        "network": "paper",
        "account": MASTER.paper_account(UID),
    }
    [command] = await commands(bare)
    assert (command.command, command.source, command.generation) == ("RESUME", ModeSource.SPEC, 1)
