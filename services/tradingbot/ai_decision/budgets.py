"""How much of the equity each coin may take: shares that stay well within the limits.

Part of the numeric kernel: scalar float64 loops over parallel vectors, in place, called as Python when live and
compiled with numba for backtests. A strategy's kernel is a function ``weigh(moves, terms, weights, signals)``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tradingbot.ai_decision.strategy import View
from tradingbot.domain.weights import Vector

DEPLOYABLE: Final = 0.9
"""The part of the tighter of max_gross and max_net that a strategy uses."""
CAP_SHARE: Final = 0.8
"""The part of a coin's cap that a strategy uses."""
MIN_VOL: Final = 0.05
"""Annualised; below it a market stands still and its moves mean nothing."""


class Moves(NamedTuple):
    """The features of the usable coins, over parallel vectors."""

    ret_5m: Vector
    ret_1h: Vector
    vol_1h: Vector


class Terms(NamedTuple):
    """What a strategy may do with them."""

    caps: Vector
    total: float
    """The sum of all shares."""
    allow_short: bool


def deployable(max_gross: float, max_net: float) -> float:
    """The sum of all shares."""
    return DEPLOYABLE * min(max_gross, max_net)


def equal_shares(caps: Vector, total: float, shares: Vector) -> None:
    """Share ``total`` evenly, each coin within its part of the cap."""
    for i in range(len(caps)):
        shares[i] = min(total / len(caps), CAP_SHARE * caps[i])


def inverse_vol_shares(vols: Vector, caps: Vector, total: float, shares: Vector) -> None:
    """Share ``total`` by 1/vol (at least ``MIN_VOL``), each coin within its part of the cap."""
    sum_of_inverses = 0.0
    for i in range(len(vols)):
        sum_of_inverses += 1.0 / max(vols[i], MIN_VOL)
    for i in range(len(vols)):
        shares[i] = min(total / max(vols[i], MIN_VOL) / sum_of_inverses, CAP_SHARE * caps[i])


def moves_of(view: View) -> Moves:
    """The features of the usable coins."""
    features, symbols = view.features, view.usable
    return Moves(
        ret_5m=[features.ret_5m[symbol] for symbol in symbols],
        ret_1h=[features.ret_1h[symbol] for symbol in symbols],
        vol_1h=[features.vol_1h[symbol] for symbol in symbols],
    )


def terms_of(view: View) -> Terms:
    """The terms of the usable coins."""
    risk = view.risk
    return Terms(
        caps=[risk.cap(symbol) for symbol in view.usable],
        total=deployable(risk.max_gross, risk.max_net),
        allow_short=risk.allow_short,
    )
