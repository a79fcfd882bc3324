"""A service's process and session in a test, without starting a process.

``process = process_for("risk_engine")`` and ``async with open_session(process, settings_for(server)) as bus``.
``await until(condition)`` waits for a condition that a real server brings about.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import SecretStr

from support.servers import Server
from tradingbot.runtime.clock import Clock, Ids, SystemClock
from tradingbot.runtime.health import Health
from tradingbot.runtime.process import Process

BOT_ID = "test-bot"
DEADLINE_S = 60.0
"""Far longer than anything takes: only what never comes about fails by it, and no slow machine does."""


@dataclass(frozen=True)
class TestSettings:
    """The settings that a session needs."""

    __test__ = False

    redis_url: SecretStr
    bot_id: str = BOT_ID
    cycle_seconds: int = 60
    hl_network: str = "paper"
    hl_account_address: str | None = "0xAbC"


def settings_for(server: Server, **changes: Any) -> TestSettings:
    return TestSettings(**{"redis_url": server.url, **changes})


def process_for(service: str, *, clock: Clock | None = None, seed: int = 1) -> Process:
    clock = clock or SystemClock()
    return Process(
        service=service,
        clock=clock,
        ids=Ids(seed),
        stop=asyncio.Event(),
        log=_plain_log(),
        health=Health(clock),
        environ={},
    )


def _plain_log() -> Any:
    """Lines on standard output; structlog's own default draws tracebacks, which takes seconds."""
    lines = [structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer(key_order=["event"])]
    return structlog.wrap_logger(structlog.PrintLogger(), processors=lines, wrapper_class=structlog.stdlib.BoundLogger)


async def until(condition: Callable[[], Any | Awaitable[Any]], *, deadline_s: float = DEADLINE_S) -> Any:
    """The first truthy value of a condition (plain or async); fails the test at the deadline."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + deadline_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if loop.time() > end_s:
            raise AssertionError("the condition did not come true in time")
        await asyncio.sleep(0.002)
