"""The report as one page: nothing is fetched, no script runs, and its limits stand on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from tradingbot.domain.model import Model
from tradingbot.domain.params import Params
from tradingbot.replay.backtest import figures, plots
from tradingbot.replay.backtest.limits import funding_words, limits_of
from tradingbot.replay.backtest.market import FloatArray, IntArray
from tradingbot.replay.backtest.plots import Line, Mark, Text, shown
from tradingbot.replay.backtest.report import Performance, Report, to_cents
from tradingbot.replay.backtest.search import Search
from tradingbot.replay.backtest.study import Findings

_STYLE = Path(__file__).with_name("page.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_MODE_NAMES = ("NORMAL", "REDUCE_ONLY", "HALT")
_TRIALS_SHOWN = 20
_DASH = "–"


def page(findings: Findings) -> str:
    """The whole page."""
    report = findings.report
    sections = [
        _header(report),
        _cautions(report),
        _cards(report),
        _money(findings),
        _positions(findings),
        _costs(findings),
        _beside(report),
        _months(report),
        *([_search(findings.search)] if findings.search is not None else []),
        _limits(findings),
        _made_of(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Backtest: {escape(report.strategy)}</title><style>{_STYLE.read_text()}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


# ---------------------------------------------------------------- the top


def _header(report: Report) -> str:
    performance, costs = report.performance, report.costs
    spent = costs.fees + costs.slippage + costs.funding
    word = "Gained" if costs.net >= 0 else "Lost"
    return (
        f"<header><h1>Backtest: {escape(report.strategy)}</h1>"
        f"<p>{escape(', '.join(report.symbols))} · {_day(report.first_at)} to {_day(report.last_at)} · "
        f"{report.decisions:,} decisions · {usd(report.start_equity_usd)} to begin with</p></header>"
        f'<p class="verdict">{word} <strong class="{_tone(costs.net)}">{shown(abs(performance.total_return), "%")}'
        f"</strong> ({usd(costs.net, sign=True)}) in {report.days:.1f} days: prices "
        f"{'brought' if costs.prices >= 0 else 'took'} {usd(abs(costs.prices))}, fees, slippage and funding "
        f"{'cost' if spent >= 0 else 'brought'} {usd(abs(spent))}.</p>"
    )


def _cautions(report: Report) -> str:
    """What keeps the bot from trading, above everything that it then did not do."""
    items = "".join(f"<li>{escape(each)}</li>" for each in report.cautions)
    return f'<div class="limits"><ul>{items}</ul></div>' if items else ""


def _cards(report: Report) -> str:
    own = report.performance
    error = "" if own.sharpe_error is None else f"± {own.sharpe_error:.2f} standard error"
    fall = own.drawdown
    recovered = f"recovered {_day(fall.recovered_at)}" if fall.recovered_at else "not recovered"
    cards = [
        ("Return", _signed(own.total_return), _yearly(own, days=report.days)),
        ("Sharpe", ratio(own.sharpe), error),
        ("Max drawdown", shown(fall.depth, "%"), f"{_day(fall.peak_at)} to {_day(fall.bottom_at)}, {recovered}"),
        ("Sortino", ratio(own.sortino), "against downside deviation"),
        (
            "Calmar",
            ratio(own.calmar),
            _too_short(report.days) or "yearly growth / max drawdown",
        ),
        ("Volatility", _percent(own.volatility), "a year"),
        ("Hit rate", _percent(own.hit_rate), f"of the {own.period} with a change"),
        ("Turnover", f"{report.activity.turnover_a_day:.2f}×", "equity a day"),
    ]
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd><small>{note}</small></div>" for name, value, note in cards)
    return f'<dl class="cards">{items}</dl>'


def _yearly(own: Performance, *, days: float) -> str:
    if own.annual_return is None:
        return _too_short(days) or "all is lost"
    return f"{_percent(own.annual_return)} a year, compounded"


def _too_short(days: float) -> str:
    """Why there is no figure for a year; empty where the time would do."""
    return f"a year is told from {figures.LEAST_DAYS} days on" if days < figures.LEAST_DAYS else ""


# ---------------------------------------------------------------- charts


def _money(findings: Findings) -> str:
    result, report = findings.result, findings.report
    own = Line(name=report.strategy, at_ms=result.at_ms, values=result.equity / result.equity[0] - 1.0, kind="c0")
    beside = [
        Line(name=rival.name, at_ms=result.at_ms, values=rival.equity / rival.equity[0] - 1.0, kind=f"c{k}")
        for k, rival in enumerate((each for each in findings.rivals if not each.whole), start=1)
    ]
    equity = plots.lines(
        Text(
            title="Equity",
            note="Change since the start, beside coins that are simply held with as much of the equity as the bot has "
            "in them on average, at no cost.",
            told=f"{report.strategy} ended at {shown(float(own.values[-1]), '%')}, "
            + ", ".join(f"{each.name} at {shown(float(each.values[-1]), '%')}" for each in beside)
            + ".",
        ),
        [own, *beside],
        tall=300,
    )
    fall, risk = report.performance.drawdown, report.params.risk
    below = figures.underwater(result.equity)
    limits = [("REDUCE_ONLY", risk.drawdown_reduce_only), ("HALT", risk.drawdown_halt)]
    marks = [Mark(name=name, value=-limit) for name, limit in limits if limit <= 1.5 * fall.depth]
    underwater = plots.lines(
        Text(
            title="Underwater",
            note=f"Below the highest equity so far: {shown(fall.depth, '%')} at most, {fall.days:.1f} days."
            + (" The breaker acts at the dashed lines" if marks else "")
            + (", counted anew from each time that it was cleared" if marks and _clears(report) else "")
            + ("." if marks else ""),
            told=f"The deepest fall was {shown(fall.depth, '%')}, from {fall.peak_at} to {fall.bottom_at}.",
        ),
        [Line(name="Underwater", at_ms=result.at_ms, values=below, kind="fall")],
        marks=marks,
        fills=True,
        tall=160,
    )
    return f"<h2>Money</h2>{equity}{underwater}{_modes(findings)}"


def _clears(report: Report) -> bool:
    return report.options["clear_after_minutes"] is not None


def _modes(findings: Findings) -> str:
    modes = findings.report.modes
    key = " · ".join(f"<b>{name}</b> {shown(modes[name], '%')}" for name in _MODE_NAMES if modes[name] > 0)
    return (
        "<figure><figcaption><h3>Modes</h3><p>What the breaker allowed: green everything, amber only reductions, red "
        f"nothing.</p></figcaption>{plots.strip(findings.result.at_ms, findings.result.mode, _MODE_NAMES)}"
        f'<p class="key">{key}</p></figure>'
    )


def _positions(findings: Findings) -> str:
    result, report = findings.result, findings.report
    held = [(symbol, result.weights[:, n]) for n, symbol in enumerate(result.symbols)]
    gross, net = np.abs(result.weights).sum(axis=1), result.weights.sum(axis=1)
    exposure = report.exposure
    weights = plots.stack(
        Text(
            title="Weights",
            note="Fractions of equity held, one above the other; each point is the mean of a short stretch.",
            told="Mean weights: " + ", ".join(f"{each.symbol} {shown(each.weight_mean, '%')}" for each in report.coins),
        ),
        result.at_ms,
        held,
    )
    lines = plots.lines(
        Text(
            title="Exposure",
            note=f"Gross {shown(exposure.gross_mean, '%')} on average and {shown(exposure.gross_max, '%')} at most, of "
            f"{shown(report.params.risk.max_gross, '%')} allowed. Gross and net are one where nothing is short.",
            told=f"Net exposure lay between {shown(exposure.net_min, '%')} and {shown(exposure.net_max, '%')}.",
        ),
        [
            Line(name="gross", at_ms=result.at_ms, values=gross, kind="c0"),
            Line(name="net", at_ms=result.at_ms, values=net, kind="c1"),
        ],
        tall=170,
    )
    return f"<h2>Positions</h2>{weights}{lines}{_coins(report)}"


def _coins(report: Report) -> str:
    most = max((abs(each.pnl_usd) for each in report.coins), default=0.0) or 1.0
    rows = [
        (
            escape(each.symbol),
            _toned(each.pnl_usd),
            _meter(each.pnl_usd / most),
            shown(each.weight_mean, "%"),
            shown(each.weight_max, "%"),
            usd(each.traded_usd),
            _percent(each.hit_rate),
        )
        for each in report.coins
    ]
    total = ("All coins", _toned(report.costs.net), "", "", "", usd(report.activity.traded_usd), "")
    heads = ("By coin, costs taken off", "earned, USD", "", "mean weight", "largest", "traded", "decisions that gained")
    return _table(heads, [*rows, total], last="sum")


def _costs(findings: Findings) -> str:
    result, report = findings.result, findings.report
    costs, activity = report.costs, report.activity
    net = result.equity - report.start_equity_usd
    fees, slippage = (_running(values[:-1]) for values in (result.fees_usd, result.slippage_usd))
    funding = np.cumsum(result.funding_usd)
    curves = [("left", net), ("fees", -fees), ("slippage", -slippage), ("funding", -funding)]
    chart = plots.lines(
        Text(
            title="What it cost",
            note="Adding up, USD: fees, slippage and funding as losses, and what is left of equity beside them.",
            told=f"Fees {usd(costs.fees)}, slippage {usd(costs.slippage)}, funding {usd(costs.funding)}.",
            unit="USD",
        ),
        [Line(name=name, at_ms=result.at_ms, values=values, kind=f"c{k}") for k, (name, values) in enumerate(curves)],
        tall=220,
    )
    days, earned, turned = _by_day(result.at_ms, np.diff(result.equity), result.turnover[:-1])
    daily = plots.bars(
        Text(
            title="Earned a day",
            note="USD, UTC days, all costs taken off.",
            told="Gains and losses by day.",
            unit="USD",
        ),
        days,
        earned,
    )
    turnover = plots.bars(
        Text(title="Turnover a day", note="Traded, in times equity.", told="Turnover by day.", unit="x"), days, turned
    )
    names = ("prices", "fees", "slippage", "funding")
    parts = to_cents([costs.prices, -costs.fees, -costs.slippage, -costs.funding], total=costs.net)
    rows = [(f"From {name}", _toned(value)) for name, value in zip(names, parts, strict=True)]
    table = _table(("From prices to what is left", "USD"), [*rows, ("Left", _toned(costs.net))], last="sum")
    spent = "" if activity.cost_bps is None else f" · fees and slippage {activity.cost_bps:.2f} bps of what was traded"
    return (
        f'<h2>Costs and trading</h2>{table}<p class="key">{activity.orders:,} orders, {usd(activity.traded_usd)} traded'
        f'{spent}</p>{chart}<div class="pair">{daily}<div class="neutral">{turnover}</div></div>'
    )


# ---------------------------------------------------------------- tables


def _beside(report: Report) -> str:
    heads = ("", "return", "a year", "volatility", "Sharpe", "Sortino", "Calmar", "max drawdown", "best", "worst")
    own = report.performance
    told = _told(heads, [_figures_row(each) for each in (own, *report.rivals)])
    return (
        f"<h2>Beside the alternatives</h2>{_table(*told, first='own')}"
        f'<p class="key">Ratios of {own.periods} returns of whole {own.period}, a year of 365 days, riskless rate 0; '
        "best and worst are of these, too. Holding pays nothing here; the strategy equal pays what the bot pays.</p>"
    )


def _told(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Without the columns in which nothing is told, such as a year's figures of a few days."""
    kept = [k for k in range(len(heads)) if any(row[k] != _DASH for row in rows)]
    return [heads[k] for k in kept], [[row[k] for k in kept] for row in rows]


