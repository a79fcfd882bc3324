"""From the venue's JSON to values. A missing or misshapen field raises KeyError, TypeError or ValueError; the clients
turn that into ``VenueUnavailable``, so that a strange answer is never taken for data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

from tradingbot.domain.ids import Cloid, Symbol
from tradingbot.domain.messages import Side
from tradingbot.venue.models import (
    Account,
    ActiveAsset,
    AssetContext,
    Book,
    Candle,
    Fill,
    FundingPayment,
    LedgerUpdate,
    Level,
    OrderStatus,
    Trade,
    UserRole,
    VenueOrder,
    VenuePosition,
)
from tradingbot.venue.precision import AssetSpec

MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, InvalidOperation)
"""What reading a misshapen answer raises."""

_SIDES = {"B": Side.BUY, "A": Side.SELL}
_FOREIGN = frozenset("@/:#")


def is_perp(coin: str) -> bool:
    """True for the venue's own perpetuals: spot pairs and builder-deployed coins bear other characters."""
    return not _FOREIGN.intersection(coin)


def decimal(value: Any) -> Decimal:
    """An exact number from the venue's text (or number, where it sends one)."""
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError(f"not a number: {value}")
    return number


def assets(raw: Any) -> dict[str, AssetSpec]:
    """meta: every coin, delisted ones too, as the asset id is the position in the list."""
    return {Symbol(each["name"]): _asset(index, each) for index, each in enumerate(raw["universe"])}


def _asset(index: int, raw: Mapping[str, Any]) -> AssetSpec:
    return AssetSpec(
        symbol=Symbol(raw["name"]),
        asset_id=index,
        sz_decimals=int(raw["szDecimals"]),
        max_leverage=int(raw["maxLeverage"]),
        delisted=bool(raw.get("isDelisted", False)),
        only_isolated=bool(raw.get("onlyIsolated", False)) or raw.get("marginMode") in {"strictIsolated", "noCross"},
    )


def contexts(raw: Any) -> dict[str, AssetContext]:
    """metaAndAssetCtxs: the market's figures by coin."""
    meta, figures = raw
    pairs = zip(meta["universe"], figures, strict=True)
    return {Symbol(asset["name"]): _context(Symbol(asset["name"]), each) for asset, each in pairs}


def _context(symbol: Symbol, raw: Mapping[str, Any]) -> AssetContext:
    bid, ask = raw.get("impactPxs") or (None, None)
    return AssetContext(
        symbol=symbol,
        mark_px=decimal(raw["markPx"]),
        oracle_px=decimal(raw["oraclePx"]),
        mid_px=_maybe(raw.get("midPx")),
        funding=decimal(raw["funding"]),
        open_interest=decimal(raw["openInterest"]),
        day_volume_usd=decimal(raw["dayNtlVlm"]),
        impact_bid=_maybe(bid),
        impact_ask=_maybe(ask),
    )


def mids(raw: Mapping[str, Any]) -> dict[str, Decimal]:
    """allMids without spot pairs and builder-deployed coins."""
    return {coin: decimal(px) for coin, px in raw.items() if is_perp(coin)}


def account(raw: Any) -> Account:
    """clearinghouseState."""
    summary = raw["marginSummary"]
    held = [position(each["position"]) for each in raw["assetPositions"]]
    return Account(
        equity=decimal(summary["accountValue"]),
        total_raw_usd=decimal(summary["totalRawUsd"]),
        total_notional=decimal(summary["totalNtlPos"]),
        margin_used=decimal(summary["totalMarginUsed"]),
        maintenance_margin=decimal(raw.get("crossMaintenanceMarginUsed", "0")),
        withdrawable=decimal(raw["withdrawable"]),
        positions=MappingProxyType({each.symbol: each for each in held}),
        time_ms=int(raw["time"]),
    )


