"""A bot on this machine: Valkey, the paper exchange and the six services, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tradingbot.bus.acl import acl_rules
from tradingbot.bus.client import connect
from tradingbot.bus.errors import BusError
from tradingbot.bus.lease import free_lease, lease_holder
from tradingbot.bus.library import load_library
from tradingbot.bus.names import OPERATOR, PERSON, Key
from tradingbot.bus.params import write_params
from tradingbot.domain.errors import Permanent
from tradingbot.domain.params import Params
from tradingbot.domain.services import SERVICES
from tradingbot.domain.static import Network, StaticSettings
from tradingbot.local import server
from tradingbot.local.children import Children, ChildSpec, Told, python
from tradingbot.local.environment import base_environment, process_environment
from tradingbot.local.folder import DataFolder, FolderError, Identity, Running
from tradingbot.local.plan import Prices, note_of
from tradingbot.runtime.clock import Anchor, SystemClock

USERS = (*SERVICES, PERSON, OPERATOR)
_START_TIMEOUT_S = 60.0
_POLL_S = 0.05
_MONITOR_PORT = 8090
_STOP_LAST = ("portfolio_state", "monitor")


class StartFailed(Permanent):
    """A part did not come up; its log says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BotPlan:
    """Everything that was decided before the first process is started."""

    folder: DataFolder
    identity: Identity
    prices: Prices
    anchor: Anchor
    static: StaticSettings
    params: Params
    given: Mapping[str, str]
    """The settings as they were given, for each service to take its own of."""
    machine: Mapping[str, str]
    """The environment of the machine."""
    ends_ms: int | None = None
    """When a recording ends, virtual time."""
    record: Path | None = None
    """Where its streams are recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Loopback ports; fixed for a run, so that a part that is started again is found."""

    valkey: int
    paper: int
    monitor: int
    metrics: Mapping[str, int]

    @classmethod
    def choose(cls, *, monitor: int) -> Ports:
        """All at once, so that no two are the same; the monitor's is as wanted where nobody listens there."""
        valkey, paper, spare, *metrics = server.free_ports(3 + len(SERVICES), but=monitor)
        return cls(
            valkey=valkey,
            paper=paper,
            monitor=monitor if server.is_free(monitor) else spare,
            metrics=dict(zip(SERVICES, metrics, strict=True)),
        )


