"""The bots of the tests."""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]

EXAMPLE: Spec = {
    "mode": "NORMAL",
    "dryRun": False,
    "universe": ["BTC", "ETH", "SOL", "ADA", "DOGE"],
    "cycleSeconds": 60,
    "exchange": {"network": "paper", "paper": {"prices": "synthetic", "startEquityUsd": 10000}},
    "ai": {
        "strategy": "baseline",
        "decisionBudgetSeconds": 12,
        "smoothAlpha": 0.3,
        "minConfidence": 0.4,
        "lowConfidenceScale": 0.5,
    },
    "risk": {
        "maxGross": 0.40,
        "maxNet": 0.20,
        "caps": {"BTC": 0.15, "ETH": 0.15},
        "defaultCap": 0.10,
        "turnoverCap": 0.10,
        "drawdown": {"reduceOnly": 0.02, "halt": 0.03},
        "haltAction": "Hold",
    },
    "execution": {
        "slices": 3,
        "sliceIntervalSeconds": 20,
        "sliceTimeoutSeconds": 20,
        "priceGuardBps": 20,
        "replaceOnce": True,
        "maxOrdersPerMinute": 30,
        "maxCancelsPerMinute": 30,
    },
    "redis": {"storage": "1Gi"},
    "deletionPolicy": "CancelOrders",
}
"""The documented example, whole."""

RESTING: Spec = {
    "universe": ["BTC", "ETH", "SOL", "ADA", "DOGE"],
    "exchange": {"network": "paper", "paper": {"prices": "synthetic:7", "startEquityUsd": 1_000_000}},
    "ai": {"smoothAlpha": 1},
    "risk": {"turnoverCap": 1, "drawdown": {"reduceOnly": 0.5, "halt": 0.5}, "maxDailyFeeBps": 10000},
    "execution": {
        "orderTif": "Alo",
        "slices": 3,
        "sliceIntervalSeconds": 0,
        "sliceTimeoutSeconds": 3600,
        "replaceOnce": False,
        "minRebalanceWeight": 0.0005,
        "maxOrdersPerMinute": 200,
        "maxCancelsPerMinute": 200,
    },
}
"""Places all of a cycle's orders (15 from flat) at its start and lets them rest until its end."""

BUYING: Spec = {**RESTING, "execution": {**RESTING["execution"], "orderTif": "Gtc", "priceGuardBps": 50}}
"""Fills at once: has positions after its first cycle."""


def merged(base: Spec, change: Spec) -> Spec:
    """A spec with some fields changed, as a merge patch does it (None removes)."""
    found = dict(base)
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merged(found[key], value)
        else:
            found[key] = value
    return found
