"""The venue's WebSocket, kept alive: it makes things fast, the polls make them right.

The venue numbers nothing and replays nothing, so a gap shows by time alone. After each (re)connection a ``Connected``
event tells that everything before it may have been missed; callers then poll. A connection is dead when a ping is not
answered, or when a subscription that always ticks has been silent for too long. All times here are real seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tradingbot.runtime.clock import Clock, Ids
from tradingbot.venue import parse
from tradingbot.venue.events import Connected, Disconnected, Event, StreamError, read_event
from tradingbot.venue.network import is_loopback

GREETING = "Websocket connection established"
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_TEXT = 200
WATCH_EVERY_S = 0.5
NOTHING_WANTED_S = 0.1
"""While nothing is to be listened to, how often that is looked at; a connection without subscriptions says nothing."""

OnEvent = Callable[[Event], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """What to listen to."""

    type: str
    """orderUpdates, userFills, userEvents, allMids, l2Book, bbo, trades, candle."""
    user: str | None = None
    coin: str | None = None
    interval: str | None = None
    max_silence_s: float | None = None
    """For a subscription that always ticks (allMids, l2Book): silence beyond this makes the connection dead."""

    @property
    def channel(self) -> str:
        """The channel of its messages."""
        return "user" if self.type == "userEvents" else self.type

    def wire(self) -> dict[str, Any]:
        """The subscription object of the request."""
        fields = {"type": self.type, "user": self.user, "coin": self.coin, "interval": self.interval}
        return {name: value for name, value in fields.items() if value is not None}


Wanted = Callable[[], Sequence[Subscription]]
"""What to listen to as of now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTiming:
    """Real seconds."""

    ping_every_s: float = 20.0
    """The venue closes connections that it has sent nothing on for 60 s."""
    pong_within_s: float = 10.0
    confirm_within_s: float = 10.0
    """The venue closes silently on an unknown coin; a missing confirmation counts as dead too."""
    back_off_first_s: float = 0.5
    back_off_most_s: float = 30.0
    """The venue allows 30 new connections a minute per address."""
    steady_after_s: float = 30.0
    """A connection that lived so long makes the next back-off start afresh."""
    open_within_s: float = 10.0


