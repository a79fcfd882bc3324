"""Why there is no usable answer of a model: one short word each, then what a person needs to know.

::

    StrategyFailed
    └── ModelFailed     a decision without an answer: what the baseline stands in for
    Permanent
    └── Refused         one answer that cannot be meant
    Temporary
    └── NoCompletion    one request without an answer; another may bring one
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from tradingbot.ai_decision.strategy import StrategyFailed
from tradingbot.domain.errors import Permanent, Temporary


class Fault(StrEnum):
    """What was wrong, as audit.logs and the metrics name it."""

    STALE_INPUTS = "stale_inputs"
    SPEND_CAP = "spend_cap"
    CIRCUIT_OPEN = "circuit_open"
    API_KEY = "api_key"
    TIME = "out_of_time"
    CONNECTION = "connection"
    HTTP = "http"
    TOO_LARGE = "too_large"
    PROTOCOL = "protocol"
    REFUSAL = "refusal"
    BAD_JSON = "bad_json"
    SCHEMA = "schema"
    COINS = "coins"
    WEIGHTS = "weights"
    CASH = "cash"
    CONTRADICTION = "contradiction"


class ModelFailed(StrategyFailed):
    """No usable answer in this cycle. The text starts with the fault's word."""

    def __init__(
        self, fault: Fault, why: str, *, evidence: Mapping[str, Any] | None = None, answer_digest: str | None = None
    ) -> None:
        super().__init__(f"{fault}: {why}", evidence=evidence, answer_digest=answer_digest)
        self.fault = fault
        self.why = why


class Refused(Permanent):
    """An answer that cannot be meant."""

    def __init__(self, fault: Fault, why: str) -> None:
        super().__init__(f"{fault}: {why}")
        self.fault = fault
        self.why = why


class NoCompletion(Temporary):
    """A request without an answer.

    Args:
        fault: what was wrong.
        why: for a person; never holds the key.
        again: whether the same request may bring an answer.
        billed: whether it may have been paid for.
        delay_s: the least time to wait before it, real seconds; None leaves it to the caller.
        status: of HTTP, where there is one.
    """

    def __init__(
        self,
        fault: Fault,
        why: str,
        *,
        again: bool = True,
        billed: bool = False,
        delay_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(f"{fault}: {why}", delay_s=delay_s)
        self.fault = fault
        self.why = why
        self.again = again
        self.billed = billed
        self.status = status
