"""The lists: a namespace that may not be read is left out, is told of, and never holds up another's HALT."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from tradingbot.runtime.clock import Ids, ManualClock
from tradingbot_operator import metrics
from tradingbot_operator.cache import Cache
from tradingbot_operator.keys import MasterKey
from tradingbot_operator.kube import Forbidden, Manifest
from tradingbot_operator.master import master_key
from tradingbot_operator.names import API_VERSION, KIND
from tradingbot_operator.queue import Lane, WorkQueue
from tradingbot_operator.relist import NowReadable, Relist
from tradingbot_operator.watch import Watcher

RESYNC_S = 120.0


def bot(namespace: str, **more: Any) -> Manifest:
    metadata = {"namespace": namespace, "name": "majors", "uid": f"uid-{namespace}", "resourceVersion": "5"}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": {}, **more}


class Server:
    """An API server with one bot in each namespace, some of which, or kinds of which, it forbids."""

    def __init__(self) -> None:
        self.forbidden: set[str] = set()
        self.forbidden_kinds: set[tuple[str, str]] = set()
        self.status: dict[str, str] = {}
        self.secret: Manifest | None = None

    async def pages(
        self, api_version: str, kind: str, scope: str | None, selector: str | None = None, **_: Any
    ) -> AsyncIterator[Manifest]:
        assert scope is not None
        if scope in self.forbidden or (scope, kind) in self.forbidden_kinds:
            raise Forbidden(f"GET {scope}/{kind}: 403")
        if kind == KIND:
            yield bot(scope, status=self.status)

    async def list(self, api_version: str, kind: str, scope: str | None) -> list[Manifest]:
        return [each async for each in self.pages(api_version, kind, scope)]

    async def get(self, *_: str) -> Manifest | None:
        return self.secret

    async def create(self, manifest: Manifest) -> bool:
        self.secret = {"data": {"master-key": base64.b64encode(b"ab" * 32).decode()}}
        return True


class Bench:
    def __init__(self, *namespaces: str) -> None:
        self.clock, self.server, self.cache = ManualClock(), Server(), Cache()
        self.queue = WorkQueue(self.clock, Ids(1))
        self.relist = Relist(
            self.server,  # type: ignore[arg-type]
            Watcher(self.cache, self.queue),
            cache=self.cache,
            queue=self.queue,
            clock=self.clock,
            ids=Ids(1),
            namespaces=namespaces,
            resync_s=RESYNC_S,
        )


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as logs:
        yield logs


@pytest.fixture
def bench() -> Bench:
    return Bench("a", "gone", "b")


async def test_a_namespace_that_may_not_be_read_is_left_out_and_the_others_are_served(
    bench: Bench, logs: list[Any]
) -> None:
    bench.server.forbidden = {"gone"}
    await asyncio.wait_for(bench.relist.fill(), 60)
    assert bench.cache.keys() == ("a/majors", "b/majors")
    assert bench.relist.served == ("a", "b")
    assert bench.queue.depth(Lane.MODE) == 2
    assert metrics.namespaces_left_out._value.get() == 1
    (told,) = [each for each in logs if each["log_level"] == "error"]
    assert (told["event"], told["namespace"]) == ("namespace_left_out", "gone")
    assert await bench.relist.compare([(API_VERSION, KIND)]) == 0


async def test_of_a_namespace_that_may_be_read_in_part_no_part_is_taken(bench: Bench) -> None:
    bench.server.forbidden_kinds = {("gone", "Pod")}
    await asyncio.wait_for(bench.relist.fill(), 60)
    assert bench.cache.keys() == ("a/majors", "b/majors")


async def test_while_no_namespace_may_be_read_it_waits(bench: Bench) -> None:
    bench.server.forbidden = {"a", "gone", "b"}
    filling = asyncio.create_task(bench.relist.fill())
    await bench.clock.advance(60)
    assert not filling.done()
    assert bench.relist.served_s is None
    bench.server.forbidden = {"a", "gone"}
    await bench.clock.advance(5)
    await asyncio.wait_for(filling, 60)
    assert bench.relist.served == ("b",)


async def test_a_namespace_that_becomes_readable_is_taken_by_a_new_start_at_a_resync(bench: Bench) -> None:
    bench.server.forbidden = {"gone"}
    await bench.relist.fill()
    running = asyncio.create_task(bench.relist.run())
    await bench.clock.advance(0)
    await bench.clock.advance(3 * RESYNC_S)
    assert not running.done()
    bench.server.forbidden = set()
    await bench.clock.advance(2 * RESYNC_S)
    with pytest.raises(NowReadable, match="gone"):
        await asyncio.wait_for(running, 60)


@pytest.mark.parametrize(("status", "told"), [({"phase": "Trading"}, True), ({}, False)])
async def test_a_lost_master_key_is_told_of_where_bots_have_lived_under_it(
    bench: Bench, logs: list[Any], status: dict[str, str], told: bool
) -> None:
    bench.server.status, bench.server.forbidden = status, {"gone"}
    watched = ("a", "gone", "b")
    assert isinstance(await master_key(bench.server, "ops", watched), MasterKey)  # type: ignore[arg-type]
    assert [each["bots"] for each in logs if each["event"] == "master_key_lost"] == [2] * told
    logs.clear()
    await master_key(bench.server, "ops", watched)  # type: ignore[arg-type]
    assert not logs, "the key is there now"
