"""``tradingbot record``: a bot's streams into Parquet files, by a process of its own."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tradingbot.commands.config import EnvFile, find_env_file
from tradingbot.commands.local import DataDir
from tradingbot.domain.errors import Permanent
from tradingbot.local.access import Access, find_bot
from tradingbot.local.environment import read_environment
from tradingbot.runtime.process import ExitCode

_NICE = 10
"""The loop comes first."""


_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""A disk that may take it again: `up` tries again and trades on, where a refusal would end the bot."""


class RecordFailed(Permanent):
    """The archive cannot be written."""


def record(
    *,
    to: Annotated[Path, typer.Option(metavar="DIR", help="The archive's folder; goes on where it stopped.")],
    once: Annotated[bool, typer.Option("--once", help="Write what is there now and end.")] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0.1, help="Real seconds between two files of a stream.")
    ] = 60.0,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Write everything that the bot says on its streams to Parquet files, until Ctrl-C.

    A process of its own that the bot does not wait for. Killed at any moment it loses nothing and writes nothing twice
    when it is started again, within the day for which the streams are kept for it. `tradingbot replay --archive DIR`
    reads what it wrote, while it writes too.

        tradingbot record --to archive/
    """
    given = read_environment(find_env_file(env_file), os.environ)
    with suppress(OSError):
        os.nice(_NICE)
    access = find_bot(data_dir=data_dir, given=given)
    try:
        asyncio.run(_record(access, to, once=once, flush_s=every_s))
    except OSError as error:
        if error.errno not in _PASSING:
            raise RecordFailed(f"{to}: {error.strerror}") from None
        _tell(f"{to}: {error.strerror}; what is not written is kept on the streams for a day")
        raise typer.Exit(ExitCode.FAILED) from None


async def _record(access: Access, to: Path, *, once: bool, flush_s: float) -> None:
    from tradingbot.replay.archive.archive import Archive  # noqa: PLC0415 - Parquet loads a lot
    from tradingbot.replay.archive.recorder import Recorder  # noqa: PLC0415

    archive, stop = Archive(to), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with access.redis:
        with archive.writing():
            recorder = Recorder(
                access.redis, archive, clock=access.clock, flush_s=flush_s, gone=lambda: _gone(access), tell=_tell
            )
            if once:
                await recorder.once()
            else:
                _tell(f"recording to {to}; Ctrl-C writes what is left and ends")
                await recorder.run(stop)
    _tell(f"{recorder.recorded} entries written; {sum(archive.size().values()) / 1e6:.1f} MB in {to}")


def _gone(access: Access) -> bool:
    """A bot of this machine that has stopped comes back on another port."""
    if access.folder is None or access.running is None:
        return False
    now = access.folder.running()
    return now is None or now.redis_url != access.running.redis_url


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
