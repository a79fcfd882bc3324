"""Writers are held to the models exactly; readers take what they know and leave the rest."""

from __future__ import annotations

import inspect
import json
from decimal import Decimal

import pytest
from pydantic import ValidationError

from tradingbot.domain import messages
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.envelope import Message, message
from tradingbot.domain.messages import (
    AuditRecord,
    ExecutionReport,
    Health,
    ReportStatus,
    Side,
    StateSnapshot,
    TargetPortfolio,
    TargetWeight,
)
from tradingbot.domain.model import Model

MODELS = [each for _, each in inspect.getmembers(messages, inspect.isclass) if issubclass(each, Model)]
T0 = 1_771_430_400_000

MISSION = {
    "FeatureSnapshot1m": "asof_minute universe mid_px ret_1m ret_5m ret_1h vol_1h",
    "StateSnapshot": "equity_usd cash_usd positions open_orders health",
    "Position": "qty entry_px mark_px unreal_pnl side",
    "OpenOrder": "client_order_id exchange_order_id symbol side px qty status",
    "Health": "last_reconcile_ts reconcile_ok",
    "TargetPortfolio": "targets cash_weight confidence rationale model constraints_hint",
    "TargetWeight": "symbol weight",
    "ModelName": "name version",
    "ConstraintsHint": "max_gross max_net turnover_cap",
    "ApprovedTargetPortfolio": "mode approved_targets rejections risk_summary",
    "Rejection": "symbol reason original_weight approved_weight",
    "RiskSummary": "gross net turnover flags",
    "ExecutionPlan": "cycle_id plan_type slices limits idempotency_key",
    "PlanSlice": "symbol side qty order_type px_guard_bps timeout_s slice_idx",
    "PlanLimits": "max_orders_per_min max_cancels_per_min",
    "OrderIntent": "action client_order_id symbol side qty order_type limit_px tif slice_ref reason",
    "ExecutionReport": "client_order_id exchange_order_id status filled_qty avg_px fee latency_ms raw",
}


def target(**changes):
    fields = {
        "targets": (TargetWeight(symbol="BTC", weight=0.1),),
        "cash_weight": 0.9,
        "confidence": 0.5,
        "rationale": "",
        "model": {"name": "m", "version": "1"},
        "constraints_hint": {"max_gross": 0.4, "max_net": 0.2, "turnover_cap": 0.1},
    }
    return TargetPortfolio(**{**fields, **changes})


@pytest.mark.parametrize("name", MISSION)
def test_every_field_of_the_mission_is_there_under_its_name(name):
    assert set(MISSION[name].split()) <= set(getattr(messages, name).model_fields)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_frozen_and_forbids_what_it_does_not_know(model):
    assert model.model_config["frozen"] is True
    assert model.model_config["extra"] == "forbid"
    assert model.__doc__


def test_a_writer_cannot_add_a_field_and_a_reader_does_not_mind_one():
    with pytest.raises(ValidationError):
        target(mood="good")
    tree = target().model_dump(mode="json") | {"mood": "good"}
    tree["targets"][0]["colour"] = "red"

    assert TargetPortfolio.read(json.dumps(tree)) == target()


@pytest.mark.parametrize(
    "changes",
    [
        {"confidence": 1.01},
        {"confidence": -0.01},
        {"rationale": "x" * 801},
        {"cash_weight": float("nan")},
        {"targets": ({"symbol": "BTC", "weight": float("inf")},)},
        {"targets": ({"symbol": "BTC", "weight": "NaN"},)},
    ],
)
def test_values_out_of_range_and_numbers_that_are_none_are_refused(changes):
    with pytest.raises(ValidationError):
        target(**changes)


def test_decimals_travel_as_text_and_come_back_exact():
    price = Decimal("0.1234567890123456789")
    snapshot = StateSnapshot(
        equity_usd=price,
        cash_usd=Decimal("1e-7"),
        positions={},
        open_orders=(),
        health=Health(last_reconcile_ts=None, reconcile_ok=False),
    )
    raw = snapshot.model_dump_json()

    assert json.loads(raw)["equity_usd"] == "0.1234567890123456789"
    assert StateSnapshot.read(raw) == snapshot


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_a_decimal_that_is_no_number_is_refused(text):
    with pytest.raises(ValidationError):
        StateSnapshot(
            equity_usd=Decimal(text),
            cash_usd=Decimal(0),
            positions={},
            open_orders=(),
            health=Health(last_reconcile_ts=None, reconcile_ok=False),
        )


def test_a_message_goes_round_through_json_with_its_envelope():
    sent = message(
        target(), bot_id="b", stream="alpha.target", source="ai_decision", cycle_id="20260218T1600Z", key="k", now_ms=T0
    )
    got = Message[TargetPortfolio].read(sent.model_dump_json())

    assert got.data == sent.data
    assert got.env == sent.env
    assert got.env.schema_version == "1.0"
    assert got.env.ts == from_ms(T0)


@pytest.mark.parametrize(
    "change",
    [{"schema_version": "2.0"}, {"cycle_id": "now"}, {"retry_count": -1}, {"event_id": "x"}, {"ts": "2026-01-01"}],
)
def test_an_envelope_out_of_form_is_refused(change):
    sent = message(target(), bot_id="b", stream="s", source="x", cycle_id="20260218T1600Z", key="k", now_ms=T0)
    tree = json.loads(sent.model_dump_json())
    tree["env"] |= change

    with pytest.raises(ValidationError):
        Message[TargetPortfolio].read(json.dumps(tree))


def test_an_audit_records_details_may_be_any_json():
    record = AuditRecord(kind="x", details={"a": [1, {"b": None}], "nan": float("nan")})

    assert AuditRecord.read(record.model_dump_json()).details["a"] == [1, {"b": None}]


def test_signs_and_ends_are_said_once():
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)
    assert {status for status in ReportStatus if status.terminal} == {
        ReportStatus.FILLED,
        ReportStatus.CANCELED,
        ReportStatus.REJECTED,
    }


def test_a_filled_quantity_is_never_negative():
    with pytest.raises(ValidationError):
        ExecutionReport(
            client_order_id="c",
            exchange_order_id=None,
            status=ReportStatus.ACK,
            filled_qty=Decimal(-1),
            avg_px=None,
            fee=Decimal(0),
            latency_ms=None,
            raw="",
        )
