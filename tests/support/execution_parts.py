"""Orders, specs and plans for tests of the pure parts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tradingbot.domain.ids import Symbol, cloid
from tradingbot.domain.messages import PlanSlice, Side
from tradingbot.domain.params import ExecutionParams, RiskParams
from tradingbot.execution.ledger import CurrentPlan, Order, SliceWork
from tradingbot.venue.precision import AssetSpec

CYCLE = "20260218T1600Z"
START_MS = 1_771_430_400_000
SPECS = {
    symbol: AssetSpec(symbol=Symbol(symbol), asset_id=number, sz_decimals=decimals, max_leverage=20)
    for symbol, number, decimals in [("BTC", 0, 5), ("ETH", 1, 4), ("SOL", 5, 2), ("ADA", 65, 0), ("DOGE", 12, 0)]
}
MIDS = {
    "BTC": Decimal(60_000),
    "ETH": Decimal(3_000),
    "SOL": Decimal(150),
    "ADA": Decimal("0.5"),
    "DOGE": Decimal("0.1"),
}
WIDE = RiskParams(max_gross=9.0, max_net=9.0, caps={}, default_cap=9.0, turnover_cap=9.0, allow_short=True)


def an_order(*, qty: str = "1", side: str = "BUY", slice_idx: int = 0, attempt: int = 0, **fields: Any) -> Order:
    symbol = fields.pop("symbol", "BTC")
    name = f"{CYCLE}:{symbol}:{slice_idx}:{side}"
    return Order(
        **{
            "client_order_id": name,
            "attempt": attempt,
            "cloid": cloid(bot_id="bot", client_order_id=name, attempt=attempt),
            "symbol": symbol,
            "side": Side(side),
            "qty": Decimal(qty),
            "limit_px": Decimal(100),
            "tif": "Gtc",
            "reduce_only": False,
            "closes": False,
            "reference_mid": Decimal(100),
            "slice_idx": slice_idx,
            "plan_key": "plan",
            "reason": "slice",
            "action_id": "a",
            "lease_token": 1,
            "intent_ms": 1_000,
            "end_ms": 21_000,
            **fields,
        }
    )


def a_slice(
    symbol: str = "BTC", side: str = "BUY", *, index: int = 0, start_ms: int = START_MS, **fields: Any
) -> SliceWork:
    reduces = fields.pop("reduce_only", False)
    return SliceWork(
        slice=PlanSlice(
            symbol=symbol,
            side=Side(side),
            qty=fields.pop("qty", Decimal("0.01")),
            px_guard_bps=20,
            timeout_s=20,
            slice_idx=index,
            start_ms=start_ms,
            reduce_only=reduces,
            phase=0 if reduces else 1,
            **fields,
        ),
        client_order_id=f"{CYCLE}:{symbol}:{index}:{side}",
    )


def a_plan(*slices: SliceWork, risk: RiskParams = WIDE, equity: int = 10_000, **execution: Any) -> CurrentPlan:
    return CurrentPlan(
        cycle_id=CYCLE,
        key="plan",
        start_ms=START_MS,
        cycle_end_ms=START_MS + 60_000,
        equity_usd=Decimal(equity),
        slices=slices,
        execution=ExecutionParams(**execution),
        risk=risk,
        params_label="1.1+0",
    )
