"""One process is the service: a lease with a token that every commit shows.

The token rises with every holder, and Redis refuses a commit that shows another one than the lease holds. Real
time counts here, never virtual time: a lease guards against processes that stall or die.
"""

from __future__ import annotations

import asyncio
import contextlib

from redis.asyncio import Redis

from tradingbot.bus import library
from tradingbot.bus.errors import BusError, bus_errors
from tradingbot.bus.names import lease_counter_key, lease_key
from tradingbot.runtime.clock import Clock
from tradingbot.runtime.stopping import Stopped, unless_stopped

LEASE_MS = 3000
"""Real milliseconds without a renewal after which another process may be the service."""
RENEW_S = 1.0
_POLL_S = 0.1
"""How often a waiting process asks, in real seconds."""


class Lease:
    """The right to be a service. ``run`` renews it, and takes it anew under a new token when it was lost."""

    def __init__(self, redis: Redis, *, service: str, clock: Clock) -> None:
        self._redis = redis
        self._service = service
        self._clock = clock
        self._life_s = LEASE_MS / 1000
        self._token = 0
        self._renewed_s = 0.0
        self._holding = asyncio.Event()
        self._doubted = asyncio.Event()
        self.lost = asyncio.Event()
        """Set from the moment the lease is lost until it is taken anew, under another token."""

    @property
    def token(self) -> int:
        """The token of the present holding, 0 before the first; it changes when the lease is taken anew."""
        return self._token

    @property
    def held(self) -> bool:
        """True while nobody else can have it: renewed less than three real seconds ago."""
        return self._holding.is_set() and self._left_s() > 0

    async def acquire(self) -> None:
        """Wait until it is free and take it; an outage of Redis only makes the wait longer."""
        while True:
            asked_s = self._clock.real_s()
            try:
                answer = await self._call(library.LEASE_ACQUIRE, str(round(self._life_s * 1000)), counter=True)
            except BusError:
                await self._clock.sleep_real(_POLL_S)
                continue
            if answer > 0:
                self._take(answer, asked_s)
                return
            await self._clock.sleep_real(min(_POLL_S, -answer / 1000))

    async def wait_held(self) -> int:
        """The token, as soon as the lease is held."""
        while not self.held:
            await self._holding.wait()
            if not self.held:  # run() has not yet noticed that it lapsed
                await self._clock.sleep_real(_POLL_S)
        return self._token

    async def run(self) -> None:
        """Renew it each second, for ever; when it is lost, wait for it again."""
        while True:
            with contextlib.suppress(Stopped):
                await unless_stopped(self._doubted, self._clock.sleep_real(min(RENEW_S, max(0.0, self._left_s()))))
            self._doubted.clear()
            if not await self._renew():
                self._lose()
                await self.acquire()

    def doubt(self) -> None:
        """Ask Redis now whether it is still held: a commit was refused."""
        self._doubted.set()

    async def confirm(self) -> None:
        """Renew it once, now: the proof that Redis answers and takes writes; a full one still answers a PING.

        Raises:
            BusError: it does not.
        """
        await self._call(library.LEASE_RENEW, str(self._token), str(round(self._life_s * 1000)))

    async def release(self) -> None:
        """Free it for the next process; quietly, because it lapses by itself."""
        token, self._token = self._token, 0
        self._lose()
        try:
            await free_lease(self._redis, self._service, token)
        except BusError:
            return

    def _left_s(self) -> float:
        return self._renewed_s + self._life_s - self._clock.real_s()

    def _take(self, token: int, asked_s: float) -> None:
        # Counted from the question, not from the answer: Redis may have started the lease's life at any time between.
        self._token, self._renewed_s = token, asked_s
        self.lost.clear()
        self._holding.set()

    def _lose(self) -> None:
        self._holding.clear()
        self.lost.set()

    async def _renew(self) -> bool:
        while (left_s := self._left_s()) > 0:
            asked_s = self._clock.real_s()
            try:
                async with asyncio.timeout(left_s):
                    renewed = await self._call(library.LEASE_RENEW, str(self._token), str(round(self._life_s * 1000)))
            except (BusError, TimeoutError):
                await self._clock.sleep_real(min(_POLL_S, max(0.0, self._left_s())))
                continue
            self._renewed_s = asked_s if renewed else self._renewed_s
            return bool(renewed)
        return False

    async def _call(self, function: str, *args: str, counter: bool = False) -> int:
        keys = [lease_key(self._service), *([lease_counter_key(self._service)] if counter else [])]
        return int(await library.call(self._redis, function, keys, args))


async def lease_holder(redis: Redis, service: str) -> int | None:
    """The token that holds a service's lease now; None when it is free."""
    with bus_errors():
        token = await redis.get(lease_key(service))
    return None if token is None else int(token)


async def free_lease(redis: Redis, service: str, token: int) -> bool:
    """Free the lease of a process that is known to be dead, if its token still holds it.

    For the supervisor, which has reaped the child: with ``lease_holder`` read after the reaping, so that the next
    process need not wait for the lease to lapse.
    """
    return bool(await library.call(redis, library.LEASE_FREE, [lease_key(service)], [str(token)]))
