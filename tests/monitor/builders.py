"""Messages as the services write them, for the monitor's tests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tradingbot.bus.names import Stream
from tradingbot.domain.cycles import from_ms, minute_id
from tradingbot.domain.envelope import message
from tradingbot.domain.messages import (
    ApprovedTargetPortfolio,
    AuditLevel,
    AuditRecord,
    ConstraintsHint,
    ExecutionPlan,
    ExecutionReport,
    FeatureSnapshot1m,
    Health,
    ModelName,
    OpenOrder,
    OrderAction,
    OrderIntent,
    PlanLimits,
    PlanSlice,
    Position,
    PositionSide,
    Rejection,
    ReportStatus,
    RiskSummary,
    Side,
    SkippedSymbol,
    StateSnapshot,
    TargetPortfolio,
    TargetWeight,
)
from tradingbot.domain.model import Model
from tradingbot.domain.modes import Mode

T0 = 1_771_430_400_000
BOT = "test-bot"
ACCOUNT = "0x" + "ab" * 20


def wrapped(stream: Stream, data: Model, *, at_ms: int = T0, key: str = "k", source: str = "test") -> str:
    made = message(data, bot_id=BOT, stream=stream, source=source, cycle_id=minute_id(at_ms), key=key, now_ms=at_ms)
    return made.model_dump_json()


def a_target(weights: dict[str, float], **changes: Any) -> TargetPortfolio:
    return TargetPortfolio(
        targets=tuple(TargetWeight(symbol=s, weight=w) for s, w in weights.items()),
        cash_weight=1 - sum(weights.values()),
        confidence=0.7,
        rationale="because",
        model=ModelName(name="momentum", version="1"),
        constraints_hint=ConstraintsHint(max_gross=0.4, max_net=0.2, turnover_cap=0.1),
        **changes,
    )


def an_approval(weights: dict[str, float], *, mode: Mode = Mode.NORMAL, clamps=()) -> ApprovedTargetPortfolio:
    return ApprovedTargetPortfolio(
        mode=mode,
        approved_targets=tuple(TargetWeight(symbol=s, weight=w) for s, w in weights.items()),
        rejections=tuple(
            Rejection(symbol=s, reason=reason, original_weight=a, approved_weight=b) for s, reason, a, b in clamps
        ),
        risk_summary=RiskSummary(gross=0.3, net=0.2, turnover=0.05, flags=("net_capped",)),
    )


def a_plan(at_ms: int = T0, *, slices: int = 3, skipped=()) -> ExecutionPlan:
    return ExecutionPlan(
        cycle_id=minute_id(at_ms),
        slices=tuple(
            PlanSlice(symbol="BTC", side=Side.BUY, qty=Decimal("0.01"), px_guard_bps=20, timeout_s=20, slice_idx=i)
            for i in range(slices)
        ),
        limits=PlanLimits(max_orders_per_min=30, max_cancels_per_min=30),
        idempotency_key="plan",
        skipped=tuple(SkippedSymbol(symbol=s, reason=r) for s, r in skipped),
    )


def an_intent(order: str, *, symbol: str = "BTC", action: OrderAction = OrderAction.PLACE) -> OrderIntent:
    return OrderIntent(
        action=action,
        client_order_id=order,
        symbol=symbol,
        side=Side.BUY,
        qty=Decimal("0.01"),
        limit_px=Decimal(50100),
        tif="Gtc",
        slice_ref="plan:0",
        reason="slice",
    )


def a_report(order: str, status: ReportStatus = ReportStatus.FILLED, **changes: Any) -> ExecutionReport:
    values: dict[str, Any] = {
        "client_order_id": order,
        "exchange_order_id": "7",
        "status": status,
        "filled_qty": Decimal("0.01") if status is ReportStatus.FILLED else Decimal(0),
        "avg_px": Decimal(50000) if status is ReportStatus.FILLED else None,
        "fee": Decimal("0.2"),
        "latency_ms": 900.0,
        "slippage_bps": 1.5,
        "raw": "",
        "symbol": "BTC",
    }
    return ExecutionReport(**{**values, **changes})


def a_snapshot(
    *,
    equity: str = "10000",
    positions: dict[str, str] | None = None,
    orders: tuple[OpenOrder, ...] = (),
    asof_ms: int = T0,
    prices: str = "synthetic",
    ok: bool = True,
) -> StateSnapshot:
    held = {
        symbol: Position(
            qty=Decimal(qty),
            entry_px=Decimal(49000),
            mark_px=Decimal(50000),
            unreal_pnl=Decimal(qty) * 1000,
            side=PositionSide.LONG if Decimal(qty) > 0 else PositionSide.SHORT,
        )
        for symbol, qty in (positions or {}).items()
    }
    return StateSnapshot(
        equity_usd=Decimal(equity),
        cash_usd=Decimal(equity) - sum(each.qty * each.mark_px for each in held.values()),
        positions=held,
        open_orders=orders,
        health=Health(last_reconcile_ts=from_ms(asof_ms), reconcile_ok=ok),
        asof_ms=asof_ms,
        mids={"BTC": Decimal(50000), "ETH": Decimal(2500)},
        prices=prices,
    )


def an_open_order(symbol: str = "BTC") -> OpenOrder:
    return OpenOrder(
        client_order_id="20260218T1600Z:BTC:0:BUY",
        exchange_order_id="7",
        symbol=symbol,
        side=Side.BUY,
        px=Decimal(50000),
        qty=Decimal("0.01"),
        status="ACK",
    )


MODEL_EVIDENCE = {
    "model": "scripted",
    "usage": {"tokens_in": 1800, "tokens_out": 120, "unmetered": 0},
    "latency_s": 1.25,
    "attempts": 2,
    "cap_usd": "5.000000",
    "circuit": {"open": False, "failures": 0, "wait_s": 0.0},
}


def a_decision(*, strategy: str, **details: Any) -> AuditRecord:
    return AuditRecord(kind=Stream.TARGET, cause="1-0", details={"strategy": strategy, "used": strategy, **details})


def some_features(**more: Any) -> FeatureSnapshot1m:
    nothing: dict[str, Any] = {"BTC": 0.0, "ETH": 0.0}
    mids = {"BTC": Decimal(50000), "ETH": Decimal(2500)}
    returns = {"ret_1m": nothing, "ret_5m": nothing, "ret_1h": nothing, "vol_1h": nothing}
    return FeatureSnapshot1m(asof_minute=from_ms(T0), universe=("BTC", "ETH"), mid_px=mids, **returns, **more)


def an_alert(text: str = "the venue did not answer") -> AuditRecord:
    return AuditRecord(kind="reconcile_failed", level=AuditLevel.ERROR, details={"error": text})
