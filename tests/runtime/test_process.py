"""A service as a real process: how it starts, how it stops, what it answers when it cannot."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tradingbot.bus.errors import IdentityMismatch
from tradingbot.domain.services import SERVICES
from tradingbot.runtime.process import ExitCode, Process, load_service, run_until_stopped
from tradingbot.runtime.settings import ServiceSettings

ENVIRON = {"REDIS_URL": "redis://127.0.0.1:1/0", "BOT_ID": "bot"}


async def outcome(run, *, then=None) -> ExitCode:
    settings = ServiceSettings.load(ENVIRON)
    task = asyncio.create_task(run_until_stopped(run, service="test", settings=settings, environ=ENVIRON))
    if then is not None:
        await then()
    return await task


async def test_a_service_that_returns_after_sigterm_ends_well() -> None:
    started = asyncio.Event()

    async def run(process: Process) -> None:
        started.set()
        await process.stop.wait()

    async def term() -> None:
        await started.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    assert await outcome(run, then=term) is ExitCode.DONE


async def test_a_service_that_returns_by_itself_has_failed() -> None:
    async def run(process: Process) -> None:
        return None

    assert await outcome(run) is ExitCode.FAILED


async def test_a_service_that_raises_has_failed_and_its_error_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    async def run(process: Process) -> None:
        raise RuntimeError("the reason")

    assert await outcome(run) is ExitCode.FAILED
    assert "the reason" in capfd.readouterr().err


async def test_the_one_error_of_a_service_that_runs_loops_is_logged_as_itself(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def loop() -> None:
        raise IdentityMismatch("this Redis belongs to another bot")

    async def run(process: Process) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(loop())
            await process.stop.wait()

    assert await outcome(run) is ExitCode.FAILED
    logged = capfd.readouterr().err
    assert "this Redis belongs to another bot" in logged
    assert "Traceback" not in logged


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_found_by_name(service: str) -> None:
    assert asyncio.iscoroutinefunction(load_service(service))


def test_a_service_that_does_not_stop_in_time_is_ended(tmp_path) -> None:
    code = textwrap.dedent(
        """
        import asyncio, sys
        from tradingbot.runtime import process
        process.GRACE_S = 0.2
        async def run(each):
            print("up", flush=True)
            await asyncio.Event().wait()
        process.load_service = lambda name: run
        sys.exit(process.run_service("ai_decision", {"REDIS_URL": "redis://127.0.0.1:1/0", "BOT_ID": "bot"}))
        """
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=90)

    assert child.returncode == ExitCode.FAILED
    assert "stop_timed_out" in err


def test_settings_that_cannot_be_used_are_refused_with_a_line_each() -> None:
    environ = {"PATH": os.environ["PATH"], "HL_NETWORK": "moon"}
    done = subprocess.run(
        [sys.executable, "-m", "tradingbot", "run", "market_data"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=90,
    )

    assert done.returncode == ExitCode.REFUSED
    assert done.stderr.splitlines() == [
        "market_data: HL_NETWORK: input should be 'paper', 'testnet' or 'mainnet'; was 'moon'",
        "market_data: REDIS_URL: not set; it has no default",
        "market_data: BOT_ID: not set; it has no default",
    ]
