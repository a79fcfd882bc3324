"""A strategy by the name that it has live, made ready for a backtest."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, cast

import numpy as np

from tradingbot.ai_decision import baseline, plugin
from tradingbot.ai_decision.allocation import Regime, Stance
from tradingbot.ai_decision.strategy import Proposal, Strategy, StrategyFailed, View, validate
from tradingbot.domain.cycles import from_ms, minute_id
from tradingbot.domain.messages import FeatureSnapshot1m, Health, Position, PositionSide, StateSnapshot
from tradingbot.domain.static import PLUGIN_PREFIX
from tradingbot.replay.backtest.engine import WEIGH
from tradingbot.replay.backtest.fixed_regime import FixedRegime
from tradingbot.replay.backtest.market import BacktestError, FloatArray
from tradingbot.replay.backtest.options import Answer, Moment
from tradingbot.replay.backtest.unfolding import StrategyFor

_REFUSED: Final = (
    "{name}: a language model cannot be backtested: it has read about these months, so that it would not decide but "
    "remember. Run it forward on the paper exchange (`tradingbot up`), and use `tradingbot replay` on what it decided."
)


def strategy_named(name: str, *, stance: Stance | None = None) -> StrategyFor:
    """What makes the strategy afresh for each run.

    Args:
        name: as in AI_STRATEGY.
        stance: the regime and risk multiplier that stand in for the model's answer, for ``regime``.

    Raises:
        BacktestError: it cannot be backtested, or is not known.
        SettingsError: a plugin is not installed.
    """
    if name in WEIGH:
        return lambda _: name
    if name == "regime" and stance is not None:
        return lambda _: FixedRegime(stance)
    if name == "regime":
        raise BacktestError(
            f"regime: say what stands in for the model's answer: --regime {'|'.join(Regime)} and --multiplier 0..1"
        )
    if name == "llm":
        raise BacktestError(_REFUSED.format(name=name))
    if name.startswith(PLUGIN_PREFIX):
        plugin.load(name)  # refused now rather than within the run
        return lambda _: Installed(name, plugin.load(name))
    raise BacktestError(f"{name}: no such strategy; one of {', '.join(WEIGH)}, regime, {PLUGIN_PREFIX}NAME")


class Installed:
    """A plugin, asked as live but without waiting: it has to answer without I/O."""

    def __init__(self, name: str, strategy: Strategy) -> None:
        self.__name__ = name
        self._strategy = strategy
        self.failures = 0
        """Decisions that the baseline made instead, as live."""
        self._first_failure = ""

    def __call__(self, moment: Moment) -> Answer:
        """The plugin's weights, the baseline's where it fails; a coin that it leaves out is held."""
        view = view_of(moment)
        try:
            proposal = plugin.checked(self._ask(view), self.__name__)
            validate(proposal, view)
        except StrategyFailed as error:
            self.failures += 1
            self._first_failure = self._first_failure or str(error)
            proposal = baseline.propose(view, error=str(error))
        weights: FloatArray = np.array([proposal.weights.get(symbol, np.nan) for symbol in moment.symbols])
        return Answer(weights=weights, confidence=proposal.confidence)

    def stumbled(self) -> str | None:
        """How often the baseline stood in, and why at first."""
        if not self.failures:
            return None
        return f"{self.__name__} failed at {self.failures:,} decisions, which the baseline made: {self._first_failure}"

    def _ask(self, view: View) -> Proposal:
        answering = self._strategy.propose(view)
        try:
            answering.send(None)
        except StopIteration as answered:
            return cast("Proposal", answered.value)
        answering.close()
        raise BacktestError(f"{self.__name__} waits for something outside: a backtest needs an answer at once")


def view_of(moment: Moment) -> View:
    """What a strategy sees live at such a moment, without what candles do not tell (books, health)."""
    at = from_ms(moment.at_ms)
    mids = {symbol: float(px) for symbol, px in zip(moment.symbols, moment.px[-1], strict=True) if px > 0}
    usable = [n for n in range(len(moment.symbols)) if moment.usable[n]]
    features = FeatureSnapshot1m(
        asof_minute=at,
        universe=moment.symbols,
        mid_px=mids,
        ret_1m=_last_move(moment),
        ret_5m={moment.symbols[n]: float(moment.ret_5m[n]) for n in usable},
        ret_1h={moment.symbols[n]: float(moment.ret_1h[n]) for n in usable},
        vol_1h={moment.symbols[n]: float(moment.vol_1h[n]) for n in usable},
        missing=tuple(symbol for symbol in moment.symbols if symbol not in mids),
        prices="recorded",
    )
    positions = {
        symbol: _position(float(weight), px=mids[symbol], equity_usd=moment.equity_usd)
        for symbol, weight in zip(moment.symbols, moment.present, strict=True)
        if weight != 0 and symbol in mids
    }
    snapshot = StateSnapshot(
        equity_usd=Decimal(str(moment.equity_usd)),
        cash_usd=Decimal(str(moment.equity_usd * (1.0 - float(moment.present.sum())))),
        positions=positions,
        open_orders=(),
        health=Health(last_reconcile_ts=at, reconcile_ok=True),
        asof_ms=moment.at_ms,
        mids={symbol: Decimal(str(px)) for symbol, px in mids.items()},
        prices="recorded",
    )
    previous = {
        symbol: float(weight)
        for symbol, weight in zip(moment.symbols, moment.previous, strict=True)
        if not np.isnan(weight)
    }
    return View(
        features=features,
        snapshot=snapshot,
        universe=moment.symbols,
        risk=moment.params.risk,
        ai=moment.params.ai,
        cycle_id=minute_id(moment.at_ms),
        previous=previous,
    )


def _last_move(moment: Moment) -> dict[str, float]:
    if len(moment.px) < 2:
        return {}
    pairs = zip(moment.symbols, moment.px[-2], moment.px[-1], strict=True)
    return {symbol: float(now / before - 1.0) for symbol, before, now in pairs if before > 0 and now > 0}


def _position(weight: float, *, px: float, equity_usd: float) -> Position:
    qty = Decimal(str(weight * equity_usd / px))
    return Position(
        qty=qty,
        entry_px=Decimal(str(px)),
        mark_px=Decimal(str(px)),
        unreal_pnl=Decimal(0),
        side=PositionSide.LONG if qty > 0 else PositionSide.SHORT,
    )
