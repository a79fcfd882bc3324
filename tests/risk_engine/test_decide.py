"""The gate's decision: whose mode counts, and what it takes to approve anything."""

from __future__ import annotations

import pytest

from risk_engine.bench import snapshot
from tradingbot.domain.messages import AuditLevel, ConstraintsHint, Inputs, ModelName, TargetPortfolio, TargetWeight
from tradingbot.domain.modes import EffectiveMode, Mode, ModeSource
from tradingbot.domain.params import RiskParams
from tradingbot.risk_engine.breaker import Cause, Judgement
from tradingbot.risk_engine.decide import decide, in_force

UNIVERSE = ("BTC", "ETH")
NORMAL = EffectiveMode(mode=Mode.NORMAL, source=ModeSource.SPEC, reason="")


def judged(mode: Mode) -> Judgement:
    return Judgement(mode=mode, causes=(Cause(code="c", mode=mode, reason="seen just now"),))


def ask(seen, *, mode=NORMAL, **weights: float):
    target = TargetPortfolio(
        targets=tuple(TargetWeight(symbol=symbol, weight=weight) for symbol, weight in weights.items()),
        cash_weight=1,
        confidence=1,
        rationale="",
        model=ModelName(name="test", version="1"),
        constraints_hint=ConstraintsHint(max_gross=0.4, max_net=0.2, turnover_cap=0.1),
    )
    return decide(
        target, snapshot=seen, mode=mode, risk=RiskParams(), universe=UNIVERSE, inputs=Inputs(target_id="1-0")
    )


def test_what_the_breaker_has_just_seen_counts_before_it_is_written():
    found = in_force(NORMAL, judged(Mode.HALT))

    assert (found.mode, found.source, found.reason) == (Mode.HALT, ModeSource.BREAKER, "seen just now")


@pytest.mark.parametrize("mode", Mode)
def test_a_milder_judgement_lifts_nothing_before_it_is_written(mode):
    halted = EffectiveMode(mode=Mode.HALT, source=ModeSource.BREAKER, reason="of before")

    assert in_force(halted, judged(mode)) == halted


@pytest.mark.parametrize(("seen", "reason"), [(None, "no state snapshot"), (snapshot(equity=0), "no equity")])
def test_without_an_account_to_measure_against_nothing_is_approved(seen, reason):
    approved = ask(seen, BTC=0.05).approved

    assert approved.mode is Mode.HALT
    assert approved.approved_targets == ()
    assert reason in approved.mode_reason


def test_an_approval_in_normal_mode_is_information_and_any_other_a_warning():
    halted = EffectiveMode(mode=Mode.HALT, source=ModeSource.PERSON, reason="lunch")

    assert ask(snapshot(), BTC=0.05).audit.level is AuditLevel.INFO
    assert ask(snapshot(), mode=halted, BTC=0.05).audit.level is AuditLevel.WARNING
    assert ask(snapshot(), mode=halted, BTC=0.05).audit.details["mode_reason"] == "lunch"


def test_the_record_names_its_target_and_every_clamp():
    record = ask(snapshot(positions={"BTC": 0.1, "ETH": 0.09}), BTC=0.5, ETH=0.09).audit

    assert record.cause == "1-0"
    assert record.details["clamps"][0]["symbol"] == "BTC"
    assert record.details["clamps"][0]["original_weight"] == 0.5
    assert record.details["net"] <= 0.2 + 1e-9


def test_an_empty_target_is_approved_as_empty_and_holds_everything():
    approved = ask(snapshot(positions={"BTC": 0.1})).approved

    assert approved.mode is Mode.NORMAL
    assert approved.approved_targets == ()
    assert approved.risk_summary.gross == pytest.approx(0.1)
