"""The private key is in no log line, message, key of Redis, request or settings' text, in good times and bad."""

from __future__ import annotations

import logging

import pytest

from support.execution_bench import KEY, Bench
from tradingbot.domain.messages import ReportStatus
from tradingbot.execution.settings import ExecutionSettings

DIGITS = KEY.removeprefix("0x")
TROUBLES = [
    {"kind": "drop_after", "path": "/exchange", "type": "order", "count": 1},
    {"kind": "server_error", "path": "/exchange", "count": 1},
    {"kind": "rate_limit", "path": "/info", "count": 2},
]


async def everything_in(bench: Bench) -> str:
    """All that Redis holds, as text."""
    shown = []
    async for key in bench.redis.scan_iter():
        match await bench.redis.type(key):
            case "stream":
                shown.append(str(await bench.redis.xrange(key)))
            case "hash":
                shown.append(str(await bench.redis.hgetall(key)))
            case "string":
                shown.append(str(await bench.redis.get(key)))
            case "set":
                shown.append(str(await bench.redis.smembers(key)))
    return "\n".join(shown)


async def test_a_run_with_troubles_shows_the_key_nowhere(
    bench: Bench, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    await bench.ready()
    bench.paper.faults(*TROUBLES)
    async with bench.trading() as process:
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_reports(lambda found: any(each.status is ReportStatus.FILLED for each in found))
        held = await everything_in(bench)
    out, err = capfd.readouterr()
    settings = ExecutionSettings.load(process.environ)

    assert len(held) > 1000
    shown = (repr(settings), settings.model_dump_json(), repr(process))
    for text in (out, err, caplog.text, held, str(bench.paper.log()), *shown):
        assert DIGITS not in text.lower()
