"""The parts of the reconciler, put together: what the two sides of a bot, cluster and Redis, are reached by."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from tradingbot.runtime.clock import Clock
from tradingbot_operator.accounts import Accounts
from tradingbot_operator.bus_link import Links
from tradingbot_operator.bus_url import Address, UrlSource, in_cluster
from tradingbot_operator.cache import Cache
from tradingbot_operator.children import Children
from tradingbot_operator.keys import MasterKey, account_of
from tradingbot_operator.kube import Kube
from tradingbot_operator.queue import Handler, Lane, WorkQueue
from tradingbot_operator.reconcile import Reconciler
from tradingbot_operator.settings import OperatorSettings
from tradingbot_operator.weight import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the reconciler is built from."""

    settings: OperatorSettings
    kube: Kube
    cache: Cache
    queue: WorkQueue
    clock: Clock
    master: MasterKey
    address: Address = in_cluster
    """Where a bot's own Redis is reached."""


@contextlib.asynccontextmanager
async def reconciling(parts: Parts) -> AsyncIterator[Mapping[Lane, Handler]]:
    """The handlers of the lanes; what they hold open is closed at the end."""
    links = Links(
        urls=UrlSource(passwords=parts.master, kube=parts.kube, address=parts.address),
        account_of=lambda bot: account_of(bot, parts.master),
        on_change=lambda key: parts.queue.add(key, Lane.MODE),
        clock=parts.clock,
    )
    reconciler = Reconciler(
        kube=parts.kube,
        cache=parts.cache,
        queue=parts.queue,
        links=links,
        children=Children(parts.kube, parts.cache, parts.clock),
        accounts=Accounts(parts.kube, namespace=parts.settings.lease_namespace, clock=parts.clock),
        weights=Weights(parts.settings.ip_weight_per_min),
        settings=parts.settings,
        master=parts.master,
        clock=parts.clock,
    )
    try:
        yield {
            Lane.MODE: reconciler.mode,
            Lane.CHILDREN: reconciler.children,
            Lane.STATUS: reconciler.status,
        }
    finally:
        await links.close()
