"""The effective mode as execution reads it: the three keys, and the mounted file while the spec's key is absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from tradingbot.bus.control import read_modes
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import Key
from tradingbot.domain.modes import EffectiveMode, Mode


class ModeReader:
    """Reads the keys over one connection and the file anew each time."""

    def __init__(self, redis: Redis, *, mode_file: str | None) -> None:
        self._redis = redis
        self._mode_file = mode_file

    @property
    def file_mode(self) -> Mode:
        """What counts while the spec has not spoken; a file that cannot be read is a HALT, as nobody knows better."""
        if self._mode_file is None:
            return Mode.NORMAL
        try:
            return Mode(Path(self._mode_file).read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            return Mode.HALT

    async def read(self) -> EffectiveMode:
        """The strictest of all sources.

        Raises:
            BusError: Redis does not answer.
        """
        return await read_modes(self._redis, file_mode=self.file_mode)

    async def spec(self) -> tuple[int | None, str]:
        """Generation and uid of the spec's key; None and empty without one."""
        with bus_errors():
            found: Any = await self._redis.hmget(Key.MODE_SPEC, ["generation", "uid"])
        generation, uid = found
        return int(generation) if generation else None, uid or ""
