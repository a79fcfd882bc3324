"""From a decision to intents: n orders of one action, priced, held against the limits, and named.

Pure. An action is sent once with all of its intents; its nonce and its expiry are fixed inside the commit that writes
them (``bus.commit.ActionStamp``), so a late waker can only send expired bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tradingbot.domain.cycles import start_ms_of
from tradingbot.domain.ids import client_order_id, cloid
from tradingbot.domain.limits import Exposure, ProposedOrder, intent_allowed
from tradingbot.domain.messages import OrderAction, OrderIntent, Side
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import OrderTif
from tradingbot.execution.ledger import CurrentPlan, Ledger, Order, SliceWork
from tradingbot.execution.pricing import limit_price
from tradingbot.execution.schedule import end_ms_of
from tradingbot.execution.sizing import MIN_SLICE_USD
from tradingbot.venue.precision import AssetSpec, lots_to_size, meets_minimum, size_to_lots

FLATTEN = "FLATTEN"
FLATTEN_SLICE = 999
"""The slice index of flatten orders."""
FLATTEN_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every intent needs to know."""

    bot_id: str
    lease_token: int
    now_ms: int
    specs: Mapping[str, AssetSpec]
    mids: Mapping[str, Decimal]
    """Fresh mids: what orders are priced from."""
    marks: Mapping[str, Decimal]
    """The newest mids, however old: what exposures are valued at."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Orders that may become intents, and the ones that may not."""

    orders: tuple[Order, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    """client_order_id -> why."""

    @property
    def at_most(self) -> Mode:
        """The strictest mode in which all of these may be placed."""
        if all(each.reason == FLATTEN for each in self.orders):
            return Mode.HALT
        return Mode.REDUCE_ONLY if all(each.reduce_only for each in self.orders) else Mode.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """An order that is wanted, before it has a price."""

    client_order_id: str
    attempt: int
    symbol: str
    side: Side
    qty: Decimal
    reduce_only: bool
    closes: bool
    slice_idx: int
    plan_key: str
    reason: str
    guard_bps: float
    tif: OrderTif
    end_ms: int


def draft_slices(ledger: Ledger, plan: CurrentPlan, works: Sequence[SliceWork], desk: Desk) -> Draft:
    """The first attempts of slices that are due."""
    wanted = [_slice_terms(plan, work, now_ms=desk.now_ms) for work in works]
    return _draft(ledger, plan, wanted, desk)


def draft_replacements(
    ledger: Ledger, plan: CurrentPlan, pairs: Sequence[tuple[SliceWork, Order]], desk: Desk
) -> Draft:
    """The second and last attempts, for the unfilled rests, with half the guard."""
    wanted = [
        replace(
            _slice_terms(plan, work, now_ms=desk.now_ms),
            qty=first.rest,
            attempt=first.attempt + 1,
            guard_bps=work.slice.px_guard_bps / 2,
            reason="replace",
        )
        for work, first in pairs
    ]
    return _draft(ledger, plan, wanted, desk)


def draft_flatten(positions: Mapping[str, Decimal], *, cycle_id: str, guard_bps: float, desk: Desk) -> Draft:
    """Reduce-only Ioc orders that close whole positions; attempts are numbered by their millisecond in the cycle."""
    orders: list[Order] = []
    refused: dict[str, str] = {}
    for symbol, position in sorted(positions.items()):
        side = Side.SELL if position > 0 else Side.BUY
        name = client_order_id(cycle_id=cycle_id, symbol=symbol, slice_idx=FLATTEN_SLICE, side=side)
        terms = Terms(
            client_order_id=name,
            attempt=desk.now_ms - start_ms_of(cycle_id),
            symbol=symbol,
            side=side,
            qty=abs(position),
            reduce_only=True,
            closes=True,
            slice_idx=FLATTEN_SLICE,
            plan_key=FLATTEN,
            reason=FLATTEN,
            guard_bps=guard_bps,
            tif=OrderTif.IOC,
            end_ms=desk.now_ms + FLATTEN_TIMEOUT_MS,
        )
        if reason := _unpriceable(terms, desk):
            refused[name] = reason
        else:
            orders.append(_priced(terms, desk))
    return Draft(orders=tuple(orders), refused=refused)


def place_intents(action_id: str, orders: Sequence[Order]) -> list[OrderIntent]:
    """The entries of a PLACE action."""
    places = [_intent(each, OrderAction.PLACE, reason=each.reason, lease_token=each.lease_token) for each in orders]
    return of_action(action_id, places)


def cancel_intents(action_id: str, orders: Sequence[Order], *, reason: str, lease_token: int) -> list[OrderIntent]:
    """The entries of a CANCEL action; the lease is the one that asks, not the one that placed the order."""
    cancels = [_intent(each, OrderAction.CANCEL, reason=reason, lease_token=lease_token) for each in orders]
    return of_action(action_id, cancels)


def of_action(action_id: str, intents: Sequence[OrderIntent]) -> list[OrderIntent]:
    """Each entry names its action, its place in it, and how many there are."""
    named = {"action_id": action_id, "action_size": len(intents)}
    return [each.model_copy(update={**named, "action_index": index}) for index, each in enumerate(intents)]


def place_action_id(orders: Sequence[Order]) -> str:
    """Names a PLACE action by its first order: the same decision has the same name after a restart."""
    return f"place-{orders[0].cloid}"


def cancel_action_id(orders: Sequence[Order]) -> str:
    """Names a CANCEL action by its first order and how often that was asked before."""
    return f"cancel-{orders[0].cloid}-{orders[0].cancel_tries}"


def exposures(ledger: Ledger, marks: Mapping[str, Decimal], extra: Iterable[Order] = ()) -> dict[str, Exposure]:
    """What each coin may become: its position and all that can still fill, on each side."""
    orders = [*ledger.live(), *extra]
    symbols = {*ledger.marks, *(each.symbol for each in ledger.fills), *(each.symbol for each in orders), *marks}
    return {
        symbol: Exposure(
            px=float(marks.get(symbol, 0)),
            qty=float(ledger.position(symbol)),
            buys=_open_rest(orders, symbol, Side.BUY, reduce_only=False),
            sells=_open_rest(orders, symbol, Side.SELL, reduce_only=False),
            reducing_buys=_open_rest(orders, symbol, Side.BUY, reduce_only=True),
            reducing_sells=_open_rest(orders, symbol, Side.SELL, reduce_only=True),
        )
        for symbol in symbols
    }


def _open_rest(orders: Iterable[Order], symbol: str, side: Side, *, reduce_only: bool) -> float:
    alike = (each for each in orders if (each.symbol, each.side, each.reduce_only) == (symbol, side, reduce_only))
    return float(sum((each.rest for each in alike), Decimal(0)))


def _slice_terms(plan: CurrentPlan, work: SliceWork, *, now_ms: int) -> Terms:
    each = work.slice
    return Terms(
        client_order_id=work.client_order_id,
        attempt=0,
        symbol=each.symbol,
        side=each.side,
        qty=each.qty,
        reduce_only=each.reduce_only,
        closes=each.closes,
        slice_idx=each.slice_idx,
        plan_key=plan.key,
        reason="slice",
        guard_bps=each.px_guard_bps,
        tif=plan.execution.order_tif,
        end_ms=end_ms_of(plan, timeout_s=each.timeout_s, now_ms=now_ms),
    )


def _draft(ledger: Ledger, plan: CurrentPlan, wanted: Sequence[Terms], desk: Desk) -> Draft:
    """Keep what can be priced and what the limits allow, each order judged with the earlier ones as open."""
    kept: list[Order] = []
    refused: dict[str, str] = {}
    for terms in wanted:
        if reason := _unpriceable(terms, desk):
            refused[terms.client_order_id] = reason
            continue
        known = exposures(ledger, desk.marks, kept)
        fitted = _fit(_priced(terms, desk), known, plan=plan, spec=desk.specs[terms.symbol])
        if isinstance(fitted, str):
            refused[terms.client_order_id] = fitted
        else:
            kept.append(fitted)
    return Draft(orders=tuple(kept), refused=refused)


def _unpriceable(terms: Terms, desk: Desk) -> str | None:
    if terms.symbol not in desk.specs:
        return "not_listed"
    if terms.symbol not in desk.mids:
        return "stale_mid"
    if not terms.closes and not meets_minimum(terms.qty, _price(terms, desk)):
        return "below_minimum"
    return None


def _price(terms: Terms, desk: Desk) -> Decimal:
    mid, spec = desk.mids[terms.symbol], desk.specs[terms.symbol]
    return limit_price(mid, side=terms.side, guard_bps=terms.guard_bps, tif=terms.tif, spec=spec)


def _priced(terms: Terms, desk: Desk) -> Order:
    return Order(
        client_order_id=terms.client_order_id,
        attempt=terms.attempt,
        cloid=cloid(bot_id=desk.bot_id, client_order_id=terms.client_order_id, attempt=terms.attempt),
        symbol=terms.symbol,
        side=terms.side,
        qty=terms.qty,
        limit_px=_price(terms, desk),
        tif=terms.tif,
        reduce_only=terms.reduce_only,
        closes=terms.closes,
        reference_mid=desk.mids[terms.symbol],
        slice_idx=terms.slice_idx,
        plan_key=terms.plan_key,
        reason=terms.reason,
        action_id="",
        lease_token=desk.lease_token,
        intent_ms=desk.now_ms,
        end_ms=terms.end_ms,
        dry_run=desk.dry_run,
    )


def _fit(order: Order, known: Mapping[str, Exposure], *, plan: CurrentPlan, spec: AssetSpec) -> Order | str:
    """The order, cut to the most lots that the limits allow; the reason when that is not worth an order."""

    def refusal(lots: int) -> str | None:
        qty = float(lots_to_size(lots, sz_decimals=spec.sz_decimals))
        proposed = ProposedOrder(symbol=order.symbol, sign=order.side.sign, qty=qty, reduce_only=order.reduce_only)
        return intent_allowed(proposed, known, equity_usd=float(plan.equity_usd), risk=plan.risk)

    wanted = size_to_lots(order.qty, sz_decimals=spec.sz_decimals)
    reason = refusal(wanted)
    if reason is None:
        return order
    low, high = 0, wanted
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if refusal(middle) is None else (low, middle)
    qty = lots_to_size(low, sz_decimals=spec.sz_decimals)
    if float(qty * order.reference_mid) < MIN_SLICE_USD:
        return f"limits: {reason}"
    return order.model_copy(update={"qty": qty})


def _intent(order: Order, action: OrderAction, *, reason: str, lease_token: int) -> OrderIntent:
    return OrderIntent(
        action=action,
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        side=order.side,
        qty=order.qty,
        limit_px=order.limit_px,
        tif=order.tif,
        slice_ref=f"{order.plan_key}:{order.slice_idx}",
        reason=reason,
        attempt=order.attempt,
        cloid=order.cloid,
        reduce_only=order.reduce_only,
        reference_mid=order.reference_mid,
        lease_token=lease_token,
        exchange_order_id=order.oid,
        dry_run=order.dry_run,
    )
