"""Fewer points of a long curve, without losing what matters: every stretch keeps its extremes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tradingbot.replay.backtest.market import FloatArray


def edges(count: int, stretches: int) -> list[int]:
    """Where equal stretches of ``count`` values begin, and at last the end."""
    found = np.linspace(0, count, min(count, stretches) + 1).astype(int)
    return [int(each) for each in found]


def extremes(values: FloatArray, stretches: int) -> list[int]:
    """The places of the lowest and highest value of each stretch, with the first and last of all, in order."""
    marks = edges(len(values), stretches)
    kept = {0, len(values) - 1}
    for start, stop in pairwise(marks):
        part = values[start:stop]
        kept |= {start + int(part.argmin()), start + int(part.argmax())}
    return sorted(kept)
