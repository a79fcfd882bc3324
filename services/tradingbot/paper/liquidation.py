"""What happens when an account's equity falls below its maintenance margin.

First the market: the whole position, or a fifth of one above 100,000 USD with 30 s in which further ones are whole.
Below two thirds of the maintenance margin the liquidator takes everything and what margin is left. Auto-deleveraging
is not modelled: nobody here stands on the other side of a bankrupt position.
"""

from __future__ import annotations

from decimal import Decimal

from tradingbot.paper.accounts import Account, Position
from tradingbot.paper.assets import Universe
from tradingbot.paper.decimals import ZERO, text, to_step, usd
from tradingbot.paper.margin import BACKSTOP_SHARE, Marks, cross_maintenance, maintenance, summary
from tradingbot.paper.orders import Order, Status
from tradingbot.paper.trading import Trading
from tradingbot.paper.world import World

PARTIAL_ABOVE_USD = Decimal(100_000)
PARTIAL_SHARE = Decimal("0.2")
COOL_DOWN_MS = 30_000
WORST_PX = Decimal("0.5")
"""A liquidation order trades within this share of the mark: in effect at any price."""


class Liquidator:
    """Watches every account's margin."""

    def __init__(self, *, world: World, trading: Trading, universe: Universe) -> None:
        self._world = world
        self._trading = trading
        self._universe = universe

    def watch(self, now_ms: int) -> None:
        """Liquidate what has fallen below its maintenance margin."""
        for account in list(self._world.accounts.values()):
            if account.positions:
                marks = self._trading.marks(now_ms)
                self._watch_cross(account, marks, now_ms)
                self._watch_isolated(account, marks, now_ms)

    def _watch_cross(self, account: Account, marks: Marks, now_ms: int) -> None:
        for position in _by_size(account, marks):
            value = summary(account, self._universe, marks, cross_only=True).account_value
            needed = cross_maintenance(account, self._universe, marks)
            if value >= needed or position.isolated_raw_usd is not None:
                continue
            self._announce(account, value, marks, now_ms)
            if value < needed * BACKSTOP_SHARE:
                self._backstop(account, marks, now_ms)
                return
            if self._to_market(account, position, marks, now_ms):
                return

    def _watch_isolated(self, account: Account, marks: Marks, now_ms: int) -> None:
        for position in _by_size(account, marks):
            if position.isolated_raw_usd is None:
                continue
            asset, mark = self._universe.by_name[position.coin], marks[position.coin]
            equity = position.isolated_raw_usd + position.szi * mark
            needed = maintenance(asset, abs(position.szi) * mark)
            if equity >= needed:
                continue
            self._announce(account, equity, marks, now_ms, coin=position.coin)
            if equity < needed * BACKSTOP_SHARE:
                self._take_over(account, position, mark, now_ms)
            else:
                self._to_market(account, position, marks, now_ms)

    def _announce(
        self, account: Account, value: Decimal, marks: Marks, now_ms: int, *, coin: str | None = None
    ) -> None:
        for order in self._world.open_orders(user=account.address, coin=coin):
            self._trading.end(order, Status.LIQUIDATED_CANCELED, now_ms)
        held = [p for p in account.positions.values() if coin in {None, p.coin}]
        delta = {
            "type": "liquidation",
            "liquidatedNtlPos": usd(sum((abs(p.szi) * marks[p.coin] for p in held), ZERO)),
            "accountValue": usd(value),
            "leverageType": "Cross" if coin is None else "Isolated",
            "liquidatedPositions": [{"coin": p.coin, "szi": text(p.szi)} for p in held],
        }
        self._world.add_ledger(account.address, now_ms, delta)

    def _to_market(self, account: Account, position: Position, marks: Marks, now_ms: int) -> bool:
        """Send a market order; True when only a part was sent."""
        asset, mark = self._universe.by_name[position.coin], marks[position.coin]
        cooling = account.partly_liquidated_ms is not None and now_ms < account.partly_liquidated_ms + COOL_DOWN_MS
        partial = abs(position.szi) * mark > PARTIAL_ABOVE_USD and not cooling
        sz = abs(position.szi)
        if partial:
            sz = max(asset.lot, to_step(sz * PARTIAL_SHARE, asset.lot, up=False))
            account.partly_liquidated_ms = now_ms
        order = self._order(account, position, sz=sz, mark=mark, now_ms=now_ms)
        terms = {"liquidatedUser": account.address, "markPx": text(mark), "method": "market"}
        done = self._trading.execute(order, now_ms=now_ms, liquidation=terms)
        self._world.put_order(
            done.ended(Status.FILLED if done.sz < sz else Status.CANCELED, now_ms=now_ms), note="liquidation"
        )
        return partial

    def _order(self, account: Account, position: Position, *, sz: Decimal, mark: Decimal, now_ms: int) -> Order:
        asset = self._universe.by_name[position.coin]
        is_buy = position.szi < 0
        bound = asset.round_price(mark * (1 + (WORST_PX if is_buy else -WORST_PX)), up=is_buy)
        return Order(
            oid=self._world.new_oid(),
            user=account.address,
            coin=asset.name,
            is_buy=is_buy,
            limit_px=bound,
            sz=sz,
            orig_sz=sz,
            tif="LiquidationMarket",
            reduce_only=True,
            cloid=None,
            placed_ms=now_ms,
            status=Status.OPEN,
            status_ms=now_ms,
            visible_ms=now_ms,
        )

    def _backstop(self, account: Account, marks: Marks, now_ms: int) -> None:
        for position in _by_size(account, marks):
            if position.isolated_raw_usd is None:
                self._take_over(account, position, marks[position.coin], now_ms)
        account.raw_usd = ZERO
        self._world.touch(account)

    def _take_over(self, account: Account, position: Position, mark: Decimal, now_ms: int) -> None:
        order = self._order(account, position, sz=abs(position.szi), mark=mark, now_ms=now_ms)
        terms = {"liquidatedUser": account.address, "markPx": text(mark), "method": "backstop"}
        isolated_equity = None
        if position.isolated_raw_usd is not None:
            isolated_equity = position.isolated_raw_usd + position.szi * mark
        done = self._trading.book_off(order, px=mark, now_ms=now_ms, liquidation=terms)
        if isolated_equity is not None:
            account.raw_usd -= isolated_equity
        self._world.put_order(done, note="backstop")
        self._world.touch(account)


def _by_size(account: Account, marks: Marks) -> list[Position]:
    return sorted(account.positions.values(), key=lambda each: -abs(each.szi) * marks[each.coin])
