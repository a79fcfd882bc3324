"""market_data's settings: what every service shares; it needs no secret but the bus."""

from __future__ import annotations

from tradingbot.runtime.settings import ServiceSettings


class MarketDataSettings(ServiceSettings):
    """Nothing of its own yet: polling and staleness are constants of ``poll`` and ``feed``."""
