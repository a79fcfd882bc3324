"""``tradingbot backtest``: a strategy over recorded candles, through the pipeline that decides live."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tradingbot.commands.config import EnvFile, find_env_file
from tradingbot.domain.errors import Permanent
from tradingbot.domain.static import split_list
from tradingbot.local.environment import read_environment
from tradingbot.runtime.process import ExitCode
from tradingbot.runtime.settings import load_params

if TYPE_CHECKING:
    from tradingbot.domain.params import Params
    from tradingbot.replay.backtest.search import Plan
    from tradingbot.replay.backtest.study import Findings, Study


class CommandRefused(Permanent):
    """Options that do not go together."""


_RUN, _COSTS, _SEARCH, _TOLD = "The run", "What the market charges", "Search", "What is told"


def backtest(
    *,
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="A folder with one Parquet or CSV file a coin, or one file.")
    ],
    strategy: Annotated[
        str, typer.Option(help="baseline, equal, inverse_vol, regime or plugin:NAME.", rich_help_panel=_RUN)
    ] = "baseline",
    coins: Annotated[
        str | None, typer.Option(help="Like BTC,ETH. Default: every coin with a file.", rich_help_panel=_RUN)
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Like 2025-06-01, UTC.", rich_help_panel=_RUN)
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", rich_help_panel=_RUN)] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Like risk.max_gross=0.5; repeatable.", rich_help_panel=_RUN),
    ] = None,
    env_file: EnvFile = None,
    equity: Annotated[float, typer.Option(min=1, help="USD to start with.", rich_help_panel=_RUN)] = 10_000,
    cycle_minutes: Annotated[
        int | None,
        typer.Option(min=1, help="Between decisions. Default: CYCLE_SECONDS, a bar at least.", rich_help_panel=_RUN),
    ] = None,
    clear_after: Annotated[
        int | None,
        typer.Option(
            min=1, help="Minutes after which somebody clears a drawdown's halt. Default: never.", rich_help_panel=_RUN
        ),
    ] = None,
    regime: Annotated[str, typer.Option(help="trend, range or stress, for regime.", rich_help_panel=_RUN)] = "trend",
    multiplier: Annotated[
        float | None, typer.Option(min=0, max=1, help="The model's risk multiplier, for regime.", rich_help_panel=_RUN)
    ] = None,
    fees: Annotated[float, typer.Option(min=0, help="Taker's fee, bps.", rich_help_panel=_COSTS)] = 4.5,
    funding: Annotated[float, typer.Option(help="What a long pays an hour, bps.", rich_help_panel=_COSTS)] = 0.125,
    half_spread: Annotated[float, typer.Option(min=0, help="Half the spread, bps.", rich_help_panel=_COSTS)] = 0.5,
    impact: Annotated[
        float, typer.Option(min=0, help="Bps · √(order / the minute's volume).", rich_help_panel=_COSTS)
    ] = 10.0,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=A,B,C|FROM:TO:STEP", help="Try all combinations; repeatable.", rich_help_panel=_SEARCH
        ),
    ] = None,
    optuna: Annotated[int, typer.Option(min=0, help="Guess so many times.", rich_help_panel=_SEARCH)] = 0,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range", metavar="NAME=LOW:HIGH[:log]", help="Where to guess; repeatable.", rich_help_panel=_SEARCH
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="sharpe, sortino, calmar or return.", rich_help_panel=_SEARCH)
    ] = "sharpe",
    folds: Annotated[
        int, typer.Option(min=0, help="Tune on one part, test on the next, so often.", rich_help_panel=_SEARCH)
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of --optuna's guesses.", rich_help_panel=_SEARCH)] = 1,
    check_lookahead: Annotated[
        bool, typer.Option("--check-lookahead", help="Does the future change the past?", rich_help_panel=_TOLD)
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="The report as a page, and FILE.json.", rich_help_panel=_TOLD),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.", rich_help_panel=_TOLD)] = False,
) -> None:
    """Run a strategy over recorded candles: the very code that decides live, compiled, with fees and slippage.

    Parameters come from .env and the environment as for `up`, and from --param over them. With --sweep or --optuna the
    best parameters found are run and reported, with what the best of so many tries is worth. docs/backtest.md.

        tradingbot backtest --data candles/ --strategy baseline --out report.html

        tradingbot backtest --data candles/ --sweep ai.smooth_alpha=0.1,0.3,0.5 --folds 3
    """
    from tradingbot.ai_decision.allocation import Regime, Stance  # noqa: PLC0415 - numpy, numba and the optimizer
    from tradingbot.replay.backtest.choices import one_of, with_values  # noqa: PLC0415
    from tradingbot.replay.backtest.named import strategy_named  # noqa: PLC0415
    from tradingbot.replay.backtest.options import BacktestOptions  # noqa: PLC0415
    from tradingbot.replay.backtest.search import Objective  # noqa: PLC0415
    from tradingbot.replay.backtest.study import Study  # noqa: PLC0415
    from tradingbot.replay.data.candles import load_candles  # noqa: PLC0415
    from tradingbot.replay.data.moments import moment_ms  # noqa: PLC0415

    given = read_environment(find_env_file(env_file), os.environ)
    _check_together(strategy=strategy, multiplier=multiplier, folds=folds, searches=bool(sweep or optuna))
    _check_written(out)
    params = with_values(load_params(given), param or ())
    plan = _plan(params, sweep=sweep or [], optuna=optuna, ranges=ranges or [], seed=seed)
    stance = None
    if multiplier is not None:
        stance = Stance(regime=one_of(Regime, regime, option="--regime"), multiplier=multiplier)
    strategy_for = strategy_named(strategy, stance=stance)
    loaded = load_candles(
        data,
        symbols=split_list(coins) if coins else (),
        start_ms=moment_ms(start, option="--from"),
        end_ms=moment_ms(end, option="--to"),
    )
    options = BacktestOptions(
        start_equity_usd=equity,
        cycle_minutes=cycle_minutes or max(int(given.get("CYCLE_SECONDS", 60)) // 60, loaded.candles.minutes_per_bar),
        taker_fee_bps=fees,
        funding=funding / 10_000,
        half_spread_bps=half_spread,
        impact_bps=impact,
        clear_after_minutes=clear_after,
    )
    study = Study(
        loaded=loaded,
        strategy=strategy,
        strategy_for=strategy_for,
        params=params,
        options=options,
        plan=plan,
        objective=one_of(Objective, objective, option="--objective"),
        folds=folds,
        checks_lookahead=check_lookahead,
    )
    findings = _conduct(study, shows=not as_json)
    _tell(findings, out=out, as_json=as_json)
    if findings.lookahead is not None and not findings.lookahead.clean:
        raise typer.Exit(ExitCode.FAILED)


def _check_together(*, strategy: str, multiplier: float | None, folds: int, searches: bool) -> None:
    """Refuse options that would be ignored."""
    if folds and not searches:
        raise CommandRefused("--folds tests what a search found: it needs --sweep or --optuna")
    if multiplier is not None and strategy != "regime":
        raise CommandRefused(f"--multiplier stands in for the model of the strategy regime; {strategy} has none")


def _check_written(out: Path | None) -> None:
    """Refuse before the run what would be written over by the figures beside it."""
    if out is not None and (out.suffix != ".html" or out.is_dir()):
        raise CommandRefused(f"--out {out}: wanted a page's file like report.html; the figures go to report.json")


def _plan(params: Params, *, sweep: list[str], optuna: int, ranges: list[str], seed: int) -> Plan | None:
    from tradingbot.replay.backtest.choices import axes_of, ranges_of  # noqa: PLC0415 - numpy
    from tradingbot.replay.backtest.search import Grid, Guesses  # noqa: PLC0415

    if sweep and (optuna or ranges):
        raise CommandRefused("--sweep and --optuna are two ways to search: take one of them")
    if bool(optuna) != bool(ranges):
        raise CommandRefused("--optuna N and --range NAME=LOW:HIGH belong together")
    if sweep:
        return Grid(axes=axes_of(params, sweep))
    return Guesses(ranges=ranges_of(params, ranges), size=optuna, seed=seed) if optuna else None


def _conduct(study: Study, *, shows: bool) -> Findings:
    """Run it, with a bar on stderr while it searches."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from tradingbot.replay.backtest.study import conduct  # noqa: PLC0415 - numba

    with Progress(console=Console(stderr=True), disable=not shows or not sys.stderr.isatty(), transient=True) as bar:
        total = 1 if study.plan is None else study.plan.size * (1 + study.folds)
        task = bar.add_task(f"backtest {study.strategy}", total=total)
        return conduct(replace(study, progress=lambda: bar.advance(task)))


def _tell(findings: Findings, *, out: Path | None, as_json: bool) -> None:
    from tradingbot.replay.backtest.export import as_text, write  # noqa: PLC0415

    if out is not None:
        written = write(findings, out)
        sys.stderr.write("".join(f"wrote {path}\n" for path in written))
    if as_json:
        typer.echo(as_text(findings))
        return
    from tradingbot.replay.backtest.terminal import show  # noqa: PLC0415

    show(findings)
