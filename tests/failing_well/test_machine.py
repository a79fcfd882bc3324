"""Disk full, memory full, a clock that jumps, two copies: a clear error, and one writer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from failing_well.ensemble import ticked
from support.execution_bench import AGENT, Bench, check_invariants, execution_bench
from support.paper import SetPrices, paper_exchange
from support.servers import Server, start_valkey
from support.stage import JumpClock
from tradingbot.bus.client import connect
from tradingbot.bus.control import read_applied
from tradingbot.bus.library import load_library
from tradingbot.domain.messages import ReportStatus
from tradingbot.domain.modes import Mode
from tradingbot.execution.service import run
from tradingbot.local.folder import DataFolder
from tradingbot.runtime.process import ExitCode

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small filesystem to fill")


async def resting(bench: Bench) -> None:
    """Execution with two orders open."""
    await bench.begun()
    await bench.next_cycle()
    await bench.approve(BTC=0.12, ETH=0.12)

    async def both_open() -> bool:
        return len(await bench.resting()) == 2

    await bench.until(both_open)


async def says(bench: Bench, why: str) -> bool:
    """Whether execution's readiness names a reason."""
    return why in bench.running_process.health.readiness[1]


async def none_open(bench: Bench) -> bool:
    return await bench.resting() == []


def orders_at_the_venue(bench: Bench) -> set[int]:
    """All that were ever placed; bytes that are sent again, because their answer was not written, place none."""
    return {each["oid"] for each in bench.paper.log("order")}


@contextlib.asynccontextmanager
async def real_time(bench: Bench):
    """Virtual time that goes on by itself, as it does."""

    async def go_on() -> None:
        while True:
            await asyncio.sleep(0.1)
            bench.clock.jump(0.1)
            bench.paper.venue.turn()

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# -------------------------------------------------------------------- full


async def test_a_bus_that_is_full_stops_execution_and_cancels_what_is_open(
    any_redis: Redis, any_server: Server
) -> None:
    async with execution_bench(any_redis, any_server) as bench:
        await bench.ready(order_tif="Alo", twap_slices=1, replace_once=False)
        async with bench.trading(), real_time(bench):
            await resting(bench)
            placed = orders_at_the_venue(bench)
            await any_redis.config_set("maxmemory", "1")

            await bench.until(lambda: none_open(bench))
            await bench.until(lambda: says(bench, "out of memory"))
            assert not bench.lifted(), "execution does not call itself ready"
            await any_redis.config_set("maxmemory", "0")

            async def back() -> bool:
                await bench.mirror()
                return bench.lifted()

            await bench.until(back)
        assert orders_at_the_venue(bench) == placed, "nothing was placed meanwhile"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no filesystem can be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0")
    return ballast


@needs_root
async def test_a_bus_whose_disk_is_full_stops_execution_and_cancels_what_is_open(small_disk: Path) -> None:
    """With appendfsync always the server leaves rather than forget a write; an intent is never sent unwritten."""
    server = start_valkey(small_disk, "--appendonly", "yes", "--appendfsync", "always")
    redis = connect(server.url, client_name="test")
    try:
        await load_library(redis)
        async with execution_bench(redis, server) as bench:
            await bench.ready(order_tif="Alo", twap_slices=1, replace_once=False)
            async with bench.trading(), real_time(bench):
                await resting(bench)
                placed = orders_at_the_venue(bench)
                ballast = fill(small_disk)

                await bench.until(lambda: none_open(bench))
                assert not bench.lifted()
                ballast.unlink()
                server.kill()
                server.start()
                await redis.connection_pool.disconnect()

                async def back() -> bool:
                    await bench.mirror()
                    return bench.lifted()

                await bench.until(back)
            assert orders_at_the_venue(bench) == placed
            await check_invariants(bench)
    finally:
        await redis.aclose()
        server.kill()


def up(folder: Path) -> subprocess.CompletedProcess[str]:
    """``tradingbot up`` on a data folder that cannot be used, as a person starts it."""
    return subprocess.run(
        [sys.executable, "-m", "tradingbot", "up", "--data-dir", str(folder), "--prices", "synthetic:1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": os.environ["PATH"], "MONITOR_PORT": "0"},
        cwd=folder.parent,
    )


