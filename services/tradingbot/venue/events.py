"""What the venue's stream says, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tradingbot.venue import parse
from tradingbot.venue.models import Book, Candle, Fill, FundingPayment, OrderStatus, Trade


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """All subscriptions are confirmed, for the first time or again.

    Orders and user events are never replayed: whatever happened while there was no connection must be polled now.
    """

    first: bool
    gap_s: float
    """Real seconds since the last message of the connection before; 0 for the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """The connection is gone; the stream connects again by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class OrderUpdates:
    """Orders whose status changed. There is no snapshot."""

    orders: tuple[OrderStatus, ...]


@dataclass(frozen=True, slots=True)
class UserFills:
    """Fills of the account; the snapshot repeats old ones."""

    fills: tuple[Fill, ...]
    is_snapshot: bool


@dataclass(frozen=True, slots=True)
class AllMids:
    """Mid prices of the perpetuals."""

    mids: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class L2Book:
    """A whole book, never a difference."""

    book: Book


@dataclass(frozen=True, slots=True)
class BestPrices:
    """The best levels, sent when they change."""

    book: Book


@dataclass(frozen=True, slots=True)
class Trades:
    """Public trades; about 30 old ones arrive, unmarked, after subscribing."""

    trades: tuple[Trade, ...]


@dataclass(frozen=True, slots=True)
class Candles:
    """Candles that changed."""

    candles: tuple[Candle, ...]


@dataclass(frozen=True, slots=True)
class UserFunding:
    """Funding was paid or received."""

    payment: FundingPayment


@dataclass(frozen=True, slots=True)
class Liquidation:
    """The account was liquidated."""

    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NonUserCancel:
    """The venue cancelled orders of its own accord: (coin, oid)."""

    orders: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class UserEventFills:
    """Fills told by userEvents; userFills tells them too."""

    fills: tuple[Fill, ...]


@dataclass(frozen=True, slots=True)
class StreamError:
    """The venue refused something, or sent what this version cannot read; the connection stays."""

    text: str


Event = (
    Connected
    | Disconnected
    | OrderUpdates
    | UserFills
    | AllMids
    | L2Book
    | BestPrices
    | Trades
    | Candles
    | UserFunding
    | Liquidation
    | NonUserCancel
    | UserEventFills
    | StreamError
)


def read_event(channel: str, data: Any) -> Event | None:
    """The event of a message; None for channels that nobody here listens to.

    Raises:
        parse.MALFORMED: the data does not have the channel's form.
    """
    match channel:
        case "orderUpdates":
            return OrderUpdates(
                tuple(parse.order_status(each) for each in data if parse.is_perp(each["order"]["coin"]))
            )
        case "userFills":
            return UserFills(tuple(parse.fills(data["fills"])), bool(data.get("isSnapshot", False)))
        case "user":
            return _user_event(data)
        case "allMids":
            return AllMids(parse.mids(data["mids"]))
        case "l2Book":
            return L2Book(parse.book(data))
        case "bbo":
            return BestPrices(parse.best(data))
        case "trades":
            return Trades(tuple(parse.trade(each) for each in data))
        case "candle":
            rows = data if isinstance(data, list) else [data]
            return Candles(tuple(parse.candle(each) for each in rows))
        case "error":
            return StreamError(str(data))
        case _:
            return None


def _user_event(data: Any) -> Event | None:
    match data:
        case {"fills": fills}:
            return UserEventFills(tuple(parse.fills(fills)))
        case {"funding": payment}:
            return UserFunding(parse.funding(payment, time_ms=int(payment["time"])))
        case {"liquidation": liquidation}:
            return Liquidation(liquidation)
        case {"nonUserCancel": cancels}:
            return NonUserCancel(tuple((str(each["coin"]), int(each["oid"])) for each in cancels))
        case _:
            return None
