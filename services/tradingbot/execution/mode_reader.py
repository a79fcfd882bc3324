"""The effective mode as execution reads it: the three keys, and the mounted file.

The file counts while the spec's key is absent. When it also names its generation and the resource's uid, it restricts
while the key is of an older generation too: an operator that cannot reach Redis still stops a bot, and a start finds
no NORMAL that is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from tradingbot.bus.control import read_modes
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import Key
from tradingbot.domain.modes import EffectiveMode, Mode, ModeSource


@dataclass(frozen=True, slots=True)
class FileSaid:
    """What the mode file says: a mode, or ``mode generation uid``."""

    mode: Mode
    generation: int | None = None
    uid: str = ""

    @classmethod
    def parse(cls, text: str) -> FileSaid:
        """Of the file's text.

        Raises:
            ValueError: it has another form.
        """
        mode, *rest = text.split()
        if not rest:
            return cls(Mode(mode))
        generation, uid = rest
        return cls(Mode(mode), int(generation), uid)

    def is_newer(self, *, generation: int | None, uid: str) -> bool:
        """Whether the spec's key, of this generation and uid, does not know of it yet."""
        if self.generation is None:
            return False
        return uid != self.uid or generation is None or generation < self.generation


class ModeReader:
    """Reads the keys over one connection and the file anew each time."""

    def __init__(self, redis: Redis, *, mode_file: str | None) -> None:
        self._redis = redis
        self._mode_file = mode_file

    @property
    def file_mode(self) -> Mode:
        """What counts while the spec has not spoken; a file that cannot be read is a HALT, as nobody knows better."""
        return self._file().mode

    async def read(self) -> EffectiveMode:
        """The strictest of all sources.

        Raises:
            BusError: Redis does not answer.
        """
        file = self._file()
        generation, uid = await self.spec()
        found = await read_modes(self._redis, file_mode=file.mode)
        if file.mode.rank > found.mode.rank and file.is_newer(generation=generation, uid=uid):
            return EffectiveMode(mode=file.mode, source=ModeSource.SPEC, reason="the mode file")
        return found

    async def spec(self) -> tuple[int | None, str]:
        """Generation and uid of the spec's key; None and empty without one."""
        with bus_errors():
            found: Any = await self._redis.hmget(Key.MODE_SPEC, ["generation", "uid"])
        generation, uid = found
        return int(generation) if generation else None, uid or ""

    def _file(self) -> FileSaid:
        if self._mode_file is None:
            return FileSaid(Mode.NORMAL)
        try:
            return FileSaid.parse(Path(self._mode_file).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return FileSaid(Mode.HALT)
