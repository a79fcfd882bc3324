"""The same portfolio problems, one after the other: ours, cvxpy with parameters, PyPortfolioOpt, skfolio.

Each runs in a process of its own on one core, in a virtual environment of its own with pinned versions, all with
Clarabel. Times are CPU milliseconds, so that other work on the machine counts little; those by the clock are beside
them. Set-up (everything up to and with the first answer) is apart, and so is what importing costs in memory. The
numbers change from problem to problem as they do from minute to minute; coins and limits stay. Every answer is held
against ours: objective and how far a limit is passed. Problems where ours finds a portfolio that only reduces, which
the risk gate exempts from the turnover cap, are not convex as a whole and are left to ours alone: none of the others
can express them.

    python bench/optimizer.py [--coins 5,10,20,50] [--problems 300] [--shorts]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sandbox import RIVALS, MissingError, Rival, run
from stack import machine, percentile

sys.path.insert(0, str(RIVALS))
from problem import Series, load

GOALS_MS = {5: 0.5, 50: 3.0}
EQUAL = 1e-6
"""Of the objective's greatest value over all problems."""
SEED = 11
GAMMA = 10.0
HORIZON_A_YEAR = 1 / 365.0
OURS = "ours"
RIVAL = {
    OURS: Rival("ours", "opt_ours.py"),
    "cvxpy, parameters": Rival("cvxpy", "opt_cvxpy.py", "cvxpy.txt"),
    "PyPortfolioOpt": Rival("pypfopt", "opt_pypfopt.py", "pypfopt.txt"),
    "skfolio": Rival("skfolio", "opt_skfolio.py", "skfolio.txt"),
}
ALL_PROBLEMS = (OURS, "cvxpy, parameters")
"""The slow ones get the first tenth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What one of them found and how long it took."""

    weights: NDArray[np.float64]
    figures: dict[str, Any]


def series(n: int, problems: int, *, shorts: bool) -> dict[str, Any]:
    """Problems of a day's horizon: volatilities of 30 to 100 % a year with a common factor, expected returns of a tenth
    of the volatility, costs of 5 to 10 bps, the present portfolio somewhere within the limits, default limits."""
    random = np.random.default_rng(SEED + n)
    vol = np.linspace(0.3, 1.0, n) * np.sqrt(HORIZON_A_YEAR)
    vols = vol * np.exp(0.2 * random.standard_normal((problems, n)))
    loading = random.uniform(0.5, 0.9, n)
    correlation = np.outer(loading, loading)
    np.fill_diagonal(correlation, 1.0)
    cap = np.where(np.arange(n) < 2, 0.15, 0.10)
    now = random.dirichlet(np.ones(n), problems) * random.uniform(0.0, 0.19, (problems, 1))
    sides = random.choice([-1.0, 1.0], (problems, n)) if shorts else np.ones((problems, n))
    return {
        "mu": 0.1 * vols * random.standard_normal((problems, n)),
        "sigma": vols[:, :, None] * correlation * vols[:, None, :],
        "cost": random.uniform(0.0005, 0.001, (problems, n)),
        "now": np.minimum(now, cap) * sides,
        "lows": -cap if shorts else np.zeros(n),
        "highs": cap,
        "gamma": GAMMA,
        "gross": 0.40,
        "net": 0.20,
        "turnover": 0.10,
    }


def objective(given: Series, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row."""
    count = len(weights)
    risk = np.einsum("ki,kij,kj->k", weights, given.sigma[:count], weights)
    traded = np.abs(weights - given.now[:count])
    return (given.mu[:count] * weights).sum(axis=1) - given.gamma / 2 * risk - (given.cost[:count] * traded).sum(axis=1)


def beyond(given: Series, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each row passes its limits at most, in weight."""
    now = given.now[: len(weights)]
    passed = [
        (given.lows - weights).max(axis=1),
        (weights - given.highs).max(axis=1),
        np.abs(weights).sum(axis=1) - given.gross,
        np.abs(weights.sum(axis=1)) - given.net,
        np.abs(weights - now).sum(axis=1) - given.turnover,
    ]
    return np.maximum(np.max(passed, axis=0), 0.0)


def solved(name: str, path: Path, problems: int) -> Answers:
    """Let one of them solve the first problems of a file."""
    answers = path.with_suffix(".answers.npy")
    figures = run(RIVAL[name], str(path), str(answers), "--problems", str(problems))
    return Answers(weights=np.load(answers), figures=figures)


def shown(name: str, given: Series, found: Answers, ours: Answers) -> str:
    """A line of the table."""
    figures, count = found.figures, len(found.weights)
    mine = ours.weights[:count]
    capped = np.abs(mine - given.now[:count]).sum(axis=1) <= given.turnover + 1e-9
    worth = objective(given, mine)
    gap = (objective(given, found.weights) - worth) / np.abs(worth).max()
    apart = float(np.abs(gap[capped]).max())
    cpu_ms, wall_ms = figures["cpu_ms"], figures["wall_ms"]
    parts = (
        f"{name:<20} n={count:<4} p50 {percentile(cpu_ms, 0.5):>7.3f}  p99 {percentile(cpu_ms, 0.99):>7.3f} ms",
        f"(by the clock {percentile(wall_ms, 0.5):>7.3f}, {percentile(wall_ms, 0.99):>7.3f})",
        f"set-up {figures['set_up_ms']:>7.1f} ms",
        f"import {figures['import_s']:>5.2f} s {figures['imported_mb']:>4.0f} MB",
        f"objective {gap[capped].min():+.0e} to {gap[capped].max():+.0e} {'equal' if apart <= EQUAL else 'NOT EQUAL'}",
        f"limits passed by {beyond(given, found.weights)[capped].max():.0e}",
    )
    return "   ".join(parts)


def compare(n: int, problems: int, *, shorts: bool) -> None:
    """All of them on one size."""
    with tempfile.TemporaryDirectory(prefix="tradingbot-bench-") as folder:
        path = Path(folder) / "series.npz"
        np.savez(path, **series(n, problems, shorts=shorts))
        given = load(path)
        ours = solved(OURS, path, problems)
        spent = np.abs(ours.weights - given.now).sum(axis=1)
        alone = int((spent > given.turnover + 1e-9).sum())
        binds = int((np.abs(spent - given.turnover) <= 1e-6).sum())
        print(f"\n{n} coins, {problems} problems: the turnover cap binds in {binds}, {alone} solved by reducing alone")
        print(shown(OURS, given, ours, ours))
        for name in list(RIVAL)[1:]:
            count = problems if name in ALL_PROBLEMS else max(problems // 10, 10)
            try:
                print(shown(name, given, solved(name, path, count), ours), flush=True)
            except MissingError as missing:
                print(f"{name:<20} left out: {missing}")
        if n in GOALS_MS:
            p50 = percentile(ours.figures["cpu_ms"], 0.5)
            print(
                f"goal {n} coins <= {GOALS_MS[n]:g} ms: {'met' if p50 <= GOALS_MS[n] else 'missed'} (p50 {p50:.3f} ms)"
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coins", default="5,10,20,50")
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--shorts", action="store_true")
    given = parser.parse_args()
    print(f"{machine()}; {'long and short' if given.shorts else 'long only'}; seed {SEED}")
    for n in map(int, given.coins.split(",")):
        compare(n, given.problems, shorts=given.shorts)


if __name__ == "__main__":
    main()
