"""A venue that says exactly what a test tells it to: raw HTTP bytes, silence, closed connections, WebSocket frames."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

HANG = "hang"
"""Take the request and never answer."""
CLOSE = "close"
"""Take the request and close the connection without an answer."""
HALF = "half"
"""Send the head of an answer, then close."""

Answer = bytes | str | Callable[[dict[str, Any]], bytes]


def http(status: int, body: str, *, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\nContent-Length: {len(body.encode())}\r\n\r\n"
    return head.encode() + body.encode()


def ok(value: Any) -> bytes:
    return http(200, json.dumps(value))


@dataclass
class ScriptedVenue:
    http_url: str
    answers: list[Answer] = field(default_factory=list)
    """One a request, in order; the last one stays."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@asynccontextmanager
async def scripted_venue(*answers: Answer) -> AsyncIterator[ScriptedVenue]:
    venue = ScriptedVenue(http_url="", answers=list(answers))
    open_writers: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[None]] = set()

    async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            while await _answer_one(venue, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve_connection, "127.0.0.1", 0)
    venue.http_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield venue
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in open_writers:
            writer.close()


async def _answer_one(venue: ScriptedVenue, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length"))
    body = await reader.readexactly(length)
    venue.paths.append(head.split(" ")[1])
    venue.bodies.append(body)
    venue.requests.append(json.loads(body))
    answer = venue.next()
    if answer == HANG:
        await asyncio.Event().wait()
    if answer == CLOSE:
        return False
    if answer == HALF:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        return False
    content = answer(venue.requests[-1]) if callable(answer) else answer
    assert isinstance(content, bytes)
    writer.write(content)
    await writer.drain()
    return True


def patience(*answers: Any) -> httpx.Timeout:
    """A time-out that comes soon only where an answer never does: no slow machine times out an answer that comes."""
    return httpx.Timeout(1.0 if HANG in answers else 60.0)


@dataclass
class ScriptedSocket:
    url: str = ""
    connections: list[ServerConnection] = field(default_factory=list)
    received: list[list[dict[str, Any]]] = field(default_factory=list)
    """The messages of each connection."""


Talk = Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]


@asynccontextmanager
async def scripted_socket(talk: Talk) -> AsyncIterator[ScriptedSocket]:
    """A WebSocket server that greets as the venue does and gives each message to ``talk``."""
    script = ScriptedSocket()

    async def handle(connection: ServerConnection) -> None:
        script.connections.append(connection)
        script.received.append([])
        mine = script.received[-1]
        await connection.send("Websocket connection established.")
        with contextlib.suppress(ConnectionClosed):
            async for text in connection:
                mine.append(json.loads(text))
                await talk(connection, mine[-1])

    async with serve(handle, "127.0.0.1", 0, close_timeout=0.1) as server:
        script.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield script


async def confirm(connection: ServerConnection, message: dict[str, Any]) -> None:
    """Confirm subscriptions and answer pings, as the venue does: the echo is normalised."""
    if message["method"] == "ping":
        await connection.send('{"channel":"pong"}')
    elif message["method"] == "subscribe":
        echo = {name: _normal(name, value) for name, value in message["subscription"].items()}
        if echo["type"] == "l2Book":
            echo |= {"nSigFigs": None, "mantissa": None}
        data = {"method": "subscribe", "subscription": echo}
        await connection.send(json.dumps({"channel": "subscriptionResponse", "data": data}))


def _normal(name: str, value: Any) -> Any:
    return value.lower() if name == "user" else value
