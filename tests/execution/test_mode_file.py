"""The mounted mode file: what execution holds itself to while Redis has no word, or an old one, of the spec."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import Redis

from tradingbot.bus.control import breaker_fields, issue
from tradingbot.domain.messages import Command, ControlCommand
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.execution.mode_reader import FileSaid, ModeReader

NOW_MS = 1_771_430_400_000


async def spec_says(redis: Redis, command: Command, *, generation: int, uid: str = "u") -> None:
    said = ControlCommand(
        command=command, command_id=f"{uid}:{generation}", source=ModeSource.SPEC, uid=uid, generation=generation
    )
    await issue(redis, said, now_ms=NOW_MS, bot_id="b")


@pytest.fixture
async def calm(valkey: Redis) -> Redis:
    put = breaker_fields(mode=Mode.NORMAL, reason="", at_ms=NOW_MS)
    await valkey.hset(put.key, mapping=dict(put.fields))
    return valkey


def reader(redis: Redis, folder: Path, text: str) -> ModeReader:
    file = folder / "mode"
    file.write_text(text)
    return ModeReader(redis, mode_file=str(file))


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("HALT 3 u", Mode.HALT),  # newer than the key: an operator without a way to Redis still stops the bot
        ("REDUCE_ONLY 3 u\n", Mode.REDUCE_ONLY),
        ("HALT 2 u", Mode.NORMAL),  # the key knows of it: somebody resumed since
        ("HALT 1 u", Mode.NORMAL),
        ("HALT 1 other", Mode.HALT),  # another resource goes on with this Redis
        ("HALT", Mode.NORMAL),  # without a generation it counts only while the key is absent
        ("HALT 3", Mode.NORMAL),  # what cannot be read restricts only while the key is absent
    ],
)
async def test_a_file_restricts_while_the_specs_key_is_older(
    calm: Redis, tmp_path: Path, text: str, mode: Mode
) -> None:
    await spec_says(calm, Command.RESUME, generation=2)
    assert (await reader(calm, tmp_path, text).read()).mode is mode


async def test_a_newer_file_lifts_nothing(calm: Redis, tmp_path: Path) -> None:
    await spec_says(calm, Command.HALT, generation=2)
    assert (await reader(calm, tmp_path, "NORMAL 3 u").read()).mode is Mode.HALT


async def test_without_a_key_the_files_mode_counts(calm: Redis, tmp_path: Path) -> None:
    assert (await reader(calm, tmp_path, "REDUCE_ONLY 1 u").read()).mode is Mode.REDUCE_ONLY
    assert (await reader(calm, tmp_path, "REDUCE_ONLY").read()).mode is Mode.REDUCE_ONLY


@pytest.mark.parametrize("text", ["", "STOP", "HALT 3", "HALT three u", "HALT 3 u more"])
def test_what_is_no_mode_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        FileSaid.parse(text)