def position(raw: Mapping[str, Any]) -> VenuePosition:
    """A position of clearinghouseState."""
    return VenuePosition(
        symbol=Symbol(raw["coin"]),
        size=decimal(raw["szi"]),
        entry_px=decimal(raw["entryPx"]),
        position_value=decimal(raw["positionValue"]),
        unrealized_pnl=decimal(raw["unrealizedPnl"]),
        liquidation_px=_maybe(raw.get("liquidationPx")),
        leverage=int(raw["leverage"]["value"]),
        is_cross=raw["leverage"]["type"] == "cross",
        margin_used=decimal(raw["marginUsed"]),
        max_leverage=int(raw["maxLeverage"]),
    )


def order(raw: Mapping[str, Any]) -> VenueOrder:
    """A row of openOrders, frontendOpenOrders, orderStatus or orderUpdates; old rows lack origSz."""
    size = decimal(raw["sz"])
    return VenueOrder(
        symbol=Symbol(raw["coin"]),
        side=_SIDES[raw["side"]],
        limit_px=decimal(raw["limitPx"]),
        size=size,
        orig_size=decimal(raw["origSz"]) if "origSz" in raw else size,
        oid=int(raw["oid"]),
        cloid=_cloid(raw),
        timestamp_ms=int(raw["timestamp"]),
        reduce_only=bool(raw.get("reduceOnly", False)),
        tif=raw.get("tif"),
        order_type=raw.get("orderType", "Limit"),
        is_trigger=bool(raw.get("isTrigger", False)),
    )


def orders(raw: Sequence[Mapping[str, Any]]) -> tuple[VenueOrder, ...]:
    """Open orders of perpetuals. Children of a parent appear as rows of their own as well, so only rows are read."""
    return tuple(order(each) for each in raw if is_perp(each["coin"]))


def order_status(raw: Mapping[str, Any]) -> OrderStatus:
    """An order with its status, as orderStatus, historicalOrders and orderUpdates bear it."""
    return OrderStatus(order=order(raw["order"]), status=str(raw["status"]), status_ms=int(raw["statusTimestamp"]))


def order_answer(raw: Mapping[str, Any]) -> OrderStatus | None:
    """orderStatus; None for an order that the venue does not know (yet)."""
    if raw["status"] == "unknownOid":
        return None
    return order_status(raw["order"])


def fill(raw: Mapping[str, Any]) -> Fill:
    """A fill of userFills, userFillsByTime or the stream."""
    liquidation = raw.get("liquidation")
    return Fill(
        symbol=Symbol(raw["coin"]),
        side=_SIDES[raw["side"]],
        px=decimal(raw["px"]),
        size=decimal(raw["sz"]),
        time_ms=int(raw["time"]),
        oid=int(raw["oid"]),
        tid=int(raw["tid"]),
        fee=decimal(raw["fee"]),
        start_position=decimal(raw["startPosition"]),
        closed_pnl=decimal(raw["closedPnl"]),
        direction=str(raw["dir"]),
        crossed=bool(raw["crossed"]),
        cloid=_cloid(raw),
        fee_coin=str(raw.get("feeToken", "USDC")),
        hash=str(raw.get("hash", "")),
        liquidation=liquidation is not None,
        liquidated_user=(liquidation or {}).get("liquidatedUser"),
    )


def fills(raw: Sequence[Mapping[str, Any]]) -> list[Fill]:
    """Fills of perpetuals; spot and builder-deployed coins are left out."""
    return [fill(each) for each in raw if is_perp(each["coin"])]


def candle(raw: Mapping[str, Any]) -> Candle:
    """A candle; its figures are text in answers and may be numbers on the stream."""
    return Candle(
        symbol=Symbol(raw["s"]),
        interval=str(raw["i"]),
        open_ms=int(raw["t"]),
        close_ms=int(raw["T"]),
        open=decimal(raw["o"]),
        high=decimal(raw["h"]),
        low=decimal(raw["l"]),
        close=decimal(raw["c"]),
        volume=decimal(raw["v"]),
        trades=int(raw["n"]),
    )


def book(raw: Mapping[str, Any]) -> Book:
    """l2Book."""
    bids, asks = raw["levels"]
    return Book(
        symbol=Symbol(raw["coin"]),
        time_ms=int(raw["time"]),
        bids=tuple(_level(each) for each in bids),
        asks=tuple(_level(each) for each in asks),
    )


