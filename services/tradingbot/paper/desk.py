"""Order entry: place, cancel and modify, answered with the venue's status entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import takewhile
from typing import Any

from tradingbot.paper.accounts import Account
from tradingbot.paper.actions import BatchModify, LimitType, Modify, OrderSpec, TriggerType
from tradingbot.paper.assets import Asset, Universe
from tradingbot.paper.decimals import ZERO, text
from tradingbot.paper.exposure import margin_refusal
from tradingbot.paper.options import BboText, DuplicateCloid, PaperOptions, PartMatch
from tradingbot.paper.orders import Order, Status, TriggerTerms, triggers_above
from tradingbot.paper.rules import (
    DUPLICATE_CLOID,
    MIN_NOTIONAL_USD,
    POST_ONLY_PERIOD,
    Refusal,
    open_order_limit,
    prevalidate,
    refusal,
)
from tradingbot.paper.trading import Trading
from tradingbot.paper.world import World

StatusEntry = dict[str, Any] | str
NEVER_PLACED = "Order was never placed, already canceled, or filled."


class Invalid(Exception):  # noqa: N818 - not an error of ours: the venue's word on a whole batch
    """A batch refused before any of its orders was looked at."""


class Desk:
    """One venue's order entry for all accounts."""

    def __init__(self, *, world: World, trading: Trading, universe: Universe, options: PaperOptions) -> None:
        self._world = world
        self._trading = trading
        self._universe = universe
        self._options = options
        self.post_only_until_ms = 0

    def place(self, user: str, specs: Sequence[OrderSpec], *, grouping: str, now_ms: int) -> list[StatusEntry]:
        """Place a batch; orders succeed or fail one by one.

        Raises:
            Invalid: the batch is refused as a whole and leaves no record.
        """
        self._prevalidate(specs, now_ms)
        account = self._world.accounts[user]
        if grouping != "normalTpsl":
            return [self._place(account, spec, now_ms, is_position_tpsl=grouping == "positionTpsl") for spec in specs]
        return self._place_with_children(account, specs, now_ms)

    def cancel(self, user: str, *, asset_index: int, key: int | str, now_ms: int) -> StatusEntry:
        """Cancel by oid or client id."""
        order = self._find(user, key)
        asset = self._universe.get(asset_index)
        if order is None or not order.is_open or asset is None or asset.name != order.coin:
            return {"error": f"{NEVER_PLACED} asset={asset_index}"}
        self._trading.end(order, Status.CANCELED, now_ms)
        return "success"

    def modify(self, user: str, action: Modify | BatchModify, now_ms: int) -> list[StatusEntry]:
        """Cancel each order and place its successor: a new oid at the end of the queue.

        Raises:
            Invalid: a new order is malformed; the old ones stay.
        """
        pairs = (
            [(action.oid, action.order)]
            if isinstance(action, Modify)
            else [(each.oid, each.order) for each in action.modifies]
        )
        self._prevalidate([spec for _, spec in pairs], now_ms)
        return [self._modify(user, key, spec, always=action.a is True, now_ms=now_ms) for key, spec in pairs]

    def _prevalidate(self, specs: Sequence[OrderSpec], now_ms: int) -> None:
        if (refused := prevalidate(specs, self._universe, self._trading.marks(now_ms))) is not None:
            raise Invalid(refused)

    def _find(self, user: str, key: int | str) -> Order | None:
        order = self._world.by_cloid(user, key) if isinstance(key, str) else self._world.orders.get(key)
        return order if order is not None and order.user == user else None

    def _modify(self, user: str, key: int | str, spec: OrderSpec, *, always: bool, now_ms: int) -> StatusEntry:
        old = self._find(user, key)
        if old is None or not old.is_open:
            if not always:
                return {"error": f"Cannot modify canceled or filled order asset={spec.a}"}
        else:
            self._trading.end(old, Status.CANCELED, now_ms, note="modified")
        if not always:
            spec = _post_only(spec)
        status = self._place(self._world.accounts[user], spec, now_ms)
        if isinstance(status, dict) and "error" in status:
            return {"error": f"Error placing new order during modify: {status['error']}"}
        return status

    def _place_with_children(self, account: Account, specs: Sequence[OrderSpec], now_ms: int) -> list[StatusEntry]:
        parent_status = self._place(account, specs[0], now_ms)
        if isinstance(parent_status, str) or "error" in parent_status:
            return [parent_status] + [parent_status for _ in specs[1:]]
        parent_oid = next(iter(parent_status.values()))["oid"]
        statuses: list[StatusEntry] = [parent_status]
        statuses += [self._place(account, spec, now_ms, parent_oid=parent_oid) for spec in specs[1:]]
        children = tuple(o.oid for o in self._world.open_orders(user=account.address) if o.parent_oid == parent_oid)
        self._world.put_order(replace(self._world.orders[parent_oid], child_oids=children), note="children attached")
        return statuses

    def _place(
        self,
        account: Account,
        spec: OrderSpec,
        now_ms: int,
        *,
        parent_oid: int | None = None,
        is_position_tpsl: bool = False,
    ) -> StatusEntry:
        asset = self._universe.assets[spec.a]
        if spec.c is not None and (text_ := self._duplicate(account.address, spec.c)) is not None:
            return {"error": f"{text_} asset={asset.index}"}
        order = self._new_order(account, asset, spec, now_ms, parent_oid=parent_oid, is_position_tpsl=is_position_tpsl)
        refused = self._refusal(account, asset, spec, order, now_ms)
        if refused is not None:
            self._world.put_order(order.ended(refused.status, now_ms=now_ms), note=refused.text)
            return {"error": refused.text}
        if order.trigger is not None:
            self._world.put_order(order)
            return "waitingForFill" if parent_oid is not None and self._is_open(parent_oid) else "waitingForTrigger"
        return self._trade(asset, order, now_ms)

    def _is_open(self, oid: int) -> bool:
        return self._world.orders[oid].is_open

    def _duplicate(self, user: str, cloid: str) -> str | None:
        if self._options.quirks.duplicate_cloid is DuplicateCloid.ACCEPT:
            return None
        newest = self._world.by_cloid(user, cloid)
        return DUPLICATE_CLOID if newest is not None and newest.is_open else None

    def _new_order(
        self,
        account: Account,
        asset: Asset,
        spec: OrderSpec,
        now_ms: int,
        *,
        parent_oid: int | None,
        is_position_tpsl: bool,
    ) -> Order:
        sz = spec.s
        if spec.r and isinstance(spec.t, LimitType):
            sz = min(sz, abs(account.szi(asset.name))) or spec.s
        oid = self._world.new_oid()
        tif = spec.tif
        return Order(
            oid=oid,
            user=account.address,
            coin=asset.name,
            is_buy=spec.b,
            limit_px=spec.p,
            sz=sz,
            orig_sz=spec.s,
            tif="Ioc" if tif == "FrontendMarket" else tif,
            reduce_only=spec.r,
            cloid=spec.c,
            placed_ms=now_ms,
            status=Status.OPEN,
            status_ms=now_ms,
            visible_ms=now_ms + self._lag_ms(oid),
            trigger=_terms(spec),
            parent_oid=parent_oid,
            is_position_tpsl=is_position_tpsl,
            is_waiting=isinstance(spec.t, TriggerType),
        )

    def _lag_ms(self, oid: int) -> int:
        greatest = self._options.order_status_lag_ms
        return greatest * (4 + oid % 7) // 10

    def _refusal(self, account: Account, asset: Asset, spec: OrderSpec, order: Order, now_ms: int) -> Refusal | None:
        szi = account.szi(asset.name)
        if not asset.is_legal_price(spec.p):
            return refusal(Status.TICK_REJECTED, asset)
        if order.trigger is not None:
            return self._trigger_refusal(asset, order, now_ms)
        if now_ms < self.post_only_until_ms and order.tif != "Alo":
            return refusal(Status.REJECTED, asset, text=POST_ONLY_PERIOD)
        if order.reduce_only and order.sign * szi >= 0:
            return refusal(Status.REDUCE_ONLY_REJECTED, asset)
        closes_all = order.reduce_only and order.sz == abs(szi)
        if order.sz * order.limit_px < MIN_NOTIONAL_USD and not closes_all:
            return refusal(Status.MIN_TRADE_NTL_REJECTED, asset)
        resting = list(self._world.open_orders(user=account.address))
        if len(resting) >= open_order_limit(account.volume_usd):
            return refusal(Status.TOO_MANY_OPEN_ORDERS_REJECTED, asset)
        return None if order.reduce_only else self._margin_refusal(account, asset, order, resting, now_ms)

    def _margin_refusal(
        self, account: Account, asset: Asset, order: Order, resting: list[Order], now_ms: int
    ) -> Refusal | None:
        marks = self._trading.marks(now_ms)
        if asset.name not in marks:
            return None
        return margin_refusal(
            account,
            asset,
            universe=self._universe,
            marks=marks,
            orders=resting,
            signed_sz=order.sign * order.sz,
            px=order.limit_px,
        )

    def _trigger_refusal(self, asset: Asset, order: Order, now_ms: int) -> Refusal | None:
        mark = self._trading.marks(now_ms).get(asset.name)
        if mark is None or order.trigger is None:
            return None
        reached = mark >= order.trigger.px if triggers_above(order) else mark <= order.trigger.px
        return refusal(Status.BAD_TRIGGER_PX_REJECTED, asset) if reached else None

    def _trade(self, asset: Asset, order: Order, now_ms: int) -> StatusEntry:
        if order.tif == "Alo":
            matches = self._trading.would_match(asset, is_buy=order.is_buy, limit_px=order.limit_px, now_ms=now_ms)
            if matches:
                text_ = self._post_only_text(asset, now_ms)
                self._world.put_order(order.ended(Status.BAD_ALO_PX_REJECTED, now_ms=now_ms), note=text_)
                return {"error": text_}
            done = order
        else:
            done = self._trading.execute(order, now_ms=now_ms)
        executed = order.sz - done.sz
        if executed == 0 and done.tif == "Ioc":
            refused = refusal(Status.IOC_CANCEL_REJECTED, asset)
            self._world.put_order(done.ended(refused.status, now_ms=now_ms), note=refused.text)
            return {"error": refused.text}
        final = done.ended(Status.FILLED, now_ms=now_ms) if done.tif == "Ioc" else done
        self._world.put_order(final)
        self._trading.settle_reduce_only(order.user, order.coin, now_ms)
        rests = final.is_open
        if executed and (not rests or self._options.quirks.gtc_part_match is PartMatch.FILLED):
            return {"filled": self._filled_entry(final, executed)}
        return {"resting": _entry(final)}

    def _filled_entry(self, order: Order, executed: Decimal) -> dict[str, Any]:
        fills = list(takewhile(lambda fill: fill.oid == order.oid, reversed(self._world.fills[order.user])))
        average = sum((fill.px * fill.sz for fill in fills), ZERO) / executed
        asset = self._universe.by_name[order.coin]
        average = average.quantize(Decimal(1).scaleb(-asset.price_decimals))
        return {"totalSz": text(executed), "avgPx": text(average)} | _entry(order)

    def _post_only_text(self, asset: Asset, now_ms: int) -> str:
        bid, ask = (text(px) if px is not None else "none" for px in self._trading.best(asset.name, now_ms))
        between = "@" if self._options.quirks.bbo_text is BboText.PLAIN else " @ "
        return f"Post only order would have immediately matched, bbo was {bid}{between}{ask}. asset={asset.index}"


def _post_only(spec: OrderSpec) -> OrderSpec:
    """A modification without ``a`` places nothing that takes: Gtc becomes Alo."""
    if spec.tif == "Gtc":
        return spec.model_copy(update={"t": LimitType.model_validate({"limit": {"tif": "Alo"}})})
    return spec


def _terms(spec: OrderSpec) -> TriggerTerms | None:
    if not isinstance(spec.t, TriggerType):
        return None
    trigger = spec.t.trigger
    return TriggerTerms(px=trigger.trigger_px, is_market=trigger.is_market, tpsl=trigger.tpsl)


def _entry(order: Order) -> dict[str, Any]:
    return {"oid": order.oid} | ({"cloid": order.cloid} if order.cloid is not None else {})
