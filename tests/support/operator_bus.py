"""Bots, links and a stand-in for execution, for the tests of the operator's Redis side."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from redis.asyncio import Redis

from support.servers import Server
from tradingbot.bus.acl import ROLES, acl_rules
from tradingbot.bus.control import Applied, breaker_fields
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.modes import Mode
from tradingbot.runtime.clock import Clock, SystemClock
from tradingbot_operator.bus_link import Links
from tradingbot_operator.bus_url import UrlSource
from tradingbot_operator.keys import MasterKey, account_of
from tradingbot_operator.resource import Bot, parse

MASTER = MasterKey(bytes(range(32)))
UID = "11111111-2222-4333-8444-555555555555"
NOW_MS = 1_771_430_400_000
NOW = from_ms(NOW_MS)


def bot_of(
    spec: Mapping[str, Any] | None = None,
    *,
    generation: int = 1,
    uid: str = UID,
    name: str = "majors",
    namespace: str = "trading",
    annotations: Mapping[str, str] | None = None,
    deleting: bool = False,
    status: Mapping[str, Any] | None = None,
) -> Bot:
    """A resource as the API server would give it; ``spec`` in its own words."""
    metadata = {
        "namespace": namespace,
        "name": name,
        "uid": uid,
        "generation": generation,
        "annotations": dict(annotations or {}),
        "creationTimestamp": "2026-02-18T15:00:00Z",
        "resourceVersion": "1",
    }
    if deleting:
        metadata["deletionTimestamp"] = "2026-02-18T16:00:00Z"
    return parse({"metadata": metadata, "spec": dict(spec or {}), "status": dict(status or {})})


@dataclass
class Secrets:
    """What the operator may read of the API server here: one Secret with a URL."""

    url: str | None = None
    reads: int = 0

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        self.reads += 1
        if self.url is None:
            return None
        return {"data": {"url": base64.b64encode(self.url.encode()).decode()}}


@dataclass
class Woken:
    """The keys that a link has woken."""

    keys: list[str] = field(default_factory=list)

    def __call__(self, key: str) -> None:
        self.keys.append(key)


@asynccontextmanager
async def links_to(
    server: Server,
    *,
    secrets: Secrets | None = None,
    woken: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
) -> AsyncIterator[Links]:
    """Links whose bots' own Redis is this server."""
    urls = UrlSource(passwords=MASTER, kube=secrets or Secrets(), address=lambda _: ("127.0.0.1", server.port))
    links = Links(
        urls=urls, account_of=lambda bot: account_of(bot, MASTER), on_change=woken, clock=clock or SystemClock()
    )
    try:
        yield links
    finally:
        await links.close()


async def add_users(redis: Redis, bot: Bot) -> None:
    """The bot's Redis users, as the operator renders them."""
    for role in ROLES:
        password = MASTER.password(bot.namespace, bot.bot_id, role)
        await redis.execute_command("ACL", "SETUSER", role, *acl_rules(role), f">{password}")


async def breaker_says(redis: Redis, mode: Mode, **more: str) -> None:
    """What the risk engine would write."""
    put = breaker_fields(mode=mode, reason=more.pop("reason", "measured"), at_ms=NOW_MS, **more)
    await redis.hset(put.key, mapping=dict(put.fields))


async def execution_says(redis: Redis, applied: Applied) -> None:
    """What execution would write."""
    put = applied.put()
    await redis.hset(put.key, mapping=dict(put.fields))


def applied_of(bot: Bot, mode: Mode, **more: Any) -> Applied:
    """Execution's answer to a bot's present generation, acknowledged unless said otherwise."""
    said = Applied(
        mode=mode,
        spec_generation=bot.generation,
        spec_uid=bot.uid,
        received_at=NOW_MS,
        cancelled_at=NOW_MS,
        acked_at=NOW_MS,
    )
    return replace(said, **more)
