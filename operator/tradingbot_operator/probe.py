"""Whether the watch is alive.

kopf's own liveness proves that a task runs; watches have died behind it without a sign. Here the bytes of every watch
stream are heard, the API server's bookmarks among them, which come about once a minute however quiet the cluster is;
and kopf opens a stream anew that was silent for 70 s. A stream that is silent for three minutes while the API server
answers other requests is dead, and so is then the operator.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

import aiohttp
from yarl import URL

from tradingbot.runtime.clock import Clock
from tradingbot.runtime.health import Health
from tradingbot_operator import metrics

DEAD_S: Final = 180.0
"""Real seconds of a stream's silence after which the watch counts as dead."""
_LOOK_S = 1.0
_BEAT_S = 60.0
"""The health's patience with this loop itself."""


class Pulse:
    """When each watch stream was last heard of.

    Args:
        clock: real time.
        expected: the paths of all streams, as ``/apis/apps/v1/namespaces/bots/deployments``.
    """

    def __init__(self, clock: Clock, expected: Iterable[str]) -> None:
        self._clock = clock
        self._born_s = clock.real_s()
        self._heard_s: dict[str, float] = {}
        self._expected = frozenset(expected)
        metrics.watch_age_seconds.set_function(lambda: self.oldest_s)

    def heard(self, path: str) -> None:
        """A stream was opened, or something came through it."""
        self._heard_s[path] = self._clock.real_s()

    def expect(self, paths: Iterable[str]) -> None:
        """From now on these are all streams."""
        self._expected = frozenset(paths)

    @property
    def complete(self) -> bool:
        """Whether every stream has been opened, and so every first list was read."""
        return self._expected <= self._heard_s.keys()

    @property
    def oldest_s(self) -> float:
        """Real seconds since the most silent stream was heard of."""
        return self._clock.real_s() - min(self._heard_s.get(path, self._born_s) for path in self._expected)

    @property
    def age_s(self) -> float:
        """Real seconds since the start."""
        return self._clock.real_s() - self._born_s

    @property
    def silent(self) -> tuple[str, ...]:
        """The streams that count as dead."""
        limit_s = self._clock.real_s() - DEAD_S
        return tuple(sorted(path for path in self._expected if self._heard_s.get(path, self._born_s) < limit_s))


class Probe:
    """Tells the process's health what the pulse means.

    Args:
        pulse: of the watch.
        health: what /healthz and /readyz say.
        clock: real time.
        served_s: real time at which the API server last answered a request of ours; None before it has.
    """

    def __init__(self, pulse: Pulse, health: Health, clock: Clock, served_s: Callable[[], float | None]) -> None:
        self._pulse, self._health, self._clock, self._served_s = pulse, health, clock, served_s

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            self.look()
            await self._clock.sleep_real(_LOOK_S)

    def look(self) -> None:
        """Beat unless the watch is dead; say whether all is being watched."""
        if self._pulse.complete:
            self._health.ready(is_ready=True)
        if self._served_s() is None and self._pulse.age_s >= DEAD_S - _BEAT_S:
            # No beat any more, so that at DEAD_S it is late.
            self._health.hinder("watch", "nothing could be listed since the start")
            return
        silent = self._pulse.silent
        if silent and self._served():
            self._health.hinder("watch", f"the watch is dead: {', '.join(silent)}")
            return
        self._health.hinder("watch", f"no answer from the API server; silent: {', '.join(silent)}" if silent else None)
        self._health.beat("watch", max_age_s=_BEAT_S)

    def _served(self) -> bool:
        served_s = self._served_s()
        return served_s is not None and self._clock.real_s() - served_s < DEAD_S


def hearing(pulse: Pulse) -> type[aiohttp.ClientResponse]:
    """A class of responses that lets the pulse hear what comes through watch streams."""

    class HeardResponse(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            response = await super().start(connection)
            if self.ok and _is_watch(self.url):
                path = self.url.path
                pulse.heard(path)
                self.content = _Heard(self.content, lambda: pulse.heard(path))  # type: ignore[assignment]
            return response

    return HeardResponse


class _Heard:
    """A stream that says when something comes."""

    def __init__(self, stream: aiohttp.StreamReader, heard: Callable[[], None]) -> None:
        self._stream, self._heard = stream, heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        async for chunk in self._stream.iter_chunked(size):
            self._heard()
            yield chunk


def _is_watch(url: URL) -> bool:
    return url.query.get("watch") == "true"
