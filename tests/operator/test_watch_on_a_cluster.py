"""The watch on a real API server: no HALT is lost or late whatever else fails, and what a watch loses is found.

Runs where KIND_CLUSTER_NAME names a kind cluster; all is in a namespace of its own, and no pod is started.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from support.operator_cluster import Stand, manifest, needs_cluster, own_namespace, stand_in, until
from tradingbot.domain.errors import Temporary
from tradingbot.runtime.clock import Ids
from tradingbot_operator.names import API_VERSION, KIND
from tradingbot_operator.queue import Lane
from tradingbot_operator.resource import Bot

pytestmark = needs_cluster


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with own_namespace(tmp_path_factory.mktemp("kube")) as name:
        yield name


@pytest.fixture
async def stand(namespace: str) -> AsyncIterator[Stand]:
    async with stand_in(namespace) as each:
        yield each


@pytest.fixture
async def bot(stand: Stand) -> AsyncIterator[Bot]:
    bot = await stand.make_bot(f"b{Ids().uuid()[:8]}")
    yield bot
    await stand.drop_bot(bot)


async def set_mode(stand: Stand, bot: Bot, mode: str) -> None:
    """As ``kubectl patch`` does."""
    patch = {"spec": {"mode": mode}}
    path = f"/apis/{API_VERSION}/namespaces/{bot.namespace}/tradingbots/{bot.name}"
    await stand.kube._send("PATCH", path, body=patch, content_type="application/merge-patch+json")


async def test_a_halt_in_quick_succession_is_not_lost_while_the_children_fail(stand: Stand, bot: Bot) -> None:
    modes: list[str] = []
    failures = 0

    async def mode(key: str) -> None:
        body = stand.cache.bot(key)
        if key == bot.key and body is not None:
            modes.append(body["spec"]["mode"])

    async def children(key: str) -> None:
        nonlocal failures
        failures += 1
        raise Temporary("the API server refuses the children", delay_s=30)

    async with stand.working({Lane.MODE: mode, Lane.CHILDREN: children}):
        await until(lambda: modes == ["NORMAL"] and failures)
        await set_mode(stand, bot, "REDUCE_ONLY")
        await set_mode(stand, bot, "HALT")
        halted_s = await until(lambda: modes[-1] == "HALT")
        before = failures
        await set_mode(stand, bot, "NORMAL")
        await until(lambda: modes[-1] == "NORMAL" and failures > before)
    assert halted_s < 2, "not after the children's wait of 30 s"


async def test_a_halt_does_not_wait_for_a_job_of_its_bots_children(stand: Stand, bot: Bot) -> None:
    modes: list[str] = []
    hang = asyncio.Event()

    async def mode(key: str) -> None:
        modes.append((stand.cache.bot(key) or {})["spec"]["mode"])

    async def children(_: str) -> None:
        await hang.wait()

    async with stand.working({Lane.MODE: mode, Lane.CHILDREN: children}):
        await until(lambda: modes)
        await set_mode(stand, bot, "HALT")
        await until(lambda: modes[-1] == "HALT")
        assert not stand.queue.idle(Lane.CHILDREN)


async def test_of_a_hundred_changes_the_last_is_always_seen(stand: Stand, bot: Bot) -> None:
    seen: list[str] = []

    async def mode(key: str) -> None:
        body = stand.cache.bot(key)
        await asyncio.sleep(0.01)  # events come in while the job runs
        if body is not None:
            seen.append(body["spec"]["mode"])
        if len(seen) % 3 == 0:
            raise Temporary("Redis is away")

    async with stand.working({Lane.MODE: mode}):
        for number in range(99):
            await set_mode(stand, bot, ("NORMAL", "REDUCE_ONLY", "HALT")[number % 3])
        await until(lambda: seen and seen[-1] == "HALT" and stand.queue.idle(Lane.MODE))


async def test_the_operators_own_status_wakes_nobody(stand: Stand, bot: Bot) -> None:
    looks: list[Lane] = []

    def lane(which: Lane):
        async def look(_: str) -> None:
            looks.append(which)

        return look

    async with stand.working({each: lane(each) for each in (Lane.MODE, Lane.CHILDREN)}):
        await until(lambda: len(looks) >= 2)
        looks.clear()
        for number in range(5):
            await stand.kube.patch_status(bot, {"phase": f"P{number}"})
        await until(lambda: (stand.cache.bot(bot.key) or {}).get("status", {}).get("phase") == "P4")
        await stand.kube.patch_metadata(bot, annotations={"tradingbot.dev/pause": "true"})
        await until(lambda: len(looks) >= 2)
    assert sorted(looks) == [Lane.CHILDREN, Lane.MODE], "only the annotation asked for something"


async def test_what_the_watch_does_not_tell_a_list_finds(stand: Stand, bot: Bot) -> None:
    config = manifest(bot, "v1", "ConfigMap", "config", data={"a": "1"})
    await stand.kube.apply(config)
    await stand.relist.fill()
    assert await stand.relist.compare([(API_VERSION, KIND), ("v1", "ConfigMap")]) == 0
    await set_mode(stand, bot, "HALT")
    await stand.kube.delete("v1", "ConfigMap", bot.namespace, config["metadata"]["name"])
    await stand.kube.apply(manifest(bot, "v1", "ConfigMap", "mode", data={"mode": "HALT"}))
    woken: set[tuple[Lane, str]] = set()

    def lane(which: Lane):
        async def look(key: str) -> None:
            woken.add((which, key))

        return look

    task = asyncio.create_task(stand.queue.run({each: lane(each) for each in Lane}))
    await until(lambda: woken and stand.queue.idle(Lane.MODE))
    woken.clear()
    # A bot's status is news too: the operator's own, where another operator has written it.
    assert await stand.relist.compare([(API_VERSION, KIND)]) == 1
    await until(lambda: woken == {(Lane.MODE, bot.key), (Lane.CHILDREN, bot.key)})
    assert await stand.relist.compare([("v1", "ConfigMap")]) == 2
    assert {identity.name for identity in stand.cache.children(bot.key)} == {f"{bot.name}-mode"}
    assert (stand.cache.bot(bot.key) or {})["spec"]["mode"] == "HALT"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_bot_that_is_deleted_while_nobody_watches_is_gone_after_a_list(stand: Stand) -> None:
    bot = await stand.make_bot(f"b{Ids().uuid()[:8]}")
    await stand.relist.fill()
    await stand.drop_bot(bot)
    assert stand.cache.bot(bot.key) is not None
    await stand.relist.compare([(API_VERSION, KIND)])
    assert stand.cache.bot(bot.key) is None


async def test_every_stream_is_heard_of(stand: Stand) -> None:
    async with stand.watching():
        assert stand.pulse.complete
        assert stand.pulse.silent == ()
        assert stand.pulse.oldest_s < 30