def _figures_row(each: Performance) -> tuple[str, ...]:
    return (
        escape(each.name),
        _signed(each.total_return),
        _percent(each.annual_return),
        _percent(each.volatility),
        ratio(each.sharpe),
        ratio(each.sortino),
        ratio(each.calmar),
        shown(each.drawdown.depth, "%"),
        _percent(each.best),
        _percent(each.worst),
    )


def _months(report: Report) -> str:
    rows = [
        (
            each.month,
            _signed(each.total_return),
            _toned(each.pnl_usd),
            shown(each.drawdown, "%"),
            usd(each.fees_usd),
            f"{each.turnover:.2f}×",
        )
        for each in report.months
    ]
    heads = ("Month (UTC)", "return", "earned, USD", "max drawdown", "fees", "turnover")
    return f"<h2>Months</h2>{_table(heads, rows)}"


def _search(search: Search) -> str:
    names = list(search.best.values)
    rows = [
        (
            *(_value(each.values[name]) for name in names),
            _signed(each.total_return),
            ratio(each.sharpe),
            ratio(each.calmar),
            shown(each.drawdown, "%"),
            f"{each.turnover:.1f}×",
        )
        for each in search.trials[:_TRIALS_SHOWN]
    ]
    heads = (*(escape(name) for name in names), "return", "Sharpe", "Calmar", "max drawdown", "turnover")
    skill = "cannot be told" if search.deflated_sharpe is None else shown(search.deflated_sharpe, "%")
    return (
        f"<h2>The search</h2><p>{len(search.trials)} tries ({escape(search.method)}) for the best "
        f"{search.objective}; the run above uses the first line. The best of so many tries without any skill is "
        f"expected to show a Sharpe ratio of {search.luckiest_sharpe:.2f}. Probability that the best one here is more "
        f"than luck (deflated Sharpe ratio): <strong>{skill}</strong>.</p>"
        f"{_table(heads, rows, first='own')}{_folds(search)}"
    )


