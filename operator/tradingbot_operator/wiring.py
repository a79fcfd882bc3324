"""What the two lanes of the queue do, put together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import structlog

from tradingbot.domain.errors import Temporary
from tradingbot.runtime.clock import Clock
from tradingbot_operator.cache import Cache
from tradingbot_operator.children import Children
from tradingbot_operator.keys import MasterKey
from tradingbot_operator.kube import Kube
from tradingbot_operator.queue import Handler, Lane, WorkQueue
from tradingbot_operator.render import context_of, render, secrets
from tradingbot_operator.resource import parse
from tradingbot_operator.settings import OperatorSettings

log = structlog.stdlib.get_logger("tradingbot.operator.wiring")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the reconciler is built from."""

    settings: OperatorSettings
    kube: Kube
    cache: Cache
    queue: WorkQueue
    clock: Clock
    master: MasterKey


@contextlib.asynccontextmanager
async def reconciling(parts: Parts) -> AsyncIterator[Mapping[Lane, Handler]]:
    """The handlers of the lanes; what they hold open is closed at the end."""
    children = Children(parts.kube, parts.cache, parts.clock)

    async def children_lane(key: str) -> None:
        body = parts.cache.bot(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return
        bot = parse(body)
        context = context_of(bot, parts.settings, parts.master)
        await children.sync_secrets(bot, secrets(bot, parts.master))
        report = await children.sync(bot, render(bot, context))
        log.info("children", bot=key, report=report)
        if report.errors:
            raise Temporary("; ".join(f"{name}: {text}" for name, text in report.errors))

    async def mode_lane(key: str) -> None:
        log.info("mode", bot=key)

    yield {Lane.MODE: mode_lane, Lane.CHILDREN: children_lane, Lane.STATUS: mode_lane}
