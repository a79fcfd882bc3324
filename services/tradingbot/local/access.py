"""How a command finds the bot: the one that runs on this machine, through its data folder, or REDIS_URL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis

from tradingbot.bus.client import connect
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import Key
from tradingbot.domain.errors import Permanent
from tradingbot.domain.static import StaticSettings
from tradingbot.local.folder import DataFolder, Running
from tradingbot.local.plan import static_settings
from tradingbot.runtime.clock import Anchor, SystemClock

DATA_ROOT = Path("data")


class NoBot(Permanent):
    """No bot was found, or more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A way to a running bot."""

    redis: Redis
    clock: SystemClock
    static: StaticSettings
    folder: DataFolder | None = None
    running: Running | None = None

    async def bot_id(self) -> str:
        """The bot that this bus belongs to.

        Raises:
            NoBot: nobody has used this bus yet.
        """
        return str((await self._identity())["bot_id"])

    async def account(self) -> str:
        """The account that it trades."""
        return str((await self._identity())["account"])

    async def _identity(self) -> Mapping[str, Any]:
        with bus_errors():
            kept: Any = await self.redis.get(Key.IDENTITY)
        if not kept:
            raise NoBot("this Redis belongs to no bot yet: nothing has been started on it")
        return dict(json.loads(kept))


def find_bot(*, data_dir: Path | None, given: Mapping[str, str], operator: bool = False) -> Access:
    """The bot of ``data_dir``, else the only one that runs below ``data/``, else that of REDIS_URL.

    Args:
        data_dir: where to look, when it was said.
        given: the settings that are given.
        operator: with the supervisor's rights instead of a person's.

    Raises:
        NoBot: none runs, or more than one and none was named.
    """
    found = find_running(data_dir)
    if found is not None:
        folder, running = found
        url = running.operator_url if operator else running.redis_url
        return Access(
            redis=connect(SecretStr(url), client_name="tradingbot"),
            clock=SystemClock(Anchor.parse(running.anchor)),
            static=static_settings({**given, **running.static}),
            folder=folder,
            running=running,
        )
    if not given.get("REDIS_URL"):
        raise NoBot("no bot runs here: start one with `tradingbot up`, name its --data-dir, or set REDIS_URL")
    anchor = Anchor.parse(given["CLOCK_ANCHOR"]) if "CLOCK_ANCHOR" in given else Anchor.real()
    return Access(
        redis=connect(SecretStr(given["REDIS_URL"]), client_name="tradingbot"),
        clock=SystemClock(anchor),
        static=static_settings(given),
    )


def find_running(data_dir: Path | None) -> tuple[DataFolder, Running] | None:
    """The bot of ``data_dir``, else the only one that runs below ``data/``; None when none does.

    Raises:
        NoBot: none runs on ``data_dir``, or more than one does and none was named.
    """
    if data_dir is not None:
        folder = DataFolder(data_dir.resolve())
        running = folder.running()
        if running is None:
            raise NoBot(f"{data_dir}: no bot runs on this data folder")
        return folder, running
    alive = [
        (folder, running)
        for path in sorted(DATA_ROOT.glob("*/run.json"))
        if (running := (folder := DataFolder(path.parent.resolve())).running()) is not None
    ]
    if len(alive) > 1:
        names = ", ".join(folder.path.name for folder, _ in alive)
        raise NoBot(f"more than one bot runs here ({names}): name one with --data-dir data/NAME")
    return alive[0] if alive else None
