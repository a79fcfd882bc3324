"""How the venue writes and rounds numbers: strings on the wire, at least one decimal in answers."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

ZERO = Decimal(0)
MICRO = Decimal("0.000001")


def text(value: Decimal) -> str:
    """The form of answers: plain notation, no superfluous zeros, at least one decimal ("83767.0", "0.0")."""
    plain = wire(value)
    return plain if "." in plain else f"{plain}.0"


def wire(value: Decimal) -> str:
    """The form of requests: plain notation without trailing zeros ("100", "0.05")."""
    return f"{value.normalize():f}" if value else "0"


def usd(value: Decimal) -> str:
    """A USD amount to the micro-dollar, as answers show it."""
    return text(value.quantize(MICRO, ROUND_HALF_EVEN))


def cut_to_micro(value: Decimal) -> Decimal:
    """Cut, never rounded, to six decimals: how the venue computes fees."""
    return value.quantize(MICRO, ROUND_DOWN)


def to_step(value: Decimal, step: Decimal, *, up: bool) -> Decimal:
    """``value`` on the grid of ``step``, towards +∞ when ``up``, else towards −∞."""
    return (value / step).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR) * step
