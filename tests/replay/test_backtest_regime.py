"""A backtest under a fixed regime weighs as the live strategy does."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from risk_engine.bench import T0, snapshot
from tradingbot.ai_decision.allocation import Regime, Stance
from tradingbot.ai_decision.correlation import packed
from tradingbot.ai_decision.optimizer import Optimizer
from tradingbot.ai_decision.regime import RegimeAnswer, correlation_of, weigh
from tradingbot.ai_decision.strategy import View
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.messages import FeatureSnapshot1m, ModelName
from tradingbot.domain.params import Params
from tradingbot.replay.backtest.fixed_regime import FixedRegime
from tradingbot.replay.backtest.options import Moment

COINS = ("BTC", "ETH", "SOL")
MINUTES = 200


@pytest.fixture(scope="module")
def prices() -> np.ndarray:
    draw = np.random.default_rng(3)
    steps = 0.0006 * draw.normal(size=(MINUTES, 1)) + 0.0008 * draw.normal(size=(MINUTES, 3)) + 0.0002
    return 100 * np.exp(np.cumsum(steps, axis=0))


def moment(prices: np.ndarray, minute: int, *, usable=(True, True, True), present=(0.01, 0.0, 0.02)) -> Moment:
    px = prices[: minute + 1]
    steps = np.diff(np.log(px[-61:]), axis=0)
    return Moment(
        index=minute,
        at_ms=T0 + 60_000 * minute,
        symbols=COINS,
        px=px,
        ret_5m=px[-1] / px[-6] - 1,
        ret_1h=px[-1] / px[-61] - 1,
        vol_1h=np.sqrt((steps**2).mean(axis=0) * 525_600),
        usable=np.array(usable),
        present=np.array(present),
        previous=np.full(3, np.nan),
        equity_usd=10_000.0,
        params=Params(),
    )


def by_coin(values) -> dict[str, float]:
    return dict(zip(COINS, map(float, values), strict=True))


def snapshots(prices: np.ndarray, minute: int) -> list[FeatureSnapshot1m]:
    """What market_data would have said, minute by minute."""
    return [
        FeatureSnapshot1m(
            asof_minute=from_ms(T0 + 60_000 * each),
            universe=COINS,
            mid_px=dict.fromkeys(COINS, Decimal(100)),
            ret_1m=by_coin(prices[each] / prices[each - 1] - 1),
            ret_5m={},
            ret_1h={},
            vol_1h={},
        )
        for each in range(1, minute + 1)
    ]


def test_the_weights_are_those_of_the_live_strategy_to_the_last_bit(prices):
    stance = Stance(regime=Regime.TREND, multiplier=0.8)
    backtest = FixedRegime(stance)
    backtest(moment(prices, 90))
    seen = moment(prices, 150)
    past = snapshots(prices, 150)
    view = View(
        features=past[-1].model_copy(
            update={"ret_5m": by_coin(seen.ret_5m), "ret_1h": by_coin(seen.ret_1h), "vol_1h": by_coin(seen.vol_1h)}
        ),
        snapshot=snapshot(positions={"BTC": 0.01, "SOL": 0.02}),
        universe=COINS,
        risk=Params().risk,
    )
    told = RegimeAnswer(regime=Regime.TREND, risk_multiplier=0.8, confidence=1, rationale="")

    live = weigh(
        [told],
        view,
        optimizer=Optimizer(3),
        model=ModelName(name="none", version="0"),
        evidence={"correlation": packed(correlation_of(past, view))},
    )

    assert sum(live.weights.values()) > 0
    assert backtest(seen).weights.tolist() == list(live.weights.values())


def test_a_coin_without_features_is_held(prices):
    answer = FixedRegime(Stance(regime=Regime.TREND, multiplier=1))(moment(prices, 100, usable=(True, False, True)))

    assert np.isnan(answer.weights).tolist() == [False, True, False]


def test_what_comes_later_changes_nothing(prices):
    stance = Stance(regime=Regime.RANGE, multiplier=1)
    other = prices.copy()
    other[121:] *= 3

    assert (
        FixedRegime(stance)(moment(prices, 120)).weights.tolist()
        == FixedRegime(stance)(moment(other, 120)).weights.tolist()
    )


def test_a_minute_without_a_price_is_left_out_of_the_correlations(prices):
    holes = prices.copy()
    holes[50:55, 1] = 0.0

    answer = FixedRegime(Stance(regime=Regime.TREND, multiplier=1))(moment(holes, 130))

    assert np.isfinite(answer.weights).all()
