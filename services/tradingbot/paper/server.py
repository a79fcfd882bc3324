"""The HTTP edge: ``/info``, ``/exchange``, ``/ws`` and ``/control``, with the venue's transport answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from uvicorn.protocols.http.h11_impl import H11Protocol

from tradingbot.paper.calls import Answer, BreakOff, Calls
from tradingbot.paper.control import control_routes
from tradingbot.paper.options import PaperOptions
from tradingbot.paper.prices import PriceSource, load_prices
from tradingbot.paper.venue import Venue
from tradingbot.paper.ws import Hub
from tradingbot.runtime.clock import Clock

TRANSPORT = "transport"
BACKLOG = 512
NOT_JSON_TYPE = "Expected request with `Content-Type: application/json`"


class Edge:
    """Turns HTTP requests into calls."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def info(self, request: HttpRequest) -> Response:
        """POST /info."""
        return await _respond(request, self._calls.info)

    async def exchange(self, request: HttpRequest) -> Response:
        """POST /exchange."""
        return await _respond(request, self._calls.exchange)


def create_app(venue: Venue, hub: Hub) -> Starlette:
    """The application of one venue."""
    edge = Edge(Calls(venue))
    routes = [
        Route("/info", edge.info, methods=["POST"]),
        Route("/exchange", edge.exchange, methods=["POST"]),
        WebSocketRoute("/ws", hub.serve),
        *control_routes(venue, hub),
    ]
    return Starlette(routes=routes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A paper exchange that answers."""

    venue: Venue
    hub: Hub
    port: int
    http_url: str
    ws_url: str
    tasks: tuple[asyncio.Task[None], ...]
    """What keeps it going; none of them may fail."""


@contextlib.asynccontextmanager
async def serving(options: PaperOptions, *, clock: Clock, prices: PriceSource) -> AsyncIterator[Running]:
    """Serve in this process until the block ends.

    Raises:
        OtherPrices: the data folder belongs to another price source.
        OSError: the port is taken.
    """
    listening = _listen(options.host, options.port)
    port = int(listening.getsockname()[1])
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(listening.close)
        venue = Venue(options=options, clock=clock, prices=prices)
        on_failure.pop_all()
    hub = Hub(venue)
    stop = asyncio.Event()
    server = _Server(_config(create_app(venue, hub)))
    tasks = [
        asyncio.create_task(server.serve(sockets=[listening])),
        asyncio.create_task(venue.run(stop)),
        asyncio.create_task(prices.run(clock=clock, stop=stop)),
        asyncio.create_task(hub.run(stop)),
    ]
    try:
        await _until_started(server, tasks[0])
        yield Running(
            venue=venue,
            hub=hub,
            port=port,
            http_url=f"http://{options.host}:{port}",
            ws_url=f"ws://{options.host}:{port}/ws",
            tasks=tuple(tasks),
        )
    finally:
        stop.set()
        hub.close_all(1001)
        server.should_exit = True
        await asyncio.gather(tasks[0], return_exceptions=True)
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks[1:], return_exceptions=True)
        venue.close()
        listening.close()


async def run_paper(options: PaperOptions, *, clock: Clock, stop: asyncio.Event) -> None:
    """Run the exchange of ``tradingbot paper`` until ``stop``.

    Raises:
        PricesError: the prices cannot be used.
        OtherPrices: the data folder belongs to another price source.
        OSError: the port is taken.
        sqlite3.Error: the state could not be written.
    """
    prices = load_prices(
        options.prices,
        symbols=options.symbols,
        start_ms=clock.now_ms(),
        data_dir=options.data_dir,
        speed=clock.speed,
    )
    async with serving(options, clock=clock, prices=prices) as running:
        await _until_stopped(stop, running.tasks)


class _Protocol(H11Protocol):
    """Hands the connection to the application, which alone can break it off without an answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}


class _Server(uvicorn.Server):
    """Signals belong to whoever runs us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _BrokenOff(Response):
    """Breaks the connection instead of answering."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass
        # The server wants an answer before it forgets the request; nobody is there to hear it.
        await super().__call__(scope, receive, send)


def _listen(host: str, port: int) -> socket.socket:
    # asyncio switches Nagle's delay off only for sockets that name their protocol; 40 ms an answer otherwise.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    listening.listen(BACKLOG)
    return listening


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="websockets-sansio",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=180,
        timeout_graceful_shutdown=2,
    )


async def _until_stopped(stop: asyncio.Event, tasks: tuple[asyncio.Task[None], ...]) -> None:
    stopping = asyncio.ensure_future(stop.wait())
    pending: set[asyncio.Future[Any]] = {stopping, *tasks}
    try:
        while not stopping.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        stopping.cancel()


async def _until_started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    while not server.started:
        if task.done():
            task.result()
            raise OSError("the server stopped before it listened")
        await _yield_to_loop()


async def _yield_to_loop() -> None:
    loop = asyncio.get_running_loop()
    turned: asyncio.Future[None] = loop.create_future()
    loop.call_soon(turned.set_result, None)
    await turned


async def _respond(request: HttpRequest, call: Callable[..., Awaitable[Answer]]) -> Response:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return Response(NOT_JSON_TYPE, status_code=415, media_type="text/plain")
    try:
        answer = await call(await request.body(), path=request.url.path)
    except BreakOff:
        return _BrokenOff(request.scope["state"][TRANSPORT])
    return Response(answer.body(), status_code=answer.status, media_type=answer.media_type)