def refused_clearly(ended: subprocess.CompletedProcess[str], folder: Path, why: str) -> None:
    """One line that names the folder and the reason, and no traceback."""
    assert ended.returncode == ExitCode.REFUSED, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert str(folder) in line
    assert why in line


@needs_root
def test_a_data_folder_on_a_full_disk_is_refused_with_one_line(small_disk: Path) -> None:
    folder = DataFolder.make(small_disk / "bot").path
    fill(small_disk)

    refused_clearly(up(folder), folder, "No space left on device")


@needs_root
def test_a_data_folder_on_a_read_only_disk_is_refused_with_one_line(small_disk: Path) -> None:
    folder = DataFolder.make(small_disk / "bot").path
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    refused_clearly(up(folder), folder, "Read-only file system")


# -------------------------------------------------------------------- clocks


class AheadClock:
    """The venue's clock: ours and a little more."""

    def __init__(self, ours: JumpClock) -> None:
        self._ours = ours
        self.ahead_ms = 0
        self.speed = ours.speed
        self.real_s, self.sleep, self.sleep_real = ours.real_s, ours.sleep, ours.sleep_real

    def now_ms(self) -> int:
        return self._ours.now_ms() + self.ahead_ms

    async def sleep_until_ms(self, at_ms: int) -> None:
        await self._ours.sleep_until_ms(at_ms - self.ahead_ms)


@pytest.mark.parametrize("jump_ms", [2_000, -2_000], ids=["behind", "ahead"])
async def test_a_clock_that_differs_from_the_venues_by_more_than_a_second_stops_trading(
    valkey: Redis, valkey_server: Server, jump_ms: int
) -> None:
    async with execution_bench(valkey, valkey_server) as bench:
        clock, prices = AheadClock(bench.clock), SetPrices()
        async with paper_exchange(prices=prices, clock=clock, agents=(AGENT,), order_status_lag_ms=0) as paper:
            bench.paper, bench.prices = paper, prices
            await bench.ready(order_tif="Alo", twap_slices=1, replace_once=False)
            async with bench.trading():
                await resting(bench)
                clock.ahead_ms = jump_ms
                stopped = await ticked(bench, lambda: stops(bench, "skew"))
                await ticked(bench, lambda: none_open(bench))
                sent = len(bench.orders_sent())
                await bench.next_cycle()
                await bench.approve(BTC=0.2)
                await bench.until_read("risk.approved", "exec_grp")
                await bench.tick(5)
                assert len(bench.orders_sent()) == sent
                assert (await read_applied(bench.redis)).mode is Mode.NORMAL, "a local stop writes no key"

                clock.ahead_ms = 0
                await ticked(bench, lambda: as_ready(bench))

    assert "ms off" in stopped[0].details["reason"]


async def stops(bench: Bench, name: str):
    return [each for each in await bench.audits("local_stop") if each.details["stop"] == name]


async def as_ready(bench: Bench) -> bool:
    return bench.lifted()


# -------------------------------------------------------------------- two copies


async def test_a_second_copy_of_execution_waits_for_the_lease_and_sends_nothing(bench_two: Bench) -> None:
    bench = bench_two
    await bench.ready(twap_slices=1)
    async with bench.trading() as first:
        await bench.begun()
        second = bench.process()
        waiting = asyncio.create_task(run(second))
        bench.running_process = first
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_reports(lambda found: any(each.status is ReportStatus.FILLED for each in found))
        assert not waiting.done()
        assert not second.health.readiness[0]
        tokens = {each.lease_token for each in await bench.intents()}
        await bench.tick(5)
    try:
        bench.running_process = second
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.24)
        await bench.until_reports(lambda found: sum(each.status is ReportStatus.FILLED for each in found) == 2)
        later = {each.lease_token for each in await bench.intents()} - tokens
    finally:
        second.stop.set()
        await waiting

    assert len(tokens) == len(later) == 1
    assert min(later) > max(tokens)
    await check_invariants(bench)


@pytest.fixture
async def bench_two(valkey: Redis, valkey_server: Server):
    async with execution_bench(valkey, valkey_server) as bench:
        yield bench


def test_a_second_up_on_a_data_folder_is_refused_with_one_line(tmp_path: Path) -> None:
    folder = DataFolder.make(tmp_path / "bot")
    with folder.locked():
        refused_clearly(up(folder.path), folder.path, "a bot already runs on this data folder")
