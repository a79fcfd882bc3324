"""One reading of the venue becomes one snapshot, and the differences that it showed.

The venue is right by definition: a difference is told and taken over. What is read at different moments may disagree
for an instant, so a position that the fills do not explain is called a difference only when a second reading agrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from tradingbot.domain.messages import (
    AuditLevel,
    AuditRecord,
    Position,
    PositionSide,
    StateEvent,
    StateEventKind,
    StateSnapshot,
)
from tradingbot.portfolio_state.fills import absorb_fills, fresh_fills
from tradingbot.portfolio_state.funding import absorb_funding
from tradingbot.portfolio_state.health import health_of
from tradingbot.portfolio_state.ledger import absorb_ledger
from tradingbot.portfolio_state.mirror import Mirror, Step, forget
from tradingbot.portfolio_state.orders import adopt_at_first, end_filled, open_order_row, see_open_orders
from tradingbot.venue.models import Account, Fill, FundingPayment, LedgerUpdate, VenueOrder, VenuePosition

READ_EVERY_MS: Final = 60_000
"""Fills and ledger are read at least this often, and whenever cash or a position moved."""

UNEXPLAINED: Final = Decimal("0.001")
"""Cash that moved by more than this part of equity, and nothing says why: the ledger may show a payment later, or have
shown it before, so that it is read with every reading for a while."""

_PX_STEP: Final = Decimal("1e-10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What never changes while the bot runs."""

    bot_id: str
    account: str
    universe: tuple[str, ...]
    prices: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the venue said, in the order in which it was asked: orders, account, mids, then fills, ledger and funding.

    Orders come before the account, so that an order that fills in between is seen twice, as open and in the position,
    and never not at all: exposure is then over- and not under-stated.
    """

    orders: Sequence[VenueOrder]
    account: Account
    mids: Mapping[str, Decimal]
    fills: Sequence[Fill] | None
    """None: not read, since nothing had moved."""
    ledger: Sequence[LedgerUpdate] | None
    asked_ms: int
    """Our time just before the account was asked for; the snapshot is as of then."""
    skew_ms: int
    funding: Sequence[FundingPayment] | None = None
    """None: not read, since no hour has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """A step that has a snapshot to publish."""

    step: Step
    snapshot: StateSnapshot


def must_read_fills(mirror: Mirror, account: Account, *, now_ms: int) -> bool:
    """Whether fills and ledger must be read with this account: an account that did not move has none."""
    if mirror.cash_usd != account.total_raw_usd or mirror.suspects or mirror.failing:
        return True
    if abs(now_ms - mirror.unexplained_ms) < READ_EVERY_MS:
        return True
    held = {symbol: position.size for symbol, position in account.positions.items()}
    expected = {symbol: size for symbol, size in mirror.expected.items() if size}
    return held != expected or now_ms - mirror.read_ms >= READ_EVERY_MS


def reconcile(mirror: Mirror, reading: Reading, *, facts: Facts, now_ms: int) -> Reconciled:
    """Take a reading over."""
    mirror = mirror if mirror.began_ms else _begin(mirror, reading, facts=facts, now_ms=now_ms)
    step = _recovered(mirror, now_ms=now_ms)
    step = step.then(see_open_orders(step.mirror, reading.orders, bot_id=facts.bot_id, now_ms=now_ms))
    step = step.then(_money(step.mirror, reading, facts=facts, now_ms=now_ms))
    step = step.then(end_filled(step.mirror, now_ms=now_ms))
    after = forget(
        step.mirror,
        open_oids=[str(order.oid) for order in reading.orders],
        open_cloids=[order.cloid for order in reading.orders if order.cloid],
        now_ms=now_ms,
    ).model_copy(update={"last_ok_ms": reading.asked_ms, "failing": False, "cash_usd": reading.account.total_raw_usd})
    snapshot = _snapshot(after, reading, facts=facts, now_ms=now_ms)
    return Reconciled(step=Step(mirror=after, events=step.events, audits=step.audits), snapshot=snapshot)


