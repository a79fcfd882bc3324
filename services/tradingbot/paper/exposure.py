"""What an account could still open: margin held by positions and by resting orders on their worse side."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from tradingbot.paper.accounts import Account
from tradingbot.paper.assets import Asset, Universe
from tradingbot.paper.decimals import ZERO
from tradingbot.paper.margin import Marks, leverage_of, max_leverage_at, summary
from tradingbot.paper.orders import Order, Status
from tradingbot.paper.rules import Refusal, refusal


def worst_size(szi: Decimal, orders: Iterable[Order], *, extra: Decimal = ZERO) -> Decimal:
    """The greatest |size| that resting increasing orders plus a signed ``extra`` can lead to."""
    buys = sells = ZERO
    for order in orders:
        if order.rests and not order.reduce_only:
            buys, sells = (buys + order.sz, sells) if order.is_buy else (buys, sells + order.sz)
    buys, sells = (buys + extra, sells) if extra > 0 else (buys, sells - extra)
    return max(abs(szi), abs(szi + buys), abs(szi - sells))


def free_usd(account: Account, universe: Universe, marks: Marks, orders: Iterable[Order]) -> Decimal:
    """Cross value less what positions and resting orders tie up, USD."""
    cross = summary(account, universe, marks, cross_only=True)
    free = cross.account_value - cross.margin_used
    by_coin: dict[str, list[Order]] = {}
    for order in orders:
        by_coin.setdefault(order.coin, []).append(order)
    for coin, of_coin in by_coin.items():
        szi = account.szi(coin)
        held = worst_size(szi, of_coin) - abs(szi)
        free -= held * marks[coin] / leverage_of(account, universe.by_name[coin]).value
    return free


def margin_refusal(
    account: Account,
    asset: Asset,
    *,
    universe: Universe,
    marks: Marks,
    orders: list[Order],
    signed_sz: Decimal,
    px: Decimal,
) -> Refusal | None:
    """Why a new increasing order cannot be afforded; None when it can."""
    of_coin = [order for order in orders if order.coin == asset.name]
    szi = account.szi(asset.name)
    before = worst_size(szi, of_coin)
    after = worst_size(szi, of_coin, extra=signed_sz)
    if after <= before:
        return None
    leverage = leverage_of(account, asset).value
    if leverage > max_leverage_at(asset, after * marks[asset.name]):
        return refusal(Status.PERP_MAX_POSITION_REJECTED, asset)
    if (after - before) * px / leverage > free_usd(account, universe, marks, orders):
        return refusal(Status.PERP_MARGIN_REJECTED, asset)
    return None


def can_fill(
    account: Account, asset: Asset, *, universe: Universe, marks: Marks, signed_sz: Decimal, px: Decimal
) -> bool:
    """The venue's second look at a resting order, when it matches."""
    szi = account.szi(asset.name)
    increase = abs(szi + signed_sz) - abs(szi)
    if increase <= 0:
        return True
    cross = summary(account, universe, marks, cross_only=True)
    return increase * px / leverage_of(account, asset).value <= cross.account_value - cross.margin_used
