"""What other settings would have done: nothing when they are the recorded ones, and what they say when they are not."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tradingbot.cli import app
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.messages import ExecutionPlan, PlanLimits, PlanSlice, Side
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import Params, RiskParams
from tradingbot.local.environment import known_names
from tradingbot.replay.archive.archive import Archive
from tradingbot.replay.rerun.account import Account, Costs, account_of
from tradingbot.replay.rerun.change import CHANGEABLE, Change, change_of
from tradingbot.replay.rerun.path import play
from tradingbot.replay.rerun.per_cycle import moved_cycles
from tradingbot.replay.rerun.tape import Tape, load
from tradingbot.replay.rerun.whatif import what_if
from tradingbot.runtime.settings import PARAMETER_NAMES, SettingsError

RECORDED = Path(__file__).parent / "recorded"
COSTS = Costs(fee_bps=4.5, slippage_bps=1.0, measured_usd=0.0)


@pytest.fixture(scope="module")
def tape() -> Tape:
    return load(Archive(RECORDED))


def asked(**given: str) -> Change:
    return change_of(given, known=known_names(), where="other.env")


def test_the_recorded_settings_change_nothing(tape: Tape) -> None:
    moved = list(moved_cycles(tape, Change()))
    assert len(moved) == len(tape.targets)
    assert not [each for each in moved if each.any]
    assert any(each.traded_usd for each in moved), "there was something to change"
    found = what_if(Archive(RECORDED), tape, Change())
    assert found.with_recorded == found.with_changed


def test_the_played_account_does_about_what_the_bot_did(tape: Tape) -> None:
    found = what_if(Archive(RECORDED), tape, Change())
    bot, played = found.bot_itself, found.with_recorded
    assert bot is not None
    assert found.costs.measured_usd == pytest.approx(bot.traded_usd)
    assert played.traded_usd == pytest.approx(bot.traded_usd, rel=0.25)
    assert played.fees_usd == pytest.approx(played.traded_usd * found.costs.fee_bps / 10_000)
    assert played.equity_last_usd == pytest.approx(bot.equity_last_usd, rel=1e-3)


def test_a_tighter_gross_holds_everywhere_and_trades_less(tape: Tape) -> None:
    found = what_if(Archive(RECORDED), tape, asked(MAX_GROSS="0.02"))
    assert found.with_changed.gross_max < 0.025 < found.with_recorded.gross_max
    assert found.with_changed.traded_usd < found.with_recorded.traded_usd
    assert any(each.approved > 0.02 and each.traded_usd != each.traded_usd_new for each in found.cycles)


def test_another_strategy_decides_in_the_same_cycles(tape: Tape) -> None:
    found = what_if(Archive(RECORDED), tape, asked(AI_STRATEGY="equal"))
    assert found.with_changed.decisions == found.with_recorded.decisions
    assert all(each.target > 0 for each in found.cycles)


def test_a_band_that_nothing_passes_trades_nothing(tape: Tape) -> None:
    played = play(tape, asked(MIN_REBALANCE_WEIGHT="1"), COSTS)
    assert (played.orders, played.traded_usd, played.fees_usd) == (0, 0, 0)


def test_a_drawdown_that_halts_is_seen_on_the_account_that_it_halts(tape: Tape) -> None:
    strict = {"DRAWDOWN_REDUCE_ONLY": "0.00001", "DRAWDOWN_HALT": "0.00005"}
    found = what_if(Archive(RECORDED), tape, asked(**strict))
    assert found.with_recorded.halted == 0 < found.with_changed.halted
    assert found.with_changed.orders < found.with_recorded.orders


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"AI_STRATEGY": "llm"}, "would need answers that nobody gave; one of baseline, equal, inverse_vol"),
        ({"TWAP_SLICES": "5"}, "says how orders are worked"),
        ({"HL_NETWORK": "testnet"}, "no recorded step depends on it"),
        ({"MAX_GROS": "0.1"}, "did you mean MAX_GROSS"),
        ({"MAX_GROSS": "lots"}, "MAX_GROSS: .*was 'lots'"),
        ({}, "holds no setting"),
    ],
)
def test_what_cannot_be_told_is_refused_with_its_name(given: dict[str, str], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        change_of(given, known=known_names(), where="other.env")


def test_every_name_that_is_not_refused_moves_something(tape: Tape) -> None:
    """A name that could not matter would be an answer that nobody may believe."""
    extreme = {
        "MAX_GROSS": "0.01", "MAX_NET": "0.01", "CAP_BTC_ETH": "0.001", "CAP_ALT": "0.001", "TURNOVER_CAP": "0.0001",
        "DRAWDOWN_REDUCE_ONLY": "0.000001", "DRAWDOWN_HALT": "0.02", "MAX_DAILY_FEE_BPS": "0.0001",
        "ALLOW_SHORT": "true", "MIN_REBALANCE_WEIGHT": "0", "AI_SMOOTH_ALPHA": "0.01", "AI_MIN_CONFIDENCE": "1",
        "AI_LOW_CONF_SCALE": "0", "AI_STRATEGY": "inverse_vol",
    }  # fmt: skip
    beside = {"AI_LOW_CONF_SCALE": {"AI_MIN_CONFIDENCE": "1"}, "DRAWDOWN_HALT": {"DRAWDOWN_REDUCE_ONLY": "0.02"}}
    unmoved = {"EXTERNAL_POSITIONS", "DRAWDOWN_HALT"}
    """The record has no position outside the universe, and no drawdown of two percent."""
    assert set(extreme) | unmoved == set(CHANGEABLE)
    recorded = play(tape, Change(), COSTS)
    for name in set(extreme) - unmoved:
        assert play(tape, asked(**{name: extreme[name], **beside.get(name, {})}), COSTS) != recorded, name


def test_a_change_reaches_every_parameter_that_its_name_sets() -> None:
    changed = asked(CAP_BTC_ETH="0.05").params(Params())
    assert changed.risk.caps == {"BTC": 0.05, "ETH": 0.05}
    assert set(CHANGEABLE) - {"AI_STRATEGY"} < set(PARAMETER_NAMES)


@given(
    st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 10**6), st.integers(1, 10**5)), min_size=1, max_size=6),
    st.floats(0, 50),
)
def test_a_trade_moves_equity_by_its_costs_alone(trades: list[tuple[Side, int, int]], bps: float) -> None:
    account = Account(cash_usd=10_000.0, qty={})
    for side, lots, px in trades:
        account.mark({"BTC": Decimal(px)})
        before_usd, traded_usd = account.equity_usd, lots / 1e4 * px
        account.trade(plan(side, Decimal(lots).scaleb(-4)), Costs(fee_bps=bps, slippage_bps=1, measured_usd=0), day="d")
        costs_usd = traded_usd * (bps + 1) / 10_000
        assert account.equity_usd == pytest.approx(before_usd - costs_usd, abs=1e-6 * (1 + traded_usd))
    assert account_of(account.snapshot(from_ms(0))).equity_usd == pytest.approx(account.equity_usd, rel=1e-9)


def test_a_days_fees_restrict_that_day_only() -> None:
    account, risk = Account(cash_usd=1000.0, qty={}), RiskParams(max_daily_fee_bps=10)
    account.mark({"BTC": Decimal(100)})
    account.trade(plan(Side.BUY, Decimal(5)), Costs(fee_bps=30, slippage_bps=0, measured_usd=0), day="20260218")
    assert account.mode(risk, day="20260218") is Mode.REDUCE_ONLY
    assert account.mode(risk, day="20260219") is Mode.NORMAL


def test_the_command_shows_both_sides(tmp_path: Path) -> None:
    settings = tmp_path / "other.env"
    settings.write_text("MAX_GROSS=0.05\n")
    command = ["replay", "--archive", str(RECORDED), "--with", str(settings)]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    assert "as recorded" in said.output
    assert "as measured on" in said.output
    told = CliRunner().invoke(app, [*command, "--cost-bps", "20", "--json"])
    assert json.loads(told.output)["costs"]["fee_bps"] == 20


def plan(side: Side, qty: Decimal) -> ExecutionPlan:
    made = PlanSlice(symbol="BTC", side=side, qty=qty, px_guard_bps=20, timeout_s=20, slice_idx=0)
    limits = PlanLimits(max_orders_per_min=1, max_cancels_per_min=1)
    return ExecutionPlan(cycle_id="20260218T1600Z", slices=(made,), limits=limits, idempotency_key="k")