def _folds(search: Search) -> str:
    if not search.folds:
        return ""
    rows = [
        (
            f"{each.tested_from[:10]} to {each.tested_to[:10]}",
            escape(", ".join(f"{name.partition('.')[2]} {_value(value)}" for name, value in each.values.items())),
            ratio(each.score_before),
            ratio(each.score_after),
            _signed(each.return_before),
            _signed(each.return_after),
            _signed(each.return_unchanged),
        )
        for each in search.folds
    ]
    goal = str(search.objective)
    heads = (
        "Tested on",
        "best before",
        f"{goal} before",
        f"{goal} after",
        "return before",
        "after",
        "unchanged, after",
    )
    return f"<h3>Tuned on one part, tested on the next</h3>{_table(heads, rows)}"


def _limits(findings: Findings) -> str:
    items = "".join(f"<li>{escape(each)}</li>" for each in limits_of(findings))
    return f'<h2>What this does not show</h2><div class="limits"><ul>{items}</ul></div>'


def _made_of(report: Report) -> str:
    changed = list(_changed(Params(), report.params))
    told = "; ".join(f"{name} = {value}" for name, value in changed) or "all at their defaults"
    data = report.data
    missing = ", ".join(f"{coin} {n}" for coin, n in data.missing.items() if n) or "none"
    rows = [
        (
            "Candles",
            escape(f"{', '.join(data.files)}; {data.bars:,} bars of {data.bar_minutes} min; missing: {missing}"),
        ),
        ("Parameters", escape(told)),
        ("Market", escape(_market(report))),
    ]
    body = "".join(f"<p><strong>{name}</strong> {text}</p>" for name, text in rows)
    made = f"{escape(report.made_with)}; every figure is in the JSON beside it."
    return f"<footer><h2>Made of</h2>{body}<p>{made}</p></footer>"


