"""The venue's answers as frozen values; sizes, prices and dollars are exact decimals, times Unix milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from tradingbot.domain.ids import Cloid, Symbol
from tradingbot.domain.messages import ReportStatus, Side
from tradingbot.venue.statuses import is_terminal, report_status


@dataclass(frozen=True, slots=True, kw_only=True)
class VenuePosition:
    """A position as the venue holds it."""

    symbol: Symbol
    size: Decimal
    """Signed, in coins: negative is short."""
    entry_px: Decimal
    position_value: Decimal
    """|size| times mark, USD."""
    unrealized_pnl: Decimal
    liquidation_px: Decimal | None
    leverage: int
    is_cross: bool
    margin_used: Decimal
    max_leverage: int

    @property
    def mark_px(self) -> Decimal:
        """The venue's mark, from the position's value."""
        return self.position_value / abs(self.size) if self.size else self.entry_px


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """clearinghouseState: equity and positions. A coin that is absent is flat."""

    equity: Decimal
    total_raw_usd: Decimal
    total_notional: Decimal
    margin_used: Decimal
    maintenance_margin: Decimal
    withdrawable: Decimal
    positions: Mapping[Symbol, VenuePosition]
    time_ms: int
    """The venue's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueOrder:
    """An order as the venue lists it."""

    symbol: Symbol
    side: Side
    limit_px: Decimal
    size: Decimal
    """What is left of it."""
    orig_size: Decimal
    oid: int
    cloid: Cloid | None
    timestamp_ms: int
    reduce_only: bool = False
    tif: str | None = None
    order_type: str = "Limit"
    is_trigger: bool = False

    @property
    def filled_at_most(self) -> Decimal:
        """orig_size − size: what was executed, except that the venue also shrinks reduce-only orders that way."""
        return self.orig_size - self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStatus:
    """An order and how it stands. Absence of one is no proof: the venue's record lags by about a second."""

    order: VenueOrder
    status: str
    """The venue's word."""
    status_ms: int

    @property
    def terminal(self) -> bool:
        """True when the order can no longer change."""
        return is_terminal(self.status)

    @property
    def report_status(self) -> ReportStatus:
        """Our word for it; an open order that is partly filled is PARTIAL."""
        ours = report_status(self.status)
        partly = ours is ReportStatus.ACK and 0 < self.order.size < self.order.orig_size
        return ReportStatus.PARTIAL if partly else ours


class FillKey(NamedTuple):
    """What makes a fill unique: both sides of a trade share the tid, and blocks share milliseconds."""

    time_ms: int
    symbol: str
    tid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """A fill of the account."""

    symbol: Symbol
    side: Side
    px: Decimal
    size: Decimal
    time_ms: int
    oid: int
    tid: int
    fee: Decimal
    """USD; negative is a rebate."""
    start_position: Decimal
    """Signed position before the fill."""
    closed_pnl: Decimal
    """The venue's figure; documented both with and without the fee, so not for accounting."""
    direction: str
    crossed: bool
    """True for the taker."""
    cloid: Cloid | None = None
    fee_coin: str = "USDC"
    hash: str = ""
    liquidation: bool = False
    liquidated_user: str | None = None

    @property
    def key(self) -> FillKey:
        """What makes it unique."""
        return FillKey(self.time_ms, self.symbol, self.tid)

    @property
    def signed_size(self) -> Decimal:
        """The change of the position."""
        return self.side.sign * self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """A candle; the newest one of an answer may still be forming."""

    symbol: Symbol
    interval: str
    open_ms: int
    close_ms: int
    """Inclusive: open + interval − 1 ms."""
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    """In coins."""
    trades: int


@dataclass(frozen=True, slots=True)
class Level:
    """A level of the book."""

    px: Decimal
    size: Decimal
    orders: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """A snapshot of the book, best levels first."""

    symbol: Symbol
    time_ms: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A public trade."""

    symbol: Symbol
    side: Side
    """The aggressor's."""
    px: Decimal
    size: Decimal
    time_ms: int
    tid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetContext:
    """What metaAndAssetCtxs says of a coin; None where the book is empty or the coin delisted."""

    symbol: Symbol
    mark_px: Decimal
    oracle_px: Decimal
    mid_px: Decimal | None
    funding: Decimal
    """Hourly rate."""
    open_interest: Decimal
    """In coins."""
    day_volume_usd: Decimal
    impact_bid: Decimal | None
    impact_ask: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRole:
    """What an address is to the venue."""

    role: str
    """missing, user, vault, agent, subAccount."""
    master: str | None = None
    """The account that an agent or sub-account belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraAgent:
    """A named API wallet of an account; the unnamed one is never listed."""

    name: str
    address: str
    valid_until_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRateLimit:
    """The account's action budget."""

    volume_usd: Decimal
    used: int
    cap: int
    surplus: int = 0

    @property
    def left(self) -> int:
        """Actions that remain."""
        return self.cap + self.surplus - self.used


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFees:
    """The account's fee rates, as fractions of the notional."""

    taker: Decimal
    maker: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerUpdate:
    """A change of the account's money that is neither a trade nor funding."""

    time_ms: int
    hash: str
    kind: str
    """deposit, withdraw, internalTransfer, accountClassTransfer, subAccountTransfer, …"""
    usd: Decimal
    """Signed: positive came in. 0 for kinds that move no perpetuals' collateral."""
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingPayment:
    """Funding of a position."""

    time_ms: int
    symbol: Symbol
    usd: Decimal
    """Negative was paid by the account."""
    size: Decimal
    rate: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveAsset:
    """activeAssetData: leverage and margin mode of a coin for an account."""

    symbol: Symbol
    leverage: int
    is_cross: bool
    mark_px: Decimal | None
    available_to_trade: tuple[Decimal, ...]
    """USD, buy and sell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeStatus:
    """The venue's clock and anything special that it announces."""

    time_ms: int
    special_statuses: Any = None
