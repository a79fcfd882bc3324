"""Notices that the machine's clock went back, which otherwise looks like a market_data that has gone quiet.

A minute is told once. After a step back the minutes up to the last one told come a second time and are not told again,
so nothing is decided until the clock has passed it; whoever runs the bot has to read that somewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tradingbot.domain.cycles import MINUTE_MS, from_ms
from tradingbot.domain.messages import AuditLevel, AuditRecord
from tradingbot.runtime.clock import guard_against_real_slowness

LEAST_MS: Final = 1_000
LEAST_REAL_MS: Final = 250
"""Smaller steps are the clock being kept in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBack:
    """The clock went back."""

    by_ms: int
    at_ms: int
    """What it shows now."""
    resumes_ms: int
    """When minutes are told again."""

    @property
    def text(self) -> str:
        """What happened and what follows."""
        resumes = from_ms(self.resumes_ms).isoformat(timespec="seconds")
        return f"clock went back by {self.by_ms / 1000:.0f} s; no minute is told before {resumes}"

    def record(self) -> AuditRecord:
        """For the audit."""
        details = {"error": self.text, "by_ms": self.by_ms, "resumes": from_ms(self.resumes_ms).isoformat()}
        cause = from_ms(self.at_ms).isoformat()
        return AuditRecord(kind="clock_went_back", level=AuditLevel.ERROR, cause=cause, details=details)


class ClockWatch:
    """Looks at the clock now and then."""

    def __init__(self, *, speed: float) -> None:
        self._least_ms = guard_against_real_slowness(value_ms=LEAST_MS, real_ms=LEAST_REAL_MS, speed=speed)
        self._seen_ms = 0
        self._known_ms = 0
        """The last minute told for which the step back is known already."""

    def look(self, *, now_ms: int, last_minute_ms: int) -> StepBack | None:
        """The step back since the last look, or since the last minute was told by an earlier process."""
        known = last_minute_ms == self._known_ms
        furthest_ms = max(self._seen_ms, 0 if known else last_minute_ms)
        self._seen_ms, self._known_ms = now_ms, last_minute_ms
        if furthest_ms - now_ms < self._least_ms:
            return None
        resumes_ms = max(last_minute_ms, now_ms - now_ms % MINUTE_MS) + MINUTE_MS
        return StepBack(by_ms=furthest_ms - now_ms, at_ms=now_ms, resumes_ms=resumes_ms)
