"""The two-stage strategy in a backtest: the optimizer as live, the model's part fixed beforehand.

No model is asked about the past: it has read how it ended. What can be tested is what the weights do under a given
stance, and what each regime would have cost.
"""

from __future__ import annotations

import numpy as np

from tradingbot.ai_decision.allocation import Market, Stance, holdings_of, optimal_weights
from tradingbot.ai_decision.correlation import Correlations
from tradingbot.ai_decision.optimizer import Optimizer, UnsolvedError
from tradingbot.replay.backtest.market import FloatArray, IntArray
from tradingbot.replay.backtest.options import Answer, Moment


class FixedRegime:
    """Weighs by the optimizer under one stance; an object is for one run, from its first moment on."""

    def __init__(self, stance: Stance, *, confidence: float = 1.0) -> None:
        self.__name__ = f"regime ({stance.regime}, {stance.multiplier:g})"
        self._stance = stance
        self._confidence = confidence
        self._correlations: Correlations | None = None
        self._seen = 1
        self._optimizers: dict[int, Optimizer] = {}
        self.unsolved = 0
        """Decisions without an answer: everything was held."""

    def __call__(self, moment: Moment) -> Answer:
        """The optimizer's weights; a coin without whole features is held, and so is everything where none is found."""
        correlations = self._observe(moment)
        weights = np.full(len(moment.symbols), np.nan)
        places = np.flatnonzero(moment.usable)
        if len(places):
            weights[places] = self._weigh(moment, places, correlations)
        return Answer(weights=weights, confidence=self._confidence)

    def stumbled(self) -> str | None:
        """How often no weights were found."""
        if not self.unsolved:
            return None
        return f"The optimizer found no weights at {self.unsolved:,} decisions: everything was held there."

    def _observe(self, moment: Moment) -> Correlations:
        """Every minute since the last moment, whatever the length of a cycle."""
        correlations = self._correlations or Correlations(moment.symbols)
        px = moment.px
        for minute in range(self._seen, len(px)):
            there = (px[minute] > 0.0) & (px[minute - 1] > 0.0)
            before = np.where(there, px[minute - 1], 1.0)
            correlations.observe_row(np.where(there, px[minute] / before - 1.0, np.nan))
        self._seen, self._correlations = max(self._seen, len(px)), correlations
        return correlations

    def _weigh(self, moment: Moment, places: IntArray, correlations: Correlations) -> FloatArray | float:
        symbols = [moment.symbols[i] for i in places]
        present = {symbol: float(w) for symbol, w in zip(moment.symbols, moment.present, strict=True) if w}
        market = Market(
            vol_1h=moment.vol_1h[places].tolist(),
            ret_5m=moment.ret_5m[places].tolist(),
            ret_1h=moment.ret_1h[places].tolist(),
            correlation=correlations.matrix(symbols),
        )
        holdings = holdings_of(symbols, present=present, universe=moment.symbols, risk=moment.params.risk)
        if len(symbols) not in self._optimizers:
            self._optimizers[len(symbols)] = Optimizer(len(symbols))
        try:
            return np.array(optimal_weights(market, holdings, self._stance, self._optimizers[len(symbols)]))
        except UnsolvedError:
            self.unsolved += 1
            return np.nan
