"""``tradingbot preflight``: every check with the settings of this environment, changing nothing.

Loaded by name, so that no import path leads from the command line to the key.
"""

from __future__ import annotations

from collections.abc import Mapping

from tradingbot.bus.buckets import read_share
from tradingbot.bus.client import connect
from tradingbot.bus.errors import BusError
from tradingbot.bus.params import read_params
from tradingbot.domain.params import Params
from tradingbot.execution import readiness as judge
from tradingbot.execution.preflight import Report, Server, run_preflight
from tradingbot.execution.preflight_task import server_of, subject_of
from tradingbot.execution.settings import ExecutionSettings
from tradingbot.runtime.clock import Clock, SystemClock
from tradingbot.runtime.settings import load_params
from tradingbot.venue.budget import MemoryBudget
from tradingbot.venue.http import open_http
from tradingbot.venue.info import InfoClient
from tradingbot.venue.network import urls
from tradingbot.venue.signing import Signer

NO_BUS = {"REDIS_URL": "redis://127.0.0.1:0/0", "BOT_ID": "none"}
"""Stands in the settings while no bot runs; never connected to."""


async def preflight(environ: Mapping[str, str], *, clock: Clock | None = None) -> Report:
    """Make every check; leverage and margin mode are only read.

    Args:
        environ: the variables that execution is given.
        clock: virtual time; by default as CLOCK_ANCHOR says.

    Raises:
        SettingsError: a setting is missing or wrong.
        BadKey, KeyUnreadable: the key cannot be used.
        WrongNetwork: a URL leads to another network.
    """
    no_bus = not environ.get("REDIS_URL", "").strip()
    settings = ExecutionSettings.load({**environ, **NO_BUS} if no_bus else environ)
    key = settings.key()
    signer = Signer(key, settings.hl_network, settings.hl_vault_address).address if key else None
    endpoints = urls(settings.hl_network, settings.hl_http_url, settings.hl_ws_url)
    clock = clock or SystemClock(settings.clock_anchor)
    params = load_params(environ)
    server: Server | None = None
    share: int | None = None
    trouble: tuple[judge.Check, ...] = ()
    try:
        if no_bus:
            trouble = (judge.warning("redis", "no bot runs here yet: its Redis is judged when execution starts"),)
        else:
            server, params, share = await _bus(settings, params)
    except BusError as error:
        trouble = (judge.failed("redis", f"Redis does not answer: {error}; start it, or correct REDIS_URL"),)
    async with open_http(endpoints.http_url) as http:
        info = InfoClient(http, MemoryBudget(clock, capacity_per_min=settings.ip_weight_per_min))
        subject = subject_of(settings, params, signer=signer, share=share)
        report = await run_preflight(subject, info=info, clock=clock, server=server)
    return Report(trouble + report.checks)


async def _bus(settings: ExecutionSettings, params: Params) -> tuple[Server, Params, int | None]:
    """The server, the parameters in force there (those of the environment while it holds none), and the bot's share
    of the request weight."""
    async with connect(settings.redis_url, client_name="preflight") as redis:
        server = await server_of(redis, settings)
        found = await read_params(redis)
        return server, found.params if found else params, await read_share(redis)
