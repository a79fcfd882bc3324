"""What the risk engine sees, made by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tradingbot.domain.cycles import from_ms
from tradingbot.domain.messages import Health, Position, PositionSide, StateSnapshot
from tradingbot.domain.params import RiskParams
from tradingbot.risk_engine.breaker import BreakerState, Facts, Judgement, clear, judge

T0 = 1_771_430_400_000


def snapshot(*, at_ms: int = T0, equity: object = 10_000, positions: dict[str, float] | None = None, **health: Any):
    """A snapshot at a moment; positions are weights at a mark of 100 USD."""
    equity_usd = Decimal(str(equity))
    held = {
        symbol: Position(
            qty=equity_usd * Decimal(str(weight)) / 100,
            entry_px=Decimal(100),
            mark_px=Decimal(100),
            unreal_pnl=Decimal(0),
            side=PositionSide.LONG if weight > 0 else PositionSide.SHORT,
        )
        for symbol, weight in (positions or {}).items()
    }
    fields: dict[str, Any] = {"last_reconcile_ts": from_ms(at_ms), "reconcile_ok": True, **health}
    return StateSnapshot(
        equity_usd=equity_usd,
        cash_usd=equity_usd,
        positions=held,
        open_orders=(),
        health=Health(**fields),
        asof_ms=at_ms,
    )


class Bench:
    """A breaker on the bench: time and sights are moved by hand."""

    def __init__(self, risk: RiskParams | None = None, *, speed: float = 1.0) -> None:
        self.now_ms = T0
        self.started_ms = T0
        self.features_ms: int | None = T0
        self.state = BreakerState()
        self.risk = risk or RiskParams()
        self.speed = speed
        self.last: StateSnapshot | None = None
        self.judgement: Judgement | None = None

    def tick(self, seconds: float = 0, *, features: bool = True) -> Judgement:
        """Time passes and the timer looks."""
        self.now_ms += round(seconds * 1000)
        if features:
            self.features_ms = self.now_ms - self.now_ms % 60_000
        return self._judge(fresh=False)

    def see(self, equity: object = 10_000, *, after_s: float = 10, features: bool = True, **health: Any) -> Judgement:
        """Time passes and a good snapshot comes."""
        self.now_ms += round(after_s * 1000)
        if features:
            self.features_ms = self.now_ms - self.now_ms % 60_000
        self.last = snapshot(at_ms=self.now_ms, equity=equity, **health)
        return self._judge(fresh=True)

    def look_again(self) -> Judgement:
        """The same snapshot comes once more."""
        return self._judge(fresh=True)

    def restart(self) -> None:
        """A new process reads the state that the old one kept."""
        self.state = BreakerState.read(self.state.model_dump_json())
        self.started_ms = self.now_ms

    def clear(self, breaker_id: str) -> bool:
        """A person clears a latch; False: it was refused."""
        cleared = clear(self.state, self.facts(), breaker_id)
        self.state = cleared or self.state
        return cleared is not None

    def facts(self) -> Facts:
        """What is seen now."""
        return Facts(
            now_ms=self.now_ms,
            started_ms=self.started_ms,
            speed=self.speed,
            cycle_seconds=60,
            snapshot=self.last,
            features_ms=self.features_ms,
            risk=self.risk,
        )

    def _judge(self, *, fresh: bool) -> Judgement:
        self.state, self.judgement = judge(self.state, self.facts(), fresh=fresh)
        return self.judgement
