"""One backtest from beginning to end: the search, the run with what it found, the look-ahead check, the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tradingbot.domain.params import Params, merge_override
from tradingbot.replay.backtest.engine import Engine, Kernels
from tradingbot.replay.backtest.lookahead import LookAhead, check_lookahead
from tradingbot.replay.backtest.options import BacktestOptions, Result, Stumbles
from tradingbot.replay.backtest.report import Report, curves_beside, report_of
from tradingbot.replay.backtest.rivals import Rival
from tradingbot.replay.backtest.search import Job, Objective, Plan, Search, search
from tradingbot.replay.backtest.unfolding import StrategyFor
from tradingbot.replay.data.candles import Loaded

BESIDE = "equal"
"""The strategy that every other one is compared with: equal weights, through the same pipeline at the same costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is asked."""

    loaded: Loaded
    strategy: str
    strategy_for: StrategyFor
    params: Params
    options: BacktestOptions
    plan: Plan | None = None
    objective: Objective = Objective.SHARPE
    folds: int = 0
    checks_lookahead: bool = False
    progress: Callable[[], None] = lambda: None
    """Called after each run of a search."""
    kernels: Kernels | None = None
    """None: compiled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What came out."""

    result: Result
    report: Report
    rivals: tuple[Rival, ...]
    search: Search | None
    lookahead: LookAhead | None


def conduct(study: Study) -> Findings:
    """Search where a plan is given; run with the best parameters found, else with those given.

    Raises:
        BacktestError: it cannot be run as asked.
    """
    candles, found, params = study.loaded.candles, None, study.params
    if study.plan is not None:
        job = Job(
            strategy_for=study.strategy_for,
            params=study.params,
            options=study.options,
            objective=study.objective,
            plan=study.plan,
            progress=study.progress,
            kernels=study.kernels,
        )
        found = search(candles, job, folds=study.folds)
        params = merge_override(params, dict(found.best.values))
    engine = Engine(candles, study.options, kernels=study.kernels)
    strategy = study.strategy_for(candles)
    result = engine.run(strategy, params)
    stumbled = strategy.stumbled() if isinstance(strategy, Stumbles) else None
    beside = [] if study.strategy == BESIDE else [_equal_weights(engine, params)]
    looked = None
    if study.checks_lookahead:
        looked = check_lookahead(
            candles,
            strategy_for=study.strategy_for,
            params=params,
            options=study.options,
            kernels=study.kernels,
        )
    return Findings(
        result=result,
        report=report_of(result, candles, loaded=study.loaded, others=beside, remarks=[stumbled] if stumbled else []),
        rivals=(*beside, *curves_beside(result, candles)),
        search=found,
        lookahead=looked,
    )


def _equal_weights(engine: Engine, params: Params) -> Rival:
    return Rival(name="strategy equal", equity=engine.run(BESIDE, params).equity)
