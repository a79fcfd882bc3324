"""Actions as changes of the ledger: orders, their intents and the stamp of nonce and expiry, in one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tradingbot.bus.commit import ActionStamp, ModeGuard, TokenTake
from tradingbot.domain.messages import AuditLevel, AuditRecord, OrderAction, OrderIntent
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import ExecutionParams
from tradingbot.execution.book import Change
from tradingbot.execution.intents import (
    Desk,
    Draft,
    cancel_action_id,
    cancel_intents,
    draft_replacements,
    draft_slices,
    of_action,
    place_action_id,
    place_intents,
)
from tradingbot.execution.ledger import CurrentPlan, Ledger, Order, SliceWork
from tradingbot.execution.orders import Asked, apply
from tradingbot.execution.schedule import due, late, replaceable
from tradingbot.runtime.clock import guard_against_real_slowness
from tradingbot.venue.models import VenueOrder
from tradingbot.venue.precision import AssetSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What every action needs beside its orders."""

    specs: Mapping[str, AssetSpec]
    speed: float
    skew_ms: int
    """The venue's clock minus ours: expiresAfter counts by the venue's."""
    min_nonce: int
    file_mode: Mode
    lease_token: int


def place(ledger: Ledger, draft: Draft, *, params: ExecutionParams, terms: Terms) -> Change:
    """The change that makes a draft's orders intents of one action."""
    action_id = place_action_id(draft.orders)
    orders = [each.model_copy(update={"action_id": action_id}) for each in draft.orders]
    ttl_ms = guard_against_real_slowness(value_ms=params.order_ttl_ms, real_ms=1000, speed=terms.speed)
    return Change(
        ledger=ledger.with_orders(orders),
        intents=place_intents(action_id, orders),
        stamp=_stamp(action_id, orders, ttl_ms=ttl_ms + terms.skew_ms, terms=terms),
        guard=ModeGuard(draft.at_most, file_mode=terms.file_mode),
        takes=[_take("orders", len(orders), per_min=params.max_orders_per_min)],
    )


def cancel(
    ledger: Ledger, orders: Sequence[Order], *, reason: str, now_ms: int, params: ExecutionParams, terms: Terms
) -> Change:
    """The change that asks for the cancellation of orders; the mode never forbids one."""
    action_id = cancel_action_id(orders)
    asked = [apply(each, Asked(at_ms=now_ms)).order for each in orders]
    return Change(
        ledger=ledger.with_orders(asked),
        intents=cancel_intents(action_id, orders, reason=reason, lease_token=terms.lease_token),
        stamp=_stamp(action_id, orders, ttl_ms=None, terms=terms),
        takes=[_take("cancels", len(orders), per_min=params.max_cancels_per_min)],
    )


def cancel_strays(ledger: Ledger, strays: Sequence[VenueOrder], *, action_id: str, terms: Terms) -> Change:
    """The change that cancels own orders at the venue that the log does not know."""
    intents = [_stray_intent(each, lease_token=terms.lease_token) for each in strays]
    assets = ",".join(str(terms.specs[each.symbol].asset_id) for each in strays)
    stamp = ActionStamp(action_id, None, {"asset_ids": assets}, min_nonce=terms.min_nonce)
    return Change(ledger=ledger, intents=of_action(action_id, intents), stamp=stamp)


def place_flatten(ledger: Ledger, draft: Draft, *, params: ExecutionParams, terms: Terms) -> Change:
    """The change that places flatten orders: a HALT does not forbid them and no bucket delays them."""
    return replace(place(ledger, draft, params=params, terms=terms), takes=())


def without_takes(change: Change, *, count: int) -> Change:
    """A cancel that no bucket may delay, with the record that the bucket was empty."""
    return replace(change, takes=(), audits=(*change.audits, limited("cancels", count, cause="forced")))


def anything_due(ledger: Ledger, *, now_ms: int, reductions: bool) -> bool:
    """True when ``work_due`` would find something to do."""
    works = [*(each for each, _ in replaceable(ledger, now_ms=now_ms)), *due(ledger, now_ms=now_ms)]
    return any(each.slice.reduce_only is reductions for each in works)


