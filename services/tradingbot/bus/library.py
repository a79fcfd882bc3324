"""Loading the function library, and what the server can do.

The library's name and its functions carry a version, so that a newer one can be loaded while older processes still
call theirs. Only the supervisor (locally) or the operator (in a cluster) loads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import PAYLOAD_FIELD, Key

LIBRARY = "tradingbot_v1"
COMMIT = "tb_commit_v1"
CONTROL = "tb_control_v1"
PARAMS = "tb_params_v1"
TAKE = "tb_take_v1"
LEASE_ACQUIRE = "tb_lease_acquire_v1"
LEASE_RENEW = "tb_lease_renew_v1"
LEASE_FREE = "tb_lease_free_v1"
DEAD_LETTER = "tb_dead_letter_v1"
READ = "tb_read_v1"


@cache
def library_digest() -> str:
    """What names the text of this version's library; ``read_keys`` answers that of the one that is loaded."""
    return hashlib.sha256(_text().encode()).hexdigest()


def library_source() -> str:
    """The text of the library as it is loaded."""
    return _text().replace("@DIGEST@", library_digest())


@cache
def _text() -> str:
    return resources.files("tradingbot.bus").joinpath("commit.lua").read_text(encoding="utf-8")


async def load_library(redis: Redis) -> None:
    """Load the library, replacing an earlier text of the same version. Harmless when repeated.

    Whoever may load it may read the configuration too, so the part that the services must know is noted for them:
    CONFIG GET would show them the server's passwords.
    """
    await command(redis, "FUNCTION", "LOAD", "REPLACE", library_source())
    await note_server(redis)


async def note_server(redis: Redis, *, known: str | None = None) -> None:
    """Note what the services must know of the server and may not ask it, unless ``known`` (appendfsync) says the same.

    A user without ``CONFIG GET`` notes nothing.
    """
    fsync = await _config(redis, "appendfsync")
    if fsync and fsync != known:
        with bus_errors():
            await redis.hset(Key.SERVER, mapping={"appendfsync": fsync})


async def call(redis: Redis, function: str, keys: Sequence[str], args: Sequence[str]) -> Any:
    """Call a function of the library; errors are ours (bus.errors)."""
    return await command(redis, "FCALL", function, str(len(keys)), *keys, *args)


Held = dict[str, str] | str | tuple[str, dict[str, str]] | None
"""What a key holds: a hash, a string, a stream's newest entry with its id, or nothing."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Several keys as of one moment."""

    digest: str
    """Of the library that is loaded; compare with ``library_digest``."""
    held: Mapping[str, Held]

    def hash(self, key: str) -> dict[str, str]:
        """A hash; empty when the key is absent or something else."""
        found = self.held[key]
        return found if isinstance(found, dict) else {}

    def text(self, key: str) -> str | None:
        """A string; None when the key is absent or something else."""
        found = self.held[key]
        return found if isinstance(found, str) else None

    def newest(self, key: str) -> str | None:
        """The payload of a stream's newest entry; None when there is none."""
        found = self.held[key]
        return found[1].get(PAYLOAD_FIELD) if isinstance(found, tuple) else None


async def read_keys(redis: Redis, *keys: str) -> Reading:
    """Read several keys as of one moment, in one round trip, whoever may write them.

    Raises:
        LibraryMissing: nobody has loaded the library (yet): Redis is new, or came back empty.
    """
    digest, found = await call(redis, READ, (), keys)
    return Reading(digest=digest, held={key: _held(each) for key, each in zip(keys, found, strict=True)})


def _held(found: Any) -> Held:
    if not isinstance(found, list):
        return None if found is None else str(found)
    if not found:
        return None  # a stream whose entries are all trimmed; an empty hash is an absent key
    if isinstance(found[0], list):
        entry_id, fields = found[0]
        return str(entry_id), dict(_pairs(fields))
    return dict(_pairs(found))


def _pairs(flat: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(flat[::2], flat[1::2], strict=True)


async def command(redis: Redis, *words: str) -> Any:
    """Send a command that redis-py has no typed method for; errors are ours (bus.errors)."""
    with bus_errors():
        return await redis.execute_command(*words)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What the preflight must know of the server."""

    software: str
    """"redis" or "valkey"."""
    version: tuple[int, ...]
    maxmemory_bytes: int
    used_memory_bytes: int
    maxmemory_policy: str
    appendonly: bool
    appendfsync: str | None
    """As configured, or as noted when the library was loaded; None when neither can be read."""
    library_loaded: bool | None
    """None when this user may not list functions."""

    @property
    def durable(self) -> bool:
        """True when a reply leaves only after the write is on disk."""
        return self.appendonly and self.appendfsync == "always"


async def check_server(redis: Redis) -> ServerFacts:
    """Read what the server says of itself; needs ``INFO``, and for the library the operator's rights."""
    with bus_errors():
        info = await redis.info()
    fsync = await _config(redis, "appendfsync") or await _noted(redis, "appendfsync")
    software = "valkey" if info.get("server_name") == "valkey" else "redis"
    text = str(info.get("valkey_version") if software == "valkey" else info["redis_version"])
    return ServerFacts(
        software=software,
        version=tuple(int(part) for part in text.split(".") if part.isdigit()),
        maxmemory_bytes=int(info["maxmemory"]),
        used_memory_bytes=int(info["used_memory"]),
        maxmemory_policy=str(info["maxmemory_policy"]),
        appendonly=bool(info["aof_enabled"]),
        appendfsync=fsync,
        library_loaded=await _library_loaded(redis),
    )


async def _config(redis: Redis, name: str) -> str | None:
    try:
        with bus_errors():
            answer = await redis.config_get(name)
    except NoPermissionError:
        return None
    value = answer.get(name)
    return None if value is None else str(value)


async def _noted(redis: Redis, name: str) -> str | None:
    with bus_errors():
        value: Any = await redis.hget(Key.SERVER, name)
    return None if value is None else str(value)


async def _library_loaded(redis: Redis) -> bool | None:
    try:
        listed = await command(redis, "FUNCTION", "LIST", "LIBRARYNAME", LIBRARY)
    except NoPermissionError:
        return None
    return bool(listed)
