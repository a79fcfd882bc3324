"""risk_engine's own settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tradingbot.runtime.settings import ServiceSettings


class RiskEngineSettings(ServiceSettings):
    """What risk_engine adds to the settings that every service shares; the limits are parameters, not settings."""

    breaker_interval_s: Annotated[float, Field(ge=1, le=10)] = 5
    """Virtual seconds between two looks of the breaker when nothing else makes it look. Default 5; at most 10, so that
    30 s without a reconciliation are noticed in time."""