def work_due(ledger: Ledger, desk: Desk, *, terms: Terms, reductions: bool, most: int | None = None) -> Change | None:
    """Place what is due, the reductions or the increases of it, and give up what cannot be placed.

    ``most`` bounds how many orders are placed; None places all.
    """
    plan = ledger.plan
    if plan is None:
        return None
    again = [pair for pair in replaceable(ledger, now_ms=desk.now_ms) if pair[0].slice.reduce_only is reductions]
    first = [each for each in due(ledger, now_ms=desk.now_ms) if each.slice.reduce_only is reductions]
    if not again and not first:
        return None
    again, first = again[:most], first[: None if most is None else max(0, most - len(again))]
    second = draft_replacements(ledger, plan, again, desk)
    draft = draft_slices(ledger.with_orders(second.orders), plan, first, desk)
    together = Draft(orders=(*second.orders, *draft.orders), refused={**second.refused, **draft.refused})
    given_up = give_up(ledger, together.refused)
    if not together.orders:
        return given_up
    placed = place(given_up.ledger if given_up else ledger, together, params=plan.execution, terms=terms)
    return replace(placed, audits=given_up.audits) if given_up else placed


def drop_late(ledger: Ledger, *, now_ms: int) -> Change | None:
    """Give up the slices that can no longer be placed in this cycle."""
    return give_up(ledger, {each.client_order_id: "late_slice" for each in late(ledger, now_ms=now_ms)})


def give_up(ledger: Ledger, reasons: Mapping[str, str]) -> Change | None:
    """Mark slices as not to be placed, each with its audit record."""
    plan = ledger.plan
    if plan is None or not reasons:
        return None
    slices = tuple(_marked(each, reasons.get(each.client_order_id)) for each in plan.slices)
    marked = plan.model_copy(update={"slices": slices})
    audits = [_given_up(plan, name, reason) for name, reason in reasons.items()]
    return Change(ledger=ledger.model_copy(update={"plan": marked}), audits=audits)


def limited(bucket: str, count: int, *, cause: str) -> AuditRecord:
    """The record that a rate limit was met."""
    return AuditRecord(
        kind="rate_limited", level=AuditLevel.WARNING, cause=cause, details={"bucket": bucket, "wanted": count}
    )


def _marked(work: SliceWork, reason: str | None) -> SliceWork:
    return work if reason is None else work.model_copy(update={"skipped": reason})


def _given_up(plan: CurrentPlan, name: str, reason: str) -> AuditRecord:
    return AuditRecord(
        kind=reason.partition(":")[0],
        level=AuditLevel.WARNING,
        cause=name,
        details={"client_order_id": name, "reason": reason, "cycle_id": plan.cycle_id},
    )


def _stray_intent(order: VenueOrder, *, lease_token: int) -> OrderIntent:
    return OrderIntent(
        action=OrderAction.CANCEL,
        client_order_id=f"stray:{order.cloid}",
        symbol=order.symbol,
        side=order.side,
        qty=order.size,
        limit_px=order.limit_px,
        tif=order.tif or "Gtc",
        slice_ref="",
        reason="unknown_to_log",
        cloid=(order.cloid or "").lower(),
        lease_token=lease_token,
        exchange_order_id=str(order.oid),
    )


def _stamp(action_id: str, orders: Sequence[Order], *, ttl_ms: int | None, terms: Terms) -> ActionStamp:
    assets = ",".join(str(terms.specs[each.symbol].asset_id) for each in orders)
    cloids = ",".join(each.cloid for each in orders)
    return ActionStamp(action_id, ttl_ms, {"asset_ids": assets, "cloids": cloids}, min_nonce=terms.min_nonce)


def _take(bucket: str, amount: int, *, per_min: int) -> TokenTake:
    return TokenTake(bucket, amount, capacity=per_min, refill_per_s=per_min / 60)