def _market(report: Report) -> str:
    options = report.options
    cleared, minutes = options["clear_after_minutes"], options["cycle_minutes"]
    return (
        f"{usd(report.start_equity_usd)} at the start; a decision every {minutes} min, after {report.warm_up_minutes} "
        f"min to warm up; taker's fee {options['taker_fee_bps']} bps; funding {funding_words(options['funding'])}; "
        f"slippage {options['half_spread_bps']} bps + {options['impact_bps']} bps · √(order / minute's volume); "
        "a drawdown is " + ("never cleared" if cleared is None else f"cleared after {cleared} min")
    )


def _changed(default: Model, given: Model, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name in type(given).model_fields:
        usual, value = getattr(default, name), getattr(given, name)
        if isinstance(value, Model):
            yield from _changed(usual, value, f"{prefix}{name}.")
        elif value != usual:
            yield f"{prefix}{name}", value


# ---------------------------------------------------------------- words and numbers


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, first: str = "", last: str = "") -> str:
    kinds = [first if k == 0 else last if k == len(rows) - 1 else "" for k in range(len(rows))]
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        f'<tr class="{kind}"><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for kind, row in zip(kinds, rows, strict=True)
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _by_day(at_ms: IntArray, earned: FloatArray, turned: FloatArray) -> tuple[list[int], list[float], list[float]]:
    """Sums over UTC days of what happened from each decision to the next."""
    days, starts = np.unique(at_ms[:-1] // figures.DAY_MS, return_index=True)
    sums = (np.add.reduceat(values, starts).tolist() if len(starts) else [] for values in (earned, turned))
    return [int(day) * figures.DAY_MS for day in days], *sums


def _running(values: FloatArray) -> FloatArray:
    total: FloatArray = np.concatenate(([0.0], np.cumsum(values)))
    return total


def usd(value: float, *, sign: bool = False) -> str:
    """Dollars and cents."""
    before = "−" if value <= -0.005 else "+" if sign else ""
    return f"{before}{abs(value):,.2f} USD"


def ratio(value: float | None) -> str:
    """Two decimals, or a dash."""
    return _DASH if value is None else f"{value:.2f}".replace("-", "−")


def _percent(value: float | None) -> str:
    return _DASH if value is None else shown(value, "%")


def _signed(value: float) -> str:
    return f'<span class="{_tone(value)}">{"+" if value > 0 else ""}{shown(value, "%")}</span>'


def _toned(value: float) -> str:
    return f'<span class="{_tone(value)}">{"−" if value < 0 else "+"}{abs(value):,.2f}</span>'


def _tone(value: float) -> str:
    return "bad" if value < 0 else "good"


def _meter(part: float) -> str:
    wide = abs(part) * 50
    side = f"right:50%;width:{wide:.1f}%" if part < 0 else f"left:50%;width:{wide:.1f}%"
    return f'<span class="meter"><i class="{_tone(part)}" style="{side}"></i></span>'


def _value(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _day(moment: str) -> str:
    return moment.replace("T", " ").removesuffix("Z")
