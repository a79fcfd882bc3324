"""Margin, from the venue's documented formulas: account value, what positions tie up, when they are liquidated.

Marks come in as an argument, so every function here is arithmetic on its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from tradingbot.paper.accounts import Account, Leverage, Position
from tradingbot.paper.assets import Asset, Universe
from tradingbot.paper.decimals import ZERO

DEFAULT_LEVERAGE = 20
TRANSFER_FLOOR = Decimal("0.1")
BACKSTOP_SHARE = Decimal(2) / Decimal(3)
"""Below this share of the maintenance margin the liquidator takes everything."""

Marks = Mapping[str, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One of the two margin summaries of ``clearinghouseState``."""

    account_value: Decimal
    total_ntl: Decimal
    raw_usd: Decimal
    margin_used: Decimal


def leverage_of(account: Account, asset: Asset) -> Leverage:
    """The account's setting, or the venue's default of 20x cross within the asset's limit."""
    return account.leverages.get(asset.name) or Leverage(min(DEFAULT_LEVERAGE, asset.max_leverage))


def maintenance(asset: Asset, notional: Decimal) -> Decimal:
    """Notional · mmr − deduction of its tier; mmr = 1 / (2 · the tier's greatest leverage)."""
    rate, deduction = _tier_terms(asset, notional)
    return notional * rate - deduction


def max_leverage_at(asset: Asset, notional: Decimal) -> int:
    """The greatest leverage that a position of this size may have."""
    return [tier.max_leverage for tier in asset.tiers if notional >= tier.lower_bound_usd][-1]


def position_margin(account: Account, asset: Asset, position: Position, mark: Decimal) -> Decimal:
    """What a position ties up: |szi|·mark / leverage when cross, its own equity when isolated."""
    if position.isolated_raw_usd is not None:
        return position.isolated_raw_usd + position.szi * mark
    return abs(position.szi) * mark / leverage_of(account, asset).value


def summary(account: Account, universe: Universe, marks: Marks, *, cross_only: bool) -> Summary:
    """Account value = raw USD + Σ szi·mark; the cross summary leaves isolated positions out."""
    value = raw = account.raw_usd
    ntl = used = ZERO
    for coin, position in account.positions.items():
        if cross_only and position.isolated_raw_usd is not None:
            continue
        raw += position.isolated_raw_usd or ZERO
        value += (position.isolated_raw_usd or ZERO) + position.szi * marks[coin]
        ntl += abs(position.szi) * marks[coin]
        used += position_margin(account, universe.by_name[coin], position, marks[coin])
    return Summary(account_value=value, total_ntl=ntl, raw_usd=raw, margin_used=used)


def cross_maintenance(account: Account, universe: Universe, marks: Marks) -> Decimal:
    """Maintenance margin of all cross positions."""
    return sum(
        (
            maintenance(universe.by_name[coin], abs(position.szi) * marks[coin])
            for coin, position in account.positions.items()
            if position.isolated_raw_usd is None
        ),
        ZERO,
    )


def withdrawable(cross: Summary) -> Decimal:
    """max(0, value − max(initial margin, a tenth of the notional))."""
    return max(ZERO, cross.account_value - max(cross.margin_used, TRANSFER_FLOOR * cross.total_ntl))


def liquidation_px(asset: Asset, position: Position, *, mark: Decimal, available: Decimal) -> Decimal | None:
    """mark − side·available / size / (1 − l·side), l = mmr of the tier at that price; None when not positive.

    ``available`` is the margin that stands behind the position less the maintenance it needs now.
    """
    side = 1 if position.szi > 0 else -1
    size = abs(position.szi)
    equity = available + maintenance(asset, size * mark)
    px = mark
    for _ in range(len(asset.tiers)):
        rate, deduction = _tier_terms(asset, size * px)
        at_rate = equity - (size * mark * rate - deduction)
        px = mark - side * at_rate / size / (1 - rate * side)
    return px if px > 0 else None


def _tier_terms(asset: Asset, notional: Decimal) -> tuple[Decimal, Decimal]:
    rate = Decimal(1) / (2 * asset.tiers[0].max_leverage)
    deduction = ZERO
    for tier in asset.tiers[1:]:
        if notional < tier.lower_bound_usd:
            break
        next_rate = Decimal(1) / (2 * tier.max_leverage)
        deduction += tier.lower_bound_usd * (next_rate - rate)
        rate = next_rate
    return rate, deduction
