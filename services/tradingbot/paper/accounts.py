"""Accounts and positions: exact arithmetic of what a fill does, without rounding until an answer is written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal

from tradingbot.paper.decimals import ZERO

START_REQUESTS = 10_000
"""Actions that a young address may send before it has traded anything."""


@dataclass(frozen=True, slots=True)
class Leverage:
    """An account's setting for one coin; it outlives positions and restarts."""

    value: int
    is_cross: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A signed size, what was paid for it, and the funding it has cost (positive: paid)."""

    coin: str
    szi: Decimal
    entry_ntl: Decimal
    """Signed Σ px·sz of what is open: its quotient with ``szi`` is the average entry price."""
    isolated_raw_usd: Decimal | None = None
    """Margin posted − szi·entry when isolated, None when cross."""
    funding_all_time: Decimal = ZERO
    funding_since_open: Decimal = ZERO
    funding_since_change: Decimal = ZERO

    @property
    def entry_px(self) -> Decimal:
        return self.entry_ntl / self.szi

    def unrealized(self, mark: Decimal) -> Decimal:
        """Profit at ``mark``, USD."""
        return self.szi * mark - self.entry_ntl

    def paid_funding(self, amount: Decimal) -> Position:
        """After paying ``amount`` (negative: received)."""
        return replace(
            self,
            isolated_raw_usd=None if self.isolated_raw_usd is None else self.isolated_raw_usd - amount,
            funding_all_time=self.funding_all_time + amount,
            funding_since_open=self.funding_since_open + amount,
            funding_since_change=self.funding_since_change + amount,
        )


@dataclass(slots=True, kw_only=True)
class Account:
    """One master account."""

    address: str
    raw_usd: Decimal
    """Cross cash: deposits − Σ signed size·price − fees − funding."""
    positions: dict[str, Position] = field(default_factory=dict)
    leverages: dict[str, Leverage] = field(default_factory=dict)
    funding_paid: dict[str, Decimal] = field(default_factory=dict)
    """All-time funding of each coin, kept while flat."""
    volume_usd: Decimal = ZERO
    requests_used: int = 0
    trickled_ms: int = 0
    """When the last request of an exhausted budget was let through."""
    scheduled_cancel_ms: int | None = None
    scheduled_cancels: int = 0
    """Firings on the day of ``scheduled_cancel_day``."""
    scheduled_cancel_day: int = 0
    partly_liquidated_ms: int | None = None
    known: bool = True
    """False for an address that only ever received a transfer of nothing."""

    def szi(self, coin: str) -> Decimal:
        """The signed size held."""
        position = self.positions.get(coin)
        return position.szi if position else ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A wallet that may sign for a master."""

    address: str
    master: str
    name: str
    """Empty for the one unnamed agent, which ``extraAgents`` does not list."""
    valid_until_ms: int | None
    removed_ms: int | None = None

    def may_sign(self, now_ms: int) -> bool:
        return self.removed_ms is None and (self.valid_until_ms is None or now_ms < self.valid_until_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traded:
    """What one fill did to an account."""

    start_szi: Decimal
    closed_pnl: Decimal
    direction: str


def apply_fill(account: Account, *, coin: str, signed_sz: Decimal, px: Decimal, fee: Decimal) -> Traded:
    """Move cash, size and entry by one fill; ``closed_pnl`` is before the fee."""
    before = account.positions.get(coin)
    start = before.szi if before else ZERO
    end = start + signed_sz
    closing = min(abs(start), abs(signed_sz)) if start * signed_sz < 0 else ZERO
    closed_entry = before.entry_ntl * closing / abs(start) if before and closing else ZERO
    closed_pnl = closing.copy_sign(start) * px - closed_entry
    _move_cash(account, before, coin=coin, end=end, signed_sz=signed_sz, px=px)
    account.raw_usd -= fee
    account.volume_usd += abs(signed_sz) * px
    kept_entry = (before.entry_ntl if before else ZERO) - closed_entry
    opened = abs(signed_sz) - closing
    _store_position(
        account, coin, end=end, entry_ntl=kept_entry + opened.copy_sign(signed_sz) * px, flipped=start * end < 0
    )
    return Traded(start_szi=start, closed_pnl=closed_pnl, direction=_direction(start, end))


def _move_cash(
    account: Account, before: Position | None, *, coin: str, end: Decimal, signed_sz: Decimal, px: Decimal
) -> None:
    leverage = account.leverages.get(coin)
    is_isolated = before.isolated_raw_usd is not None if before else leverage is not None and not leverage.is_cross
    if not is_isolated:
        account.raw_usd -= signed_sz * px
        return
    # Isolated: the position's equity is re-based on the share that stays, plus margin for what is opened.
    start = before.szi if before else ZERO
    raw = before.isolated_raw_usd if before and before.isolated_raw_usd is not None else ZERO
    equity = raw + start * px
    stays = ZERO if start == 0 or start * end < 0 else min(abs(start), abs(end)) / abs(start)
    opened = abs(end) - abs(start) * stays
    margin = equity * stays + opened * px / Decimal(leverage.value if leverage else 1)
    account.raw_usd += equity - margin
    position = before or Position(coin=coin, szi=ZERO, entry_ntl=ZERO)
    account.positions[coin] = replace(position, isolated_raw_usd=margin - end * px)


def _store_position(account: Account, coin: str, *, end: Decimal, entry_ntl: Decimal, flipped: bool) -> None:
    before = account.positions.get(coin)
    if end == 0:
        if before is not None:
            account.funding_paid[coin] = before.funding_all_time
            del account.positions[coin]
        return
    if before is None:
        paid = account.funding_paid.get(coin, ZERO)
        account.positions[coin] = Position(coin=coin, szi=end, entry_ntl=entry_ntl, funding_all_time=paid)
        return
    account.positions[coin] = replace(
        before,
        szi=end,
        entry_ntl=entry_ntl,
        funding_since_open=ZERO if flipped else before.funding_since_open,
        funding_since_change=ZERO,
    )


def _direction(start: Decimal, end: Decimal) -> str:
    if start * end < 0:
        return "Long > Short" if start > 0 else "Short > Long"
    if abs(end) > abs(start):
        return "Open Long" if end > 0 else "Open Short"
    return "Close Long" if start > 0 else "Close Short"
