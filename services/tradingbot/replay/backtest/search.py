"""Many runs over the same candles: a grid, or optuna's guesses; what the best one is worth; and how it does afterwards.

The best of many tries looks better than it is. So every search tells how good the best of as many tries without any
skill would look (the deflated Sharpe ratio), and with ``folds`` how the parameters that were best in one part of the
time did in the next part, which they had not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise, product
from typing import Any

import numpy as np
from pydantic import ValidationError

from tradingbot.domain.cycles import MINUTE_MS
from tradingbot.domain.model import Model
from tradingbot.domain.params import Params, merge_override
from tradingbot.market_data.features import HOUR
from tradingbot.replay.backtest import figures
from tradingbot.replay.backtest.engine import Engine, Kernels
from tradingbot.replay.backtest.market import BacktestError, Candles, FloatArray
from tradingbot.replay.backtest.options import BacktestOptions, Result
from tradingbot.replay.backtest.report import iso
from tradingbot.replay.backtest.unfolding import StrategyFor
from tradingbot.replay.data.candles import between

Values = Mapping[str, float | int | str]
MOST_RUNS = 100_000
LEAST_DECISIONS = 10
"""Of a part that is tuned or tested on."""


class Objective(StrEnum):
    """What a search maximises."""

    SHARPE = "sharpe"
    SORTINO = "sortino"
    CALMAR = "calmar"
    RETURN = "return"


class Trial(Model):
    """One run of a search."""

    values: dict[str, float | int | str]
    score: float
    """The objective; 0 where it cannot be told because nothing was risked."""
    total_return: float
    sharpe: float | None
    calmar: float | None
    drawdown: float
    turnover: float
    fees_usd: float


class Fold(Model):
    """Parameters that were best in one part of the time, in the part after it."""

    tuned_from: str
    tested_from: str
    tested_to: str
    values: dict[str, float | int | str]
    score_before: float
    score_after: float
    return_before: float
    return_after: float
    return_unchanged: float
    """In the same later part, with nothing changed."""


class Search(Model):
    """A search, its tries from the best to the worst."""

    method: str
    objective: Objective
    seed: int | None
    trials: tuple[Trial, ...]
    refused: int
    """Combinations that the parameters' own rules do not allow."""
    luckiest_sharpe: float
    """Annualised: what the best of so many tries without skill is expected to show."""
    deflated_sharpe: float | None
    """The probability that the best Sharpe ratio among them is more than luck."""
    folds: tuple[Fold, ...] = ()

    @property
    def best(self) -> Trial:
        return self.trials[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Every combination of some values."""

    axes: Mapping[str, Sequence[str]]
    method: str = "grid"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse a grid beyond reason.

        Raises:
            BacktestError: more than MOST_RUNS combinations.
        """
        if self.size > MOST_RUNS:
            raise BacktestError(f"--sweep: {self.size} combinations, more than {MOST_RUNS}; take larger steps")

    @property
    def size(self) -> int:
        return math.prod(len(values) for values in self.axes.values())

    def explore(self, score: Callable[[Values], float | None]) -> None:
        """Try them all."""
        for combination in product(*self.axes.values()):
            score(dict(zip(self.axes, combination, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Where one parameter may lie."""

    low: float
    high: float
    whole: bool = False
    """Whole numbers only."""
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Guesses:
    """optuna's tree-structured Parzen estimator, seeded: the same tries every time. Needs the extra ``search``."""

    ranges: Mapping[str, Range]
    size: int
    seed: int
    method: str = "optuna (TPE)"

    def explore(self, score: Callable[[Values], float | None]) -> None:
        """Ask for values, tell how they did, ``size`` times."""
        try:
            import optuna  # noqa: PLC0415 - heavy, and only this needs it
        except ImportError as error:
            raise BacktestError("--optuna needs optuna: pip install 'tradingbot[search]'") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=self.seed))
        pruned = optuna.trial.TrialState.PRUNED
        for _ in range(self.size):
            trial = study.ask()
            found = score({name: _suggest(trial, name, each) for name, each in self.ranges.items()})
            if found is None:
                study.tell(trial, state=pruned)
            else:
                study.tell(trial, found)


Plan = Grid | Guesses


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is searched."""

    strategy_for: StrategyFor
    params: Params
    options: BacktestOptions
    objective: Objective = Objective.SHARPE
    plan: Plan
    progress: Callable[[], None] = lambda: None
    """Called after each run."""
    kernels: Kernels | None = None
    """None: compiled."""


def search(candles: Candles, job: Job, *, folds: int = 0) -> Search:
    """Try out the plan on all candles, and in ``folds`` steps from each part of the time to the next.

    Raises:
        BacktestError: a name is unknown, no combination is allowed, or the parts are too short.
    """
    if job.objective is Objective.CALMAR:
        _check_years(candles, job, parts=folds + 1)
    done = _explore(candles, job)
    ratios = np.array([ratio for ratio in done.ratios if ratio is not None])
    per_year = figures.returns_of(done.at_ms, done.at_ms.astype(np.float64)).per_year
    variance = float(ratios.var(ddof=1)) if len(ratios) > 1 else 0.0
    lucky = figures.luckiest_sharpe(variance=variance, trials=len(ratios)) * math.sqrt(per_year)
    return Search(
        method=job.plan.method,
        objective=job.objective,
        seed=job.plan.seed,
        trials=tuple(sorted(done.trials, key=lambda each: -each.score)),
        refused=done.refused,
        luckiest_sharpe=lucky,
        deflated_sharpe=figures.deflated_sharpe(ratios, done.sharpest),
        folds=tuple(walk_forward(candles, job, folds=folds)) if folds else (),
    )


def walk_forward(candles: Candles, job: Job, *, folds: int) -> Iterator[Fold]:
    """Cut the time into ``folds`` + 1 equal parts; tune on each and test on the one after it.

    Every part gets the hour before it to warm up, so that the tests follow one another without a gap.

    Raises:
        BacktestError: a part is too short.
    """
    cycle_ms, warm_ms = job.options.cycle_minutes * MINUTE_MS, HOUR * MINUTE_MS
    first = -(-(int(candles.open_ms[0]) + warm_ms) // cycle_ms)
    stop = (int(candles.open_ms[-1]) + candles.bar_ms) // cycle_ms
    if stop - first < LEAST_DECISIONS * (folds + 1):
        raise BacktestError(
            f"--folds {folds}: {folds + 1} parts of {max(stop - first, 0)} decisions are too short; "
            f"each needs {LEAST_DECISIONS}"
        )
    edges = [int(edge) * cycle_ms for edge in np.linspace(first, stop, folds + 2)]
    parts = [between(candles, start_ms=start - warm_ms, end_ms=end) for start, end in pairwise(edges)]
    for k, (before, after) in enumerate(pairwise(parts)):
        tuned = _explore(before, job)
        best = max(tuned.trials, key=lambda each: each.score)
        engine = Engine(after, job.options, kernels=job.kernels)
        tested = engine.run(job.strategy_for(after), merge_override(job.params, dict(best.values)))
        unchanged = engine.run(job.strategy_for(after), job.params)
        yield Fold(
            tuned_from=iso(edges[k]),
            tested_from=iso(edges[k + 1]),
            tested_to=iso(edges[k + 2]),
            values=best.values,
            score_before=best.score,
            score_after=score_of(tested, job.objective),
            return_before=best.total_return,
            return_after=figures.total_return(tested.equity),
            return_unchanged=figures.total_return(unchanged.equity),
        )


def _check_years(candles: Candles, job: Job, *, parts: int) -> None:
    """Growth of a year, which the Calmar ratio is made of, is not told of less: every try would score the same."""
    days = (len(candles.open_ms) * candles.minutes_per_bar - HOUR) / 1_440 - job.options.cycle_minutes / 1_440
    if days / parts < figures.LEAST_DAYS:
        raise BacktestError(
            f"--objective calmar needs {figures.LEAST_DAYS} days in each part; {parts} of {days:.1f} days are too short"
        )


def score_of(result: Result, objective: Objective) -> float:
    """What is maximised; 0 where it cannot be told."""
    returns = figures.returns_of(result.at_ms, result.equity)
    found = figures.total_return(result.equity) if objective is Objective.RETURN else None
    if objective is Objective.SHARPE:
        found = figures.sharpe(returns)
    elif objective is Objective.SORTINO:
        found = figures.sortino(returns)
    elif objective is Objective.CALMAR:
        found = figures.calmar(result.at_ms, result.equity)
    return 0.0 if found is None else found


class _Explored:
    """What a plan's runs brought."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine = engine
        self._job = job
        self.at_ms = engine.at_ms
        self.trials: list[Trial] = []
        self.ratios: list[float | None] = []
        """Sharpe ratios of one period."""
        self.sharpest: FloatArray = np.empty(0)
        """The returns of the run with the best Sharpe ratio."""
        self.refused = 0

    def score(self, values: Values) -> float | None:
        """Run once; None where the parameters' own rules refuse the values."""
        try:
            params = merge_override(self._job.params, dict(values))
        except ValidationError:
            self.refused += 1
            self._job.progress()
            return None
        result = self._engine.run(self._job.strategy_for(self._engine.candles), params)
        trial = trial_of(result, values, self._job.objective)
        returns = figures.returns_of(result.at_ms, result.equity).values
        ratio = figures.period_sharpe(returns)
        known = [each for each in self.ratios if each is not None]
        if ratio is not None and (not known or ratio > max(known)):
            self.sharpest = returns
        self.trials.append(trial)
        self.ratios.append(ratio)
        self._job.progress()
        return trial.score


def trial_of(result: Result, values: Values, objective: Objective) -> Trial:
    """A run in a line."""
    returns = figures.returns_of(result.at_ms, result.equity)
    return Trial(
        values=dict(values),
        score=score_of(result, objective),
        total_return=figures.total_return(result.equity),
        sharpe=figures.sharpe(returns),
        calmar=figures.calmar(result.at_ms, result.equity),
        drawdown=figures.deepest_fall(result.equity).depth,
        turnover=float(result.turnover[:-1].sum()),
        fees_usd=float(result.fees_usd[:-1].sum()),
    )


def _explore(candles: Candles, job: Job) -> _Explored:
    done = _Explored(Engine(candles, job.options, kernels=job.kernels), job)
    try:
        job.plan.explore(done.score)
    except ValidationError:
        raise
    except ValueError as error:
        raise BacktestError(str(error)) from error
    if not done.trials:
        raise BacktestError("the parameters' own rules allow none of these combinations (docs/settings.md)")
    return done


def _suggest(trial: Any, name: str, each: Range) -> float | int:
    found: float | int = (
        trial.suggest_int(name, int(each.low), int(each.high), log=each.log)
        if each.whole
        else trial.suggest_float(name, each.low, each.high, log=each.log)
    )
    return found
