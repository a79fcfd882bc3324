"""``/ws``: the sockets. Channels decide what is said; here it is said, limited and, on request, broken off.

Nothing is ever replayed: what happens while a client is away is lost to it, as on the venue, and there are no
sequence numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from tradingbot.paper.calls import Answer, BreakOff, Calls
from tradingbot.paper.channels import EVERY_MS, Channels, without_time
from tradingbot.paper.subscriptions import Subscription
from tradingbot.paper.venue import Venue
from tradingbot.paper.world import Event

GREETING = "Websocket connection established."
TRANSPORT = "transport"
MAX_CONNECTIONS = 10
MAX_NEW_PER_MIN = 30
MAX_SUBSCRIPTIONS = 1_000
MAX_MESSAGES_PER_MIN = 2_000
MAX_POSTS = 100
MINUTE_MS = 60_000
BEAT_S = 0.5
"""Virtual seconds between looks at the market; the venue sends books no more often."""
LEAST_BEAT_REAL_S = 0.1
BROKEN_OFF = 1006


class _Incoming(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Ping(_Incoming):
    method: Literal["ping"]


class _Subscribe(_Incoming):
    method: Literal["subscribe", "unsubscribe"]
    subscription: dict[str, Any]


class _PostRequest(_Incoming):
    type: Literal["info", "action"]
    payload: dict[str, Any]


class _Post(_Incoming):
    method: Literal["post"]
    id: int
    request: _PostRequest


_INCOMING: TypeAdapter[_Ping | _Subscribe | _Post] = TypeAdapter(
    Annotated[_Ping | _Subscribe | _Post, Field(discriminator="method")]
)
_SUBSCRIPTION: TypeAdapter[Subscription] = TypeAdapter(Subscription)


@dataclass(slots=True, eq=False)
class Connection:
    """One client."""

    socket: WebSocket
    last_sent_s: float
    outbox: asyncio.Queue[str | int] = field(default_factory=asyncio.Queue)
    """Texts to send; an int closes the socket with that code."""
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    """What each channel showed last, and when it may speak again."""
    due_ms: dict[str, int] = field(default_factory=dict)
    posts: set[asyncio.Task[None]] = field(default_factory=set)

    def send(self, channel: str, data: Any = None) -> None:
        """Queue one frame."""
        frame = {"channel": channel} if data is None else {"channel": channel, "data": data}
        self.outbox.put_nowait(json.dumps(frame, separators=(",", ":")))

    def break_off(self) -> None:
        """Cut the connection without a close frame."""
        self.socket.scope["state"][TRANSPORT].abort()


class Hub:
    """All sockets of one venue; all clients count as one address."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._calls = Calls(venue)
        self._channels = Channels(venue.info, venue.options.quirks)
        self._connections: set[Connection] = set()
        self._opened_ms: deque[int] = deque()
        self._messages_ms: deque[int] = deque()
        venue.listeners.append(self._on_events)

    @property
    def count(self) -> int:
        """Open sockets."""
        return len(self._connections)

    async def serve(self, socket: WebSocket) -> None:
        """One client from connect to close."""
        if not self._admits():
            await socket.send_denial_response(Response("null", status_code=429, media_type="application/json"))
            return
        await socket.accept()
        connection = Connection(socket, last_sent_s=self._venue.clock.real_s())
        connection.outbox.put_nowait(GREETING)
        self._connections.add(connection)
        writer = asyncio.create_task(self._write(connection))
        try:
            await self._read(connection)
        except WebSocketDisconnect:
            pass
        finally:
            self._connections.discard(connection)
            for task in (writer, *connection.posts):
                task.cancel()
            await asyncio.gather(writer, *connection.posts, return_exceptions=True)

    async def run(self, stop: asyncio.Event) -> None:
        """Speak as time goes by; close what is idle or struck."""
        clock = self._venue.clock
        while not stop.is_set():
            for fault in self._venue.faults.strike_sockets():
                self.close_all(fault.close_code)
            if self._connections:
                self._venue.turn()
                self._beat()
            await clock.sleep(max(BEAT_S, LEAST_BEAT_REAL_S * clock.speed))

    def close_all(self, code: int) -> None:
        """Close every socket; 1006 breaks them off."""
        for connection in list(self._connections):
            if code == BROKEN_OFF:
                connection.break_off()
            else:
                connection.outbox.put_nowait(code)

    def _admits(self) -> bool:
        now_ms = self._venue.clock.now_ms()
        allowed = _within(self._opened_ms, now_ms, MAX_NEW_PER_MIN)
        return allowed and len(self._connections) < MAX_CONNECTIONS

    async def _write(self, connection: Connection) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                item = await connection.outbox.get()
                if isinstance(item, int):
                    await connection.socket.close(item)
                    return
                await connection.socket.send_text(item)
                connection.last_sent_s = self._venue.clock.real_s()

    async def _read(self, connection: Connection) -> None:
        while True:
            text = await connection.socket.receive_text()
            if not _within(self._messages_ms, self._venue.clock.now_ms(), MAX_MESSAGES_PER_MIN):
                connection.send("error", "Too many messages.")
                continue
            try:
                incoming = _INCOMING.validate_json(text)
            except ValidationError:
                connection.send("error", f"Error parsing JSON into valid websocket request: {text}")
                continue
            match incoming:
                case _Ping():
                    connection.send("pong")
                case _Subscribe():
                    self._on_subscribe(connection, incoming)
                case _Post():
                    self._on_post(connection, incoming)

    def _on_subscribe(self, connection: Connection, incoming: _Subscribe) -> None:
        try:
            wanted = _SUBSCRIPTION.validate_python(incoming.subscription)
        except ValidationError:
            connection.send("error", f"Invalid subscription {_compact(incoming.subscription)}")
            return
        key = _compact(wanted.echo())
        if incoming.method == "unsubscribe":
            self._unsubscribe(connection, incoming, key)
            return
        if wanted.coin_name is not None and not self._venue.info.trades(wanted.coin_name):
            connection.break_off()
            return
        if key in connection.subscriptions:
            connection.send("error", f"Already subscribed: {_compact(incoming.subscription)}")
            return
        if (refused := self._refusal(wanted)) is not None:
            connection.send("error", refused)
            return
        connection.send("subscriptionResponse", {"method": "subscribe", "subscription": wanted.echo()})
        self._venue.turn()
        for message in self._channels.snapshot(wanted):
            connection.send(message.channel, message.data)
        connection.subscriptions[key] = wanted
        self._show(connection, key, wanted)

    def _unsubscribe(self, connection: Connection, incoming: _Subscribe, key: str) -> None:
        wanted = connection.subscriptions.pop(key, None)
        if wanted is None:
            connection.send("error", f"Already unsubscribed: {_compact(incoming.subscription)}")
            return
        connection.said.pop(key, None)
        connection.due_ms.pop(key, None)
        connection.send("subscriptionResponse", {"method": "unsubscribe", "subscription": wanted.echo()})

    def _refusal(self, wanted: Subscription) -> str | None:
        everything = [each for connection in self._connections for each in connection.subscriptions.values()]
        if len(everything) >= MAX_SUBSCRIPTIONS:
            return f"Cannot track more than {MAX_SUBSCRIPTIONS} total subscriptions."
        users = {each.user_address for each in [*everything, wanted]} - {None}
        most = self._venue.options.quirks.tracked_users
        return f"Cannot track more than {most} total users." if len(users) > most else None

    def _on_post(self, connection: Connection, incoming: _Post) -> None:
        if len(connection.posts) >= MAX_POSTS:
            connection.send("error", f"too many pending post requests id={incoming.id}")
            return
        task = asyncio.create_task(self._post(connection, incoming))
        connection.posts.add(task)
        task.add_done_callback(connection.posts.discard)

    async def _post(self, connection: Connection, incoming: _Post) -> None:
        request = incoming.request
        body = json.dumps(request.payload)
        try:
            if request.type == "info":
                answer = await self._calls.info(body, path="/ws")
            else:
                answer = await self._calls.exchange(body, path="/ws")
        except BreakOff:
            connection.break_off()
            return
        response = _post_response(request, answer)
        connection.send("post", {"id": incoming.id, "response": response})

    def _on_events(self, events: Sequence[Event]) -> None:
        for connection in self._connections:
            for wanted in connection.subscriptions.values():
                for message in self._channels.on_events(wanted, events):
                    connection.send(message.channel, message.data)

    def _beat(self) -> None:
        now_s = self._venue.clock.real_s()
        for connection in list(self._connections):
            if now_s - connection.last_sent_s >= self._venue.options.idle_close_s:
                connection.outbox.put_nowait(1000)
                continue
            for key, wanted in list(connection.subscriptions.items()):
                self._show(connection, key, wanted)

    def _show(self, connection: Connection, key: str, wanted: Subscription) -> None:
        """Send what a channel shows when it is due and has something new to show."""
        if connection.due_ms.get(key, 0) > self._venue.now_ms:
            return
        message = self._channels.as_time_goes(wanted)
        if message is None:
            return
        every_ms = EVERY_MS.get(message.channel, 0)
        connection.due_ms[key] = self._venue.now_ms + every_ms
        shown = without_time(message)
        if every_ms or connection.said.get(key) != shown:
            connection.said[key] = shown
            connection.send(message.channel, message.data)


def _post_response(request: _PostRequest, answer: Answer) -> dict[str, Any]:
    if answer.status != 200:
        return {"type": "error", "payload": f"{answer.status} {answer.body()}"}
    if request.type == "info":
        return {"type": "info", "payload": {"type": request.payload.get("type"), "data": answer.content}}
    return {"type": "action", "payload": answer.content}


def _within(moments_ms: deque[int], now_ms: int, most: int) -> bool:
    """Count one more within the last minute; False when that is too many."""
    while moments_ms and moments_ms[0] <= now_ms - MINUTE_MS:
        moments_ms.popleft()
    if len(moments_ms) >= most:
        return False
    moments_ms.append(now_ms)
    return True


def _compact(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))
