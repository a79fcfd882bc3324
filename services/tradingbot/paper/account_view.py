"""How an account is shown: ``clearinghouseState`` and ``activeAssetData``."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Any

from tradingbot.paper.accounts import Account, Leverage, Position
from tradingbot.paper.assets import Asset, Universe
from tradingbot.paper.decimals import ZERO, text, usd
from tradingbot.paper.exposure import free_usd
from tradingbot.paper.margin import (
    Marks,
    Summary,
    cross_maintenance,
    leverage_of,
    liquidation_px,
    maintenance,
    position_margin,
    summary,
    withdrawable,
)
from tradingbot.paper.orders import Order

PX_STEP = Decimal("0.000000001")


def clearinghouse_state(account: Account | None, universe: Universe, marks: Marks, now_ms: int) -> dict[str, Any]:
    """The margin state of an account; of an unknown one, that of an empty account."""
    account = account or Account(address="", raw_usd=ZERO)
    cross = summary(account, universe, marks, cross_only=True)
    return {
        "marginSummary": _summary(summary(account, universe, marks, cross_only=False)),
        "crossMarginSummary": _summary(cross),
        "crossMaintenanceMarginUsed": usd(cross_maintenance(account, universe, marks)),
        "withdrawable": usd(withdrawable(cross)),
        "assetPositions": [
            {"type": "oneWay", "position": _position(account, universe.by_name[coin], position, universe, marks)}
            for coin, position in sorted(account.positions.items(), key=lambda item: universe.by_name[item[0]].index)
        ],
        "time": now_ms,
    }


def active_asset_data(
    account: Account, asset: Asset, universe: Universe, marks: Marks, orders: list[Order]
) -> dict[str, Any]:
    """Leverage and the most that can be traded now on either side."""
    free = max(ZERO, free_usd(account, universe, marks, orders))
    leverage, mark, szi = leverage_of(account, asset), marks[asset.name], account.szi(asset.name)
    opens = free * leverage.value / mark
    sizes = [opens + max(ZERO, -2 * szi), opens + max(ZERO, 2 * szi)]
    return {
        "user": account.address,
        "coin": asset.name,
        "leverage": _leverage(leverage, None),
        "maxTradeSzs": [text(size.quantize(asset.lot, ROUND_DOWN)) for size in sizes],
        "availableToTrade": [usd(size * mark / leverage.value) for size in sizes],
        "markPx": text(mark),
    }


def _summary(margin: Summary) -> dict[str, str]:
    return {
        "accountValue": usd(margin.account_value),
        "totalNtlPos": usd(margin.total_ntl),
        "totalRawUsd": usd(margin.raw_usd),
        "totalMarginUsed": usd(margin.margin_used),
    }


def _position(account: Account, asset: Asset, position: Position, universe: Universe, marks: Marks) -> dict[str, Any]:
    mark = marks[asset.name]
    leverage = leverage_of(account, asset)
    profit = position.unrealized(mark)
    return {
        "coin": asset.name,
        "szi": text(position.szi),
        "leverage": _leverage(leverage, position.isolated_raw_usd),
        "entryPx": text(position.entry_px.quantize(Decimal(1).scaleb(-asset.price_decimals))),
        "positionValue": usd(abs(position.szi) * mark),
        "unrealizedPnl": usd(profit),
        "returnOnEquity": text((profit * leverage.value / abs(position.entry_ntl)).quantize(PX_STEP)),
        "liquidationPx": _liquidation_px(account, asset, position, universe, marks),
        "marginUsed": usd(position_margin(account, asset, position, mark)),
        "maxLeverage": asset.max_leverage,
        "cumFunding": {
            "allTime": usd(position.funding_all_time),
            "sinceOpen": usd(position.funding_since_open),
            "sinceChange": usd(position.funding_since_change),
        },
    }


def _liquidation_px(account: Account, asset: Asset, position: Position, universe: Universe, marks: Marks) -> str | None:
    mark = marks[asset.name]
    if position.isolated_raw_usd is None:
        value = summary(account, universe, marks, cross_only=True).account_value
        available = value - cross_maintenance(account, universe, marks)
    else:
        equity = position.isolated_raw_usd + position.szi * mark
        available = equity - maintenance(asset, abs(position.szi) * mark)
    px = liquidation_px(asset, position, mark=mark, available=available)
    return None if px is None else text(px.quantize(PX_STEP))


def _leverage(leverage: Leverage, isolated_raw_usd: Decimal | None) -> dict[str, Any]:
    if isolated_raw_usd is not None:
        return {"type": "isolated", "value": leverage.value, "rawUsd": usd(isolated_raw_usd)}
    return {"type": "cross" if leverage.is_cross else "isolated", "value": leverage.value}
