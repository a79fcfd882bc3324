"""A circuit breaker: a model that fails again and again is left alone for a while, and then tried once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Circuit:
    """Counts failures in a row. Times are real seconds; decisions come one after the other, never two at once."""

    failures_to_open: int
    open_s: float
    failures: int = 0
    open_until_s: float | None = None

    def wait_s(self, now_s: float) -> float:
        """How long the model is still left alone; 0 when it may be asked."""
        return 0.0 if self.open_until_s is None else max(0.0, self.open_until_s - now_s)

    def told(self, now_s: float) -> dict[str, Any]:
        """For audit.logs: it counts as open until an answer closes it, also while it is tried."""
        return {
            "open": self.open_until_s is not None,
            "failures": self.failures,
            "wait_s": round(self.wait_s(now_s), 1),
        }

    def failed(self, now_s: float) -> None:
        """A decision got no usable answer: the circuit opens after so many in a row, and again after a failed try."""
        self.failures += 1
        if self.failures >= self.failures_to_open:
            self.open_until_s = now_s + self.open_s

    def succeeded(self) -> None:
        """A usable answer closes it."""
        self.failures = 0
        self.open_until_s = None
