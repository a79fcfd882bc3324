"""A setting that is missing, misspelt or out of range: the real command refuses to start and says what is allowed.

What it says is one line per field: its name, its value (never a secret), what is allowed. Exit code 2, so that no
supervisor tries again. Decisions by a language model are not built yet: asking for them is refused in the same way.

This folder has a file for each row of the design's table of what comes in and what it gets. Two rows come with the
parts that they are about: a bad resource with the operator, a bad answer with the model client.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tradingbot.domain.services import SERVICES
from tradingbot.runtime.process import ExitCode

SECRET = "0x" + "5e" * 31
"""Half a byte short of a key: wrong, and still not to be shown."""
NEEDED = {"REDIS_URL": "redis://someone:hunter2@127.0.0.1:1/0", "BOT_ID": "bot"}


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> dict[str, str]:
        """What stderr says, by the setting's name."""
        told = [line.split(": ") for line in self.err.splitlines()]
        # A service says its own name first: `execution: BOT_ID: not set`.
        return {part[0] if part[0] not in SERVICES else part[1]: ": ".join(part) for part in told}


async def tradingbot(*arguments: str, cwd: Path, **environ: str) -> Ended:
    """The command in an environment of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tradingbot", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environ},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def test_up_refuses_all_that_is_wrong_at_once_with_a_line_for_each_field(tmp_path: Path) -> None:
    wrong = {
        "UNIVERSE": "BTC,BTC",
        "CYCLE_SECONDS": "61",
        "HL_HTTP_URL": "ftp://x",
        "MAX_GROSS": "much",
        "TWAP_SLICES": "0",
        "ORDER_TIF": "Day",
        "MONITOR_PORT": "70000",
    }

    ended = await tradingbot("up", "--data-dir", "bot", cwd=tmp_path, **wrong)

    assert ended.code == ExitCode.REFUSED
    assert set(ended.lines) == set(wrong), ended.err
    assert len(ended.err.splitlines()) == len(wrong), "one line per field"
    for name, value in wrong.items():
        assert ended.lines[name].endswith(f"was {value!r}"), "the value"
    assert "'Gtc', 'Ioc' or 'Alo'" in ended.lines["ORDER_TIF"], "what is allowed"
    assert "multiple of 60" in ended.lines["CYCLE_SECONDS"], "what is allowed"
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


async def test_a_misspelt_name_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_GROS=0.2\nTWAP_SLICES=2\n")

    ended = await tradingbot("up", "--data-dir", "bot", cwd=tmp_path)

    assert ended.code == ExitCode.REFUSED
    assert ended.err == "MAX_GROS: no such setting in .env; did you mean MAX_GROSS?\n"
    assert [each.name for each in tmp_path.iterdir()] == [".env"]


async def test_every_service_refuses_what_is_missing_and_what_is_out_of_range(tmp_path: Path) -> None:
    given = {"REDIS_URL": NEEDED["REDIS_URL"], "CYCLE_SECONDS": "61"}

    all_ended = await asyncio.gather(*(tradingbot("run", each, cwd=tmp_path, **given) for each in SERVICES))

    for service, ended in zip(SERVICES, all_ended, strict=True):
        assert ended.code == ExitCode.REFUSED, service
        assert {"BOT_ID", "CYCLE_SECONDS"} <= set(ended.lines), ended.err
        assert "BOT_ID: not set; it has no default" in ended.lines["BOT_ID"]
        assert all(line.startswith(f"{service}: ") for line in ended.err.splitlines())
        assert "hunter2" not in ended.err + ended.out


async def test_a_services_own_settings_are_refused_in_the_same_breath_as_the_shared_ones(tmp_path: Path) -> None:
    ended = await tradingbot("run", "monitor", cwd=tmp_path, REDIS_URL=NEEDED["REDIS_URL"], MONITOR_PORT="-1")

    assert ended.code == ExitCode.REFUSED
    assert set(ended.lines) == {"BOT_ID", "MONITOR_PORT"}, ended.err


async def test_a_key_that_cannot_be_one_is_refused_and_never_shown(tmp_path: Path) -> None:
    live = {"HL_NETWORK": "testnet", "DRY_RUN": "false", "HL_ACCOUNT_ADDRESS": "0x" + "1" * 40}

    by_service, by_up = await asyncio.gather(
        tradingbot("run", "execution", cwd=tmp_path, HL_PRIVATE_KEY=SECRET, **NEEDED, **live),
        tradingbot("up", cwd=tmp_path, HL_PRIVATE_KEY=SECRET, **live),
    )

    for ended in (by_service, by_up):
        assert ended.code == ExitCode.REFUSED, ended.err
        assert "64 hex digits" in ended.lines["HL_PRIVATE_KEY"]
        assert ended.lines["HL_PRIVATE_KEY"].endswith("was [secret]")
        assert SECRET[2:] not in ended.err + ended.out


@pytest.mark.parametrize("command", [("up",), ("run", "ai_decision"), ("config", "check")], ids=" ".join)
async def test_a_language_model_that_nobody_can_find_is_refused_at_the_start(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    ended = await tradingbot(*command, cwd=tmp_path, AI_USE_LLM="true", **NEEDED)

    assert ended.code == ExitCode.REFUSED
    assert "AI_LLM_ENDPOINT and AI_LLM_MODEL, is needed with AI_STRATEGY=llm" in ended.err
    assert list(tmp_path.iterdir()) == []
