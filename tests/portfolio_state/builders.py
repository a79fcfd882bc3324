"""Small values of the venue for the tests of the mirror."""

from __future__ import annotations

from decimal import Decimal

from tradingbot.domain.ids import Symbol, cloid
from tradingbot.domain.messages import ExecutionReport, OrderAction, OrderIntent, ReportStatus, Side
from tradingbot.portfolio_state.mirror import Mirror
from tradingbot.portfolio_state.orders import absorb_intents
from tradingbot.portfolio_state.reconcile import Facts, Reading, Reconciled, reconcile
from tradingbot.venue.models import (
    Account,
    Fill,
    FundingPayment,
    LedgerUpdate,
    OrderStatus,
    VenueOrder,
    VenuePosition,
)

BOT = "bot-1"
ACCOUNT = "0x" + "ab" * 20
T0 = 1_771_430_400_000
FACTS = Facts(bot_id=BOT, account=ACCOUNT, universe=("BTC", "ETH"), prices="synthetic")


def own_cloid(client_order_id: str = "c1", attempt: int = 0) -> str:
    return cloid(bot_id=BOT, client_order_id=client_order_id, attempt=attempt)


def a_position(symbol: str = "BTC", size: str = "0.01", *, px: str = "50000", entry: str = "49000") -> VenuePosition:
    amount = Decimal(size)
    return VenuePosition(
        symbol=Symbol(symbol),
        size=amount,
        entry_px=Decimal(entry),
        position_value=abs(amount) * Decimal(px),
        unrealized_pnl=amount * (Decimal(px) - Decimal(entry)),
        liquidation_px=None,
        leverage=5,
        is_cross=True,
        margin_used=Decimal(0),
        max_leverage=40,
    )


def an_account(*positions: VenuePosition, equity: str = "10000", time_ms: int = T0, cash: str | None = None) -> Account:
    value = sum((each.size * each.mark_px for each in positions), start=Decimal(0))
    return Account(
        equity=Decimal(equity),
        total_raw_usd=Decimal(cash) if cash is not None else Decimal(equity) - value,
        total_notional=Decimal(0),
        margin_used=Decimal(0),
        maintenance_margin=Decimal(0),
        withdrawable=Decimal(equity),
        positions={each.symbol: each for each in positions},
        time_ms=time_ms,
    )


def an_order(
    oid: int = 1, *, size: str = "0.01", orig: str | None = None, cloid: str | None = None, symbol: str = "BTC"
) -> VenueOrder:
    return VenueOrder(
        symbol=Symbol(symbol),
        side=Side.BUY,
        limit_px=Decimal(50000),
        size=Decimal(size),
        orig_size=Decimal(orig or size),
        oid=oid,
        cloid=cloid,
        timestamp_ms=T0,
    )


def a_fill(
    tid: int = 1,
    *,
    time_ms: int = T0 + 1,
    size: str = "0.01",
    side: Side = Side.BUY,
    oid: int = 1,
    cloid: str | None = None,
    fee: str = "0.1",
    symbol: str = "BTC",
    liquidated: str | None = None,
) -> Fill:
    return Fill(
        symbol=Symbol(symbol),
        side=side,
        px=Decimal(50000),
        size=Decimal(size),
        time_ms=time_ms,
        oid=oid,
        tid=tid,
        fee=Decimal(fee),
        start_position=Decimal(0),
        closed_pnl=Decimal(0),
        direction="Open Long",
        crossed=True,
        cloid=cloid,
        liquidation=liquidated is not None,
        liquidated_user=liquidated,
    )


def a_status(order: VenueOrder, status: str, *, at_ms: int = T0) -> OrderStatus:
    return OrderStatus(order=order, status=status, status_ms=at_ms)


def a_transfer(usd: str, *, time_ms: int, kind: str = "deposit") -> LedgerUpdate:
    return LedgerUpdate(time_ms=time_ms, hash=f"0x{time_ms}", kind=kind, usd=Decimal(usd), raw={})


def a_payment(usd: str = "-0.5", *, time_ms: int, symbol: str = "BTC") -> FundingPayment:
    return FundingPayment(
        time_ms=time_ms, symbol=Symbol(symbol), usd=Decimal(usd), size=Decimal("0.01"), rate=Decimal("0.0000125")
    )


def an_intent(
    client_order_id: str = "c1", qty: str = "0.01", *, dry_run: bool = False, attempt: int = 0
) -> OrderIntent:
    return OrderIntent(
        action=OrderAction.PLACE,
        client_order_id=client_order_id,
        symbol="BTC",
        side=Side.BUY,
        qty=Decimal(qty),
        limit_px=Decimal(50000),
        tif="Gtc",
        slice_ref="plan:0",
        reason="slice",
        attempt=attempt,
        cloid=own_cloid(client_order_id, attempt),
        dry_run=dry_run,
    )


def a_report(
    status: ReportStatus = ReportStatus.ACK,
    *,
    client_order_id: str = "c1",
    oid: str | None = "1",
    error: str | None = None,
    dry_run: bool = False,
) -> ExecutionReport:
    return ExecutionReport(
        client_order_id=client_order_id,
        exchange_order_id=oid,
        status=status,
        filled_qty=Decimal(0),
        avg_px=None,
        fee=Decimal(0),
        latency_ms=1.0,
        raw="",
        cloid=own_cloid(client_order_id),
        symbol="BTC",
        error=error,
        dry_run=dry_run,
    )


def a_reading(
    account: Account, *, orders=(), fills=(), ledger=(), funding=None, mids=None, asked_ms: int = T0
) -> Reading:
    return Reading(
        orders=tuple(orders),
        account=account,
        mids=mids if mids is not None else {"BTC": Decimal(50000)},
        fills=fills,
        ledger=ledger,
        asked_ms=asked_ms,
        skew_ms=0,
        funding=funding,
    )


def begun(*positions: VenuePosition, orders=(), equity: str = "10000") -> Mirror:
    """A mirror after its first reading."""
    return reconciled(Mirror(), a_reading(an_account(*positions, equity=equity), orders=orders)).step.mirror


def reconciled(mirror: Mirror, reading: Reading, *, now_ms: int | None = None) -> Reconciled:
    return reconcile(mirror, reading, facts=FACTS, now_ms=reading.asked_ms if now_ms is None else now_ms)


def knowing(mirror: Mirror, *intents: OrderIntent, now_ms: int = T0) -> Mirror:
    return absorb_intents(mirror, intents, cursor="1-0", now_ms=now_ms)
