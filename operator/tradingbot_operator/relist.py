"""Lists, beside the watch: what is there at the start, and now and then whether the watch has told everything.

The watch may lose what nobody tells it of: an object that was deleted while a stream was being opened anew is in no
event. A HALT that was lost would be lost for good, so the bots are compared once a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from tradingbot.domain.errors import Permanent, Temporary
from tradingbot.runtime.clock import Clock, Ids
from tradingbot_operator import metrics
from tradingbot_operator.cache import Cache, version_of
from tradingbot_operator.kube import Forbidden, Kube, Manifest
from tradingbot_operator.queue import Lane, WorkQueue
from tradingbot_operator.watch import ALL_NAMESPACES, BOTS, CHILD_KINDS, WATCHED, Watcher, scopes, selector_of

log = structlog.stdlib.get_logger("tradingbot.operator.relist")

_BOTS_S = 60.0
_GRACE_S = 2.0
"""Real seconds in which the watch may still bring what a list has shown."""
_FIRST_TRY_S = 2.0


class NowReadable(Permanent):
    """A namespace that was left out may be read now: the process is to start anew with it."""


class Relist:
    """The lists of the watched namespaces."""

    def __init__(
        self,
        kube: Kube,
        watcher: Watcher,
        *,
        cache: Cache,
        queue: WorkQueue,
        clock: Clock,
        ids: Ids,
        namespaces: Sequence[str],
        resync_s: float,
    ) -> None:
        self._kube, self._watcher, self._cache, self._queue = kube, watcher, cache, queue
        self._clock, self._ids = clock, ids
        self._asked, self._resync_s = scopes(namespaces), resync_s
        self._scopes = self._asked
        self.served_s: float | None = None
        """Real time at which the API server last answered; None before it has."""

    async def fill(self) -> None:
        """Read everything, children before bots, so that no child is missed that is there.

        Waits until the API server answers, knows the resource, and lets one namespace at least be read. Those that it
        forbids are left out: a namespace that was deleted took its Role along, and must not stop the others' HALT.

        Raises:
            Forbidden: a right was taken away meanwhile; the process is to start anew.
        """
        while not (readable := [scope for scope in self._asked if await self._is_readable(scope)]):
            await self._clock.sleep_real(_FIRST_TRY_S)
        self._scopes = tuple(readable)
        metrics.namespaces_left_out.set(len(self._asked) - len(readable))
        for api_version, kind in (*CHILD_KINDS, BOTS):
            for scope in self._scopes:
                while not await self._read(api_version, kind, scope):
                    await self._clock.sleep_real(_FIRST_TRY_S)

    @property
    def served(self) -> tuple[str, ...]:
        """The namespaces that are served, as ``watch`` takes them; all that were asked for before ``fill``."""
        return tuple(scope or ALL_NAMESPACES for scope in self._scopes)

    async def run(self) -> None:
        """Compare, and have every bot looked at once per resync, until cancelled.

        Raises:
            NowReadable: a namespace that was left out may be read.
        """
        next_s = self._clock.real_s() + self._resync_s
        while True:
            await self._clock.sleep_real(min(_BOTS_S, self._resync_s))
            is_full = self._clock.real_s() >= next_s
            try:
                await self.compare(WATCHED if is_full else [BOTS])
            except (Temporary, Permanent) as error:
                log.warning("relist_failed", error=str(error))
                continue
            if is_full:
                next_s = self._clock.real_s() + self._resync_s
                self._resync()
                await self._try_left_out()

    async def compare(self, kinds: Iterable[tuple[str, str]]) -> int:
        """Find what the watch has not told of and take it; returns how many objects that were."""
        missed = 0
        for api_version, kind in kinds:
            for scope in self._scopes:
                missed += await self._compare(api_version, kind, scope)
        return missed

    async def _is_readable(self, scope: str | None) -> bool:
        """Whether every kind may be listed there; looked at first, so that no part of a namespace is taken."""
        for api_version, kind in WATCHED:
            while True:
                try:
                    async for _ in self._kube.pages(api_version, kind, scope, selector_of(kind), metadata_only=True):
                        break
                    break
                except Forbidden as error:
                    self._leave_out(scope, error)
                    return False
                except (Temporary, Permanent) as error:
                    log.warning("not_listed_yet", kind=kind, scope=scope, error=str(error))
                    await self._clock.sleep_real(_FIRST_TRY_S)
        return True

    def _leave_out(self, scope: str | None, error: Forbidden) -> None:
        log.error(
            "namespace_left_out",
            namespace=scope or ALL_NAMESPACES,
            error=str(error),
            do="nobody obeys the modes of bots there: create the namespace and run helm upgrade, which makes its Role, "
            "or take it out of watch.namespaces",
        )

    async def _try_left_out(self) -> None:
        for scope in self._asked:
            if scope not in self._scopes and await self._is_readable(scope):
                raise NowReadable(f"namespace {scope} may be read now")

    async def _read(self, api_version: str, kind: str, scope: str | None) -> bool:
        try:
            async for body in self._kube.pages(api_version, kind, scope, selector_of(kind)):
                self._watcher.seen(body)
        except Forbidden:
            raise
        except (Temporary, Permanent) as error:
            log.warning("not_listed_yet", kind=kind, scope=scope, error=str(error))
            return False
        self.served_s = self._clock.real_s()
        return True

    async def _compare(self, api_version: str, kind: str, scope: str | None) -> int:
        before = {body["metadata"]["uid"]: body for body in self._cache.objects(api_version, kind, scope)}
        listed = [
            each async for each in self._kube.pages(api_version, kind, scope, selector_of(kind), metadata_only=True)
        ]
        self.served_s = self._clock.real_s()
        for body in listed:
            before.pop(body["metadata"]["uid"], None)
        suspects = [each for each in listed if self._is_news(each)]
        if not suspects and not before:
            return 0
        await self._clock.sleep_real(_GRACE_S)
        missed = 0
        for body in suspects:
            if self._is_news(body):
                missed += await self._fetch(body)
        missed += sum(self._watcher.gone(body) for body in before.values())
        if missed:
            metrics.watch_missed.labels(kind=kind).inc(missed)
            log.warning("watch_missed", kind=kind, scope=scope, objects=missed)
        return missed

    def _is_news(self, body: Manifest) -> bool:
        known = self._cache.known(body)
        return known is None or version_of(known) < version_of(body)

    async def _fetch(self, body: Manifest) -> bool:
        metadata = body["metadata"]
        whole = await self._kube.get(body["apiVersion"], body["kind"], metadata["namespace"], metadata["name"])
        return whole is not None and self._watcher.seen(whole)

    def _resync(self) -> None:
        keys = self._cache.keys()
        for key in keys:
            for lane in Lane:
                self._queue.retry(key, lane, self._ids.uniform(0.0, self._resync_s / 2))
