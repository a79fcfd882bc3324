"""How orders trade: fills, self trades, the market coming to resting orders, triggers, reduce-only upkeep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from tradingbot.paper.accounts import apply_fill
from tradingbot.paper.assets import Asset, Universe
from tradingbot.paper.decimals import ZERO
from tradingbot.paper.exposure import can_fill
from tradingbot.paper.fees import fee_usd
from tradingbot.paper.market import Market
from tradingbot.paper.matching import Quote, quotes, reduce_only_trim, volume_through
from tradingbot.paper.orders import Order, Status, triggers_above
from tradingbot.paper.world import Fill, World, trade_id

TRIGGER_SLIPPAGE = Decimal("0.1")
"""How far a triggered market order may trade from its trigger price."""
NEAR_TOUCH = Decimal("0.002")
"""A resting order further than this from the mid cannot be reached by the modelled spread: no book is built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One side of a trade about to be booked."""

    sz: Decimal
    px: Decimal
    crossed: bool
    tid: int
    liquidation: dict[str, str] | None = None


class Trading:
    """The mechanics between orders, accounts and the book."""

    def __init__(self, world: World, market: Market, universe: Universe) -> None:
        self._world = world
        self._market = market
        self._universe = universe

    def marks(self, now_ms: int) -> dict[str, Decimal]:
        """The mark of every coin that has one; a held coin that was delisted keeps its last, one that never had a price
        counts at its entry.
        """
        found = {}
        for asset in self._universe.traded:
            mark = self._market.mark(asset.name, now_ms)
            if mark is not None:
                found[asset.name] = mark
        for account in self._world.accounts.values():
            for coin, position in account.positions.items():
                if coin not in found:
                    last = self._market.mark(coin, now_ms) if coin in self._market.delisted else None
                    found[coin] = last or position.entry_px
        return found

    def would_match(self, asset: Asset, *, is_buy: bool, limit_px: Decimal, now_ms: int) -> bool:
        """True when a taker with this limit would find something."""
        return bool(self._quotes(asset.name, is_buy=is_buy, limit_px=limit_px, now_ms=now_ms))

    def best(self, coin: str, now_ms: int) -> tuple[Decimal | None, Decimal | None]:
        """Best bid and ask, our own orders included."""
        book = self._market.book(coin, now_ms)
        resting = [order for order in self._world.open_orders(coin=coin) if order.rests]
        bids = [level.px for level in book.bids[:1]] + [order.limit_px for order in resting if order.is_buy]
        asks = [level.px for level in book.asks[:1]] + [order.limit_px for order in resting if not order.is_buy]
        return max(bids, default=None), min(asks, default=None)

    def execute(self, taker: Order, *, now_ms: int, liquidation: dict[str, str] | None = None) -> Order:
        """Trade an incoming order as far as its limit goes; the caller decides what becomes of the rest."""
        found = self._quotes(taker.coin, is_buy=taker.is_buy, limit_px=taker.limit_px, now_ms=now_ms)
        for quote in found:
            if taker.sz == 0:
                break
            sz = min(taker.sz, quote.sz)
            tid = self._new_tid(taker, quote.oid or 0)
            if quote.oid is None:
                self._market.take(taker.coin, asks=taker.is_buy, sz=sz, at_ms=now_ms)
            else:
                sz = self._fill_maker(quote.oid, taker, tid=tid, now_ms=now_ms)
            if sz > 0:
                trade = Trade(sz=sz, px=quote.px, crossed=True, tid=tid, liquidation=liquidation)
                taker = self._fill(taker, trade, now_ms)
        return taker

    def book_off(self, order: Order, *, px: Decimal, now_ms: int, liquidation: dict[str, str] | None = None) -> Order:
        """Fill an order outside the book, whole and at one price."""
        trade = Trade(sz=order.sz, px=px, crossed=True, tid=self._new_tid(order, 0), liquidation=liquidation)
        return self._fill(order, trade, now_ms)

    def match_resting(self, now_ms: int) -> None:
        """Let the market trade with what rests: a buy fills when the modelled ask has come to it."""
        for asset in self._universe.traded:
            resting = [order for order in self._world.open_orders(coin=asset.name) if order.rests]
            if resting:
                self._match_coin(asset, resting, now_ms)

    def wake_triggers(self, now_ms: int) -> None:
        """Turn trigger orders whose mark has come into orders."""
        for asset in self._universe.traded:
            waiting = [order for order in self._world.open_orders(coin=asset.name) if order.is_waiting]
            mark = self._market.mark(asset.name, now_ms) if waiting else None
            for order in waiting if mark is not None else ():
                current = self._world.orders[order.oid]
                if current.is_open and self._is_armed(current) and _is_reached(current, mark):
                    self._trigger(current, asset, now_ms)

    def end(self, order: Order, status: Status, now_ms: int, *, note: str | None = None) -> Order:
        """End an open order, and the children that waited for it."""
        ended = self._world.put_order(order.ended(status, now_ms=now_ms), note=note)
        for oid in order.child_oids:
            child = self._world.orders.get(oid)
            if child is not None and child.is_open:
                self.end(child, Status.CANCELED, now_ms, note="parent ended")
        return ended

    def settle_reduce_only(self, user: str, coin: str, now_ms: int) -> None:
        """Shrink or end resting reduce-only orders that no longer fit the position."""
        szi = self._world.accounts[user].szi(coin)
        orders = [o for o in self._world.open_orders(user=user, coin=coin) if o.rests and o.reduce_only]
        for order, kept in reduce_only_trim(orders, szi):
            if kept == 0:
                self.end(order, Status.REDUCE_ONLY_CANCELED, now_ms)
            else:
                self._world.put_order(replace(order, sz=kept, status_ms=now_ms), note="shrunk with the position")

    def _quotes(self, coin: str, *, is_buy: bool, limit_px: Decimal, now_ms: int) -> list[Quote]:
        resting = [order for order in self._world.open_orders(coin=coin) if order.rests]
        return quotes(self._market.book(coin, now_ms), resting, is_buy=is_buy, limit_px=limit_px)

    def _match_coin(self, asset: Asset, resting: list[Order], now_ms: int) -> None:
        mid = self._market.mid(asset.name, now_ms)
        if mid is None:
            return
        near = mid * NEAR_TOUCH
        reachable = [o for o in resting if o.sign * (o.limit_px - mid) > -near]
        for order in sorted(reachable, key=lambda each: (-each.sign * each.limit_px, each.oid)):
            current = self._world.orders[order.oid]
            if not current.rests:
                continue
            book = self._market.book(asset.name, now_ms)
            volume = volume_through(book.side(asks=order.is_buy), limit_px=order.limit_px, is_buy=order.is_buy)
            if volume == 0:
                continue
            sz = min(volume, current.sz)
            if not self._can_fill(current, asset, sz, now_ms):
                self.end(current, Status.MARGIN_CANCELED, now_ms)
                continue
            self._market.take(asset.name, asks=order.is_buy, sz=sz, at_ms=now_ms)
            self._fill_resting(current, sz, tid=self._new_tid(current, 0), now_ms=now_ms)

    def _fill_maker(self, oid: int, taker: Order, *, tid: int, now_ms: int) -> Decimal:
        maker = self._world.orders[oid]
        if not maker.rests:
            return ZERO
        if maker.user == taker.user:
            self.end(maker, Status.SELF_TRADE_CANCELED, now_ms)
            return ZERO
        sz = min(taker.sz, maker.sz)
        if not self._can_fill(maker, self._universe.by_name[maker.coin], sz, now_ms):
            self.end(maker, Status.MARGIN_CANCELED, now_ms)
            return ZERO
        self._fill_resting(maker, sz, tid=tid, now_ms=now_ms)
        return sz

    def _can_fill(self, order: Order, asset: Asset, sz: Decimal, now_ms: int) -> bool:
        return can_fill(
            self._world.accounts[order.user],
            asset,
            universe=self._universe,
            marks=self.marks(now_ms),
            signed_sz=order.sign * sz,
            px=order.limit_px,
        )

    def _fill_resting(self, order: Order, sz: Decimal, *, tid: int, now_ms: int) -> None:
        trade = Trade(sz=sz, px=order.limit_px, crossed=False, tid=tid)
        self._world.put_order(self._fill(order, trade, now_ms))
        self.settle_reduce_only(order.user, order.coin, now_ms)

    def _fill(self, order: Order, trade: Trade, now_ms: int) -> Order:
        account = self._world.accounts[order.user]
        fee = ZERO if trade.liquidation else fee_usd(px=trade.px, sz=trade.sz, crossed=trade.crossed)
        done = apply_fill(account, coin=order.coin, signed_sz=order.sign * trade.sz, px=trade.px, fee=fee)
        self._world.touch(account)
        fill = Fill(
            id=self._world.new_id(),
            user=order.user,
            coin=order.coin,
            px=trade.px,
            sz=trade.sz,
            is_buy=order.is_buy,
            at_ms=now_ms,
            start_szi=done.start_szi,
            direction=done.direction,
            closed_pnl=done.closed_pnl,
            oid=order.oid,
            crossed=trade.crossed,
            fee=fee,
            tid=trade.tid,
            cloid=order.cloid,
            liquidation=trade.liquidation,
        )
        self._world.add_fill(fill)
        return order.filled(trade.sz, now_ms=now_ms)

    def _new_tid(self, order: Order, other_oid: int) -> int:
        buyer, seller = (order.oid, other_oid) if order.is_buy else (other_oid, order.oid)
        return trade_id(buyer, seller, self._world.new_id())

    def _is_armed(self, order: Order) -> bool:
        if order.parent_oid is None:
            return True
        parent = self._world.orders.get(order.parent_oid)
        return parent is None or parent.status is Status.FILLED

    def _trigger(self, order: Order, asset: Asset, now_ms: int) -> None:
        szi = self._world.accounts[order.user].szi(order.coin)
        if order.sign * szi >= 0:
            self.end(order, Status.REDUCE_ONLY_CANCELED, now_ms)
            return
        sz = abs(szi) if order.is_position_tpsl else min(order.sz, abs(szi))
        woken = replace(order, is_waiting=False, sz=sz, tif="Gtc", status=Status.TRIGGERED, status_ms=now_ms)
        if order.trigger is not None and order.trigger.is_market:
            bound = order.trigger.px * (1 + order.sign * TRIGGER_SLIPPAGE)
            woken = replace(woken, tif="Ioc", limit_px=asset.round_price(bound, up=not order.is_buy))
        self._world.put_order(replace(woken, is_waiting=True))
        done = self.execute(woken, now_ms=now_ms)
        self._world.put_order(_after_trigger(done, now_ms))
        self.settle_reduce_only(order.user, order.coin, now_ms)
        if done.sz < sz and order.parent_oid is not None:
            self._end_siblings(order, now_ms)

    def _end_siblings(self, order: Order, now_ms: int) -> None:
        for sibling in self._world.open_orders(user=order.user, coin=order.coin):
            if sibling.parent_oid == order.parent_oid and sibling.oid != order.oid:
                self.end(sibling, Status.SIBLING_FILLED_CANCELED, now_ms)


def _is_reached(order: Order, mark: Decimal | None) -> bool:
    if order.trigger is None or mark is None:
        return False
    return mark >= order.trigger.px if triggers_above(order) else mark <= order.trigger.px


def _after_trigger(order: Order, now_ms: int) -> Order:
    if order.status is Status.FILLED:
        return order
    if order.tif == "Ioc":
        status = Status.FILLED if order.sz < order.orig_sz else Status.IOC_CANCEL_REJECTED
        return order.ended(status, now_ms=now_ms)
    return replace(order, status=Status.OPEN, status_ms=now_ms)
