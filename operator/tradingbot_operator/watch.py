"""kopf as a watcher, and nothing more: what it sees goes into the cache and wakes a lane of the queue.

kopf's change-detecting handlers lose updates: of NORMAL, REDUCE_ONLY, HALT in quick succession a handler may never see
the HALT. Its low-level events lose none while they are merely stored, and the queue does the rest. kopf never retries
an event's handler, so that handlers here cannot fail: they store and wake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import aiohttp
import kopf

from tradingbot_operator.cache import Cache, key_of
from tradingbot_operator.kube import PLURALS, WATCHED_CHILDREN, Manifest, collection_path
from tradingbot_operator.names import API_VERSION, CHILDREN_SELECTOR, KIND
from tradingbot_operator.probe import Pulse, hearing
from tradingbot_operator.queue import Lane, WorkQueue

BOTS: Final = (API_VERSION, KIND)
CHILD_KINDS: Final = (*WATCHED_CHILDREN, ("v1", "Pod"))
WATCHED: Final = (BOTS, *CHILD_KINDS)
ALL_NAMESPACES: Final = "*"
EXIT_S: Final = 20
"""Real seconds that kopf is given to end."""

_ASKED: Final = ("uid", "generation", "deletionTimestamp", "annotations")
"""What of a bot's metadata asks for a look at its mode."""
_MATTERS: Final = (*_ASKED, "labels", "finalizers")
"""What asks for a look at its children; not the resource version: the operator's own status would wake it."""


def selector_of(kind: str) -> str | None:
    """The label selector of a watched kind; bots are watched whatever their labels."""
    return None if kind == KIND else CHILDREN_SELECTOR


def scopes(namespaces: Sequence[str]) -> tuple[str | None, ...]:
    """What is listed and watched one by one: each namespace, or with ``*`` the cluster (None)."""
    return (None,) if ALL_NAMESPACES in namespaces else tuple(namespaces)


def streams(namespaces: Sequence[str]) -> Iterator[str]:
    """The paths of all watch streams."""
    for api_version, kind in WATCHED:
        for scope in scopes(namespaces):
            yield collection_path(api_version, kind, scope)


class Watcher:
    """Takes news from the watch and from lists."""

    def __init__(self, cache: Cache, queue: WorkQueue) -> None:
        self._cache, self._queue = cache, queue

    def seen(self, body: Manifest) -> bool:
        """An object is there, in this state; False when that was known."""
        known = self._cache.known(body)
        if not self._cache.store(body):
            return False
        self._wake(body, known)
        return True

    def gone(self, body: Manifest) -> bool:
        """An object is no more; False when that was known."""
        if not self._cache.remove(body):
            return False
        self._wake(body, None)
        return True

    def _wake(self, body: Manifest, known: Manifest | None) -> None:
        key = key_of(body)
        if body["kind"] != KIND:
            self._queue.add(key, Lane.CHILDREN)
        elif known is None or _differ(body, known, _ASKED):
            self._queue.add(key, Lane.MODE, Lane.CHILDREN)
        elif _differ(body, known, _MATTERS):
            self._queue.add(key, Lane.CHILDREN)


def _differ(body: Manifest, known: Manifest, names: Iterable[str]) -> bool:
    new, old = body["metadata"], known["metadata"]
    return any(new.get(name) != old.get(name) for name in names)


async def watch(
    watcher: Watcher, pulse: Pulse, namespaces: Sequence[str], *, stop: asyncio.Event, started: Callable[[], None]
) -> None:
    """Watch until ``stop`` is set.

    Args:
        watcher: takes the news.
        pulse: hears every stream.
        namespaces: to watch.
        stop: ends it.
        started: called once kopf has begun, which has then taken the signals for itself.

    Raises:
        Exception: kopf's, when a watch cannot go on; the process is to end then.
    """
    others = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=_registry(watcher, pulse),
        settings=_settings(),
        clusterwide=None in scopes(namespaces),
        namespaces=[scope for scope in scopes(namespaces) if scope is not None],
        standalone=True,
        stop_flag=stop,
    )
    started()
    await kopf.run_tasks(tasks, ignored=others)


def _registry(watcher: Watcher, pulse: Pulse) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    async def login(**kwargs: Any) -> kopf.AiohttpSession:
        info = kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
        if info is None:
            raise kopf.PermanentError("neither a service account nor a kubeconfig")
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            proxy=info.proxy_url,
            response_class=hearing(pulse),
        )
        return kopf.AiohttpSession(server=info.server, aiohttp_session=session)

    async def take(event: kopf.RawEvent, **_: Any) -> None:
        body = dict(event["object"])
        if event["type"] == "DELETED":
            watcher.gone(body)
        else:
            watcher.seen(body)

    kopf.on.login(registry=registry)(login)
    for api_version, kind in WATCHED:
        kopf.on.event(api_version, PLURALS[api_version, kind], registry=registry)(take)
    return registry


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    for api_version, kind in CHILD_KINDS:
        settings.watching.label_selectors[api_version, PLURALS[api_version, kind]] = CHILDREN_SELECTOR
    settings.networking.request_timeout = 10
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2)
    settings.queueing.idle_timeout = 5
    settings.queueing.error_delays = (1, 2, 5, 10)
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.process.ultimate_exiting_timeout = EXIT_S
    return settings
