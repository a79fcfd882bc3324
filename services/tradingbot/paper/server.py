"""The HTTP edge: ``/info``, ``/exchange``, ``/ws`` and ``/control``, with the venue's transport answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from uvicorn.protocols.http.h11_impl import H11Protocol

from tradingbot.paper.actions import Request
from tradingbot.paper.book_view import BadAggregation
from tradingbot.paper.budgets import answer_weight, exchange_weight, info_weight
from tradingbot.paper.control import control_routes
from tradingbot.paper.faults import Fault, Kind
from tradingbot.paper.info import Malformed, Query
from tradingbot.paper.options import PaperOptions
from tradingbot.paper.prices import PriceSource, load_prices
from tradingbot.paper.venue import Venue
from tradingbot.paper.ws import Hub
from tradingbot.runtime.clock import Clock

TRANSPORT = "transport"
NOT_JSON = "Failed to parse the request body as JSON"
NOT_TYPED = "Failed to deserialize the JSON body into the target type"
NOT_JSON_TYPE = "Expected request with `Content-Type: application/json`"
BAD_GATEWAY = "<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>"


class _Answered(Exception):  # noqa: N818 - control flow inside one request
    """The request has been answered before it reached the venue."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class Edge:
    """Turns requests into calls of the venue, and troubles into what a client sees of them."""

    def __init__(self, venue: Venue, hub: Hub) -> None:
        self._venue = venue
        self._hub = hub

    async def info(self, request: HttpRequest) -> Response:
        """POST /info."""
        try:
            body, content = await _read(request)
            type_ = _type_of(content)
            after = await self._before(request, "/info", type_)
            self._spend(info_weight(type_ or ""))
            answer = self._venue.ask(Query.model_validate_json(body))
        except _Answered as answered:
            return answered.response
        except (ValidationError, Malformed):
            return _plain(422, NOT_TYPED)
        except BadAggregation:
            return _json(None, 500)
        self._venue.ip_budget.add(answer_weight(type_ or "", answer))
        return self._after(request, after, _json(answer))

    async def exchange(self, request: HttpRequest) -> Response:
        """POST /exchange."""
        try:
            body, content = await _read(request)
            action = content.get("action") if isinstance(content, dict) else None
            after = await self._before(request, "/exchange", _type_of(action))
            parsed = Request.model_validate_json(body)
            self._spend(exchange_weight(parsed))
        except _Answered as answered:
            return answered.response
        except ValidationError:
            return _plain(422, NOT_TYPED)
        return self._after(request, after, _json(self._venue.exchange(parsed)))

    def _spend(self, weight: int) -> None:
        if not self._venue.ip_budget.take(weight, now_ms=self._venue.clock.now_ms()):
            raise _Answered(_json(None, 429))

    async def _before(self, request: HttpRequest, path: str, type_: str | None) -> list[Fault]:
        """Strike the request with what hits it on its way in; returns what hits the answer."""
        clock = self._venue.clock
        if self._venue.options.latency_ms:
            await clock.sleep(self._venue.options.latency_ms / 1000)
        hits = self._venue.faults.strike(path, type_)
        for fault in hits:
            match fault.kind:
                case Kind.DELAY:
                    await clock.sleep(fault.delay_ms / 1000)
                    await clock.sleep_real(fault.real_delay_ms / 1000)
                case Kind.DROP_BEFORE:
                    raise _Answered(_break_off(request))
                case Kind.RATE_LIMIT:
                    raise _Answered(_json(None, 429))
                case Kind.SERVER_ERROR:
                    raise _Answered(_server_error(fault))
                case Kind.CLOSE_SOCKETS:
                    self._hub.close_all(fault.close_code)
                case _:
                    pass
        return hits

    @staticmethod
    def _after(request: HttpRequest, hits: list[Fault], response: Response) -> Response:
        for fault in hits:
            if fault.kind is Kind.DROP_AFTER:
                return _break_off(request)
            if fault.kind is Kind.SERVER_ERROR_AFTER:
                return _server_error(fault)
        return response


def create_app(venue: Venue, hub: Hub) -> Starlette:
    """The application of one venue."""
    edge = Edge(venue, hub)
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


@contextlib.asynccontextmanager
async def serving(options: PaperOptions, *, clock: Clock, prices: PriceSource) -> AsyncIterator[Running]:
    """Serve in this process until the block ends.

    Raises:
        OtherPrices: the data folder belongs to another price source.
        OSError: the port is taken.
    """
    listening = socket.create_server((options.host, options.port), backlog=512, reuse_port=False)
    port = int(listening.getsockname()[1])
    venue = Venue(options=options, clock=clock, prices=prices)
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
        await _until_started(server, tasks[0], clock)
        yield Running(
            venue=venue,
            hub=hub,
            port=port,
            http_url=f"http://{options.host}:{port}",
            ws_url=f"ws://{options.host}:{port}/ws",
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
    """
    prices = load_prices(
        options.prices,
        symbols=options.symbols,
        start_ms=clock.now_ms(),
        data_dir=options.data_dir,
        speed=clock.speed,
    )
    async with serving(options, clock=clock, prices=prices):
        await stop.wait()


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


async def _until_started(server: uvicorn.Server, task: asyncio.Task[None], clock: Clock) -> None:
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


async def _read(request: HttpRequest) -> tuple[bytes, Any]:
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise _Answered(_plain(415, NOT_JSON_TYPE))
    body = await request.body()
    try:
        return body, json.loads(body)
    except ValueError as error:
        raise _Answered(_plain(400, f"{NOT_JSON}: {error}")) from None


def _type_of(content: Any) -> str | None:
    found = content.get("type") if isinstance(content, dict) else None
    return found if isinstance(found, str) else None


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, separators=(",", ":")), status_code=status, media_type="application/json")


def _plain(status: int, text: str) -> Response:
    return Response(text, status_code=status, media_type="text/plain")


def _server_error(fault: Fault) -> Response:
    return Response(BAD_GATEWAY.format(status=fault.status), status_code=fault.status, media_type="text/html")


def _break_off(request: HttpRequest) -> Response:
    return _BrokenOff(request.scope["state"][TRANSPORT])
