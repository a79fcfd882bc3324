"""The monitor's wiring: a reader of the bus, a web server in the same loop, and the one way to command."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from tradingbot.bus.client import connect
from tradingbot.bus.control import issue
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import PAYLOAD_FIELD, Stream
from tradingbot.domain.messages import ControlCommand
from tradingbot.domain.modes import ModeSource
from tradingbot.monitor.api import Backend, ModeCommand, create_app
from tradingbot.monitor.audit import read_record
from tradingbot.monitor.metrics import BoardCollector
from tradingbot.monitor.models import Page
from tradingbot.monitor.reader import Reader
from tradingbot.monitor.settings import MonitorSettings
from tradingbot.monitor.view import Board, Facts
from tradingbot.runtime.process import Process
from tradingbot.runtime.settings import SettingsError

STOP_WITHIN_S: Final = 3
"""Real seconds that open requests are given at the end."""


async def run(process: Process) -> None:
    """Show what the bot does until the process stops."""
    settings = MonitorSettings.load(process.environ)
    listener = _listen(settings)
    redis = connect(settings.redis_url, client_name=process.service)
    try:
        await Monitor(process, redis, settings=settings).run(listener)
    finally:
        listener.close()
        await redis.aclose()


class Monitor:
    """A board, the reader that fills it, and the server that shows it."""

    def __init__(self, process: Process, redis: Redis, *, settings: MonitorSettings) -> None:
        self._process = process
        self._redis = redis
        self._settings = settings
        self._board = Board(_facts(settings, speed=process.clock.speed))
        identity = {
            "bot_id": settings.bot_id,
            "network": settings.hl_network.value,
            "account": (settings.hl_account_address or "").lower(),
        }
        self._reader = Reader(redis, self._board, process, identity=identity)

    async def run(self, listener: socket.socket) -> None:
        """Read and serve until the process stops; either failing ends the service."""
        backend = Backend(
            settings=self._settings,
            health=self._process.health,
            page=self.page,
            audit=self.audit,
            issue=self.issue,
        )
        server = _Server(
            uvicorn.Config(
                create_app(backend),
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=STOP_WITHIN_S,
            )
        )
        host, port = listener.getsockname()[:2]
        self._process.log.info("monitor_listening", url=f"http://{host}:{port}/")
        with _registered(BoardCollector(self.page)):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._reader.run(), name="reader")
                tasks.create_task(server.serve(sockets=[listener]), name="server")
                await self._process.stop.wait()
                server.should_exit = True

    def page(self) -> Page:
        """Everything as it is known now."""
        return self._board.page(now_ms=self._process.clock.now_ms())

    async def audit(self, limit: int) -> list[dict[str, Any]]:
        """The newest audit records, newest first.

        Raises:
            BusError: Redis does not answer.
        """
        with bus_errors():
            rows: Any = await self._redis.xrevrange(Stream.AUDIT.value, count=limit)
        return [read_record(entry_id, fields.get(PAYLOAD_FIELD, "")) for entry_id, fields in rows]

    async def issue(self, command: ModeCommand) -> str:
        """Write a person's command; returns its id.

        Raises:
            BusError: Redis does not answer.
        """
        command_id = command.command_id or self._process.ids.uuid()
        control = ControlCommand(
            command=command.command,
            command_id=command_id,
            source=ModeSource.PERSON,
            reason=command.reason or "by the monitor's page",
            issued_by="monitor",
        )
        with bus_errors():
            await issue(self._redis, control, now_ms=self._process.clock.now_ms(), bot_id=self._settings.bot_id)
        self._process.log.info("command_issued", command=command.command.value, command_id=command_id)
        await self._reader.refresh_control()
        return command_id


class _Server(uvicorn.Server):
    """A server that leaves the signals to the process that it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(settings: MonitorSettings) -> socket.socket:
    """Bind at once, so that a port in use is said before anything else starts.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in settings.monitor_host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.monitor_host, settings.monitor_port))
    except OSError as error:
        listener.close()
        place = f"{settings.monitor_host}:{settings.monitor_port}"
        raise SettingsError(
            [f"MONITOR_HOST, MONITOR_PORT: {place} cannot be listened on ({error.strerror}); choose another port"]
        ) from error
    return listener


def _facts(settings: MonitorSettings, *, speed: float) -> Facts:
    return Facts(
        bot_id=settings.bot_id,
        network=settings.hl_network.value,
        account=settings.hl_account_address,
        dry_run=settings.dry_run,
        prices=settings.price_source.value,
        universe=settings.universe,
        speed=speed,
        may_command=settings.monitor_token is not None or settings.listens_on_loopback,
        needs_token=settings.monitor_token is not None,
    )


@contextlib.contextmanager
def _registered(collector: BoardCollector) -> Iterator[None]:
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)
