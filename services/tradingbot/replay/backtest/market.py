"""Candles as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tradingbot.domain.cycles import MINUTE_MS
from tradingbot.domain.errors import Permanent

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class BacktestError(Permanent):
    """A backtest that cannot be run as asked; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candles:
    """Evenly spaced bars of several coins; NaN where a bar is missing."""

    symbols: tuple[str, ...]
    open_ms: IntArray
    """When each bar opens, Unix milliseconds; shape (T,)."""
    bar_ms: int
    open: FloatArray
    """Shape (T, N), as the next four."""
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    """In coins."""

    def __post_init__(self) -> None:
        """Refuse what is no evenly spaced table.

        Raises:
            BacktestError: the shapes differ, the bars are not whole minutes, or their times leave a gap.
        """
        shape = (len(self.open_ms), len(self.symbols))
        for name in ("open", "high", "low", "close", "volume"):
            if getattr(self, name).shape != shape:
                raise BacktestError(f"{name} has shape {getattr(self, name).shape}, the table {shape}")
        if self.bar_ms <= 0 or self.bar_ms % MINUTE_MS or (shape[0] and int(self.open_ms[0]) % MINUTE_MS):
            raise BacktestError(f"bars of {self.bar_ms} ms: only whole minutes that begin at a minute can be used")
        if np.any(np.diff(self.open_ms) != self.bar_ms):
            raise BacktestError("the bars' times leave a gap: a missing bar is a row of NaN")

    @property
    def minutes_per_bar(self) -> int:
        return self.bar_ms // MINUTE_MS
