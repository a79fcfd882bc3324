"""The gate keeps every limit that can hold, for any input."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tradingbot.domain.limits import TOLERANCE, within_limits
from tradingbot.domain.messages import TargetWeight
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import ExternalPositions, RiskParams
from tradingbot.domain.portfolio import gross, net, turnover
from tradingbot.risk_engine.limits import Approval, approve

UNIVERSE = ("BTC", "ETH", "SOL", "ADA", "DOGE")
RISK = RiskParams()
LOOSE = TOLERANCE * 2

weights = st.one_of(
    st.floats(-2, 2),
    st.floats(-0.2, 0.2),
    st.sampled_from([0.0, -0.0, 0.1, 0.15, -0.15, 1e300, -1e300, 5e-324, 0.1 + TOLERANCE / 2]),
)
held_weights = st.floats(-0.6, 0.6)
portfolios = st.dictionaries(st.sampled_from((*UNIVERSE, "PEPE", "XRP")), weights, max_size=7)
positions = st.dictionaries(st.sampled_from((*UNIVERSE, "PEPE", "XRP")), held_weights, max_size=7)
limits = st.builds(
    RiskParams,
    max_gross=st.floats(0.01, 2),
    max_net=st.floats(0.01, 2),
    caps=st.dictionaries(st.sampled_from(UNIVERSE), st.floats(0, 1)),
    default_cap=st.floats(0, 1),
    turnover_cap=st.floats(0.001, 1),
    allow_short=st.booleans(),
    external_positions=st.sampled_from(ExternalPositions),
)
modes = st.sampled_from(Mode)


def ask(
    targets: dict[str, float],
    *,
    present: dict[str, float] | None = None,
    risk: RiskParams = RISK,
    mode: Mode = Mode.NORMAL,
) -> Approval:
    wanted = [TargetWeight(symbol=symbol, weight=weight) for symbol, weight in targets.items()]
    return approve(wanted, present=present or {}, universe=UNIVERSE, risk=risk, mode=mode)


def reason_for(approval: Approval, symbol: str) -> str:
    return next(each.reason for each in approval.rejections if each.symbol == symbol)


@given(portfolios, positions, limits, modes)
def test_every_limit_that_can_hold_holds(targets, present, risk, mode):
    approval = ask(targets, present=present, risk=risk, mode=mode)
    held = {symbol: weight for symbol, weight in present.items() if symbol not in approval.weights}

    for symbol, weight in approval.weights.items():
        assert abs(weight) <= risk.cap(symbol) + TOLERANCE
        assert weight >= 0 or risk.allow_short
    if approval.weights:
        whole = {**held, **approval.weights}
        assert gross(whole.values()) <= max(risk.max_gross, gross(held.values())) + LOOSE
        room_for_net = max(risk.max_net, abs(net(held.values())))
        assert abs(net(whole.values())) <= room_for_net + LOOSE


@given(portfolios, positions, limits, modes)
def test_turnover_keeps_its_cap_or_nothing_increases(targets, present, risk, mode):
    approval = ask(targets, present=present, risk=risk, mode=mode)
    increases = [
        symbol
        for symbol, weight in approval.weights.items()
        if abs(weight) > abs(present.get(symbol, 0.0)) or weight * present.get(symbol, 0.0) < 0
    ]

    assert not increases or turnover(approval.weights, present) <= risk.turnover_cap + LOOSE


@given(portfolios, positions, limits)
def test_reduce_only_never_increases_or_flips_a_position(targets, present, risk):
    approval = ask(targets, present=present, risk=risk, mode=Mode.REDUCE_ONLY)

    for symbol, weight in approval.weights.items():
        now = present.get(symbol, 0.0)
        assert min(now, 0.0) <= weight <= max(now, 0.0)


@given(portfolios, positions, limits)
def test_halt_approves_nothing_and_closes_nothing(targets, present, risk):
    approval = ask(targets, present=present, risk=risk, mode=Mode.HALT)

    assert approval.weights == {}
    assert approval.summary.turnover == 0
    assert {each.symbol for each in approval.rejections} == set(targets)
    assert all(each.reason == "halt" for each in approval.rejections)
    assert all(each.approved_weight == present.get(each.symbol, 0.0) for each in approval.rejections)


@given(portfolios, positions, limits, modes)
def test_a_coin_without_a_target_is_held(targets, present, risk, mode):
    approval = ask(targets, present=present, risk=risk, mode=mode)
    external = {symbol for symbol in present if symbol not in UNIVERSE}

    assert set(approval.weights) <= set(targets) | external
    assert {symbol for symbol in approval.weights if symbol in UNIVERSE} <= set(targets)


@given(portfolios, positions, limits, modes)
def test_nothing_is_scaled_through_zero_or_beyond_what_was_asked(targets, present, risk, mode):
    approval = ask(targets, present=present, risk=risk, mode=mode)

    for symbol, weight in approval.weights.items():
        asked = targets.get(symbol, 0.0) if symbol in UNIVERSE else 0.0
        now = present.get(symbol, 0.0)
        assert weight * asked >= 0 or weight * now > 0
        assert min(asked, now, 0.0) <= weight <= max(asked, now, 0.0)


@given(portfolios, positions, limits, modes)
def test_approving_an_approved_portfolio_changes_nothing(targets, present, risk, mode):
    once = ask(targets, present=present, risk=risk, mode=mode)
    twice = ask(once.weights, present=present, risk=risk, mode=mode)

    if mode is not Mode.HALT:
        assert twice.weights == once.weights


@given(portfolios, positions, limits, modes)
def test_every_changed_weight_has_a_rejection_with_its_reason(targets, present, risk, mode):
    approval = ask(targets, present=present, risk=risk, mode=mode)
    explained = {each.symbol: each for each in approval.rejections}

    for symbol, asked in targets.items():
        if approval.weights.get(symbol) != asked and not (symbol in approval.weights and asked == 0):
            assert explained[symbol].reason
            assert explained[symbol].original_weight == asked
    for rejection in approval.rejections:
        assert rejection.approved_weight == approval.weights.get(rejection.symbol, present.get(rejection.symbol, 0.0))


@given(portfolios, positions, limits)
def test_what_no_cut_can_bring_within_the_limits_is_flagged(targets, present, risk):
    approval = ask(targets, present=present, risk=risk)

    for breach in within_limits({**present, **approval.weights}, risk):
        assert any(flag.startswith(breach.limit) and flag.endswith("beyond") for flag in approval.summary.flags)


def test_a_portfolio_within_all_limits_passes_untouched():
    asked = {"BTC": 0.05, "ETH": 0.03, "SOL": 0.02}

    approval = ask(asked)

    assert approval.weights == asked
    assert approval.rejections == ()
    assert approval.summary.flags == ()
    assert approval.summary.gross == pytest.approx(0.10)


def test_the_missions_caps_are_the_defaults():
    asked = dict.fromkeys(UNIVERSE, 0.5)

    approval = ask(
        asked,
        present={"BTC": 0.15, "ETH": 0.15, "SOL": 0.1, "ADA": 0.1, "DOGE": 0.1},
        risk=RiskParams(max_gross=1, max_net=1),
    )

    assert approval.weights == {"BTC": 0.15, "ETH": 0.15, "SOL": 0.10, "ADA": 0.10, "DOGE": 0.10}


def test_net_takes_from_the_side_in_excess_alone():
    risk = RiskParams(allow_short=True, turnover_cap=10)

    approval = ask({"BTC": 0.15, "ETH": 0.15, "SOL": -0.05}, risk=risk)

    assert approval.weights == pytest.approx({"BTC": 0.125, "ETH": 0.125, "SOL": -0.05})


def test_the_turnover_cap_slows_increases_and_lets_reductions_through():
    approval = ask({"BTC": 0.15, "ETH": 0.0}, present={"BTC": 0.05, "ETH": 0.06})

    assert approval.weights["ETH"] == 0.0
    assert approval.weights["BTC"] == pytest.approx(0.05 + 0.04)
    assert approval.summary.turnover == pytest.approx(0.10)
    assert reason_for(approval, "BTC") == "turnover"


def test_reductions_beyond_the_turnover_cap_go_through_and_are_flagged():
    approval = ask({"BTC": 0.0, "ETH": 0.10}, present={"BTC": 0.15})

    assert approval.weights == {"BTC": 0.0, "ETH": 0.0}
    assert "turnover beyond, by reductions alone" in approval.summary.flags


def test_a_short_that_turnover_holds_back_no_longer_carries_the_net():
    risk = RiskParams(allow_short=True, max_gross=2, caps={"BTC": 1, "ETH": 1, "SOL": 1})
    present = {"BTC": 0.3, "ETH": -0.2}

    approval = ask({"BTC": 0.3, "ETH": 0.0, "SOL": -0.15}, present=present, risk=risk)

    assert approval.summary.net <= 0.20 + LOOSE
    assert approval.weights["SOL"] == 0.0
    assert approval.weights["BTC"] == pytest.approx(0.20)


def test_a_held_coin_beyond_its_cap_is_flagged_and_left_alone():
    approval = ask({"ETH": 0.02}, present={"SOL": 0.12})

    assert "SOL" not in approval.weights
    assert "cap SOL beyond" in approval.summary.flags


def test_held_gross_beyond_the_limit_leaves_no_room_for_the_rest():
    approval = ask({"ETH": 0.02}, present={"SOL": 0.25, "ADA": 0.2, "ETH": 0.02})

    assert approval.weights == {"ETH": 0.0}
    assert {"gross beyond", "net beyond"} <= set(approval.summary.flags)


def test_a_symbol_outside_the_universe_is_rejected_and_its_position_held():
    approval = ask({"PEPE": 0.01}, present={"PEPE": 0.05})

    assert approval.weights == {}
    assert reason_for(approval, "PEPE") == "not in the universe"
    assert approval.rejections[0].approved_weight == 0.05
    assert "external PEPE" in approval.summary.flags


def test_external_positions_are_closed_when_the_person_says_so():
    risk = RiskParams(external_positions=ExternalPositions.REDUCE)

    for mode in (Mode.NORMAL, Mode.REDUCE_ONLY):
        assert ask({}, present={"PEPE": 0.05}, risk=risk, mode=mode).weights == {"PEPE": 0.0}
    assert ask({}, present={"PEPE": 0.05}, risk=risk, mode=Mode.HALT).weights == {}


def test_a_negative_weight_becomes_a_close_while_shorts_are_not_allowed():
    approval = ask({"BTC": -0.1}, present={"BTC": 0.02})

    assert approval.weights == {"BTC": 0.0}
    assert reason_for(approval, "BTC") == "short"


def test_a_coin_named_twice_is_held():
    twice = [TargetWeight(symbol="BTC", weight=0.1), TargetWeight(symbol="BTC", weight=0.0)]

    approval = approve(twice, present={"BTC": 0.07}, universe=UNIVERSE, risk=RISK, mode=Mode.NORMAL)

    assert approval.weights == {}
    assert [each.reason for each in approval.rejections] == ["named twice"]
