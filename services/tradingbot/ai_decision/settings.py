"""ai_decision's own settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tradingbot.runtime.settings import ServiceSettings


class AiDecisionSettings(ServiceSettings):
    """What ai_decision adds to the settings that every service shares; ``AI_USE_LLM=true`` is refused there."""

    decision_wait_s: Annotated[float, Field(ge=0, le=12)] = 3
    """Real seconds that a decision waits for a state snapshot or parameters that are not there yet, as in the first
    moments of a start. Default 3; at most 12, the time a decision may take in all."""