def best(raw: Mapping[str, Any]) -> Book:
    """bbo: the best levels alone; an empty side has none."""
    bid, ask = raw["bbo"]
    return Book(
        symbol=Symbol(raw["coin"]),
        time_ms=int(raw["time"]),
        bids=(_level(bid),) if bid else (),
        asks=(_level(ask),) if ask else (),
    )


def trade(raw: Mapping[str, Any]) -> Trade:
    """A public trade."""
    return Trade(
        symbol=Symbol(raw["coin"]),
        side=_SIDES[raw["side"]],
        px=decimal(raw["px"]),
        size=decimal(raw["sz"]),
        time_ms=int(raw["time"]),
        tid=int(raw["tid"]),
    )


def funding(raw: Mapping[str, Any], *, time_ms: int) -> FundingPayment:
    """A funding payment."""
    return FundingPayment(
        time_ms=time_ms,
        symbol=Symbol(raw["coin"]),
        usd=decimal(raw["usdc"]),
        size=decimal(raw["szi"]),
        rate=decimal(raw["fundingRate"]),
    )


def ledger(raw: Mapping[str, Any], *, user: str) -> LedgerUpdate:
    """A change of the account's money, signed for ``user``."""
    delta = raw["delta"]
    return LedgerUpdate(
        time_ms=int(raw["time"]),
        hash=str(raw.get("hash", "")),
        kind=str(delta["type"]),
        usd=_moved(delta, user.lower()),
        raw=MappingProxyType(dict(delta)),
    )


def _moved(delta: Mapping[str, Any], user: str) -> Decimal:
    amount = decimal(delta.get("usdc") or delta.get("netWithdrawnUsd") or delta.get("usdcValue") or "0")
    match delta["type"]:
        case "deposit" | "vaultWithdraw" | "vaultDistribution":
            return amount
        case "withdraw" | "vaultDeposit" | "vaultCreate":
            return -amount - decimal(delta.get("fee", "0"))
        case "accountClassTransfer":
            return amount if delta["toPerp"] else -amount
        case "internalTransfer" | "subAccountTransfer":
            came = str(delta["destination"]).lower() == user
            return amount if came else -amount - decimal(delta.get("fee", "0"))
        case "send":
            return _sent(delta, user, amount)
        case _:
            return Decimal(0)


def _sent(delta: Mapping[str, Any], user: str, amount: Decimal) -> Decimal:
    """A send has a dex at either end, of one account or of two; only the perpetuals' own, named "", holds this money.

    What moves between spot balances or other dexes is none of it; else a gift of tokens would look like a loss.
    """
    came = str(delta["destination"]).lower() == user and not delta.get("destinationDex")
    went = str(delta["user"]).lower() == user and not delta.get("sourceDex")
    return (amount if came else Decimal(0)) - (amount + decimal(delta.get("fee", "0")) if went else Decimal(0))


def role(raw: Mapping[str, Any]) -> UserRole:
    """userRole."""
    data = raw.get("data") or {}
    master = data.get("user") or data.get("master")
    return UserRole(role=str(raw["role"]), master=master.lower() if master else None)


def active_asset(raw: Mapping[str, Any], *, symbol: str) -> ActiveAsset:
    """activeAssetData."""
    return ActiveAsset(
        symbol=Symbol(symbol),
        leverage=int(raw["leverage"]["value"]),
        is_cross=raw["leverage"]["type"] == "cross",
        mark_px=_maybe(raw.get("markPx")),
        available_to_trade=tuple(decimal(each) for each in raw.get("availableToTrade", ())),
    )


def _level(raw: Mapping[str, Any]) -> Level:
    return Level(decimal(raw["px"]), decimal(raw["sz"]), int(raw.get("n", 0)))


def _maybe(value: Any) -> Decimal | None:
    return None if value is None else decimal(value)


def _cloid(raw: Mapping[str, Any]) -> Cloid | None:
    cloid = raw.get("cloid")
    return Cloid(str(cloid).lower()) if cloid else None
