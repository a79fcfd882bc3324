"""``tradingbot config``: check, show and write settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tradingbot.local.environment import check_environment, read_environment, strategy_in_force, warnings
from tradingbot.local.reference import Setting, as_env_file, reference
from tradingbot.runtime.logging import redact

app = typer.Typer(no_args_is_help=True, help="Check, show and write settings (docs/settings.md lists them all).")

EnvFile = Annotated[
    Path | None,
    typer.Option("--env-file", help="The .env to read. Default: .env in the working directory, where there is one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
_HIDDEN = "[secret]"


def find_env_file(asked: Path | None) -> Path | None:
    """The file that was asked for, else the working directory's where it has one."""
    return asked if asked is not None else next((path for path in (Path(".env"),) if path.is_file()), None)


@app.command("check")
def check(env_file: EnvFile = None) -> None:
    """Validate the environment and .env; one line per field that is wrong, exit code 2."""
    given = read_environment(find_env_file(env_file), os.environ)
    check_environment(given)
    _warn(given)
    typer.echo(f"{len(given)} settings given, all valid")


@app.command("show")
def show(env_file: EnvFile = None, *, as_json: AsJson = False) -> None:
    """Print every setting with the value in force; secrets are never shown.

    What `up` would refuse or warn of follows on stderr; with a refusal the exit code is 2.
    """
    given = read_environment(find_env_file(env_file), os.environ)
    in_force = {**given, "AI_STRATEGY": strategy_in_force(given)}
    rows = [
        (each, _HIDDEN if each.secret and each.name in given else redact(in_force.get(each.name, each.default)))
        for each in reference()
    ]
    if as_json:
        typer.echo(json.dumps({each.name: value for each, value in rows}, indent=2))
    else:
        Console().print(_table(rows, given))
    check_environment(given)
    _warn(given)


def _table(rows: Sequence[tuple[Setting, str]], given: Mapping[str, str]) -> Table:
    table = Table("setting", "value", "given", "what it is")
    for each, value in rows:
        # As text: rich would take what stands in square brackets for its own markup.
        table.add_row(each.name, Text(value), "yes" if each.name in given else "", Text(each.text))
    return table


def _warn(given: Mapping[str, str]) -> None:
    for each in warnings(given):
        typer.echo(f"warning: {each}", err=True)


@app.command("env")
def env() -> None:
    """Print a .env with every setting, its default and what it means (kept as .env.example)."""
    typer.echo(as_env_file(), nl=False)
