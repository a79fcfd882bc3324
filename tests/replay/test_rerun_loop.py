"""A real loop, recorded while the recorder is killed, made again to the last bit; and what happens when it is not."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from failing_well.ensemble import Ensemble, ensemble
from support.servers import Server
from tradingbot.bus.client import connect
from tradingbot.bus.library import load_library
from tradingbot.bus.names import Key, Stream
from tradingbot.bus.params import write_params
from tradingbot.domain.messages import ExecutionPlan
from tradingbot.domain.params import AiParams, Params
from tradingbot.replay.archive.archive import Archive
from tradingbot.replay.archive.recorder import RECORDED
from tradingbot.replay.rerun.rerun import rerun
from tradingbot.replay.rerun.tape import load
from tradingbot.replay.rerun.verdicts import Found, Step

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("system")]

SERVICES = ("market_data", "portfolio_state", "ai_decision", "risk_engine", "execution")


@pytest.fixture
async def bot(durable_server: Server) -> AsyncIterator[Ensemble]:
    redis = connect(durable_server.url, client_name="test")
    async with ensemble(redis, durable_server) as bot:
        await load_library(redis)
        yield bot
    await redis.aclose()


def recorder(bot: Ensemble, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tradingbot", "record", "--to", str(folder), *arguments]
    return subprocess.Popen(
        [*command, "--redis-url", bot.server.url.get_secret_value()], cwd=folder.parent, stderr=subprocess.DEVNULL
    )


async def plans(bot: Ensemble) -> int:
    return len(await bot.read(Stream.PLAN, ExecutionPlan))


async def test_a_loop_replays_to_the_last_bit_although_its_recorder_was_killed(bot: Ensemble, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    async with bot.running(*SERVICES):
        await bot.params(params=Params(ai=AiParams(smooth_alpha=1.0)))
        first = recorder(bot, folder, "--every", "0.1")
        await bot.until(lambda: plans(bot), "a plan")
        await bot.until(lambda: list(folder.rglob("*.parquet")), "something recorded")
        first.send_signal(signal.SIGKILL)
        first.wait()
        had = await plans(bot)
        await write_params(bot.redis, Params(ai=AiParams(smooth_alpha=0.5)), generation=2)

        async def went_on() -> bool:
            return await plans(bot) >= had + 3

        await bot.until(went_on, "plans under other parameters")
    assert recorder(bot, folder, "--once").wait(timeout=60) == 0

    for stream in RECORDED:
        rows = await bot.redis.xrange(stream)  # type: ignore[misc]
        assert [each.id for each in Archive(folder).read(stream)] == [row_id for row_id, _ in rows], stream
    report = rerun(load(Archive(folder)))
    assert report.of(Found.DIFFERS) == ()
    checked = Counter(each.step for each in report.of(Found.EQUAL))
    assert min(checked[step] for step in Step) >= had + 2
    assert len({each.data.inputs.params for each in load(Archive(folder)).targets.values()}) == 2
    assert report.of(Found.UNCHECKED) == (), "all of it was recorded"
    assert await bot.redis.exists(Key.ARCHIVE_POSITION)
