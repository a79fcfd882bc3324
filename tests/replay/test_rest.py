"""What counts as a backlog while a bot is looked at, and what is only the newest entry on its way."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from tradingbot.bus.names import Group, Stream
from tradingbot.replay import evidence
from tradingbot.replay.evidence import GroupState, groups_at_rest
from tradingbot.runtime.clock import SystemClock


async def snapshot(redis: Redis) -> None:
    await redis.xadd(Stream.SNAPSHOT, {"p": "{}"})


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once all groups were looked at."""
    event, look = asyncio.Event(), evidence.read_groups

    async def looking(redis: Redis) -> tuple[GroupState, ...]:
        groups = await look(redis)
        event.set()
        return groups

    monkeypatch.setattr(evidence, "read_groups", looking)
    return event


async def found(redis: Redis) -> tuple[GroupState, ...]:
    return await groups_at_rest(redis, clock=SystemClock())


async def test_an_entry_that_is_handled_a_moment_later_is_no_backlog(valkey: Redis, looked: asyncio.Event) -> None:
    await valkey.xgroup_create(Stream.SNAPSHOT, Group.RISK_STATE, id="0", mkstream=True)
    await snapshot(valkey)
    looking = asyncio.create_task(found(valkey))
    await looked.wait()
    assert not looking.done()
    await valkey.xreadgroup(Group.RISK_STATE, "risk_engine", {Stream.SNAPSHOT: ">"}, noack=True)

    (group,) = await looking

    assert not group.behind


async def test_a_group_that_once_had_nothing_to_do_is_not_asked_again(valkey: Redis, looked: asyncio.Event) -> None:
    """Two groups that are never free at the same moment are both at rest."""
    for group in (Group.RISK_STATE, Group.EXEC):
        await valkey.xgroup_create(Stream.SNAPSHOT, group, id="0", mkstream=True)
    await snapshot(valkey)
    await valkey.xreadgroup(Group.EXEC, "a", {Stream.SNAPSHOT: ">"}, noack=True)
    looking = asyncio.create_task(found(valkey))
    await looked.wait()
    await snapshot(valkey)
    await valkey.xreadgroup(Group.RISK_STATE, "b", {Stream.SNAPSHOT: ">"}, noack=True)

    assert [each.behind for each in await looking] == [False, False]


async def test_what_is_never_handled_is_a_backlog(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "PATIENCE_S", 0.1)
    await valkey.xgroup_create(Stream.SNAPSHOT, Group.RISK_STATE, id="0", mkstream=True)
    await snapshot(valkey)
    await valkey.xreadgroup(Group.RISK_STATE, "a", {Stream.SNAPSHOT: ">"})

    (group,) = await found(valkey)

    assert (group.pending, group.lag) == (1, 0)
