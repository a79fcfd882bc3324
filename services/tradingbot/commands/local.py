"""``tradingbot up`` and ``verify``."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tradingbot.commands.config import AsJson, EnvFile, find_env_file
from tradingbot.local.access import Access, find_bot
from tradingbot.local.environment import read_environment
from tradingbot.local.plan import UpOptions
from tradingbot.replay.evidence import collect
from tradingbot.replay.report import verdict_lines
from tradingbot.replay.verdict import Verdict
from tradingbot.replay.verify import all_hold, judge
from tradingbot.runtime.process import ExitCode
from tradingbot.venue.network import urls

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The bot's data folder. Default: the one that runs below ./data."),
]


def up(
    *,
    cycles: Annotated[
        int | None, typer.Option(min=1, help="End after so many cycles: 0 when all happened and verify holds, else 1.")
    ] = None,
    speed: Annotated[float, typer.Option(help="How much faster than real time. Not with live prices.")] = 1.0,
    prices: Annotated[
        str,
        typer.Option(
            metavar="auto|live|synthetic[:SEED]|PATH",
            help="auto: the live venue's public data where it answers, else synthetic. PATH: recorded candles, a file "
            "or a folder with one Parquet or CSV a coin.",
        ),
    ] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan and write intents, send nothing.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where the bot keeps its state, to go on next time. Default: data/ and the prices' name."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="With --cycles: write the figures and verdicts as JSON.")] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Record what the bot says there, as `tradingbot record` does.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --cycles: print the report as JSON on stdout, progress on stderr.")
    ] = False,
    env_file: EnvFile = None,
) -> None:
    """Trade on this machine: Valkey, the paper exchange and the six services, until Ctrl-C.

    Ctrl-C stops all of it cleanly: open orders are cancelled, nothing is left running, and the next start on the
    same data folder goes on where this one stopped.

        tradingbot up --prices candles/ --speed 30 --cycles 30 --report report.json
    """
    from tradingbot.local.up import up as run  # noqa: PLC0415 - loads a lot

    options = UpOptions(
        prices=prices,
        speed=speed,
        cycles=cycles,
        dry_run=dry_run,
        data_dir=data_dir,
        report=report,
        record=record,
        print_json=as_json,
    )
    given = read_environment(find_env_file(env_file), os.environ)
    console = Console(stderr=as_json)
    raise typer.Exit(asyncio.run(run(options, given=given, machine=dict(os.environ), console=console)))


def verify(*, data_dir: DataDir = None, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Check the invariants of the record against the streams, the kept state and the venue.

    Some are about a bot at rest (nothing pending, same positions): in the middle of a cycle they may not hold yet.
    """
    given = read_environment(find_env_file(env_file), os.environ)
    verdicts = asyncio.run(_verify(find_bot(data_dir=data_dir, given=given, operator=True)))
    if as_json:
        typer.echo(json.dumps([each.model_dump(mode="json") for each in verdicts], indent=2))
    else:
        for line in verdict_lines(verdicts):
            typer.echo(line)
    raise typer.Exit(ExitCode.DONE if all_hold(verdicts) else ExitCode.FAILED)


async def _verify(access: Access) -> tuple[Verdict, ...]:
    running = access.running
    paper = running.paper_url if running else None
    async with access.redis:
        evidence = await collect(
            access.redis,
            clock=access.clock,
            venue_url=paper or urls(access.static.hl_network, access.static.hl_http_url).http_url,
            is_paper=paper is not None,
            bot_id=await access.bot_id(),
            account=await access.account(),
            static=access.static,
            folder=access.folder.path if access.folder else None,
            pids=running.pids if running else None,
        )
    return judge(evidence)
