"""Snapshots tell the whole window: who reads them in order knows every price that the features looked at, gaps too."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tradingbot.domain.messages import FeatureSnapshot1m
from tradingbot.market_data.features import WINDOW
from tradingbot.market_data.feed import Feed, Mid
from tradingbot.market_data.history import Bar, History
from tradingbot.market_data.minute import MinuteState, tell
from tradingbot.market_data.told import Told

MINUTE = 60_000
M = 1_771_430_400_000
COINS = ("BTC", "ETH")

PRICES = st.one_of(st.none(), st.integers(1, 10**6).map(lambda n: Decimal(n).scaleb(-2)))
MINUTES = st.fixed_dictionaries(
    {
        "mids": st.fixed_dictionaries(dict.fromkeys(COINS, PRICES)),
        "late": st.lists(st.tuples(st.sampled_from(COINS), st.integers(-70, 0), PRICES), max_size=4),
        "restart": st.booleans(),
        "lost": st.booleans(),
    }
)


@given(st.lists(MINUTES, min_size=1, max_size=12))
def test_the_snapshots_in_order_tell_every_window_that_features_were_made_of(minutes: list[dict]) -> None:
    history, told, read = History(COINS), Told(), Told()
    for number, minute in enumerate(minutes):
        now = M + number * MINUTE
        if minute["restart"]:
            history, told = History(COINS), Told()
        for symbol, offset, px in minute["late"]:
            if px is None:
                history.discard(symbol, now + offset * MINUTE)
            else:
                history.fill(symbol, [Bar(now + offset * MINUTE, px, None)], newest_ms=now)
        feed = Feed(COINS)
        feed.put({symbol: px for symbol, px in minute["mids"].items() if px is not None}, at_ms=now)
        history.sample({symbol: Mid(px, now) for symbol, px in minute["mids"].items() if px is not None})
        snapshot = tell(
            MinuteState(), minute_ms=now, now_ms=now, universe=COINS, feed=feed, history=history, prices="x", told=told
        ).snapshot
        if minute["lost"]:  # nobody knows whether it was written; here it was not
            told = Told()
            continue
        told = told.after(snapshot, minute_ms=now)
        read = read.after(FeatureSnapshot1m.read(snapshot.model_dump_json()), minute_ms=now)
        for symbol in snapshot.mid_px:
            assert read.window(symbol, now) == history.window(symbol, now)


def test_a_minute_is_told_once_and_a_window_that_nobody_told_is_not_made_up() -> None:
    history = History(COINS)
    history.fill("BTC", [Bar(M - n * MINUTE, Decimal(100 + n), None) for n in range(WINDOW)], newest_ms=M)
    first = snapshot_at(history, M, Told())
    assert len(first.history["BTC"]) == WINDOW - 1
    told = Told().after(first, minute_ms=M)
    history.sample({"BTC": Mid(Decimal(99), M + MINUTE)})
    second = snapshot_at(history, M + MINUTE, told)
    assert second.history == {}
    assert Told().after(second, minute_ms=M + MINUTE).window("BTC", M + MINUTE) is None


def snapshot_at(history: History, minute_ms: int, told: Told) -> FeatureSnapshot1m:
    feed = Feed(COINS)
    feed.put({"BTC": Decimal(100)}, at_ms=minute_ms)
    return tell(
        MinuteState(),
        minute_ms=minute_ms,
        now_ms=minute_ms,
        universe=COINS,
        feed=feed,
        history=history,
        prices="x",
        told=told,
    ).snapshot
