"""``tradingbot run`` and ``preflight``: parts that are loaded by name when they are asked for."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated

import stamina.instrumentation
import typer

from tradingbot.commands.config import AsJson, EnvFile, find_env_file
from tradingbot.commands.local import DataDir
from tradingbot.domain.services import SERVICES
from tradingbot.domain.static import Network
from tradingbot.local.access import Access, NoBot, find_bot
from tradingbot.local.environment import read_environment
from tradingbot.runtime.process import ExitCode, run_service

Service = Enum("Service", {name: name for name in SERVICES})  # type: ignore[misc]


def run(service: Annotated[Service, typer.Argument(help="Which of the six.")]) -> None:
    """Run one service in this process, with the settings of its environment, until SIGTERM.

    This is what a container runs; on one machine `tradingbot up` runs all six. It needs REDIS_URL and BOT_ID, and
    reads no .env.
    """
    raise typer.Exit(run_service(str(service.value), dict(os.environ)))


def preflight(*, data_dir: DataDir = None, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Check everything that must hold before the first order, changing nothing; exit code 1 when trading may not start.

    Network, account, key and its expiry, leverage and margin mode, balance, clock, budgets, and Redis where a bot
    runs. Before real money: set .env as docs/going-live.md says, then run this.
    """
    # What is tried again is no news here: the last failure is told, and standard output may be read by a program.
    stamina.instrumentation.set_on_retry_hooks([])
    check = importlib.import_module("tradingbot.execution.preflight_command").preflight
    report = asyncio.run(check(asyncio.run(_environment(data_dir, env_file))))
    if as_json:
        typer.echo(json.dumps(report.details(), indent=2))
    else:
        for each in report.checks:
            typer.echo(f"{each.verdict.value:<8}{each.name:<20}{each.text}")
    raise typer.Exit(ExitCode.DONE if report.may_trade else ExitCode.FAILED)


def _check_meant(given: Mapping[str, str], access: Access) -> None:
    """Nobody takes the verdict on a bot that happens to run here for one on the settings that are to go live.

    Raises:
        NoBot: the settings name another network or account than the bot's.
    """
    assert access.running is not None
    network = access.static.hl_network
    runs = {"HL_NETWORK": network.value}
    if network is not Network.PAPER:
        runs["HL_ACCOUNT_ADDRESS"] = access.running.account
    for name, ours in runs.items():
        if (wanted := given.get(name, "")) and wanted.lower() != ours.lower():
            folder = access.folder.path if access.folder else ""
            raise NoBot(
                f"{name} is {wanted}, but the bot that runs on {folder} has {ours}: stop it to check these settings, "
                f"or name it with --data-dir {folder} to check that bot"
            )


async def _environment(data_dir: Path | None, env_file: Path | None) -> dict[str, str]:
    """What execution is given: by the bot that runs here, else by the environment and .env."""
    given = read_environment(find_env_file(env_file), os.environ)
    try:
        access = find_bot(data_dir=data_dir, given={**given, "REDIS_URL": ""}, operator=True)
    except NoBot:
        if data_dir is not None:
            raise
        return given
    assert access.folder is not None
    assert access.running is not None
    async with access.redis:
        if data_dir is None:
            _check_meant(given, access)
        bot_id = await access.bot_id()
    local = {
        "REDIS_URL": access.running.operator_url,
        "BOT_ID": bot_id,
        "CLOCK_ANCHOR": access.running.anchor,
    }
    if access.static.hl_network is Network.PAPER:
        given = {name: value for name, value in given.items() if name != "HL_PRIVATE_KEY"}
        local["HL_PRIVATE_KEY_FILE"] = str(access.folder.agent_key)
    return {**given, **access.running.static, **local}
