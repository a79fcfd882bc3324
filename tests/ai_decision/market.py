"""Features and views, made by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from risk_engine.bench import T0, snapshot
from tradingbot.ai_decision.strategy import View
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.messages import FeatureSnapshot1m
from tradingbot.domain.params import RiskParams

UNIVERSE = ("BTC", "ETH", "SOL", "ADA", "DOGE")
VOLS = {"BTC": 0.35, "ETH": 0.68, "SOL": 0.73, "ADA": 0.74, "DOGE": 0.79}


def features(
    *,
    at_ms: int = T0,
    fast: dict[str, float] | float = 0.0,
    slow: dict[str, float] | float = 0.0,
    vols: dict[str, float] | None = None,
    **more: Any,
) -> FeatureSnapshot1m:
    """Features of the five coins: five-minute and one-hour returns, and usual volatilities."""
    vols = VOLS if vols is None else vols

    def each(value: dict[str, float] | float) -> dict[str, float]:
        return value if isinstance(value, dict) else dict.fromkeys(vols, value)

    return FeatureSnapshot1m(
        asof_minute=from_ms(at_ms),
        universe=UNIVERSE,
        mid_px=dict.fromkeys(vols, Decimal(100)),
        ret_1m=dict.fromkeys(vols, 0.0),
        ret_5m=each(fast),
        ret_1h=each(slow),
        vol_1h=vols,
        **more,
    )


def view(seen: FeatureSnapshot1m | None = None, *, risk: RiskParams | None = None, **positions: float) -> View:
    """What a strategy sees; positions are weights by coin."""
    return View(
        features=seen or features(),
        snapshot=snapshot(positions=positions),
        universe=UNIVERSE,
        risk=risk or RiskParams(),
    )
