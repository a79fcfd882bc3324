"""Whether anything may be sent right now: the one word that the control task can say faster than Redis.

The mode keys are the truth and every intent's commit asks them. Between that commit and the bytes on the wire only
this process can still say no, so the sender asks the gate, without waiting, right before each request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tradingbot.domain.modes import EffectiveMode, Mode, ModeSource, strictest


@dataclass(frozen=True, slots=True)
class Stop:
    """A reason of our own to place less."""

    reason: str
    mode: Mode = Mode.HALT
    """REDUCE_ONLY lets reductions pass."""


STARTING = EffectiveMode(mode=Mode.HALT, source=ModeSource.LOCAL, reason="starting")
"""What counts until the keys have been read."""


class Gate:
    """The effective mode as this process last read it, and its own stops."""

    def __init__(self) -> None:
        self.mode = STARTING
        self._stops: dict[str, Stop] = {"starting": Stop("earlier orders are not accounted for yet")}

    @property
    def stops(self) -> Mapping[str, str]:
        """Our own reasons to place nothing, by name; they write no key."""
        return {name: each.reason for name, each in self._stops.items() if each.mode is Mode.HALT}

    @property
    def reduces_only(self) -> bool:
        """True when a reason of our own lets only reductions pass."""
        return any(each.mode is Mode.REDUCE_ONLY for each in self._stops.values())

    @property
    def strictness(self) -> Mode:
        """The strictest of the mode and our own stops."""
        return strictest(self.mode.mode, *(each.mode for each in self._stops.values()))

    def stop(self, name: str, reason: str, *, mode: Mode = Mode.HALT) -> bool:
        """Place nothing (or only reductions) until ``lift``; True when this is new."""
        new = name not in self._stops
        self._stops[name] = Stop(reason, mode)
        return new

    def lift(self, name: str) -> bool:
        """End a stop of ours; True when there was one."""
        return self._stops.pop(name, None) is not None

    def refusal(self, *, at_most: Mode) -> str | None:
        """Why an order that may be placed up to mode ``at_most`` must not be sent now; None when it may."""
        if at_most is Mode.HALT:
            # Flatten orders are placed because of a HALT; only a lost bus or lease stops them.
            return self._stops["redis"].reason if "redis" in self._stops else None
        for name, each in self._stops.items():
            if each.mode.rank > at_most.rank:
                return f"{name}: {each.reason}"
        if self.mode.mode.rank > at_most.rank:
            return f"{self.mode.mode} by {self.mode.source}: {self.mode.reason}".rstrip(": ")
        return None
