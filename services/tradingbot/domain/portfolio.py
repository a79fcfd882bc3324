"""Portfolio arithmetic in weights: fractions of equity, signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tradingbot.domain.cycles import to_ms
from tradingbot.domain.messages import StateSnapshot


def gross(weights: Iterable[float]) -> float:
    """Σ|w|."""
    total = 0.0
    for weight in weights:
        total += abs(weight)
    return total


def net(weights: Iterable[float]) -> float:
    """Σw."""
    total = 0.0
    for weight in weights:
        total += weight
    return total


def turnover(new: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Σ|w_new − w_now| over the symbols of ``new``: a symbol that is missing from it is held."""
    total = 0.0
    for symbol, weight in new.items():
        total += abs(weight - now.get(symbol, 0.0))
    return total


def weight_of(*, qty: float, px: float, equity_usd: float) -> float:
    """qty·px / equity; 0 when there is no equity to be a fraction of."""
    return qty * px / equity_usd if equity_usd > 0 else 0.0


def present_weights(snapshot: StateSnapshot) -> dict[str, float]:
    """The weight of every open position at the snapshot's marks, coins outside the universe too."""
    equity_usd = float(snapshot.equity_usd)
    return {
        symbol: weight_of(qty=float(position.qty), px=float(position.mark_px), equity_usd=equity_usd)
        for symbol, position in snapshot.positions.items()
        if position.qty != 0
    }


def reconciled_ms(snapshot: StateSnapshot) -> int | None:
    """When the snapshot's account was last known to agree with the venue, Unix milliseconds; None when never."""
    moment = snapshot.health.last_reconcile_ts
    return None if moment is None else to_ms(moment)
