"""What happened while a model was asked, as audit.logs will tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tradingbot.ai_decision.llm.chat import Completion
from tradingbot.ai_decision.llm.faults import Fault
from tradingbot.bus.names import MICRO
from tradingbot.domain.ids import digest

RAW_MAX: Final = 4000
"""Characters of a raw answer that are kept."""
RAW_TOTAL: Final = 16_000
"""Characters of all raw answers of a decision that are kept: the record travels on the bus."""


@dataclass(slots=True, kw_only=True)
class Ledger:
    """Counts and keeps; one decision long."""

    prompt: Mapping[str, str]
    model: str
    started_s: float
    attempts: int = 0
    micro_usd: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    unmetered: int = 0
    """Answers whose usage the server did not tell."""
    raw: list[tuple[int, str]] = field(default_factory=list)
    failures: list[tuple[Fault, str]] = field(default_factory=list)

    def sent(self, micro_usd: int) -> None:
        """A request leaves, with this much set aside for it."""
        self.attempts += 1
        self.micro_usd += micro_usd

    def cost(self, micro_usd: int) -> None:
        """Correct what a request costs."""
        self.micro_usd += micro_usd

    def used(self, completion: Completion) -> None:
        """Count an answer's tokens."""
        if completion.tokens_in is None or completion.tokens_out is None:
            self.unmetered += 1
        self.tokens_in += completion.tokens_in or 0
        self.tokens_out += completion.tokens_out or 0

    def answered(self, text: str, *, sample: int) -> None:
        """Keep a raw answer."""
        self.raw.append((sample, text))

    def failed(self, fault: Fault, why: str) -> None:
        """Keep why a try gave no usable answer."""
        self.failures.append((fault, why))

    @property
    def reason(self) -> tuple[Fault, str]:
        """The last failure: what the retries ended with."""
        return self.failures[-1] if self.failures else (Fault.TIME, "no time was left to ask")

    @property
    def digest(self) -> str | None:
        """Names all raw answers, in the order of the samples; None when there is none."""
        return digest("\x1f".join(text for _, text in sorted(self.raw))) if self.raw else None

    def evidence(self, answers: Sequence[Mapping[str, Any]], *, now_s: float) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {
            "prompt": dict(self.prompt),
            "model": self.model,
            "answers": list(answers),
            "raw": [_shortened(text, most=min(RAW_MAX, RAW_TOTAL // len(self.raw))) for _, text in sorted(self.raw)],
            "failures": [f"{fault}: {why}" for fault, why in self.failures],
            "usage": {"tokens_in": self.tokens_in, "tokens_out": self.tokens_out, "unmetered": self.unmetered},
            "cost_usd": f"{self.micro_usd / MICRO:.6f}",
            "latency_s": round(now_s - self.started_s, 3),
            "attempts": self.attempts,
        }


def _shortened(text: str, *, most: int) -> dict[str, Any]:
    return {"text": text[:most], "truncated": len(text) > most}
