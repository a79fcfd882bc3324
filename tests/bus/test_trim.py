"""Trimming takes what is old, never what a group still needs or the archive has not read."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from tradingbot.bus.names import DAY_MS, STREAMS, Group, Key, Stream
from tradingbot.bus.trim import trim_streams

LONG_AGO_MS = 1_600_000_000_000


@pytest.fixture
async def redis(any_redis: Redis) -> Redis:
    for stream, spec in STREAMS.items():
        for group in spec.groups:
            await any_redis.xgroup_create(stream, group, id="0", mkstream=True)
    return any_redis


async def old_entries(redis: Redis, stream: Stream, count: int = 10) -> None:
    for index in range(count):
        await redis.xadd(stream, {"p": "x"}, id=f"{LONG_AGO_MS}-{index}")


async def ids(redis: Redis, stream: Stream) -> list[str]:
    return [entry_id for entry_id, _ in await redis.xrange(stream)]


async def read(redis: Redis, stream: Stream, group: Group, count: int) -> list[str]:
    rows = await redis.xreadgroup(group, "c", {stream: ">"}, count=count)
    return [entry_id for entry_id, _ in rows[0][1]]


async def test_old_entries_go_and_young_ones_stay(redis: Redis) -> None:
    await old_entries(redis, Stream.EVENTS)
    young = await redis.xadd(Stream.EVENTS, {"p": "x"})
    assert (await trim_streams(redis))[Stream.EVENTS] == 10
    assert await ids(redis, Stream.EVENTS) == [young]


async def test_what_no_consumer_has_read_stays(redis: Redis) -> None:
    await old_entries(redis, Stream.TARGET)
    await read(redis, Stream.TARGET, Group.RISK, 4)
    await redis.xack(Stream.TARGET, Group.RISK, *[f"{LONG_AGO_MS}-{index}" for index in range(4)])
    await trim_streams(redis)
    assert await ids(redis, Stream.TARGET) == [f"{LONG_AGO_MS}-{index}" for index in range(3, 10)]


async def test_what_is_unfinished_stays(redis: Redis) -> None:
    await old_entries(redis, Stream.TARGET)
    delivered = await read(redis, Stream.TARGET, Group.RISK, 10)
    await redis.xack(Stream.TARGET, Group.RISK, *delivered[:2], *delivered[3:])
    await trim_streams(redis)
    assert (await ids(redis, Stream.TARGET))[0] == delivered[2]


async def test_the_slowest_group_decides(redis: Redis) -> None:
    await old_entries(redis, Stream.COMMANDS)
    done = await read(redis, Stream.COMMANDS, Group.EXEC_CTL, 10)
    await redis.xack(Stream.COMMANDS, Group.EXEC_CTL, *done)
    await trim_streams(redis)
    assert len(await ids(redis, Stream.COMMANDS)) == 10
    await redis.xack(Stream.COMMANDS, Group.RISK_CTL, *await read(redis, Stream.COMMANDS, Group.RISK_CTL, 10))
    await trim_streams(redis)
    assert await ids(redis, Stream.COMMANDS) == [f"{LONG_AGO_MS}-9"]


async def test_a_stream_whose_group_is_not_there_yet_is_left_alone(redis: Redis) -> None:
    await old_entries(redis, Stream.COMMANDS)
    await redis.xgroup_destroy(Stream.COMMANDS, Group.RISK_CTL)
    assert (await trim_streams(redis))[Stream.COMMANDS] == 0
    assert len(await ids(redis, Stream.COMMANDS)) == 10


@pytest.mark.parametrize(
    ("position", "left"),
    [
        ({}, 0),
        ({Stream.AUDIT: f"{LONG_AGO_MS}-6"}, 4),
        ({Stream.EVENTS: "1-0"}, 10),
        ({Stream.AUDIT: f"{LONG_AGO_MS + 5}-0"}, 0),
    ],
)
async def test_nothing_goes_that_the_archive_has_not_read(redis: Redis, position: dict[str, str], left: int) -> None:
    await old_entries(redis, Stream.AUDIT)
    if position:
        await redis.hset(Key.ARCHIVE_POSITION, mapping=position)
    await trim_streams(redis)
    assert len(await ids(redis, Stream.AUDIT)) == left


async def test_the_log_of_commands_and_audits_is_kept_a_week(redis: Redis) -> None:
    seconds, _ = await redis.time()
    two_days_ago = f"{seconds * 1000 - 2 * DAY_MS}-0"
    for stream in (Stream.AUDIT, Stream.EVENTS, Stream.PLAN):
        await redis.xadd(stream, {"p": "x"}, id=two_days_ago)
    removed = await trim_streams(redis)
    assert (removed[Stream.AUDIT], removed[Stream.EVENTS], removed[Stream.PLAN]) == (0, 1, 1)
