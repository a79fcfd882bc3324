"""A small, sound body of evidence that a test can break in one place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tradingbot.bus.names import Stream
from tradingbot.domain import messages as m
from tradingbot.domain.cycles import from_ms, start_ms_of
from tradingbot.domain.envelope import Message, message
from tradingbot.domain.ids import client_order_id, cloid
from tradingbot.domain.model import Model
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import Params
from tradingbot.domain.static import StaticSettings
from tradingbot.replay.evidence import Evidence, GroupState, Record, Venue

BOT = "bot"
CYCLE = "20260218T1600Z"
START_MS = start_ms_of(CYCLE)
OWNERS = {
    Stream.FEATURES: "market_data",
    Stream.TARGET: "ai_decision",
    Stream.APPROVED: "risk_engine",
    Stream.SNAPSHOT: "portfolio_state",
    Stream.COMMANDS: "person",
}
NAME = client_order_id(cycle_id=CYCLE, symbol="BTC", slice_idx=0, side="BUY")
CLOID = cloid(bot_id=BOT, client_order_id=NAME, attempt=0)
QTY = Decimal("0.005")
PX = Decimal(100_000)


def record(stream: Stream, data: Model, *, at: int, source: str | None = None, ts_ms: int | None = None) -> Record:
    """An entry that was written ``at`` milliseconds into the run."""
    wrapped = message(
        data,
        bot_id=BOT,
        stream=stream,
        source=source or OWNERS.get(stream, "execution"),
        cycle_id=CYCLE,
        key=f"{stream}:{at}",
        now_ms=START_MS + at if ts_ms is None else ts_ms,
    )
    raw = wrapped.model_dump_json()
    return Record(f"{1_000_000 + at}-0", raw, Message[type(data)].read(raw))  # type: ignore[misc]


def snapshot(qty: Decimal = QTY, *, equity: int = 10_000) -> m.StateSnapshot:
    held = m.Position(
        qty=qty,
        entry_px=PX,
        mark_px=PX,
        unreal_pnl=Decimal(0),
        side=m.PositionSide.LONG if qty else m.PositionSide.FLAT,
    )
    return m.StateSnapshot(
        equity_usd=Decimal(equity),
        cash_usd=Decimal(equity),
        positions={"BTC": held} if qty else {},
        open_orders=(),
        health=m.Health(last_reconcile_ts=from_ms(START_MS), reconcile_ok=True),
        mids={"BTC": PX},
    )


def intent(**changes: Any) -> m.OrderIntent:
    return m.OrderIntent(
        action=m.OrderAction.PLACE,
        client_order_id=NAME,
        symbol="BTC",
        side=m.Side.BUY,
        qty=QTY,
        limit_px=PX,
        tif="Gtc",
        slice_ref="plan:0",
        reason="slice",
        cloid=CLOID,
        lease_token=1,
        action_id="a",
        reference_mid=PX,
    ).model_copy(update=changes)


def report(status: m.ReportStatus = m.ReportStatus.FILLED, qty: Decimal = QTY, **changes: Any) -> m.ExecutionReport:
    return m.ExecutionReport(
        client_order_id=NAME,
        exchange_order_id="7",
        status=status,
        filled_qty=qty,
        avg_px=PX if qty else None,
        fee=Decimal("0.2"),
        latency_ms=5.0,
        raw="",
        cloid=CLOID,
        symbol="BTC",
        side=m.Side.BUY,
        qty=QTY,
    ).model_copy(update=changes)


def log(kind: str, entry_id: int, at_ms: int = START_MS, **data: Any) -> dict[str, Any]:
    return {"id": entry_id, "at_ms": at_ms, "kind": kind, **data}


def venue_log() -> list[dict[str, Any]]:
    return [
        log("action", 1, type="order", admitted=True, cloids=[CLOID]),
        log("order", 2, cloid=CLOID, oid=7, status="filled"),
        log("fill", 3, cloid=CLOID, sz=str(QTY)),
    ]


def sound() -> Evidence:
    """One cycle: features to a filled order, and everything agrees."""
    weight = (m.TargetWeight(symbol="BTC", weight=0.05),)
    plan = m.ExecutionPlan(
        cycle_id=CYCLE,
        slices=(m.PlanSlice(symbol="BTC", side=m.Side.BUY, qty=QTY, px_guard_bps=20, timeout_s=20, slice_idx=0),),
        limits=m.PlanLimits(max_orders_per_min=30, max_cancels_per_min=30),
        idempotency_key="plan",
    )
    features = m.FeatureSnapshot1m(
        asof_minute=from_ms(START_MS), universe=("BTC",), mid_px={"BTC": PX}, ret_1m={}, ret_5m={}, ret_1h={}, vol_1h={}
    )
    target = m.TargetPortfolio(
        targets=weight,
        cash_weight=0.95,
        confidence=1,
        rationale="",
        model=m.ModelName(name="baseline", version="1"),
        constraints_hint=m.ConstraintsHint(max_gross=0.4, max_net=0.2, turnover_cap=0.1),
    )
    approved = m.ApprovedTargetPortfolio(
        mode=Mode.NORMAL,
        approved_targets=weight,
        rejections=(),
        risk_summary=m.RiskSummary(gross=0.05, net=0.05, turnover=0.05, flags=()),
    )
    streams: dict[Stream, tuple[Record, ...]] = dict.fromkeys(Stream, ())
    streams |= {
        Stream.SNAPSHOT: (
            record(Stream.SNAPSHOT, snapshot(Decimal(0)), at=-10),
            record(Stream.SNAPSHOT, snapshot(), at=900),
        ),
        Stream.FEATURES: (record(Stream.FEATURES, features, at=10),),
        Stream.TARGET: (record(Stream.TARGET, target, at=20),),
        Stream.APPROVED: (record(Stream.APPROVED, approved, at=30),),
        Stream.PLAN: (record(Stream.PLAN, plan, at=40),),
        Stream.ORDERS: (record(Stream.ORDERS, intent(), at=50),),
        Stream.REPORTS: (
            record(Stream.REPORTS, report(m.ReportStatus.ACK, Decimal(0)), at=60),
            record(Stream.REPORTS, report(), at=70),
        ),
    }
    return Evidence(
        bot_id=BOT,
        account="0xa",
        static=StaticSettings(),
        params=Params(),
        streams=streams,
        dead_letters={},
        groups=(GroupState(stream=Stream.FEATURES, name="ai_grp", pending=0, lag=0),),
        dedup={NAME: {"0": '{"status": "FILLED"}'}},
        applied={},
        snapshot=snapshot(),
        venue=Venue(positions={"BTC": QTY}, open_orders=(), log=tuple(venue_log())),
    )


def with_stream(evidence: Evidence, stream: Stream, records: Iterable[Record]) -> Evidence:
    return replace(evidence, streams={**evidence.streams, stream: tuple(records)})


def with_log(evidence: Evidence, *entries: dict[str, Any]) -> Evidence:
    assert evidence.venue is not None
    return replace(evidence, venue=replace(evidence.venue, log=tuple(entries)))
