"""An account that trades at the recorded mids for assumed costs: what a path of changed decisions is played on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from tradingbot.domain.messages import ExecutionPlan, Health, Position, PositionSide, StateSnapshot
from tradingbot.domain.model import Model
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import RiskParams


class Costs(Model):
    """What a trade costs, in basis points of its value."""

    fee_bps: float
    slippage_bps: float
    measured_usd: float
    """The recorded trades that they are measured on; 0: assumed."""


@dataclass(slots=True, kw_only=True)
class Account:
    """Cash and coins, marked at the last known mids."""

    cash_usd: float
    qty: dict[str, Decimal]
    mids: dict[str, Decimal] = field(default_factory=dict)
    peak_usd: float = 0.0
    drawdown: float = 0.0
    """Below the peak now, as a fraction of it."""
    halted: bool = False
    """By its drawdown; nobody comes to clear it."""
    fees_usd: float = 0.0
    slippage_usd: float = 0.0
    traded_usd: float = 0.0
    fees_of_day: tuple[str, float] = ("", 0.0)

    @property
    def equity_usd(self) -> float:
        """Cash and the coins' value."""
        return self.cash_usd + sum(float(qty) * float(self.mids[symbol]) for symbol, qty in self._held())

    def weights(self) -> dict[str, float]:
        """The weight of every position."""
        equity_usd = self.equity_usd
        return {symbol: float(qty) * float(self.mids[symbol]) / equity_usd for symbol, qty in self._held()}

    def mark(self, mids: Mapping[str, Decimal]) -> None:
        """Take in a minute's mids."""
        self.mids.update(mids)
        equity_usd = self.equity_usd
        self.peak_usd = max(self.peak_usd, equity_usd)
        self.drawdown = (self.peak_usd - equity_usd) / self.peak_usd if self.peak_usd > 0 else 0.0

    def mode(self, risk: RiskParams, *, day: str) -> Mode:
        """What the breaker would do about its drawdown and its day's fees."""
        self.halted = self.halted or self.drawdown >= risk.drawdown_halt
        if self.halted:
            return Mode.HALT
        fees_bps = 10_000 * self.fees_of_day[1] / self.equity_usd if self.fees_of_day[0] == day else 0.0
        restricted = self.drawdown >= risk.drawdown_reduce_only or fees_bps > risk.max_daily_fee_bps
        return Mode.REDUCE_ONLY if restricted else Mode.NORMAL

    def trade(self, plan: ExecutionPlan, costs: Costs, *, day: str) -> None:
        """Fill all of a plan's slices at the mids."""
        for each in plan.slices:
            usd = float(each.qty * self.mids[each.symbol])
            fee, slippage = usd * costs.fee_bps / 10_000, usd * costs.slippage_bps / 10_000
            self.qty[each.symbol] = self.qty.get(each.symbol, Decimal(0)) + each.side.sign * each.qty
            self.cash_usd -= each.side.sign * usd + fee + slippage
            self.traded_usd += usd
            self.fees_usd += fee
            self.slippage_usd += slippage
            self.fees_of_day = (day, fee + (self.fees_of_day[1] if self.fees_of_day[0] == day else 0.0))

    def snapshot(self, at: datetime) -> StateSnapshot:
        """As portfolio_state would show it."""
        equity = Decimal(repr(self.equity_usd))
        return StateSnapshot(
            equity_usd=equity,
            cash_usd=Decimal(repr(self.cash_usd)),
            positions={symbol: _position(qty, self.mids[symbol]) for symbol, qty in self._held()},
            open_orders=(),
            health=Health(last_reconcile_ts=at, reconcile_ok=True),
        )

    def _held(self) -> Iterable[tuple[str, Decimal]]:
        return ((symbol, qty) for symbol, qty in self.qty.items() if qty)


def account_of(snapshot: StateSnapshot) -> Account:
    """The account that a snapshot shows."""
    held = {symbol: position for symbol, position in snapshot.positions.items() if position.qty}
    value = sum((each.qty * each.mark_px for each in held.values()), Decimal(0))
    return Account(
        cash_usd=float(snapshot.equity_usd - value),
        qty={symbol: each.qty for symbol, each in held.items()},
        mids={symbol: each.mark_px for symbol, each in held.items()},
        peak_usd=float(snapshot.equity_usd),
    )


def _position(qty: Decimal, mark: Decimal) -> Position:
    side = PositionSide.LONG if qty > 0 else PositionSide.SHORT
    return Position(qty=qty, entry_px=mark, mark_px=mark, unreal_pnl=Decimal(0), side=side)
