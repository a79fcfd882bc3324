"""What a day's model calls may cost: reserved before each call, corrected after it, counted in Redis.

The counter is in whole micro-USD, so that a price in USD per million tokens is micro-USD per token. The reservation
is an upper bound (a token is at least one byte of the prompt, and the answer has at most as many tokens as were
allowed), so the cap holds even if every process dies between a call and its correction. A call whose outcome is not
known stays reserved: it may be on the bill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from tradingbot.ai_decision.llm.faults import Fault, ModelFailed
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import MICRO, spend_key
from tradingbot.domain.cycles import from_ms
from tradingbot.runtime.clock import Clock

_KEEP_MS: Final = 3 * 86_400_000
_OVERHEAD_TOKENS: Final = 64
"""What a server's chat template adds to the messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """USD per million tokens, which is micro-USD per token."""

    usd_per_mtok_in: float
    usd_per_mtok_out: float

    def cost(self, *, tokens_in: int, tokens_out: int) -> int:
        """Micro-USD, rounded up."""
        return math.ceil(tokens_in * self.usd_per_mtok_in + tokens_out * self.usd_per_mtok_out)

    def at_most(self, *, prompt_bytes: int, max_tokens: int) -> int:
        """Micro-USD that a call cannot exceed."""
        return self.cost(tokens_in=prompt_bytes + _OVERHEAD_TOKENS, tokens_out=max_tokens)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Micro-USD set aside under a day's key."""

    key: str
    micro_usd: int


class DailySpend:
    """The counter of each UTC day, in the bot's own time.

    A day of a clock that runs faster is shorter, and its cap smaller by as much: the cap is one of real days.
    """

    def __init__(self, redis: Redis, *, max_usd: float, clock: Clock) -> None:
        self._redis = redis
        self._max = int(max_usd * MICRO / max(1.0, clock.speed))
        self._clock = clock

    @property
    def cap_usd(self) -> str:
        """What a day of this clock may cost."""
        return f"{self._max / MICRO:.6f}"

    async def reserve(self, micro_usd: int) -> Reservation:
        """Set aside what a call may cost at most.

        Raises:
            ModelFailed: it would exceed the day's cap; nothing is set aside.
            BusError: Redis does not answer, so that nobody knows what was spent.
        """
        key = spend_key(f"{from_ms(self._clock.now_ms()):%Y-%m-%d}")
        with bus_errors():
            total = int(await self._redis.incrby(key, micro_usd))
            await self._redis.pexpire(key, _KEEP_MS)
        if total > self._max:
            await self._change(key, -micro_usd)
            spent, asked, cap = (f"{each / MICRO:.4f}" for each in (total - micro_usd, micro_usd, self._max))
            raise ModelFailed(
                Fault.SPEND_CAP, f"{spent} USD of {cap} are spent or reserved today; a call may cost {asked}"
            )
        return Reservation(key, micro_usd)

    async def settle(self, reservation: Reservation, micro_usd: int) -> None:
        """Put what the call cost in the place of what was set aside."""
        await self._change(reservation.key, micro_usd - reservation.micro_usd)

    async def _change(self, key: str, micro_usd: int) -> None:
        if micro_usd != 0:
            with bus_errors():
                await self._redis.incrby(key, micro_usd)
