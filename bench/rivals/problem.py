"""What every optimizer is given and how it is measured; numpy and the standard library only.

The problem, over the weights w of n coins:

    maximise   μᵀw − γ/2·wᵀΣw − costᵀ|w − now|
    subject to lows ≤ w ≤ highs,  Σ|w| ≤ gross,  |Σw| ≤ net,  Σ|w − now| ≤ turnover
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from job import process_age_s, process_peak_mb
from numpy.typing import NDArray

Array = NDArray[np.float64]
PASSES = 3
TIGHT = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-10}
"""Clarabel's usual 1e-8 is a ten-thousandth of what a day's portfolio is worth."""


@dataclass(frozen=True, slots=True)
class Series:
    """One problem a row: the same coins and limits, other numbers."""

    mu: Array
    sigma: Array
    cost: Array
    now: Array
    lows: Array
    """By coin, the same in all; so the rest."""
    highs: Array
    gamma: float
    gross: float
    net: float
    turnover: float


Solve = Callable[[int], Array]


def main(prepare: Callable[[Series], Solve], versions: Mapping[str, str]) -> None:
    """Solve every problem ``PASSES`` times in order; print the figures as one line of JSON, keep the weights in a file.

    Set-up is ``prepare`` and the first solve. The pass with the least p99 counts.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("series", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--problems", type=int, required=True)
    given = parser.parse_args()
    series = load(given.series)
    imported_s, imported_mb = process_age_s(), process_peak_mb()
    started = time.perf_counter()
    solve = prepare(series)
    solve(0)
    set_up_s = time.perf_counter() - started
    answers = np.full((given.problems, len(series.lows)), np.nan)
    passes = [_pass(solve, answers) for _ in range(PASSES)]
    best = min(passes, key=lambda each: float(np.percentile([cpu for cpu, _ in each], 99)))
    np.save(given.answers, answers)
    figures = {
        "versions": dict(versions),
        "import_s": imported_s,
        "imported_mb": imported_mb,
        "set_up_ms": set_up_s * 1000,
        "cpu_ms": [cpu for cpu, _ in best],
        "wall_ms": [wall for _, wall in best],
        "peak_mb": process_peak_mb(),
    }
    print(json.dumps(figures))


def _pass(solve: Solve, answers: Array) -> list[tuple[float, float]]:
    """Milliseconds of each solve: of this process' own work, and by the clock."""
    taken = []
    for i in range(len(answers)):
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        answers[i] = solve(i)
        taken.append(((time.process_time() - cpu_s) * 1000, (time.perf_counter() - wall_s) * 1000))
    return taken


def load(path: Path) -> Series:
    """A series of problems from its file."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in ("mu", "sigma", "cost", "now", "lows", "highs")}
        return Series(**arrays, **{name: float(file[name]) for name in ("gamma", "gross", "net", "turnover")})
