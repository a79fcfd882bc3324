"""A real loop, recorded while the recorder is killed, made again to the last bit; and what happens when it is not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from failing_well.ensemble import Ensemble, ensemble
from support.model_server import Entry, ModelServer, reply
from support.servers import Server
from tradingbot.bus.client import connect
from tradingbot.bus.library import load_library
from tradingbot.bus.names import Key, Stream
from tradingbot.bus.params import write_params
from tradingbot.domain.messages import TargetPortfolio
from tradingbot.domain.params import AiParams, Params
from tradingbot.replay.archive.archive import Archive
from tradingbot.replay.archive.recorder import RECORDED
from tradingbot.replay.rerun.account import Costs
from tradingbot.replay.rerun.change import Change
from tradingbot.replay.rerun.path import play
from tradingbot.replay.rerun.rerun import rerun
from tradingbot.replay.rerun.tape import load
from tradingbot.replay.rerun.verdicts import Found, Step

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("system")]

SERVICES = ("market_data", "portfolio_state", "risk_engine", "execution")


@pytest.fixture
async def bot(durable_server: Server, model_server: ModelServer) -> AsyncIterator[Ensemble]:
    redis = connect(durable_server.url, client_name="test")
    asked = {"AI_LLM_ENDPOINT": model_server.endpoint, "AI_LLM_MODEL": "scripted", "AI_LLM_ATTEMPTS": "1"}
    async with ensemble(redis, durable_server, environ=asked) as bot:
        await load_library(redis)
        yield bot
    await redis.aclose()


def recorder(bot: Ensemble, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tradingbot", "record", "--to", str(folder), *arguments]
    environ = {**os.environ, "REDIS_URL": bot.server.url.get_secret_value()}
    return subprocess.Popen(command, cwd=folder.parent, env=environ, stderr=subprocess.DEVNULL)


@contextlib.asynccontextmanager
async def deciding(bot: Ensemble, strategy: str, *, targets: int, used: str) -> AsyncIterator[None]:
    """A strategy until it has decided so many cycles."""

    async def decided() -> bool:
        found = await bot.read(Stream.TARGET, TargetPortfolio)
        return sum(each.used == used for each in found) >= targets

    bot.environ["AI_STRATEGY"] = strategy
    async with bot.running("ai_decision"):
        yield
        await bot.until(decided, f"{targets} targets of {used}")


def weights(btc: float, eth: float) -> Entry:
    targets = [{"symbol": "BTC", "weight": btc}, {"symbol": "ETH", "weight": eth}]
    told = {"targets": targets, "cash_weight": 1 - btc - eth, "confidence": 0.8, "rationale": "Mild."}
    return reply(json.dumps(told))


def regime(multiplier: float) -> Entry:
    told = {"regime": "trend", "risk_multiplier": multiplier, "confidence": 0.7, "rationale": "Both rise."}
    return reply(json.dumps(told))


async def test_a_loop_replays_to_the_last_bit_although_its_recorder_was_killed(
    bot: Ensemble, model_server: ModelServer, tmp_path: Path
) -> None:
    """With a language model, its bad answers, a model's regime under other parameters, and the baseline."""
    folder = tmp_path / "archive"
    model_server.script(weights(0.1, 0.05), reply("no JSON at all"), weights(0.02, 1 / 30), weights(0.15, 0.02))
    async with bot.running(*SERVICES):
        await bot.params(params=Params(ai=AiParams(smooth_alpha=1.0)))
        first = recorder(bot, folder, "--every", "0.1")
        async with deciding(bot, "llm", targets=3, used="llm"):
            await bot.until(lambda: list(folder.rglob("*.parquet")), "something recorded")
            first.send_signal(signal.SIGKILL)
            first.wait()
        model_server.script(regime(0.7))
        await write_params(bot.redis, Params(ai=AiParams(smooth_alpha=0.5)), generation=2)
        async with deciding(bot, "regime", targets=1, used="regime"):
            pass
        async with deciding(bot, "baseline", targets=1, used="baseline"):
            pass
    assert recorder(bot, folder, "--once").wait(timeout=60) == 0

    for stream in RECORDED:
        rows = await bot.redis.xrange(stream)  # type: ignore[misc]
        assert [each.id for each in Archive(folder).read(stream)] == [row_id for row_id, _ in rows], stream
    tape = load(Archive(folder))
    report = rerun(tape)
    assert report.of(Found.DIFFERS) == ()
    left_undone = {(each.cycle_id, each.step) for each in report.of(Found.UNCHECKED)}
    assert left_undone <= {(tape.cycles[-1], Step.APPROVAL), (tape.cycles[-1], Step.PLAN)}, "by the stop"
    checked = Counter(each.step for each in report.of(Found.EQUAL))
    assert checked[Step.DECISION] == len(tape.targets)
    assert min(checked.values()) >= 3
    made = {each.data.used for each in tape.targets.values()}
    assert made == {"llm", "baseline_fallback", "regime", "baseline"}
    assert len({each.data.inputs.params for each in tape.targets.values()}) == 2
    assert await bot.redis.exists(Key.ARCHIVE_POSITION)
    played = play(tape, Change(), Costs(fee_bps=4.5, slippage_bps=1.0, measured_usd=0.0))
    assert (played.decisions, played.skipped) == (len(tape.plans), 0), "a model's recorded answers decide here too"
