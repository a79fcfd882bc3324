"""The process: any part that ends, ends it; a signal ends it in order; bad settings are refused in words."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import yaml

from support.operator_cluster import needs_cluster, own_namespace
from support.servers import free_port
from tradingbot.runtime.clock import Ids, SystemClock
from tradingbot.runtime.health import Health
from tradingbot.runtime.process import ExitCode
from tradingbot_operator import main as main_module
from tradingbot_operator.keys import MasterKey
from tradingbot_operator.kube import Forbidden, KubeError
from tradingbot_operator.main import GRACE_S, Operator, run
from tradingbot_operator.queue import Lane
from tradingbot_operator.settings import OperatorSettings
from tradingbot_operator.watch import streams

SETTINGS = OperatorSettings(image="tradingbot:1", operator_namespace="ops", log_level="ERROR")


class Silent:
    """An API server that does not answer."""

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise KubeError("no answer")
        yield


class Empty(Silent):
    """An API server that holds nothing."""

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        return
        yield


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with structlog.testing.capture_logs() as logs:
        yield logs


def operator(
    monkeypatch: pytest.MonkeyPatch, *, watch: Callable[..., Any], kube: Any, work: Callable[..., Any]
) -> Operator:
    async def master(*_: Any) -> MasterKey:
        return MasterKey(bytes(32))

    @contextlib.asynccontextmanager
    async def reconciling(_: Any) -> AsyncIterator[dict[Lane, Any]]:
        yield dict.fromkeys(Lane, work)

    monkeypatch.setattr(main_module, "watch", watch)
    monkeypatch.setattr(main_module, "master_key", master)
    monkeypatch.setattr(main_module, "reconciling", reconciling)
    clock = SystemClock()
    return Operator(SETTINGS, kube, Health(clock), clock=clock, ids=Ids(1))


async def watch_well(*_: Any, stop: asyncio.Event, **__: Any) -> None:
    await stop.wait()


async def watch_badly(*_: Any, **__: Any) -> None:
    raise RuntimeError("the watch is dead")


async def watch_and_leave(*_: Any, **__: Any) -> None:
    return


async def work_well(_: str) -> None:
    return


@pytest.mark.parametrize("watch", [watch_badly, watch_and_leave])
async def test_a_watch_that_ends_ends_the_process(monkeypatch: pytest.MonkeyPatch, watch: Callable[..., Any]) -> None:
    part = operator(monkeypatch, watch=watch, kube=Empty(), work=work_well)
    assert await asyncio.wait_for(part.run(asyncio.Event()), 60) is ExitCode.FAILED


async def test_a_queue_that_ends_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    part = operator(monkeypatch, watch=watch_well, kube=Empty(), work=work_well)

    async def broken(_: Any) -> None:
        raise RuntimeError("a fault of the queue itself")

    monkeypatch.setattr(part._queue, "run", broken)
    assert await asyncio.wait_for(part.run(asyncio.Event()), 60) is ExitCode.FAILED


async def test_a_fault_in_one_bots_work_does_not_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    async def fail(_: str) -> None:
        nonlocal tries
        tries += 1
        raise ZeroDivisionError

    part, stop = operator(monkeypatch, watch=watch_well, kube=Empty(), work=fail), asyncio.Event()
    running = asyncio.create_task(part.run(stop))
    await asyncio.sleep(0)
    part._queue.add("a/b", Lane.MODE)
    async with asyncio.timeout(60):
        while tries < 2:
            await asyncio.sleep(0.01)
    assert not running.done()
    stop.set()
    assert await asyncio.wait_for(running, 60) is ExitCode.DONE


async def test_without_an_api_server_it_waits_and_still_stops_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    part, stop = operator(monkeypatch, watch=watch_badly, kube=Silent(), work=work_well), asyncio.Event()
    running = asyncio.create_task(part.run(stop))
    await asyncio.sleep(0.2)
    assert not running.done(), "nothing is watched before everything was listed"
    stop.set()
    assert await asyncio.wait_for(running, 60) is ExitCode.DONE


async def test_a_namespace_that_may_not_be_listed_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    class Partly(Silent):
        async def pages(self, api_version: str, kind: str, scope: str, *_: Any, **__: Any) -> AsyncIterator[Any]:
            if scope == "gone":
                raise Forbidden("403")
            return
            yield

    watched: list[Any] = []

    async def watch_some(_: Any, __: Any, namespaces: Any, *, stop: asyncio.Event, **___: Any) -> None:
        watched.extend(namespaces)
        await stop.wait()

    settings = SETTINGS.model_copy(update={"namespaces": ("a", "gone")})
    monkeypatch.setattr(sys.modules[__name__], "SETTINGS", settings)
    part, stop = operator(monkeypatch, watch=watch_some, kube=Partly(), work=work_well), asyncio.Event()
    running = asyncio.create_task(part.run(stop))
    async with asyncio.timeout(60):
        while not watched:
            await asyncio.sleep(0.01)
    assert watched == ["a"]
    assert part._pulse._expected == set(streams(["a"]))
    stop.set()
    assert await asyncio.wait_for(running, 60) is ExitCode.DONE


async def test_a_job_that_clings_to_its_work_does_not_outlive_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work = asyncio.Event()

    async def cling(_: str) -> None:
        at_work.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    part, stop = operator(monkeypatch, watch=watch_well, kube=Empty(), work=cling), asyncio.Event()
    running = asyncio.create_task(part.run(stop))
    await asyncio.sleep(0)
    part._queue.add("a/b", Lane.MODE)
    await asyncio.wait_for(at_work.wait(), 60)
    stop.set()
    assert await asyncio.wait_for(running, GRACE_S) is ExitCode.DONE


def test_settings_that_cannot_be_used_are_refused_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("image: x\nimagePullPolice: Never\n")
    assert run({"TRADINGBOT_OPERATOR_SETTINGS": str(file)}) is ExitCode.REFUSED
    told = capsys.readouterr().err
    assert "operatorNamespace: not set" in told
    assert "imagePullPolice: no such setting" in told
    assert run({"TRADINGBOT_OPERATOR_SETTINGS": str(tmp_path / "none.yaml")}) is ExitCode.REFUSED


@pytest.mark.skipif(*needs_cluster[0].args, reason=needs_cluster[0].kwargs["reason"])
@pytest.mark.timeout(150)
@pytest.mark.xdist_group("cluster")
async def test_the_process_watches_a_real_cluster_and_ends_in_time_at_a_signal(tmp_path: Path) -> None:
    with own_namespace(tmp_path) as namespace:
        settings, port = tmp_path / "settings.yaml", free_port()
        settings.write_text(yaml.safe_dump({"image": "none:1", "operatorNamespace": namespace}))
        names = {"TRADINGBOT_OPERATOR_SETTINGS": str(settings), "TRADINGBOT_OPERATOR_HTTP_PORT": str(port)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tradingbot_operator.main"),
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, **names},
        )
        try:
            async with asyncio.timeout(90), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                while await _status(client, "/readyz") != 200:
                    assert process.returncode is None
                    await asyncio.sleep(0.1)
                assert await _status(client, "/healthz") == 200
                figures = (await client.get("/metrics")).text
            assert "tradingbot_operator_watch_last_event_age_seconds" in figures
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), GRACE_S) == ExitCode.DONE
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _status(client: httpx.AsyncClient, path: str) -> int:
    try:
        return (await client.get(path)).status_code
    except httpx.TransportError:
        return 0
