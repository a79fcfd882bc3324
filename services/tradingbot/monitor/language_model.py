"""The language model as the newest decision's record tells of it: its calls, its cap, its circuit.

Another version's record, or one that breaks the shape, tells less; nothing of it is made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from tradingbot.domain.static import MODEL_STRATEGIES
from tradingbot.monitor.models import CircuitView, LlmView, RegimeView

_Count = Annotated[int, Field(ge=0)]


class _Usage(BaseModel):
    tokens_in: _Count
    tokens_out: _Count
    unmetered: _Count = 0


class _Evidence(BaseModel):
    """What of a record's evidence is shown."""

    model: str
    usage: _Usage | None = None
    latency_s: Annotated[float, Field(ge=0)] | None = None
    attempts: _Count | None = None
    cap_usd: Annotated[Decimal, Field(ge=0)] | None = None
    circuit: CircuitView | None = None


def asks_a_model(details: Mapping[str, Any]) -> bool:
    """Whether the decision of an alpha.target record is one of a strategy that asks a language model."""
    return details.get("strategy") in MODEL_STRATEGIES


def llm_of(details: Mapping[str, Any]) -> LlmView | None:
    """The model in an alpha.target record; None where the record does not tell of one."""
    try:
        seen = _Evidence.model_validate(details.get("evidence"), extra="ignore")
    except ValidationError:
        return None
    asked = bool(seen.attempts)
    # An answer whose tokens the server did not tell would make the sum too small.
    metered = seen.usage if asked and seen.usage is not None and not seen.usage.unmetered else None
    return LlmView(
        name=seen.model,
        cap_usd=seen.cap_usd,
        calls=seen.attempts,
        tokens_in=metered.tokens_in if metered else None,
        tokens_out=metered.tokens_out if metered else None,
        latency_s=seen.latency_s if asked else None,
        circuit=seen.circuit,
    )


def regime_of(details: Mapping[str, Any]) -> RegimeView | None:
    """The regime that a decision was made under; None where it was made without one."""
    evidence = details.get("evidence")
    if details.get("strategy") != "regime" or not isinstance(evidence, Mapping):
        return None
    try:
        return RegimeView(name=evidence["regime"], risk_multiplier=evidence["risk_multiplier"])
    except (KeyError, ValidationError):
        return None
