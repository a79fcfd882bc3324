"""``tradingbot run`` and ``preflight``: parts that are loaded by name when they are asked for."""

from __future__ import annotations

import os
from enum import Enum
from typing import Annotated

import typer

from tradingbot.runtime.process import SERVICES, run_service

Service = Enum("Service", {name: name for name in SERVICES})  # type: ignore[misc]


def run(service: Annotated[Service, typer.Argument(help="Which of the six.")]) -> None:
    """Run one service in this process, with the settings of its environment, until SIGTERM.

    This is what a container runs; on one machine `tradingbot up` runs all six. It needs REDIS_URL and BOT_ID, and
    reads no .env.
    """
    raise typer.Exit(run_service(str(service.value), dict(os.environ)))
