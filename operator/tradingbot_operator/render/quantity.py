"""Kubernetes' quantities, read."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

_UNITS: Final = {
    "m": Fraction(1, 1000), "": Fraction(1),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40),
}  # fmt: skip


def amount(text: str) -> Fraction:
    """The number that a quantity such as ``512Mi``, ``0.5`` or ``10m`` stands for.

    Raises:
        ValueError: not a quantity.
    """
    unit = text.lstrip("0123456789.")
    if unit not in _UNITS:
        raise ValueError(f"{text!r} is not a quantity")
    return Fraction(text.removesuffix(unit)) * _UNITS[unit]
