"""How full the server is: at its bound it refuses every write, and execution fails closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from tradingbot.bus.errors import bus_errors

ALERT_RATIO: Final = 0.8
"""The part of maxmemory from which on a person has to be told: there is time left to enlarge it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The server's memory in bytes."""

    used: int
    bound: int
    """maxmemory; 0: none is set."""

    @property
    def ratio(self) -> float:
        """The used part of the bound; 0 without one."""
        return self.used / self.bound if self.bound else 0.0

    @property
    def runs_short(self) -> bool:
        """True from ``ALERT_RATIO`` of the bound on."""
        return self.ratio >= ALERT_RATIO


async def read_memory(redis: Redis) -> Memory:
    """What the server says of its memory."""
    with bus_errors():
        info = await redis.info("memory")
    return Memory(used=int(info["used_memory"]), bound=int(info["maxmemory"]))
