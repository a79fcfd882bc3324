"""Kubernetes' quantities: read, and written as the API server writes them.

The API server answers ``1024Mi`` with ``1Gi``; a manifest that is written its way equals what it answers.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

_BINARY: Final = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}
_DECIMAL: Final = {
    "m": Fraction(1, 1000), "": Fraction(1), "k": Fraction(1000), "M": Fraction(10**6), "G": Fraction(10**9),
    "T": Fraction(10**12),
}  # fmt: skip


def amount(text: str) -> Fraction:
    """The number that a quantity such as ``512Mi``, ``0.5`` or ``10m`` stands for.

    Raises:
        ValueError: not a quantity.
    """
    unit = text.lstrip("0123456789.")
    scale = _BINARY.get(unit, _DECIMAL.get(unit))
    if scale is None:
        raise ValueError(f"{text!r} is not a quantity")
    return Fraction(text.removesuffix(unit)) * scale


def canonical(text: str) -> str:
    """The same quantity with the largest unit that leaves a whole number."""
    value = amount(text)
    units: dict[str, Fraction] = (
        {"": Fraction(1), **{unit: Fraction(scale) for unit, scale in _BINARY.items()}}
        if text.endswith("i")
        else dict(_DECIMAL)
    )
    fitting = [(unit, scale) for unit, scale in units.items() if (value / scale).denominator == 1 and value >= scale]
    unit, scale = fitting[-1] if fitting else ("", Fraction(1))
    return f"{value / scale}{unit}"
