"""Findings for a person at a terminal: a short table, and what not to overlook."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tradingbot.replay.backtest.search import Search
from tradingbot.replay.backtest.study import Findings

_SHOWN = 10
"""Tries of a search."""


def show(findings: Findings, console: Console | None = None) -> None:
    """Print them."""
    console = console or Console()
    report, costs = findings.report, findings.report.costs
    console.print(
        f"[bold]{escape(report.strategy)}[/bold]  {' '.join(report.symbols)}  {report.first_at} to {report.last_at}",
        highlight=False,
    )
    console.print(_performances(findings))
    console.print(
        f"prices {costs.prices:+,.2f} − fees {costs.fees:,.2f} − slippage {costs.slippage:,.2f} "
        f"− funding {costs.funding:,.2f} = [bold]{costs.net:+,.2f} USD[/bold]"
    )
    console.print(
        "by coin  " + "  ".join(f"{each.symbol} {each.pnl_usd:+,.2f}" for each in report.coins),
    )
    console.print(
        f"turnover {report.activity.turnover_a_day:.2f} times equity a day  orders {report.activity.orders:,}  "
        f"gross {report.exposure.gross_mean:.1%} on average, {report.exposure.gross_max:.1%} at most"
    )
    if findings.search is not None:
        console.print(_trials(findings.search))
        if findings.search.folds:
            for line in _folds(findings.search):
                console.print(line, highlight=False)
    for line in remarks(findings):
        console.print(f"[yellow]{line}[/yellow]")


def remarks(findings: Findings) -> Iterator[str]:
    """What a reader must not overlook."""
    report = findings.report
    yield from report.cautions
    yield from report.data.left_out
    if report.first_restricted_at is not None:
        yield (
            f"From {report.first_restricted_at} on the breaker held the bot back for {1 - report.modes['NORMAL']:.0%} "
            "of the decisions; a person may clear it, --clear-after does."
        )
    performance = report.performance
    if performance.sharpe is not None and performance.sharpe_error is not None:
        yield (
            f"Sharpe {performance.sharpe:.2f} ± {performance.sharpe_error:.2f} (one standard error, "
            f"{performance.periods} {performance.period}): {'more' if report.days > 365 else 'little'} to go by."
        )
    if sum(report.data.missing.values()):
        yield "Missing bars: " + ", ".join(f"{coin} {n}" for coin, n in report.data.missing.items() if n)
    if findings.search is not None:
        yield from search_remarks(findings.search)
    if findings.lookahead is not None:
        looked = findings.lookahead
        yield (
            f"Look-ahead: none found at {looked.moments} moments, {looked.decisions:,} decisions compared bit for bit."
            if looked.clean
            else f"LOOK-AHEAD FOUND: {looked.leaks[0]}"
        )


def search_remarks(search: Search) -> Iterator[str]:
    """What the best of many tries is worth."""
    if len(search.trials) < 2:
        return
    sharpest = max((each.sharpe for each in search.trials if each.sharpe is not None), default=None)
    if sharpest is not None and search.deflated_sharpe is not None:
        yield (
            f"Best Sharpe of {len(search.trials)} tries: {sharpest:.2f}. Luck alone would show "
            f"{search.luckiest_sharpe:.2f}; the probability of any skill is {search.deflated_sharpe:.0%} "
            "(deflated Sharpe ratio)."
        )
    hint = "" if search.folds else " --folds tests them on later data."
    yield f"These parameters were chosen on the data they are shown on: expect less.{hint}"


def _performances(findings: Findings) -> Table:
    shown = (findings.report.performance, *findings.report.rivals)
    yearly = any(each.calmar is not None for each in shown)
    table = Table("", "return", "Sharpe", "Sortino", *(["Calmar"] if yearly else []), "drawdown", box=SIMPLE_HEAD)
    for each in shown:
        table.add_row(
            each.name,
            f"{each.total_return:+z.2%}",
            number(each.sharpe),
            number(each.sortino),
            *([number(each.calmar)] if yearly else []),
            f"{each.drawdown.depth:z.2%}",
        )
    return table


def _trials(search: Search) -> Table:
    names = list(search.best.values)
    table = Table(
        *(name.partition(".")[2] for name in names),
        "return",
        "Sharpe",
        "max drawdown",
        "turnover",
        title=f"best of {len(search.trials)} tries",
        box=SIMPLE_HEAD,
    )
    for each in search.trials[:_SHOWN]:
        table.add_row(
            *(text(each.values[name]) for name in names),
            f"{each.total_return:+z.2%}",
            number(each.sharpe),
            f"{each.drawdown:z.2%}",
            f"{each.turnover:.1f}",
        )
    return table


def _folds(search: Search) -> Iterator[str]:
    yield "tuned on one part, tested on the next:"
    for each in search.folds:
        values = ", ".join(f"{name.partition('.')[2]} {text(value)}" for name, value in each.values.items())
        yield (
            f"  {each.tested_from[:10]}: {search.objective} {number(each.score_before)} before, "
            f"{number(each.score_after)} after; return {each.return_after:+z.2%}, "
            f"unchanged {each.return_unchanged:+z.2%} ({values})"
        )


def number(value: float | None) -> str:
    """Two decimals, or a dash."""
    return "–" if value is None else f"{value:z.2f}"


def text(value: float | int | str) -> str:
    """A parameter's value, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
