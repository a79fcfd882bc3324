"""Whether anything may be sent right now: the one word that the control task can say faster than Redis.

The mode keys are the truth and every intent's commit asks them. Between that commit and the bytes on the wire only
this process can still say no, so the sender asks the gate, without waiting, right before each request.
"""

from __future__ import annotations

from tradingbot.domain.modes import EffectiveMode, Mode, ModeSource


class Gate:
    """The effective mode as this process last read it, and its own stops."""

    def __init__(self) -> None:
        self.mode = EffectiveMode(mode=Mode.HALT, source=ModeSource.LOCAL, reason="starting")
        self._stops: dict[str, str] = {"starting": "earlier orders are not accounted for yet"}

    @property
    def stops(self) -> dict[str, str]:
        """Our own reasons to place nothing, by name; they write no key."""
        return dict(self._stops)

    def stop(self, name: str, reason: str) -> bool:
        """Place nothing until ``lift``; True when this is new."""
        new = name not in self._stops
        self._stops[name] = reason
        return new

    def lift(self, name: str) -> bool:
        """End a stop of ours; True when there was one."""
        return self._stops.pop(name, None) is not None

    def refusal(self, *, at_most: Mode) -> str | None:
        """Why an order that may be placed up to mode ``at_most`` must not be sent now; None when it may."""
        if at_most is Mode.HALT:
            # Flatten orders are placed because of a HALT; only a lost bus or lease stops them.
            return self._stops.get("redis")
        if self._stops:
            name, reason = next(iter(self._stops.items()))
            return f"{name}: {reason}"
        if self.mode.mode.rank > at_most.rank:
            return f"{self.mode.mode} by {self.mode.source}: {self.mode.reason}".rstrip(": ")
        return None
