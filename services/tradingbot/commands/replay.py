"""``tradingbot replay``: every pure step of recorded cycles made again."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from dotenv import dotenv_values

from tradingbot.bus.names import Stream
from tradingbot.commands.config import AsJson, EnvFile, find_env_file
from tradingbot.commands.local import DataDir
from tradingbot.domain.cycles import start_ms_of
from tradingbot.domain.errors import Permanent
from tradingbot.local.access import Access, find_bot
from tradingbot.local.environment import known_names, read_environment
from tradingbot.runtime.process import ExitCode

if TYPE_CHECKING:
    from tradingbot.replay.archive.archive import Archive
    from tradingbot.replay.rerun.change import Change
    from tradingbot.replay.rerun.tape import Tape


class BadRange(Permanent):
    """What was asked for cannot be meant."""


class NothingRecorded(Permanent):
    """The record holds nothing that the question is about."""


def replay(
    *,
    cycle: Annotated[str | None, typer.Option(metavar="CYCLE", help="One cycle, such as 20260218T1600Z.")] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="CYCLE", help="The first cycle.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="CYCLE", help="The last cycle.")] = None,
    archive: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What `tradingbot record` wrote. Default: the bot's own streams.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option("--with", metavar="FILE", help="Settings as in .env: tell what they would have done instead."),
    ] = None,
    cost_bps: Annotated[
        float | None,
        typer.Option("--cost-bps", min=0, help="With --with: what a trade costs. Default: as the recorded ones did."),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Make every pure step of recorded cycles again and compare to the last bit; exit code 1 when something differs.

    Features, decision (with the model's recorded answer), risk gate and plan, each from the inputs that the record
    names. A step whose inputs are not on the record is counted as one that cannot be checked, never as equal; entries
    that this version cannot read are counted and named, and make the exit code 1.

        tradingbot replay --archive archive/ --from 20260218T1600Z --to 20260218T1700Z

        tradingbot replay --archive archive/ --with other.env   # what would other settings have done?
    """
    from tradingbot.replay.rerun.rerun import rerun  # noqa: PLC0415 - Parquet and the services load a lot
    from tradingbot.replay.rerun.tape import FIRST, LAST, load  # noqa: PLC0415

    _check(cycle=cycle, first=first, last=last)
    if cost_bps is not None and settings is None:
        raise BadRange("--cost-bps: only together with --with")
    change = None if settings is None else _change(settings)
    with _source(archive, data_dir, env_file) as source:
        tape = load(source, first=cycle or first or FIRST, last=cycle or last or LAST)
        _tell_gaps(source)
        if not tape.cycles:
            raise NothingRecorded(_what_there_is(source, cycle or f"{first or 'the beginning'} to {last or 'the end'}"))
        if change is not None:
            _tell_what_if(source, tape, change, cost_bps=cost_bps, as_json=as_json)
            return
    report = rerun(tape)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        for line in report.lines():
            typer.echo(line)
    raise typer.Exit(ExitCode.DONE if report.equal else ExitCode.FAILED)


def _change(path: Path) -> Change:
    """Only what a replay can tell the consequences of; a file of nothing else."""
    from tradingbot.replay.rerun.change import change_of  # noqa: PLC0415

    if not path.is_file():
        raise BadRange(f"--with {path}: no such file")
    given = {name: value.strip() for name, value in dotenv_values(path, interpolate=False).items() if value}
    return change_of(given, known=known_names(), where=str(path))


def _tell_what_if(source: Archive, tape: Tape, change: Change, *, cost_bps: float | None, as_json: bool) -> None:
    from tradingbot.replay.rerun.account import Costs  # noqa: PLC0415
    from tradingbot.replay.rerun.verdicts import CannotCheck  # noqa: PLC0415
    from tradingbot.replay.rerun.whatif import what_if  # noqa: PLC0415

    costs = None if cost_bps is None else Costs(fee_bps=cost_bps, slippage_bps=0.0, measured_usd=0.0)
    try:
        found = what_if(source, tape, change, costs=costs)
    except CannotCheck as why:
        raise NothingRecorded(str(why)) from None
    typer.echo(found.model_dump_json(indent=2) if as_json else "\n".join(found.lines()))


def _check(*, cycle: str | None, first: str | None, last: str | None) -> None:
    for each in filter(None, (cycle, first, last)):
        try:
            start_ms_of(each)
        except ValueError:
            raise BadRange(f"{each}: no cycle's id; one is like 20260218T1600Z") from None
    if cycle and (first or last):
        raise BadRange("--cycle is one cycle, --from and --to a range: give one of them")
    if first and last and first > last:
        raise BadRange(f"--from {first} is later than --to {last}")


def _what_there_is(source: Archive, asked: str) -> str:
    held = source.cycles(Stream.FEATURES) or source.cycles(Stream.TARGET)
    if held is None:
        return f"{asked}: no cycle is on the record yet"
    return f"{asked}: not on the record, which holds cycles from {held[0]} to {held[1]}"


def _tell_gaps(source: Archive) -> None:
    note = source.note()
    for gap in note.gaps if note else ():
        typer.echo(f"{gap.stream}: entries between {gap.after} and {gap.before} may be missing", err=True)


@contextmanager
def _source(folder: Path | None, data_dir: Path | None, env_file: Path | None) -> Iterator[Archive]:
    """The archive that was named, else one of the streams as they are now, for the time of this command."""
    from tradingbot.replay.archive.archive import Archive  # noqa: PLC0415

    if folder is not None:
        yield Archive.existing(folder)
        return
    given = read_environment(find_env_file(env_file), os.environ)
    with tempfile.TemporaryDirectory(prefix="tradingbot-replay-") as temporary:
        archive = Archive(Path(temporary))
        asyncio.run(_copy(find_bot(data_dir=data_dir, given=given), archive))
        yield archive


async def _copy(access: Access, archive: Archive) -> None:
    from tradingbot.replay.archive.recorder import Recorder  # noqa: PLC0415

    async with access.redis:
        with archive.writing():
            await Recorder(access.redis, archive, clock=access.clock, announces=False).once()
