"""`tradingbot backtest`: from files to a table, a page and JSON, by the compiled kernel."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from support.candles import rows_of, synthetic_candles, write_csv, write_folder
from tradingbot.cli import app
from tradingbot.domain.errors import Permanent
from tradingbot.domain.params import Params
from tradingbot.replay.backtest.engine import Engine, interpreted_kernels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("candles"), synthetic_candles(300))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MAX_GROSS", "CYCLE_SECONDS", "AI_STRATEGY"):
        monkeypatch.delenv(name, raising=False)


def run(folder, *arguments):
    return CliRunner().invoke(app, ["backtest", "--data", str(folder), *arguments])


def figures(folder, *arguments):
    done = run(folder, "--json", *arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_backtest_tells_what_the_interpreted_kernel_tells(folder):
    told = figures(folder, "--param", "risk.max_gross=0.3")
    params = Params.model_validate({"risk": {"max_gross": 0.3}})
    same = Engine(synthetic_candles(300), kernels=interpreted_kernels()).run("baseline", params)
    assert told["performance"]["end_equity_usd"] == float(same.equity[-1])
    assert told["decisions"] == len(same.at_ms) == 240
    assert told["activity"]["orders"] == int(same.orders[:-1].sum())


def test_parameters_come_from_the_env_file_as_live_and_the_options_over_them(folder, tmp_path):
    (tmp_path / ".env").write_text("MAX_GROSS=0.25\nCYCLE_SECONDS=300\nAI_SMOOTH_ALPHA=0.5\n")
    told = figures(folder, "--param", "ai.smooth_alpha=0.9")
    assert told["params"]["risk"]["max_gross"] == 0.25
    assert told["params"]["ai"]["smooth_alpha"] == 0.9
    assert told["options"]["cycle_minutes"] == 5


def test_a_sweep_a_look_ahead_check_a_page_and_its_json(folder, tmp_path):
    done = run(
        folder,
        *("--sweep", "ai.smooth_alpha=0.2,0.8", "--folds", "1", "--check-lookahead"),
        *("--out", str(tmp_path / "out" / "report.html")),
    )
    assert done.exit_code == 0, done.output
    assert "best of 2 tries" in done.stdout
    assert "Look-ahead: none found" in done.stdout
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert told["lookahead"]["clean"] is True
    assert len(told["search"]["trials"]) == 2
    assert "The search" in (tmp_path / "out" / "report.html").read_text()


def test_optuna_finds_the_same_with_the_same_seed(folder):
    arguments = ("--optuna", "4", "--range", "ai.smooth_alpha=0.05:1", "--seed", "5", "--objective", "return")
    one, two = figures(folder, *arguments), figures(folder, *arguments)
    assert one["search"] == two["search"]
    assert one["search"]["seed"] == 5
    assert len(one["search"]["trials"]) == 4


def test_charges_coins_and_times_are_as_asked_for(folder):
    told = figures(folder, "--fees", "0", "--half-spread", "0", "--impact", "0", "--funding", "0", "--coins", "ETH")
    assert told["symbols"] == ["ETH"]
    assert told["costs"]["fees"] == told["costs"]["slippage"] == told["costs"]["funding"] == 0
    told = figures(folder, "--from", "2026-02-18T17:00", "--to", "2026-02-18T19:00", "--equity", "5000")
    assert (told["first_at"], told["last_at"]) == ("2026-02-18T18:00Z", "2026-02-18T18:59Z")
    assert told["start_equity_usd"] == 5000


def test_the_two_stage_strategy_runs_with_a_fixed_stance(folder):
    told = figures(folder, "--strategy", "regime", "--regime", "range", "--multiplier", "0.5", "--cycle-minutes", "30")
    assert told["strategy"] == "regime (range, 0.5)"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--strategy", "llm"), "a language model cannot be backtested: it has read about these months"),
        (("--strategy", "regime"), "say what stands in for the model's answer"),
        (("--strategy", "nonsense"), "no such strategy"),
        (("--strategy", "plugin:absent"), "absent"),
        (("--param", "risk.max_gros=1"), "unknown parameter; did you mean risk.max_gross?"),
        (("--param", "MAX_GROS=1"), "did you mean MAX_GROSS?"),
        (("--sweep", "ai.smooth_alpha"), "wanted name=a,b,c or name=from:to:step"),
        (("--out", "report.json"), "wanted a page's file like report.html"),
        (("--sweep", "ai.smooth_alpha=1,2"), "less than or equal to 1"),
        (("--optuna", "3"), "--optuna N and --range"),
        (("--sweep", "ai.smooth_alpha=1", "--optuna", "3"), "take one of them"),
        (("--from", "yesterday"), "--from yesterday: wanted a date"),
        (("--from", "2030-01-01"), "no bar is left: the coins share"),
        (("--from", "2030-01-01", "--to", "2025-01-01"), "2030-01-01 00:00 is asked for as the start"),
        (("--objective", "fame"), "--objective fame: one of sharpe"),
        (("--cycle-minutes", "7"), "cycle_minutes is 7: a day must be a whole number of cycles"),
        (("--coins", "XRP"), "no candles for XRP"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(folder, arguments, text):
    done = run(folder, *arguments)
    assert done.exit_code != 0
    assert text in str(done.exception)


def test_a_faulty_file_ends_it_with_one_line_and_exit_code_2(tmp_path):
    rows = rows_of(synthetic_candles(90), "BTC")
    rows[40][2] = 1.0
    write_csv(tmp_path / "BTC_1m.csv", rows)
    command = [sys.executable, "-m", "tradingbot", "backtest", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "BTC_1m.csv, row 41: " in done.stderr


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from tradingbot import cli; "
        "print([name for name in ('numpy', 'numba', 'pyarrow', 'optuna', 'scipy', 'clarabel') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_plugin_is_asked_without_waiting_and_the_baseline_stands_in_where_it_fails():
    from tradingbot.ai_decision.strategy import Proposal, StrategyFailed
    from tradingbot.domain.messages import ModelName
    from tradingbot.replay.backtest.named import Installed
    from tradingbot.replay.backtest.options import BacktestOptions

    seen = []

    class Own:
        async def propose(self, view):
            seen.append(view)
            if len(seen) % 2 == 0:
                raise StrategyFailed("every other time")
            return Proposal(
                weights=dict.fromkeys(view.usable, 0.05),
                confidence=1.0,
                rationale="always the same",
                model=ModelName(name="own", version="1"),
                used="own",
            )

    strategy = Installed("plugin:own", Own())
    candles = synthetic_candles(120)
    engine = Engine(candles, BacktestOptions(cycle_minutes=10), kernels=interpreted_kernels())
    result = engine.run(strategy, Params())
    assert result.strategy == "plugin:own"
    assert len(seen) == len(result.at_ms)
    assert strategy.failures == len(seen) // 2
    assert np.nansum(np.abs(result.target)) > 0
    last = seen[-1]
    assert float(last.snapshot.equity_usd) == float(result.equity[-1])
    present = [last.present.get(symbol, 0.0) for symbol in candles.symbols]
    assert present == pytest.approx(result.weights[-1].tolist(), abs=1e-12)
    assert last.cycle_id == "20260218T1750Z"
    assert strategy.stumbled() == "plugin:own failed at 3 decisions, which the baseline made: every other time"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--folds", "2"], "--folds tests what a search found"),
        (["--multiplier", "0.5"], "baseline has none"),
        (["--funding", "nan"], "funding"),
        (["--equity", "inf"], "start_equity_usd"),
        (["--sweep", "ai.smooth_alpha=0.1,0.3", "--objective", "calmar"], "--objective calmar needs 20 days"),
    ],
)
def test_options_that_would_be_ignored_or_mean_nothing_are_refused(folder, options, says):
    done = run(folder, *options)
    assert isinstance(done.exception, Permanent)
    assert says in str(done.exception)


def test_a_value_that_is_named_twice_is_one_try(folder):
    found = figures(folder, "--sweep", "ai.smooth_alpha=0.1,0.1,0.3")["search"]
    assert sorted(each["values"]["ai.smooth_alpha"] for each in found["trials"]) == ["0.1", "0.3"]


def test_parameters_that_keep_the_bot_from_buying_are_told_everywhere(folder, tmp_path):
    said = "is not below TURNOVER_CAP / coins"
    page = tmp_path / "report.html"
    done = run(folder, "--param", "MIN_REBALANCE_WEIGHT=0.05", "--strategy", "equal", "--out", str(page))
    assert said in " ".join(done.output.split())
    assert said in page.read_text()
    told = json.loads(page.with_suffix(".json").read_text())
    assert said in told["cautions"][0]
    assert told["activity"]["orders"] == 0
    assert figures(folder)["cautions"] == []