def failed(mirror: Mirror, last: StateSnapshot | None, why: str, *, now_ms: int) -> tuple[Step, StateSnapshot | None]:
    """A reconciliation that failed: the last good figures, marked as what they are; without any, nothing is said."""
    event = StateEvent(kind=StateEventKind.RECONCILE_FAILED, at_ms=now_ms, detail=why)
    cause = f"reconcile:{now_ms}"
    audit = AuditRecord(kind="reconcile_failed", level=AuditLevel.ERROR, cause=cause, details={"error": why})
    step = Step(
        mirror=mirror.model_copy(update={"failing": True}),
        events=() if mirror.failing else (event,),
        audits=(audit,),
    )
    if last is None:
        return step, None
    health = health_of(mirror, now_ms=now_ms, ok=False, skew=last.health.clock_skew_ms, detail=why)
    return step, last.model_copy(update={"health": health})


def _begin(mirror: Mirror, reading: Reading, *, facts: Facts, now_ms: int) -> Mirror:
    """The first reading: sums count from the venue's time of its account."""
    account = reading.account
    begun = mirror.model_copy(
        update={
            "began_ms": account.time_ms,
            "ledger_cursor_ms": account.time_ms,
            "funding_read_ms": account.time_ms,
            "funding_cursor_ms": account.time_ms,
            "expected": _sizes(account),
            "cash_usd": account.total_raw_usd,
        }
    )
    return adopt_at_first(begun, reading.orders, bot_id=facts.bot_id, now_ms=now_ms)


def _recovered(mirror: Mirror, *, now_ms: int) -> Step:
    if not mirror.failing:
        return Step(mirror=mirror)
    event = StateEvent(kind=StateEventKind.RECONCILE_RECOVERED, at_ms=now_ms)
    down_ms = now_ms - mirror.last_ok_ms if mirror.last_ok_ms else None
    audit = AuditRecord(kind="reconcile_recovered", cause=f"reconcile:{now_ms}", details={"after_ms": down_ms})
    return Step(mirror=mirror, events=(event,), audits=(audit,))


def _money(mirror: Mirror, reading: Reading, *, facts: Facts, now_ms: int) -> Step:
    """Fills, ledger, funding, and whether the positions are what the fills add up to."""
    fresh = fresh_fills(mirror, reading.fills or ())
    step = absorb_fills(mirror, fresh, bot_id=facts.bot_id, account=facts.account)
    if reading.ledger is not None:
        step = step.then(absorb_ledger(step.mirror, reading.ledger, until_ms=reading.account.time_ms))
    if reading.funding is not None:
        step = step.then(absorb_funding(step.mirror, reading.funding, asked_ms=reading.account.time_ms))
    counted = [fill for fill in fresh if fill.time_ms > mirror.began_ms]
    unexplained = abs(_unexplained_usd(mirror, step, reading.account, counted))
    step = step.then(explain_positions(step.mirror, reading.account, counted, now_ms=now_ms))
    update = {} if reading.fills is None else {"read_ms": now_ms}
    if unexplained > UNEXPLAINED * abs(reading.account.equity):
        update["unexplained_ms"] = now_ms
    return Step(mirror=step.mirror.model_copy(update=update), events=step.events, audits=step.audits)


def _unexplained_usd(before: Mirror, step: Step, account: Account, fills: Iterable[Fill]) -> Decimal:
    """By how much cash moved otherwise than the fills, the funding and the payments of this reading say."""
    if before.cash_usd is None:
        return Decimal(0)
    traded = sum((-fill.signed_size * fill.px - fill.fee for fill in fills), start=Decimal(0))
    funded = sum((event.qty or Decimal(0) for event in step.events if event.kind is StateEventKind.FUNDING), Decimal(0))
    paid = step.mirror.deposits_net_usd - before.deposits_net_usd
    return account.total_raw_usd - before.cash_usd - traded - funded - paid


