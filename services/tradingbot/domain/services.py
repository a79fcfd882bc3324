"""The services, by name: each is one process, one user of Redis, one folder of this package."""

from __future__ import annotations

from typing import Final

SERVICES: Final = ("market_data", "portfolio_state", "ai_decision", "risk_engine", "execution", "monitor")