class LocalBot:
    """Starts the parts in order, keeps them alive, and stops them in order."""

    def __init__(self, plan: BotPlan, *, clock: SystemClock, tell: Told) -> None:
        self.plan = plan
        self.clock = clock
        self.ports = Ports.choose(monitor=int(plan.given.get("MONITOR_PORT", _MONITOR_PORT)))
        self.children = Children(
            clock=clock, log_dir=plan.folder.logs, reaped=self._reaped, tell=tell, pass_fds=plan.folder.lock_fds
        )
        self._tell = tell
        self._noted: dict[str, int] = {}
        self._passwords = server.passwords_for(plan.folder, USERS)
        self.redis: Redis = connect(SecretStr(self.bus_url(OPERATOR)), client_name="supervisor")

    def bus_url(self, user: str) -> str:
        """The bus's address for one of its users; holds a password."""
        return server.url(user=user, password=self._passwords[user], port=self.ports.valkey)

    @property
    def venue_urls(self) -> tuple[str, str] | None:
        """HTTP and WebSocket addresses of the paper exchange; None on a real venue."""
        if self.plan.static.hl_network is not Network.PAPER:
            return None
        return f"http://{server.HOST}:{self.ports.paper}", f"ws://{server.HOST}:{self.ports.paper}/ws"

    @property
    def monitor_url(self) -> str:
        """Where the monitor's page is."""
        return f"http://{server.HOST}:{self.ports.monitor}"

    async def start(self) -> None:
        """Start everything, each part once the one it needs answers.

        Raises:
            StartFailed: a part did not come up in time.
        """
        await self._start_bus()
        if self.venue_urls is not None:
            await self._start_paper()
        for service in SERVICES:
            await self.children.start(self._service(service))
        self.note()
        if self.plan.record is not None:
            await self.children.start(self._recorder(self.plan.record))

    async def stop(self) -> None:
        """Stop everything: execution first, which cancels what is open; the bus last. State is kept."""
        await self.children.stop("execution")
        await self.children.stop(*(each for each in SERVICES if each not in _STOP_LAST))
        await self.children.stop(*_STOP_LAST)
        try:
            self.note_clock()
        except FolderError as error:
            self._tell("folder", str(error))  # a full disk must not keep the rest running
        await self.children.stop("paper")
        await self.children.stop("record")
        await self.redis.aclose()
        await self.children.stop("valkey")
        await self.children.stop_all()
        self.plan.folder.note_running(None)

    def note_changes(self) -> None:
        """Note the processes anew when one of them was started again."""
        if self.children.pids() != self._noted:
            self.note()

    def note_clock(self) -> None:
        """Note how far virtual time has come."""
        self.plan.folder.note_clock(note_of(self.plan.anchor, virtual_ms=self.clock.now_ms()))

    def note(self) -> None:
        """Say in the folder where the bot can be reached, and how far time has come."""
        venue, self._noted = self.venue_urls, self.children.pids()
        self.plan.folder.note_running(
            Running(
                pid=os.getpid(),
                redis_url=self.bus_url(PERSON),
                operator_url=self.bus_url(OPERATOR),
                monitor_url=self.monitor_url,
                paper_url=venue[0] if venue else None,
                account=self.plan.identity.account,
                anchor=str(self.plan.anchor),
                static=self._static(),
                metrics_ports=dict(self.ports.metrics),
                pids=self._noted,
            )
        )
        self.note_clock()

    async def _start_bus(self) -> None:
        folder = self.plan.folder
        rules = {user: acl_rules(user) for user in USERS}
        config = server.write_config(folder, port=self.ports.valkey, rules=rules, passwords=self._passwords)
        argv = (server.server_binary(), str(config))
        await self.children.start(ChildSpec(name="valkey", argv=argv, environ=base_environment(self.plan.machine)))
        await self._until(self._bus_answers, part="valkey")
        await load_library(self.redis)
        await self._write_params()

    async def _start_paper(self) -> None:
        plan, ports = self.plan, self.ports
        argv = python(
            *("paper", "--port", str(ports.paper), "--data-dir", str(plan.folder.paper), "--prices", plan.prices.spec),
            *("--account", plan.identity.account, "--agent", plan.identity.agent or ""),
            *("--symbols", ",".join(plan.static.universe)),
        )
        environ = base_environment(plan.machine) | {"CLOCK_ANCHOR": str(plan.anchor)}
        await self.children.start(ChildSpec(name="paper", argv=argv, environ=environ))
        await self._until(self._paper_answers, part="paper")

    def _service(self, service: str) -> ChildSpec:
        plan = self.plan
        decided = self._static() | {
            "REDIS_URL": self.bus_url(service),
            "BOT_ID": plan.identity.bot_id,
            "CLOCK_ANCHOR": str(plan.anchor),
            "METRICS_PORT": str(self.ports.metrics[service]),
            "METRICS_HOST": server.HOST,
            "DATA_DIR": str(plan.folder.path),
            "MONITOR_PORT": str(self.ports.monitor),
        }
        given = dict(plan.given)
        if self.venue_urls is not None:
            # A key of a real venue has no business here, wherever it was set.
            given.pop("HL_PRIVATE_KEY", None)
            decided |= {"HL_PRIVATE_KEY_FILE": str(plan.folder.agent_key)}
        environ = process_environment(service=service, given=given, decided=decided, machine=plan.machine)
        return ChildSpec(name=service, argv=python("run", service), environ=environ)

    def _recorder(self, to: Path) -> ChildSpec:
        """It finds the bus through the folder: a password is no argument."""
        argv = python("record", "--to", str(to.resolve()), "--data-dir", str(self.plan.folder.path))
        return ChildSpec(name="record", argv=argv, environ=base_environment(self.plan.machine))

    def _static(self) -> dict[str, str]:
        """The static settings as a service would be given them."""
        static = self.plan.static
        values = {
            "UNIVERSE": ",".join(static.universe),
            "CYCLE_SECONDS": str(static.cycle_seconds),
            "HL_NETWORK": static.hl_network.value,
            "HL_ACCOUNT_ADDRESS": self.plan.identity.account,
            "DRY_RUN": str(static.dry_run).lower(),
            "PRICE_SOURCE": self.plan.prices.label.value,
        }
        urls = self.venue_urls or (static.hl_http_url, static.hl_ws_url)
        return values | {name: url for name, url in zip(("HL_HTTP_URL", "HL_WS_URL"), urls, strict=True) if url}

    async def _write_params(self) -> None:
        """The parameters of .env; the generation rises when they changed."""
        kept: Any = await self.redis.hmget(Key.PARAMS, ["generation", "values"])
        generation, values = kept
        if generation is None:
            await write_params(self.redis, self.plan.params, generation=1)
        elif Params.model_validate_json(values, extra="ignore") != self.plan.params:
            await write_params(self.redis, self.plan.params, generation=int(generation) + 1)

    async def _reaped(self, name: str) -> None:
        """Free the lease of a service that is dead, so that the next one need not wait for it to lapse."""
        if name not in SERVICES:
            return
        with contextlib.suppress(BusError, RedisError):
            token = await lease_holder(self.redis, name)
            if token is not None:
                await free_lease(self.redis, name, token)

    async def _bus_answers(self) -> bool:
        try:
            return bool(await self.redis.ping())
        except (RedisError, OSError):
            return False

    async def _paper_answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(server.HOST, self.ports.paper)
        except OSError:
            return False
        writer.close()
        return True

    async def _until(self, answers: Callable[[], Awaitable[bool]], *, part: str) -> None:
        deadline_s = self.clock.real_s() + _START_TIMEOUT_S
        while not await answers():
            if self.clock.real_s() > deadline_s or self.children.refused.is_set():
                raise StartFailed(f"{part} did not come up; see {self.plan.folder.logs / part}.log")
            await self.clock.sleep_real(_POLL_S)
