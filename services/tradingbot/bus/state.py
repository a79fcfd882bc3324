"""A service's state: a model in memory that is what Redis holds, or says that it is not.

The version in Redis is compared in the commit. A step that was decided on another version is refused there, the cell
reads the truth again, and the service decides again.
"""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from pydantic import ValidationError
from redis.asyncio import Redis

from tradingbot.bus.commit import StateWrite
from tradingbot.bus.errors import StateUnreadable, bus_errors
from tradingbot.domain.model import Model

StateT = TypeVar("StateT", bound=Model)


class StateCell(Generic[StateT]):
    """State under one key. Hold ``lock`` from the decision to the commit."""

    def __init__(self, redis: Redis, *, key: str, model: type[StateT], initial: StateT) -> None:
        self._redis = redis
        self._model = model
        self._initial = initial
        self.key = key
        self.lock = asyncio.Lock()
        self.value = initial
        """What the last load or commit found; decide on it only after ``load``."""
        self.version = 0
        """0 when nothing is kept yet."""
        self.stale = True
        """True when Redis may hold something else; the next commit then reads again instead of writing."""

    async def load(self) -> StateT:
        """Read what Redis holds.

        Raises:
            BusUnavailable: Redis does not answer; the cell stays stale.
            StateUnreadable: what is kept breaks the model.
        """
        with bus_errors():
            version, value = await self._redis.hmget(self.key, ["version", "value"])
        if version is None or value is None:
            self._hold(self._initial, 0)
            return self.value
        try:
            self._hold(self._model.read(value), int(version))
        except ValidationError as error:
            raise StateUnreadable(f"{self.key} breaks {self._model.__name__}: {error}") from error
        return self.value

    def write(self, value: StateT) -> StateWrite:
        """The part of a commit that replaces the state."""
        return StateWrite(key=self.key, expected_version=self.version, value=value.model_dump_json())

    def committed(self, value: StateT, *, version: int) -> None:
        """Hold what a commit has written."""
        self._hold(value, version)

    def _hold(self, value: StateT, version: int) -> None:
        self.value, self.version, self.stale = value, version, False
