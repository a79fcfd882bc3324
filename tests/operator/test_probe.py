"""The probe: dead streams are noticed, quiet ones and a silent API server are not taken for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from tradingbot.runtime.clock import ManualClock
from tradingbot.runtime.health import Health, respond
from tradingbot_operator.probe import DEAD_S, Probe, Pulse, hearing

BOTS = "/apis/tradingbot.dev/v1alpha1/namespaces/a/tradingbots"
PODS = "/api/v1/namespaces/a/pods"


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.health = Health(self.clock)
        self.pulse = Pulse(self.clock, [BOTS, PODS])
        self.served_s: float | None = None
        self.probe = Probe(self.pulse, self.health, self.clock, lambda: self.served_s)

    async def pass_time(self, seconds: float, *, heard: list[str], served: bool = True) -> None:
        """The watch brings something on these streams each minute, and the API server answers or not."""
        for _ in range(int(seconds // 10)):
            await self.clock.advance(10)
            if round(self.clock.real_s()) % 60 < 10:
                for path in heard:
                    self.pulse.heard(path)
            if served:
                self.served_s = self.clock.real_s()
            self.probe.look()

    def answers(self) -> tuple[int, int]:
        """The status of /healthz and /readyz."""
        return tuple(int(respond(self.health, f"GET {path} ".encode()).split()[1]) for path in ("/healthz", "/readyz"))  # type: ignore[return-value]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_it_is_ready_once_every_stream_was_opened(bench: Bench) -> None:
    bench.probe.look()
    assert bench.answers() == (200, 503)
    bench.pulse.heard(BOTS)
    bench.probe.look()
    assert bench.answers() == (200, 503)
    bench.pulse.heard(PODS)
    bench.probe.look()
    assert bench.answers() == (200, 200)


async def test_a_quiet_cluster_is_healthy(bench: Bench) -> None:
    await bench.pass_time(3600, heard=[BOTS, PODS])
    assert bench.answers() == (200, 200)
    assert bench.pulse.oldest_s <= 70


async def test_one_dead_stream_among_living_ones_is_a_dead_watch(bench: Bench) -> None:
    await bench.pass_time(300, heard=[BOTS, PODS])
    await bench.pass_time(DEAD_S - 20, heard=[PODS])
    assert bench.answers()[0] == 200
    await bench.pass_time(120, heard=[PODS])
    assert bench.answers() == (503, 503)


async def test_a_stream_that_is_never_opened_is_a_dead_watch(bench: Bench) -> None:
    await bench.pass_time(DEAD_S + 120, heard=[BOTS])
    assert bench.answers()[0] == 503


async def test_an_api_server_that_is_away_is_no_fault_of_the_watch(bench: Bench) -> None:
    await bench.pass_time(300, heard=[BOTS, PODS])
    await bench.pass_time(3600, heard=[], served=False)
    assert bench.answers() == (200, 503), "restarting would not help; it says that it is not ready"
    await bench.pass_time(120, heard=[BOTS, PODS])
    assert bench.answers() == (200, 200)


async def test_it_is_dead_when_nothing_could_be_listed_for_three_minutes_after_the_start(bench: Bench) -> None:
    bench.probe.look()
    await bench.pass_time(DEAD_S - 10, heard=[], served=False)
    assert bench.answers() == (200, 503)
    await bench.pass_time(30, heard=[], served=False)
    assert bench.answers() == (503, 503)


async def test_it_is_ready_without_the_streams_that_are_left_out(bench: Bench) -> None:
    bench.pulse.heard(BOTS)
    bench.pulse.expect([BOTS])
    await bench.pass_time(600, heard=[BOTS])
    assert bench.answers() == (200, 200)


@asynccontextmanager
async def streaming_server(lines: asyncio.Queue[bytes | None]) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while (line := await lines.get()) is not None:
            await response.write(line)
        return response

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_every_chunk_of_a_watch_is_heard_and_passed_on_whole() -> None:
    clock = ManualClock()
    pulse = Pulse(clock, [PODS])
    lines: asyncio.Queue[bytes | None] = asyncio.Queue()
    async with (
        streaming_server(lines) as server,
        aiohttp.ClientSession(response_class=hearing(pulse)) as session,
        session.get(f"{server}{PODS}?watch=true&allowWatchBookmarks=true") as response,
    ):
        assert pulse.complete
        received = response.content.iter_chunked(1024)
        for line in (b'{"type":"ADDED"}\n', b'{"type":"BOOKMARK"}\n'):
            await clock.advance(100)
            assert pulse.oldest_s == pytest.approx(100)
            await lines.put(line)
            assert await anext(received) == line
            assert pulse.oldest_s == 0
        await lines.put(None)


async def test_a_list_is_not_taken_for_a_watch() -> None:
    pulse = Pulse(ManualClock(), [PODS])
    lines: asyncio.Queue[bytes | None] = asyncio.Queue()
    await lines.put(None)
    async with (
        streaming_server(lines) as server,
        aiohttp.ClientSession(response_class=hearing(pulse)) as session,
        session.get(f"{server}{PODS}?limit=500") as response,
    ):
        await response.read()
    assert not pulse.complete