def explain_positions(mirror: Mirror, account: Account, fresh: Sequence[Fill], *, now_ms: int) -> Step:
    """Compare the positions with what the fills add up to; the account may stand between any two fresh fills."""
    actual = _sizes(account)
    expected, suspects, events = dict(mirror.expected), [], []
    for symbol in sorted({*actual, *expected, *(fill.symbol for fill in fresh)}):
        path = _path(expected.get(symbol, Decimal(0)), (fill for fill in fresh if fill.symbol == symbol))
        held = actual.get(symbol, Decimal(0))
        expected[symbol] = path[-1]
        if held in path:
            continue
        if symbol not in mirror.suspects:
            suspects.append(symbol)
            continue
        later = [fill for fill in fresh if fill.symbol == symbol and fill.time_ms > account.time_ms]
        events.append(_difference(symbol, expected=path[-1], held=held, now_ms=now_ms))
        expected[symbol] = held + sum((fill.signed_size for fill in later), start=Decimal(0))
    update = {"expected": {s: size for s, size in expected.items() if size}, "suspects": tuple(suspects)}
    return Step(
        mirror=mirror.model_copy(update=update), events=tuple(events), audits=tuple(map(_difference_audit, events))
    )


def _path(start: Decimal, fills: Iterable[Fill]) -> list[Decimal]:
    """The positions that the fills lead through."""
    path = [start]
    for fill in fills:
        path.append(path[-1] + fill.signed_size)
    return path


def _difference(symbol: str, *, expected: Decimal, held: Decimal, now_ms: int) -> StateEvent:
    return StateEvent(
        kind=StateEventKind.POSITION_DIFF,
        symbol=symbol,
        qty=held - expected,
        at_ms=now_ms,
        detail=f"the fills add up to {expected}, the venue holds {held}; the venue's figure is taken",
    )


def _difference_audit(event: StateEvent) -> AuditRecord:
    details = {"symbol": event.symbol, "difference": str(event.qty), "detail": event.detail}
    cause = f"{event.symbol}:{event.at_ms}"
    return AuditRecord(kind="position_diff", level=AuditLevel.WARNING, cause=cause, details=details)


def _snapshot(mirror: Mirror, reading: Reading, *, facts: Facts, now_ms: int) -> StateSnapshot:
    account = reading.account
    positions = {
        symbol: _position(position, external=symbol not in facts.universe)
        for symbol, position in account.positions.items()
        if position.size
    }
    value = sum((each.qty * each.mark_px for each in positions.values()), start=Decimal(0))
    shown = {*facts.universe, *positions}
    return StateSnapshot(
        equity_usd=account.equity,
        cash_usd=account.equity - value,
        positions=positions,
        open_orders=tuple(open_order_row(mirror, order, bot_id=facts.bot_id) for order in reading.orders),
        health=health_of(mirror, now_ms=now_ms, ok=True, skew=reading.skew_ms),
        asof_ms=reading.asked_ms,
        mids={symbol: px for symbol, px in reading.mids.items() if symbol in shown and px > 0},
        prices=facts.prices,
    )


def _position(position: VenuePosition, *, external: bool) -> Position:
    """The mark comes from the position's own value, so that a delisted coin without a mid has one too."""
    return Position(
        qty=position.size,
        entry_px=position.entry_px,
        mark_px=position.mark_px.quantize(_PX_STEP).normalize() + 0,
        unreal_pnl=position.unrealized_pnl,
        side=PositionSide.LONG if position.size > 0 else PositionSide.SHORT,
        external=external,
        liquidation_px=position.liquidation_px,
        leverage=position.leverage,
    )


def _sizes(account: Account) -> dict[str, Decimal]:
    return {symbol: position.size for symbol, position in account.positions.items() if position.size}
