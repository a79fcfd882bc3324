"""What a backtest's report says adds up, says its limits, and is one file that fetches nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from support.candles import synthetic_candles, write_folder
from tradingbot.ai_decision.strategy import StrategyFailed
from tradingbot.domain.params import Params
from tradingbot.replay.backtest import choices, figures
from tradingbot.replay.backtest.engine import Engine, interpreted_kernels
from tradingbot.replay.backtest.export import as_text, write
from tradingbot.replay.backtest.html import page
from tradingbot.replay.backtest.named import Installed
from tradingbot.replay.backtest.options import BacktestOptions
from tradingbot.replay.backtest.plots import _label, _Scale
from tradingbot.replay.backtest.report import report_of, to_cents
from tradingbot.replay.backtest.rivals import bought_and_held, prices_at, with_part
from tradingbot.replay.backtest.search import Grid
from tradingbot.replay.backtest.study import Study, conduct
from tradingbot.replay.backtest.terminal import remarks, show
from tradingbot.replay.backtest.thin import edges, extremes
from tradingbot.replay.data.candles import load_candles

KERNELS = interpreted_kernels()
OPTIONS = BacktestOptions(cycle_minutes=10, default_sz_decimals=3)
MONTH_END_MS = 1_772_323_200_000 - 12 * 3_600_000
"""Half a day before 2026-03-01."""


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    candles = synthetic_candles(60 * 30, start_ms=MONTH_END_MS)
    loaded = load_candles(write_folder(tmp_path_factory.mktemp("candles"), candles))
    return conduct(
        Study(
            loaded=loaded,
            strategy="baseline",
            strategy_for=lambda _: "baseline",
            params=choices.with_values(Params(), ["risk.drawdown_halt=0.5", "risk.drawdown_reduce_only=0.5"]),
            options=OPTIONS,
            plan=Grid(axes={"ai.smooth_alpha": ("0.1", "0.9")}),
            folds=1,
            kernels=KERNELS,
        )
    )


# ---------------------------------------------------------------- it adds up


def test_the_coins_add_up_to_the_whole_to_the_cent(findings):
    told = [each.pnl_usd for each in findings.report.coins]
    net = findings.report.performance.end_equity_usd - findings.report.start_equity_usd
    assert round(sum(told), 2) == round(net, 2)
    exact = findings.result.pnl_usd.sum(axis=0)
    assert np.abs(np.array(told) - exact).max() < 0.011


def test_prices_less_costs_is_what_is_left(findings):
    costs, result = findings.report.costs, findings.result
    assert costs.prices - costs.fees - costs.slippage - costs.funding == pytest.approx(costs.net, abs=1e-9)
    assert costs.net == pytest.approx(float(result.equity[-1]) - 10_000.0)


def test_what_prices_brought_is_what_the_positions_would_have_earned_at_mid_prices(findings):
    """Positions (weights · equity / price) times the moves of the prices between decisions, and the way of each fill
    to the next decision; the last part is bounded by what a cycle moved."""
    result, candles = findings.result, synthetic_candles(60 * 30, start_ms=MONTH_END_MS)
    px = prices_at(candles, result.at_ms)
    qty = result.weights * result.equity[:, None] / px
    carried = float((qty[:-1] * np.diff(px, axis=0)).sum())
    within = float((np.abs(np.diff(qty, axis=0)) * np.abs(np.diff(px, axis=0))).sum())
    assert abs(findings.report.costs.prices - carried) <= within + 1e-6


def test_months_compound_and_add_up_to_the_whole(findings):
    months = findings.report.months
    assert [each.month for each in months] == ["2026-02", "2026-03"]
    march = int(np.searchsorted(findings.result.at_ms, MONTH_END_MS + 12 * 3_600_000))
    assert months[0].pnl_usd == float(findings.result.equity[march]) - 10_000.0
    assert np.prod([1 + each.total_return for each in months]) == pytest.approx(
        1 + findings.report.performance.total_return
    )
    assert sum(each.pnl_usd for each in months) == pytest.approx(findings.report.costs.net)
    assert sum(each.fees_usd for each in months) == pytest.approx(findings.report.costs.fees)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_rounded_parts_add_up_to_the_rounded_total(values):
    total = sum(values)
    cents = to_cents(values, total=total)
    assert sum(round(each * 100) for each in cents) == round(total * 100)
    for told, exact in zip(cents, values, strict=True):
        assert abs(told - exact) <= 0.005 * (len(values) + 1) + 1e-6


def test_the_run_with_the_best_parameters_is_the_one_reported(findings):
    best = findings.search.best
    assert findings.report.params.ai.smooth_alpha == float(best.values["ai.smooth_alpha"])
    assert findings.report.performance.total_return == best.total_return


# ---------------------------------------------------------------- the alternatives


def test_equal_weights_held_is_the_mean_of_the_coins_and_btc_is_btc(findings):
    candles = synthetic_candles(60 * 30, start_ms=MONTH_END_MS)
    at_ms = findings.result.at_ms
    close = {int(t) + 60_000: row for t, row in zip(candles.open_ms, candles.close, strict=True)}
    first, last = close[int(at_ms[0])], close[int(at_ms[-1])]
    told = {each.name: each.total_return for each in findings.report.rivals}
    assert told["hold equal weights"] == pytest.approx(float((last / first).mean() - 1))
    assert told["hold BTC"] == pytest.approx(float(last[0] / first[0] - 1))
    assert "strategy equal" in told


def test_the_strategy_equal_beside_it_is_a_run_of_its_own_with_the_same_parameters(findings):
    candles = synthetic_candles(60 * 30, start_ms=MONTH_END_MS)
    alone = Engine(candles, OPTIONS, kernels=KERNELS).run("equal", findings.result.params)
    told = next(each for each in findings.report.rivals if each.name == "strategy equal")
    assert told.end_equity_usd == float(alone.equity[-1])


def test_a_part_of_the_money_moves_by_its_part():
    whole = bought_and_held(np.array([[1.0, 2.0], [2.0, 2.0], [1.0, 4.0]]), start_usd=100.0)
    assert whole.tolist() == [100.0, 150.0, 150.0]
    assert with_part(whole, exposure=0.1).tolist() == pytest.approx([100.0, 105.0, 105.0])


def test_the_price_at_a_moment_is_the_last_close_that_is_known_then():
    candles = synthetic_candles(10)
    candles.close[4:6, 1] = np.nan
    at_ms = candles.open_ms[[5, 7]]
    px = prices_at(candles, at_ms)
    assert px[0].tolist() == [candles.close[4, 0], candles.close[3, 1], candles.close[4, 2]]
    assert px[1].tolist() == candles.close[6].tolist()


# ---------------------------------------------------------------- the page and the JSON


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains of what is not closed."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_the_page_is_whole_and_fetches_nothing(findings):
    text = page(findings)
    read = Page(text)
    assert read.open == []
    assert not re.search(r"https?:|//|url\(|@import|<script|<img|<link", text)
    assert "default-src 'none'" in text
    assert not re.search(r"\b(nan|inf|None)\b", text)
    assert len(text) < 1_000_000


def test_every_drawing_has_a_title_and_words_for_who_cannot_see_it(findings):
    read = Page(page(findings))
    drawings = [attrs for tag, attrs in read.tags if tag == "svg"]
    assert len(drawings) >= 7
    assert all(attrs["role"] == "img" for attrs in drawings)
    names = [attrs["id"] for tag, attrs in read.tags if tag in ("title", "desc") and "id" in attrs]
    assert len(names) == len(set(names)) == 2 * (len(drawings) - 1)
    assert all(name in names for attrs in drawings for name in (attrs.get("aria-labelledby") or "").split())


def test_the_page_says_its_limits_and_that_the_best_of_tries_is_shown(findings):
    words = Page(page(findings)).words
    assert "What this does not show" in words
    assert "best of 2 tries" in words
    assert "95 % interval" in words
    assert "Fills are modelled" in words
    assert "The look-ahead check was not run" in words


def test_names_from_outside_cannot_become_markup(findings):
    spiteful = findings.report.model_copy(update={"strategy": "<script>alert(1)</script>"})
    text = page(replace(findings, report=spiteful))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_the_json_holds_the_figures_of_the_page_and_no_invalid_number(findings, tmp_path):
    html_path, json_path = write(findings, tmp_path / "deep" / "report.html")
    told = json.loads(json_path.read_text(), parse_constant=pytest.fail)
    assert html_path.read_text() == page(findings)
    assert told["performance"]["total_return"] == findings.report.performance.total_return
    assert told["search"]["deflated_sharpe"] == findings.search.deflated_sharpe
    assert told["lookahead"] is None
    assert len(told["search"]["folds"]) == 1
    assert told["curves"]["equity"][-1][1] == pytest.approx(findings.report.performance.end_equity_usd, abs=1e-3)
    assert told["params"]["ai"]["smooth_alpha"] == findings.report.params.ai.smooth_alpha
    assert as_text(findings) == as_text(findings)


def stands_aside(moment):
    return np.zeros(len(moment.symbols))


def test_a_run_that_never_traded_has_a_report_too(tmp_path):
    candles = synthetic_candles(200)
    loaded = load_candles(write_folder(tmp_path, candles))
    still = conduct(
        Study(
            loaded=loaded,
            strategy="still",
            strategy_for=lambda _: stands_aside,
            params=Params(),
            options=OPTIONS,
            kernels=KERNELS,
            checks_lookahead=True,
        )
    )
    assert still.report.performance.sharpe is None
    assert still.report.activity.cost_bps is None
    assert still.lookahead is not None
    assert still.lookahead.clean
    assert Page(page(still)).open == []
    json.loads(as_text(still))


def test_the_terminal_says_what_must_not_be_overlooked(findings):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    show(findings, console)
    text = console.export_text()
    console.file.close()
    for needed in (
        "baseline",
        "strategy equal",
        "hold BTC",
        "by coin",
        "Best Sharpe of 2 tries",
        "expect less",
        "tuned on one part",
    ):
        assert needed in text


# ---------------------------------------------------------------- fewer points


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300), st.integers(1, 40))
def test_thinning_keeps_the_extremes_of_every_stretch(values, stretches):
    curve = np.array(values)
    kept = extremes(curve, stretches)
    assert kept == sorted(set(kept))
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    assert len(kept) <= 2 * stretches + 2
    marks = edges(len(values), stretches)
    assert marks[0] == 0
    assert marks[-1] == len(values)
    for start, stop in pairwise(marks):
        shown = [curve[k] for k in kept if start <= k < stop]
        assert min(shown) == curve[start:stop].min()
        assert max(shown) == curve[start:stop].max()


def test_a_report_tells_the_deepest_fall_with_its_dates(findings):
    told, equity = findings.report.performance.drawdown, findings.result.equity
    assert told.depth == figures.deepest_fall(equity).depth
    assert told.peak_at <= told.bottom_at
    assert report_of(findings.result, synthetic_candles(60 * 30, start_ms=MONTH_END_MS)).performance.drawdown == told


def test_a_strategy_that_failed_is_told_before_anything_else(tmp_path):
    """Else the figures of the baseline, which decided in its place, would pass for its own."""

    class Fails:
        async def propose(self, view):
            raise StrategyFailed("no weights today")

    done = conduct(
        Study(
            loaded=load_candles(write_folder(tmp_path, synthetic_candles(180))),
            strategy="plugin:fails",
            strategy_for=lambda _: Installed("plugin:fails", Fails()),
            params=Params(),
            options=OPTIONS,
            kernels=KERNELS,
        )
    )
    assert done.report.cautions == ("plugin:fails failed at 12 decisions, which the baseline made: no weights today",)
    assert next(remarks(done)) == done.report.cautions[0]
    assert done.report.cautions[0] in page(done)


def test_what_a_late_coin_costs_the_others_stands_in_the_terminal_the_page_and_the_json(findings):
    said = "ETH begins 2026-02-20 04:00: 1.5 days of other coins are not used."
    data = findings.report.data.model_copy(update={"left_out": (said,)})
    told = replace(findings, report=findings.report.model_copy(update={"data": data}))
    assert said in list(remarks(told))
    assert said in page(told)
    assert said in as_text(told)


# ---------------------------------------------------------------- readable


def test_labels_beside_the_drawing_have_the_decimals_of_their_step_and_no_long_numbers():
    for low, high, unit in ((0.0, 0.15, "%"), (-0.004, 0.001, "%"), (-250.0, 10.0, "USD"), (-4e6, 1e6, "USD")):
        scale = _Scale(low, high)
        texts = [_label(tick, unit, scale.step) for tick in scale.ticks]
        assert len(set(texts)) == len(texts)
        assert max(len(text) for text in texts) <= 8
        assert len({len(text.partition(".")[2]) for text in texts if "." in text}) <= 1
    assert "−4M" in texts


def test_a_short_run_says_from_when_on_a_year_is_told_and_shows_no_empty_columns(findings):
    text = page(findings)
    assert text.count("a year is told from 20 days on") == 2
    assert '<th scope="col">Calmar</th>' not in text.partition("Beside the alternatives")[2].partition("</table>")[0]
    assert "– a year" not in text
