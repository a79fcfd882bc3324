"""The monitor's HTTP API and page. It reads the board; the one thing that it can write is a person's command."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import FastAPI, HTTPException, Query, Request, Response
from pydantic import Field

from tradingbot.bus.errors import BusError
from tradingbot.domain.messages import Command
from tradingbot.domain.model import Model
from tradingbot.monitor.models import Page
from tradingbot.monitor.settings import MonitorSettings, is_loopback
from tradingbot.runtime.health import Health
from tradingbot.runtime.metrics import render

_STATIC: Final = Path(__file__).parent / "static"
_PAGE_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
}
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
MAX_AUDIT: Final = 500


class ModeCommand(Model):
    """What a person asks for."""

    command: Literal[Command.HALT, Command.REDUCE_ONLY, Command.RESUME]
    reason: Annotated[str, Field(max_length=200)] = ""
    command_id: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")] | None = None
    """A UUID by which the same click sent twice is one command; None: the monitor makes one."""


class CommandTaken(Model):
    """The answer to a command: it is in the log; ``GET /api/state`` tells when execution has applied it."""

    command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What the API needs of the service; plain functions, so that it knows nothing of the bus."""

    settings: MonitorSettings
    health: Health
    page: Callable[[], Page]
    audit: Callable[[int], Awaitable[list[dict[str, Any]]]]
    issue: Callable[[ModeCommand], Awaitable[str]]


def create_app(backend: Backend) -> FastAPI:
    """The monitor's application."""
    # The interactive documentation loads scripts from elsewhere; the schema itself stays at /api/openapi.json.
    app = FastAPI(title="TradingBot monitor", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")

    @app.middleware("http")
    async def harden(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if _is_rebound(backend.settings, request):
            response: Response = _json({"detail": "without a token this is for this machine alone"}, status=403)
        else:
            response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    _add_page(app)
    _add_state(app, backend)
    _add_health(app, backend)
    return app


def _add_page(app: FastAPI) -> None:
    for path, (name, media_type) in _PAGE_FILES.items():
        app.add_route(path, _page_file((_STATIC / name).read_bytes(), media_type=media_type))


def _page_file(content: bytes, *, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


def _add_state(app: FastAPI, backend: Backend) -> None:
    @app.get("/api/state", response_model=Page)
    async def state() -> Response:
        """Everything that the page shows."""
        return Response(backend.page().model_dump_json(), media_type="application/json")

    @app.get("/api/audit")
    async def audit(limit: Annotated[int, Query(ge=1, le=MAX_AUDIT)] = 100) -> list[dict[str, Any]]:
        """The newest audit records, newest first, as they are on the bus."""
        try:
            return await backend.audit(limit)
        except BusError as error:
            raise HTTPException(503, str(error)) from error

    @app.post("/api/mode", status_code=202)
    async def mode(command: ModeCommand, request: Request) -> CommandTaken:
        """Write a person's command; RESUME lifts a person's own restriction only."""
        _check_may_command(backend.settings, request)
        try:
            return CommandTaken(command_id=await backend.issue(command))
        except BusError as error:
            raise HTTPException(503, str(error)) from error


def _add_health(app: FastAPI, backend: Backend) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        """Whether the process lives: every loop has been heard of."""
        late = backend.health.late()
        return _json({"ok": not late, "late": late}, status=503 if late else 200)

    @app.get("/readyz")
    async def readyz() -> Response:
        """Whether the monitor reads the bus."""
        is_ready, why = backend.health.readiness
        return _json({"ready": is_ready, "why": why}, status=200 if is_ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _is_rebound(settings: MonitorSettings, request: Request) -> bool:
    """Whether a browser was led here by a foreign name that now resolves to this machine: it could read the answer."""
    if settings.monitor_token is not None or not settings.listens_on_loopback:
        return False
    return request.url.path.startswith("/api/") and not is_loopback(request.url.hostname or "")


def _check_may_command(settings: MonitorSettings, request: Request) -> None:
    """Let through a bearer of the token; without a token only a page or tool of this very machine."""
    if settings.monitor_token is not None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), settings.monitor_token.get_secret_value().encode()):
            raise HTTPException(401, "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})
        return
    if not settings.listens_on_loopback:
        raise HTTPException(403, "no MONITOR_TOKEN is set and the monitor is not bound to a loopback address")
    # A web page elsewhere can make a browser send requests here: its Origin gives it away.
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.url.netloc}":
        raise HTTPException(403, "commands without a token are taken from this machine's own page only")


def _json(content: dict[str, Any], *, status: int) -> Response:
    return Response(json.dumps(content), status_code=status, media_type="application/json")
