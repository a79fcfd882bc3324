"""A service as an operating-system process: what it is given, how it starts, how it stops.

A service is ``async def run(process: Process) -> None`` in ``tradingbot.<service>.service``. It is loaded by name, so
that no import path leads from the command line to the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, cast

import structlog

from tradingbot.domain.errors import TradingBotError
from tradingbot.runtime.clock import Clock, Ids, SystemClock
from tradingbot.runtime.health import Health, serve
from tradingbot.runtime.logging import configure_logging
from tradingbot.runtime.metrics import count_error
from tradingbot.runtime.settings import ServiceSettings, SettingsError
from tradingbot.runtime.stopping import Stopped
from tradingbot.runtime.tracing import configure_tracing, shutdown_tracing

GRACE_S = 10.0
"""Real seconds from SIGTERM to the end."""


class ExitCode(IntEnum):
    """How a process ends; a supervisor restarts after FAILED, never after REFUSED."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    """The settings cannot be used: trying again would not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a service is given. ``run`` must return within GRACE_S after ``stop`` is set."""

    service: str
    clock: Clock
    ids: Ids
    stop: asyncio.Event
    log: structlog.stdlib.BoundLogger
    health: Health
    environ: Mapping[str, str] = field(repr=False)
    """Execution's holds the key: never shown."""


Run = Callable[[Process], Awaitable[None]]


def load_service(service: str) -> Run:
    """The entry point of a service, by name."""
    return cast("Run", importlib.import_module(f"tradingbot.{service}.service").run)


def settings_class(service: str) -> type[ServiceSettings]:
    """A service's settings, by name."""
    module = importlib.import_module(f"tradingbot.{service}.settings")
    own = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, ServiceSettings) and each.__module__ == module.__name__
    ]
    return own[-1] if own else ServiceSettings


def run_service(service: str, environ: Mapping[str, str] | None = None) -> ExitCode:
    """Run a service in this process until SIGTERM or SIGINT; returns the exit code."""
    environ = dict(os.environ) if environ is None else environ
    try:
        settings = settings_class(service).load(environ)
        return asyncio.run(
            run_until_stopped(load_service(service), service=service, settings=settings, environ=environ)
        )
    except SettingsError as error:
        for line in error.lines:
            sys.stderr.write(f"{service}: {line}\n")
        return ExitCode.REFUSED
    finally:
        shutdown_tracing()


async def run_until_stopped(
    run: Run, *, service: str, settings: ServiceSettings, environ: Mapping[str, str]
) -> ExitCode:
    """Give ``run`` its process, wait for a signal, and hold it to the grace period.

    Raises:
        SettingsError: the service's own settings cannot be used.
    """
    clock = SystemClock(settings.clock_anchor)
    log = configure_logging(service=service, level=settings.log_level, clock=clock)
    configure_tracing(service=service, endpoint=settings.otel_exporter_otlp_endpoint)
    health, stop = Health(clock), asyncio.Event()
    with _signals_set(stop):
        async with serve(health, host=settings.metrics_host, port=settings.metrics_port):
            process = Process(
                service=service, clock=clock, ids=Ids(), stop=stop, log=log, health=health, environ=environ
            )
            log.info("started", pid=os.getpid())
            code = await _supervise(_start(run, process), stop=stop, log=log)
            log.info("stopped", code=int(code))
            return code


def _start(run: Run, process: Process) -> asyncio.Task[None]:
    async def body() -> None:
        await run(process)

    return asyncio.create_task(body(), name=process.service)


async def _supervise(task: asyncio.Task[None], *, stop: asyncio.Event, log: structlog.stdlib.BoundLogger) -> ExitCode:
    stopping = asyncio.create_task(stop.wait())
    both: set[asyncio.Task[Any]] = {task, stopping}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    done, _ = await asyncio.wait({task}, timeout=GRACE_S)
    if not done:
        task.cancel()
        log.error("stop_timed_out", grace_s=GRACE_S)
        await asyncio.wait({task}, timeout=1.0)
        return ExitCode.FAILED
    return _outcome(task, stopped=stop.is_set(), log=log)


def _outcome(task: asyncio.Task[None], *, stopped: bool, log: structlog.stdlib.BoundLogger) -> ExitCode:
    if task.cancelled():
        log.error("cancelled")
        return ExitCode.FAILED
    error = _single(task.exception())
    if isinstance(error, SettingsError):
        raise error
    if stopped and isinstance(error, Stopped):
        return ExitCode.DONE
    if error is not None:
        count_error(error)
        # The text of our own errors says what to do; anything else is a fault of ours and needs the traceback.
        log.error("failed", error=str(error), exc_info=None if isinstance(error, TradingBotError) else error)
        return ExitCode.FAILED
    if not stopped:
        log.error("returned_before_stop")
        return ExitCode.FAILED
    return ExitCode.DONE


def _single(error: BaseException | None) -> BaseException | None:
    """The one error inside of task groups that had but one to tell; services run their loops in such groups."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@contextlib.contextmanager
def _signals_set(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
