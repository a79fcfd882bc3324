"""Whether a process lives and whether it is ready, over HTTP together with its metrics.

A server of a few lines instead of a framework: three fixed paths, one reply each, in the event loop that it reports
on, so that a loop that hangs does not answer and is found dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from tradingbot.runtime.clock import Clock
from tradingbot.runtime.metrics import render

_REQUEST_TIMEOUT_S = 5.0
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_JSON = "application/json"
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Health:
    """What a service says of itself: heartbeats of its loops, and whether it is ready."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beats: dict[str, tuple[float, float]] = {}
        self._paused = False
        self._ready = False
        self._why = "starting"
        self._hindrances: dict[str, str] = {}

    def beat(self, name: str, *, max_age_s: float = 60.0) -> None:
        """Say that the loop ``name`` is alive and will say so again within ``max_age_s`` real seconds."""
        self._beats[name] = (self._clock.real_s(), max_age_s)

    def forget(self, name: str) -> None:
        """Say that the loop ``name`` has ended and owes no heartbeat."""
        self._beats.pop(name, None)

    def pause(self) -> None:
        """Say that every loop waits for what the process cannot work without: until it resumes, none is late."""
        self._paused = True

    def resume(self) -> None:
        """Say that the wait is over; each loop has all of its time from now."""
        now_s = self._clock.real_s()
        self._beats = {name: (now_s, max_age_s) for name, (_, max_age_s) in self._beats.items()}
        self._paused = False

    def ready(self, is_ready: bool, why: str = "") -> None:  # noqa: FBT001 - reads as a sentence: ready(True)
        """Say whether the service does its work now, and if not, why."""
        self._ready, self._why = is_ready, why

    def hinder(self, name: str, why: str | None) -> None:
        """Not ready for this reason, whatever the service says, until it is taken back with None."""
        if why is None:
            self._hindrances.pop(name, None)
        else:
            self._hindrances[name] = why

    @property
    def readiness(self) -> tuple[bool, str]:
        """Whether it is ready, and why not."""
        own = [] if self._ready else [self._why]
        return self._ready and not self._hindrances, "; ".join([*self._hindrances.values(), *own])

    def late(self) -> dict[str, float]:
        """The loops that have not been heard of for longer than they said, with the seconds since."""
        if self._paused:
            return {}
        now_s = self._clock.real_s()
        ages = {name: (now_s - at_s, max_age_s) for name, (at_s, max_age_s) in self._beats.items()}
        return {name: round(age_s, 1) for name, (age_s, max_age_s) in ages.items() if age_s > max_age_s}


@contextlib.asynccontextmanager
async def serve(health: Health, *, host: str, port: int) -> AsyncIterator[int]:
    """Serve /metrics, /healthz and /readyz while the context lasts; yields the port (0 when off)."""
    if port == 0:
        yield 0
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(respond(health, head))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, port)
    async with server:
        yield server.sockets[0].getsockname()[1]


def respond(health: Health, head: bytes) -> bytes:
    """The whole HTTP response to a request's head."""
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in {b"GET", b"HEAD"}:
        return _response(405, _TEXT, b"GET only\n")
    if path == b"/metrics":
        return _response(200, _TEXT, render())
    if path == b"/healthz":
        late = health.late()
        return _response(503 if late else 200, _JSON, json.dumps({"ok": not late, "late": late}).encode())
    if path == b"/readyz":
        is_ready, why = health.readiness
        return _response(200 if is_ready else 503, _JSON, json.dumps({"ready": is_ready, "why": why}).encode())
    return _response(404, _TEXT, b"/metrics, /healthz, /readyz\n")


def _response(status: int, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
