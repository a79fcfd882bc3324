"""What the operator sees of a bot: figures as the services mean them, and nothing where nothing was said."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.operator_bus import NOW, NOW_MS, UID
from tradingbot.bus.control import Applied
from tradingbot.bus.library import Held, Reading
from tradingbot.bus.names import Key, Stream, state_key
from tradingbot.domain import messages as m
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.envelope import message
from tradingbot.domain.model import Model
from tradingbot.domain.modes import Mode, ModeSource, effective_mode
from tradingbot.domain.params import Params
from tradingbot.risk_engine.breaker import BreakerState, drawdown
from tradingbot_operator.bus_view import KEYS, BusView, view_of
from tradingbot_operator.overrides import shown


def reading(**held: Held) -> Reading:
    """What Redis held, by the names of ``Key`` in lower case."""
    names = {name.lower(): value for name, value in vars(Key).items() if isinstance(value, str)}
    names |= {
        "snapshot": Stream.SNAPSHOT.value,
        "approved": Stream.APPROVED.value,
        "breaker_state": state_key("risk_engine"),
    }
    return Reading(digest="d", held=dict.fromkeys(KEYS) | {names[name]: value for name, value in held.items()})


def entry(data: Model, *, stream: str = Stream.SNAPSHOT) -> tuple[str, dict[str, str]]:
    wrapped = message(data, bot_id=UID, stream=stream, source="x", cycle_id="20260218T1600Z", key="k", now_ms=NOW_MS)
    return "1-0", {"p": wrapped.model_dump_json()}


def snapshot(deposits: Decimal = Decimal(0), *, equity: Decimal = Decimal(10_000), **qty: Decimal) -> m.StateSnapshot:
    """An account whose coins cost 100 USD each."""
    positions = {
        symbol: m.Position(
            qty=each,
            entry_px=Decimal(90),
            mark_px=Decimal(100),
            unreal_pnl=Decimal(0),
            side=m.PositionSide.LONG if each > 0 else m.PositionSide.SHORT,
        )
        for symbol, each in qty.items()
    }
    health = m.Health(last_reconcile_ts=NOW, reconcile_ok=True, deposits_net_usd=deposits)
    return m.StateSnapshot(
        equity_usd=equity, cash_usd=equity, positions=positions, open_orders=(), health=health, asof_ms=NOW_MS
    )


def test_of_an_empty_redis_nothing_is_known_but_that_it_halts() -> None:
    view = view_of(reading())
    assert view == BusView(effective=effective_mode(spec={}, breaker={}, person={}), digest="d")
    assert view.effective.mode is Mode.HALT


def test_weights_are_signed_fractions_of_equity_at_the_marks() -> None:
    view = view_of(reading(snapshot=entry(snapshot(BTC=Decimal(10), ETH=Decimal(-5)))))
    assert (view.equity_usd, view.snapshot_at) == (10_000, NOW)
    assert (view.gross, view.net) == (pytest.approx(0.15), pytest.approx(0.05))
    broke = view_of(reading(snapshot=entry(snapshot(equity=Decimal(0), BTC=Decimal(10)))))
    assert (broke.equity_usd, broke.gross, broke.net) == (0, None, None)


@given(
    peak=st.decimals(min_value=0, max_value=20_000, places=2),
    equity=st.decimals(min_value=-1_000, max_value=20_000, places=2),
    deposits=st.decimals(min_value=-5_000, max_value=5_000, places=2),
)
def test_the_drawdown_is_the_risk_engines_own(peak: Decimal, equity: Decimal, deposits: Decimal) -> None:
    state, seen = BreakerState(peak_usd=peak, equity_usd=equity), snapshot(deposits)
    view = view_of(reading(snapshot=entry(seen), breaker_state={"value": state.model_dump_json()}))
    assert view.drawdown == pytest.approx(drawdown(state, seen), abs=1e-12)


def test_the_last_cycle_is_the_one_that_the_risk_gate_decided_on() -> None:
    approved = m.ApprovedTargetPortfolio(
        mode=Mode.HALT,
        approved_targets=(),
        rejections=(),
        risk_summary=m.RiskSummary(gross=0, net=0, turnover=0, flags=()),
    )
    view = view_of(reading(approved=entry(approved, stream=Stream.APPROVED)))
    assert (view.last_cycle_id, view.last_cycle_at) == ("20260218T1600Z", from_ms(1_771_430_400_000))


@pytest.mark.parametrize("payload", ["", "nonsense", "{}", '{"env": {"cycle_id": "never"}}', '{"env": 3}'])
def test_a_payload_that_is_no_message_only_leaves_figures_out(payload: str) -> None:
    view = view_of(reading(snapshot=("1-0", {"p": payload}), approved=("1-0", {"p": payload})))
    assert (view.equity_usd, view.last_cycle_id, view.drawdown) == (None, None, None)


_FIELDS = (
    *("mode", "source", "generation", "uid", "at_ms", "latch_ids", "until_generation", "values", "version", "verdict"),
    *("checks", "value", "spec_generation", "received_at", "acked_at", "open_orders", "p", "ip_weight"),
)
_TEXTS = st.sampled_from(
    ["", "HALT", "NORMAL", "3", "-1", "x", "[]", "[1]", "{}", "null", '{"peak_usd": "x", "equity_usd": 1}', "9" * 18]
)
_HASHES = st.dictionaries(st.sampled_from(_FIELDS), _TEXTS)


@settings(max_examples=60)
@given(st.fixed_dictionaries({key: st.one_of(st.none(), _TEXTS, _HASHES, st.tuples(_TEXTS, _HASHES)) for key in KEYS}))
def test_nothing_that_redis_may_hold_makes_the_look_fail(held: dict[str, Held]) -> None:
    view = view_of(Reading(digest="d", held=held))
    assert view.applied is not None or not isinstance(held[Key.APPLIED], dict) or not held[Key.APPLIED]


def test_an_answer_of_execution_that_cannot_be_read_acknowledges_nothing() -> None:
    view = view_of(reading(applied={"mode": "HALT", "spec_uid": UID, "spec_generation": "?", "acked_at": "1"}))
    assert view.applied == Applied()


def test_what_each_source_said_is_told_apart() -> None:
    view = view_of(
        reading(
            mode_spec={"mode": "NORMAL", "uid": UID, "generation": "3", "command_id": "c", "at_ms": str(NOW_MS)},
            mode_breaker={"mode": "HALT", "reason": "drawdown", "latch_id": "l-1", "latch_ids": "l-1,l-2"},
            mode_person={"mode": "HALT", "issued_by": "ann", "until_generation": "3", "reason": "lunch"},
            applied={"mode": "HALT", "source": "breaker", "spec_generation": "3", "spec_uid": UID, "open_orders": "2"},
        )
    )
    assert view.spec is not None
    assert view.breaker is not None
    assert view.person is not None
    assert (view.spec.generation, view.spec_generation, view.spec.at) == (3, 3, NOW)
    assert (view.breaker.latch_ids, view.breaker.latch_id) == (("l-1", "l-2"), "l-1")
    assert (view.person.by, view.person.reason, view.person.counts) == ("ann", "lunch", False)
    assert view.applied == Applied(
        mode=Mode.HALT, source=ModeSource.BREAKER, spec_generation=3, spec_uid=UID, open_orders=2
    )
    assert (view.effective.source, view.open_orders) == (ModeSource.BREAKER, 2)


def test_a_word_that_is_no_mode_is_a_halt() -> None:
    view = view_of(reading(mode_spec={"mode": "GO"}, mode_breaker={"mode": "NORMAL"}))
    assert view.spec is not None
    assert (view.spec.mode, view.effective.mode) == (Mode.HALT, Mode.HALT)


@pytest.mark.parametrize(("generation", "counts"), [("4", True), ("3", False), ("", False)])
def test_a_persons_parameters_count_for_their_generation_alone(generation: str, counts: bool) -> None:
    values = {"risk.max_gross": 0.3, "risk.caps.BTC": 0.1, "execution.order_tif": "Ioc"}
    person = {"generation": generation, "version": "1", "values": json.dumps(values)}
    params = {"generation": "4", "version": "7", "uid": UID, "values": Params().model_dump_json()}
    view = view_of(reading(params=params, params_person=person))
    assert view.overrides == (values if counts else {})
    assert (view.params, view.params_version, view.params_generation) == (Params(), 7, 4)


def test_overrides_are_shown_as_words() -> None:
    assert shown({"b": "Ioc", "a": 0.25, "c": True}) == {"a": "0.25", "b": "Ioc", "c": "true"}


def test_parameters_of_another_schema_are_none_and_so_are_written_anew() -> None:
    assert view_of(reading(params={"version": "1", "values": '{"risk": {"max_gross": -1}}'})).params is None
    assert view_of(reading(params={"version": "1"})).params is None


def test_the_preflight_tells_the_checks_of_its_verdict() -> None:
    checks = [
        {"name": "key", "verdict": "failed", "text": "expired"},
        {"name": "clock", "verdict": "ok", "text": "fine"},
        {"name": "ip", "verdict": "warning", "text": "little"},
    ]
    kept = {"verdict": "failed", "at_ms": str(NOW_MS), "checks": json.dumps(checks)}
    made = view_of(reading(latest_preflight=kept)).preflight
    assert made is not None
    assert (made.verdict, made.texts, made.at) == ("failed", ("key: expired",), NOW)


def test_identity_durability_and_share_are_as_redis_keeps_them() -> None:
    view = view_of(reading(identity='{"bot_id": "x"}', server={"appendfsync": "always"}, limits={"ip_weight": "550"}))
    assert (view.identity, view.appendfsync, view.share_per_min) == ('{"bot_id": "x"}', "always", 550)