class VenueStream:
    """One connection with its subscriptions, for as long as its events are read.

    Args:
        url: the venue's WebSocket.
        subscriptions: sent on each connection. At most one for userEvents and one for orderUpdates: their messages
            do not name the user. Given as a function, it is asked before each connection, which waits until there is
            one at least; a connection that lacks what is wanted by now is made anew.
    """

    def __init__(
        self,
        url: str,
        subscriptions: Sequence[Subscription] | Wanted,
        *,
        clock: Clock,
        ids: Ids,
        timing: StreamTiming | None = None,
    ) -> None:
        self._url = url
        self._wanted: Wanted = subscriptions if callable(subscriptions) else lambda: subscriptions
        self._clock = clock
        self._ids = ids
        self._timing = timing or StreamTiming()
        self._connection: _Connection | None = None
        self._complete_until_s: float | None = None
        """When the last confirmed connection was heard last: what came after it may be missing."""

    @property
    def connected(self) -> bool:
        """True while all subscriptions are confirmed."""
        return self._connection is not None and self._connection.confirmed

    def silent_s(self, channel: str) -> float:
        """Real seconds since the channel's last message on this connection; infinite without one."""
        heard = self._connection.heard_s.get(channel) if self._connection else None
        return float("inf") if heard is None else self._clock.real_s() - heard

    async def run(self, on_event: OnEvent) -> None:
        """Hand each event to ``on_event``, for ever: cancel it to stop. What ``on_event`` raises ends it."""
        async with aclosing(self.events()) as events:
            async for event in events:
                await on_event(event)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Events, for ever; close the generator (``contextlib.aclosing``) to disconnect."""
        failures = 0
        while True:
            while not self._wanted():
                await self._clock.sleep_real(NOTHING_WANTED_S)
            began_s = self._clock.real_s()
            reason = "closed by the venue"
            try:
                async with self._open() as socket:
                    async for event in self._listen(socket):
                        yield event
            except (OSError, WebSocketException) as error:
                reason = f"{type(error).__name__}: {error}"
            finally:
                ended, self._connection = self._connection, None
                if ended and ended.confirmed:
                    self._complete_until_s = ended.last_s
            yield Disconnected(reason=ended.verdict or reason if ended else reason)
            steady = self._clock.real_s() - began_s >= self._timing.steady_after_s
            failures = 0 if steady else failures + 1
            await self._clock.sleep_real(self._back_off_s(failures))

    def _open(self) -> connect:
        return connect(
            self._url,
            ping_interval=None,  # the venue answers its own kind of ping; see _Connection.watch
            open_timeout=self._timing.open_within_s,
            close_timeout=1.0,
            max_size=MAX_MESSAGE_BYTES,
            proxy=None if is_loopback(self._url) else True,
        )

    async def _listen(self, socket: ClientConnection) -> AsyncGenerator[Event, None]:
        connection = self._connection = _Connection(socket, self._wanted, clock=self._clock, timing=self._timing)
        await connection.subscribe()
        watching = asyncio.create_task(connection.watch())
        try:
            async for text in socket:
                was_confirmed = connection.confirmed
                event = connection.receive(text)
                if connection.confirmed and not was_confirmed:
                    yield self._connected()
                if event is not None:
                    yield event
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def _connected(self) -> Connected:
        if self._complete_until_s is None:
            return Connected(first=True, gap_s=0.0)
        return Connected(first=False, gap_s=self._clock.real_s() - self._complete_until_s)

    def _back_off_s(self, failures: int) -> float:
        longest = min(self._timing.back_off_most_s, self._timing.back_off_first_s * 2 ** min(failures, 16))
        return float(longest * self._ids.uniform(0.5, 1.0))


class _Connection:
    """What is known of one connection: which subscriptions are confirmed, what was heard when, and whether it lives."""

    def __init__(self, socket: ClientConnection, wanted: Wanted, *, clock: Clock, timing: StreamTiming) -> None:
        self._socket = socket
        self._wanted = wanted
        self._subscriptions = tuple(wanted())
        self._clock = clock
        self._timing = timing
        self._opened_s = clock.real_s()
        self._unconfirmed = list(self._subscriptions)
        self._pong_s = self._opened_s
        self.last_s = self._opened_s
        self.heard_s: dict[str, float] = {}
        self.verdict = ""
        """Why we ended it; empty when the venue did."""

    @property
    def confirmed(self) -> bool:
        return not self._unconfirmed

    async def subscribe(self) -> None:
        for subscription in self._subscriptions:
            await self._socket.send(json.dumps({"method": "subscribe", "subscription": subscription.wire()}))

    def receive(self, text: str | bytes) -> Event | None:
        """The event of a message; None for what only keeps the connection going."""
        try:
            message = json.loads(text)
            channel, data = message["channel"], message.get("data")
        except parse.MALFORMED:
            greeting = str(text).startswith(GREETING)
            return None if greeting else StreamError(f"not a message: {str(text)[:MAX_TEXT]}")
        self.last_s = self.heard_s[channel] = self._clock.real_s()
        if channel == "pong":
            self._pong_s = self.last_s
            return None
        if channel == "subscriptionResponse":
            self._confirm(data)
            return None
        try:
            return read_event(channel, data)
        except parse.MALFORMED as error:
            return StreamError(f"{channel}: {type(error).__name__} {error}: {str(data)[:MAX_TEXT]}")

    def _confirm(self, data: Any) -> None:
        """Strike off the subscription that was echoed; the echo bears extra nulls and a lower-case user."""
        echo = {name: _folded(value) for name, value in (data or {}).get("subscription", {}).items()}
        for subscription in self._unconfirmed:
            if all(echo.get(name) == _folded(value) for name, value in subscription.wire().items()):
                self._unconfirmed.remove(subscription)
                return

    async def watch(self) -> None:
        """Ping, and abort the connection when it is dead."""
        pinged_s = self._opened_s
        asked_s: float | None = None
        while True:
            await self._clock.sleep_real(WATCH_EVERY_S)
            now_s = self._clock.real_s()
            if asked_s is not None and self._pong_s >= asked_s:
                asked_s = None
            if verdict := self._dead(now_s, asked_s):
                self.verdict = verdict
                self._socket.transport.abort()
                return
            if now_s - pinged_s >= self._timing.ping_every_s:
                pinged_s = now_s
                asked_s = asked_s if asked_s is not None else now_s
                await self._socket.send('{"method":"ping"}')

    def _dead(self, now_s: float, asked_s: float | None) -> str:
        if asked_s is not None and now_s - asked_s >= self._timing.pong_within_s:
            return f"no pong within {self._timing.pong_within_s:g} s"
        if self._unconfirmed and now_s - self._opened_s >= self._timing.confirm_within_s:
            return f"not confirmed: {', '.join(str(each.wire()) for each in self._unconfirmed)}"
        for each in self._subscriptions:
            silent_s = now_s - self.heard_s.get(each.channel, self._opened_s)
            if each.max_silence_s is not None and silent_s >= each.max_silence_s:
                return f"{each.channel} silent for {silent_s:.1f} s"
        if lacking := [each for each in self._wanted() if each not in self._subscriptions]:
            return f"not asked for: {', '.join(str(each.wire()) for each in lacking)}"
        return ""


def _folded(value: Any) -> Any:
    """Addresses compare without case; coins are case-sensitive (kPEPE), but then so is their echo."""
    return value.casefold() if isinstance(value, str) else value
