"""Redis down: the services wait and come back by themselves, execution fails closed, nothing acknowledged is lost.

The whole bot as processes, with Redis killed under it, is in tests/local; here it is each service's own part in it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from failing_well.ensemble import Ensemble, ensemble
from support.servers import Server, free_port
from tradingbot.bus.client import connect
from tradingbot.bus.library import load_library
from tradingbot.bus.names import STREAMS, Stream, dead_letter_stream
from tradingbot.domain.messages import ExecutionPlan
from tradingbot.domain.params import AiParams, Params
from tradingbot.domain.services import SERVICES

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("system")]


@pytest.fixture
async def bot(durable_server: Server) -> AsyncIterator[Ensemble]:
    redis = connect(durable_server.url, client_name="test")
    async with ensemble(redis, durable_server) as bot:
        yield bot
    await redis.aclose()


async def written(bot: Ensemble) -> dict[str, list[tuple[str, Any]]]:
    """Every entry of every stream."""
    return {stream: await bot.redis.xrange(stream) for stream in Stream}  # type: ignore[misc]


async def test_all_six_wait_for_redis_and_come_back_and_nothing_acknowledged_is_lost(bot: Ensemble) -> None:
    bot.server.kill()
    async with bot.running(*SERVICES):
        # It is not there yet when they start.
        await asyncio.sleep(0.5)
        assert all(not task.done() for task in bot.tasks.values()), "they wait"
        bot.server.start()
        await load_library(bot.redis)
        await bot.params(params=Params(ai=AiParams(smooth_alpha=1.0)))
        plan = await bot.until(lambda: plan_with_slices(bot, after=""), "a first plan with orders")
        await bot.until(bot.orders, "an order at the venue")

        before = await written(bot)
        bot.server.kill()
        others = [each for each in SERVICES if each != "monitor"]
        await bot.until(lambda: not any(is_ready(bot, each) for each in others), "all to say that they are not ready")
        await bot.until(lambda: not bot.resting(), "execution to leave nothing open")
        sent = len(bot.orders())
        bot.server.start()
        await bot.redis.connection_pool.disconnect()

        await bot.until(lambda: plan_with_slices(bot, after=plan.cycle_id), "a later plan with orders")
        await bot.until(lambda: len(bot.orders()) > sent, "an order after it")
        await bot.until(lambda: all(is_ready(bot, each) for each in SERVICES), "all to be ready again")
        after = await written(bot)

    for stream, entries in before.items():
        assert after[stream][: len(entries)] == entries, f"{stream}: what was acknowledged is still there"
    for stream, spec in STREAMS.items():
        if spec.dead_letter:
            assert await bot.redis.xlen(dead_letter_stream(stream)) == 0, "an outage is no message's fault"
        cloids = [each["cloid"] for each in bot.orders()]
    assert len(cloids) == len(set(cloids)), "no order was sent twice"


async def plan_with_slices(bot: Ensemble, *, after: str) -> ExecutionPlan | None:
    for plan in await bot.read(Stream.PLAN, ExecutionPlan):
        if plan.slices and plan.cycle_id > after:
            return plan
    return None


def is_ready(bot: Ensemble, service: str) -> bool:
    return bot.processes[service].health.readiness[0]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_is_stopped_while_it_waits_for_redis_ends_cleanly(service: str, tmp_path: Path) -> None:
    account, key = "0x" + "11" * 20, tmp_path / "agent.key"
    key.write_text("0x" + "22" * 32)
    environ = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "BOT_ID": "bot",
        "HL_ACCOUNT_ADDRESS": account,
        "HL_HTTP_URL": "http://127.0.0.1:9",
        "HL_WS_URL": "ws://127.0.0.1:9/ws",
        **({"HL_PRIVATE_KEY_FILE": str(key)} if service == "execution" else {}),
        **({"MONITOR_PORT": "0"} if service == "monitor" else {}),
    }
    command = [sys.executable, "-m", "tradingbot", "run", service]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("started" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()

    assert process.returncode == 0, said
