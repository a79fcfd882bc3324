"""The minute machine, the feed and the history: what is told, what is left out, and that each minute is told once."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tradingbot.domain.messages import AuditLevel, FeatureSnapshot1m
from tradingbot.market_data.feed import MAX_AGE_MS, Condition, Feed, Mid, latest_fields
from tradingbot.market_data.history import LATE_MS, Bar, History
from tradingbot.market_data.minute import MinuteState, Telling, due_minute, tell
from tradingbot.market_data.poll import mids_timing, next_turn_ms
from tradingbot.market_data.told import Told

MINUTE = 60_000
M = 1_771_430_400_000
COINS = ("BTC", "ETH")


class Market:
    """A feed and a history that are fed as the service feeds them."""

    def __init__(self) -> None:
        self.feed, self.history = Feed(COINS), History(COINS)

    def poll(self, at_ms: int, **mids: str) -> None:
        taken = self.feed.put({symbol: Decimal(px) for symbol, px in mids.items()}, at_ms=at_ms)
        fresh = {s: mid for s, mid in taken.items() if self.feed.condition(s, now_ms=at_ms) is Condition.FRESH}
        self.history.sample(fresh)

    def tell(self, minute_ms: int, *, now_ms: int | None = None, last_ms: int = 0) -> Telling:
        return tell(
            MinuteState(last_minute_ms=last_ms),
            minute_ms=minute_ms,
            now_ms=minute_ms if now_ms is None else now_ms,
            universe=COINS,
            feed=self.feed,
            history=self.history,
            prices="synthetic",
            told=Told(),
        )


def hour(symbol_px: float, *, step: float = 0.0) -> list[Bar]:
    return [
        Bar(M - n * MINUTE, Decimal(str(symbol_px - n * step)), Decimal(str(symbol_px - (n - 1) * step)))
        for n in range(60, 0, -1)
    ]


def test_an_hour_of_back_fill_gives_every_feature_at_once() -> None:
    market = Market()
    market.history.fill("BTC", hour(160.0, step=1.0), newest_ms=M)
    market.history.fill("ETH", hour(50.0), newest_ms=M)
    market.poll(M + 20_000, BTC="999", ETH="999")
    snapshot = market.tell(M, now_ms=M + 20_000).snapshot
    assert snapshot.mid_px == {"BTC": Decimal("160.0"), "ETH": Decimal("50.0")}
    assert snapshot.ret_1m == {"BTC": pytest.approx(160 / 159 - 1), "ETH": 0}
    assert snapshot.ret_5m["BTC"] == pytest.approx(160 / 155 - 1)
    assert snapshot.ret_1h["BTC"] == pytest.approx(160 / 100 - 1)
    assert snapshot.vol_1h.keys() == {"BTC", "ETH"}
    assert (snapshot.missing, snapshot.stale, snapshot.prices) == ((), (), "synthetic")


def test_a_mid_at_or_before_the_minute_counts_and_one_after_it_never() -> None:
    market = Market()
    market.poll(M - 3_000, BTC="99", ETH="9")
    market.poll(M, BTC="100")
    market.poll(M + 1, BTC="101", ETH="10")
    assert market.tell(M, now_ms=M + 1).snapshot.mid_px == {"BTC": Decimal(100), "ETH": Decimal(9)}


def test_a_coin_never_heard_of_is_missing_and_named_in_the_record() -> None:
    market = Market()
    market.poll(M - 1_000, BTC="100")
    telling = market.tell(M)
    assert telling.snapshot.missing == ("ETH",)
    assert telling.record.details["missing"] == ["ETH"]
    assert telling.record.level is AuditLevel.WARNING
    assert "ETH" not in telling.snapshot.mid_px


def test_a_mid_that_repeats_is_fresh_and_one_not_heard_of_is_stale_and_left_out() -> None:
    market = Market()
    for at_ms in range(M - 9 * MINUTE, M, 2_000):
        market.poll(at_ms, BTC="100", ETH="10") if at_ms < M - MAX_AGE_MS - 2_000 else market.poll(at_ms, BTC="100")
    telling = market.tell(M)
    assert telling.snapshot.mid_px.keys() == {"BTC"}
    assert telling.snapshot.ret_1m.keys() == telling.snapshot.ret_5m.keys() == {"BTC"}
    assert telling.snapshot.stale == ("ETH",)
    assert telling.record.details["stale"] == ["ETH"]


def test_a_crossed_book_takes_the_coin_out_until_it_is_crossed_no_more() -> None:
    market = Market()
    market.poll(M - 3_000, BTC="100", ETH="10")
    assert market.feed.put_book("ETH", bid=Decimal("10.1"), ask=Decimal("10.1"))
    market.history.discard("ETH", M)
    market.poll(M - 1_000, BTC="100", ETH="10")
    telling = market.tell(M)
    assert telling.snapshot.stale == ("ETH",)
    assert telling.record.details["crossed"] == ["ETH"]
    assert telling.snapshot.mid_px.keys() == {"BTC"}
    assert not market.feed.put_book("ETH", bid=Decimal(10), ask=Decimal("10.1"))
    market.poll(M + MINUTE - 1_000, BTC="100", ETH="10")
    after = market.tell(M + MINUTE).snapshot
    assert after.stale == ()
    assert after.ret_1m.keys() == {"BTC"}, "a minute with a crossed book is a gap, not a price"


def test_a_book_with_one_empty_side_is_not_crossed() -> None:
    assert not Market().feed.put_book("BTC", bid=Decimal(1), ask=None)


@pytest.mark.parametrize("px", ["0", "-1", "NaN", "Infinity"])
def test_a_mid_that_is_no_price_is_as_good_as_none(px: str) -> None:
    market = Market()
    market.poll(M - 1_000, BTC=px, ETH="10")
    assert market.tell(M).snapshot.missing == ("BTC",)


def test_with_nothing_at_all_the_minute_is_still_told_and_loud() -> None:
    telling = Market().tell(M)
    assert telling.snapshot.missing == COINS
    assert telling.snapshot.mid_px == {}
    assert telling.record.level is AuditLevel.ERROR
    assert FeatureSnapshot1m.read(telling.snapshot.model_dump_json()) == telling.snapshot


def test_minutes_that_passed_while_nobody_ran_are_counted_not_made_up() -> None:
    telling = Market().tell(M, last_ms=M - 4 * MINUTE)
    assert telling.record.details["skipped_minutes"] == 3
    assert telling.state.last_minute_ms == M


def test_the_record_says_when_it_was_produced_and_what_is_absent() -> None:
    market = Market()
    market.poll(M - 1_000, BTC="100", ETH="10")
    details = market.tell(M, now_ms=M + 250).record.details
    assert details["produced_after_ms"] == 250
    assert details["produced_at"].startswith("2026-02-18T16:00:00.25")
    assert details["without"] == {name: ["BTC", "ETH"] for name in ("ret_1m", "ret_5m", "ret_1h", "vol_1h")}


def test_a_gap_is_filled_by_the_venues_candles_but_a_mid_stands() -> None:
    history = History(COINS)
    feed = Feed(COINS)
    history.sample(feed.put({"BTC": Decimal(77)}, at_ms=M - 1_000))
    history.fill("BTC", hour(160.0, step=1.0), newest_ms=M)
    assert history.at("BTC", M) == 77
    assert history.at("BTC", M - MINUTE) == 159
    assert history.at("BTC", M - 60 * MINUTE) == 100, "the first candle's open stands for the minute it begins at"


def test_a_candle_that_is_still_forming_gives_its_open_only() -> None:
    history = History(COINS)
    history.fill("BTC", [Bar(M, Decimal(100), None)], newest_ms=M)
    assert history.at("BTC", M) == 100
    assert history.at("BTC", M + MINUTE) is None


def test_a_minute_that_the_venue_has_not_is_asked_for_once_unless_it_may_be_late() -> None:
    history = History(COINS)
    history.fill("BTC", [], newest_ms=M)
    assert history.gaps("BTC", newest_ms=M) == list(range(M - LATE_MS, M + 1, MINUTE))
    history.keep_around(M + 100 * MINUTE)
    assert len(history.gaps("BTC", newest_ms=M + 100 * MINUTE)) == 61


def test_latest_mids_are_json_with_the_price_and_its_time() -> None:
    taken = Feed(COINS).put({"BTC": Decimal("100.50"), "XRP": Decimal(1)}, at_ms=M)
    assert latest_fields(taken) == {"BTC": f'{{"px": "100.50", "at_ms": {M}}}'}


@given(now=st.integers(M, M + 10**7), every=st.integers(500, 60_000), before=st.integers(0, 59_999))
def test_the_next_turn_is_on_the_grid_ahead_and_never_skips_one(now: int, every: int, before: int) -> None:
    turn = next_turn_ms(now, every_ms=every, before_ms=before)
    assert now < turn <= now + every
    assert (turn + before) % every == 0


def test_a_mid_stamped_ahead_of_a_clock_that_went_back_is_stale() -> None:
    feed = Feed(COINS)
    feed.put({"BTC": Decimal(100)}, at_ms=M)
    assert feed.condition("BTC", now_ms=M) is Condition.FRESH
    assert feed.condition("BTC", now_ms=M - 1) is Condition.STALE


def test_minutes_that_a_clock_which_went_back_left_ahead_are_forgotten_and_asked_for() -> None:
    history = History(COINS)
    history.sample({"BTC": Mid(Decimal(100), M)} | {"ETH": Mid(Decimal(10), M + MINUTE)})
    history.fill("BTC", [], newest_ms=M + 10 * MINUTE)
    back_ms = M - 60 * MINUTE
    history.keep_around(back_ms)
    assert history.at("BTC", M) is None
    assert history.gaps("BTC", newest_ms=M) == list(range(back_ms, M + 1, MINUTE))
    history.sample({"ETH": Mid(Decimal(10), back_ms + MINUTE)})
    history.keep_around(back_ms)
    assert history.at("ETH", back_ms + MINUTE) == 10, "the minute that follows is sampled ahead"


@pytest.mark.parametrize(("speed", "timing"), [(1.0, (2_000, 1_000)), (30.0, (2_000, 1_000)), (60.0, (3_000, 1_800))])
def test_polls_stretch_only_at_speeds_that_real_work_cannot_follow(speed: float, timing: tuple[int, int]) -> None:
    assert mids_timing(speed) == timing


class Minutes(RuleBasedStateMachine):
    """Several copies of the service, restarts, lost commits and a clock that may step back."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = M
        self.kept = MinuteState()
        self.copies = [MinuteState(), MinuteState()]
        self.told: list[int] = []

    @rule(ms=st.integers(-5_000, 200_000))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @rule(copy=st.integers(0, 1))
    def restart(self, copy: int) -> None:
        self.copies[copy] = self.kept

    @rule(copy=st.integers(0, 1), lost=st.booleans())
    def turn(self, copy: int, lost: bool) -> None:
        seen = self.copies[copy]
        minute = due_minute(seen, now_ms=self.now_ms)
        if minute is None:
            assert seen.last_minute_ms >= self.now_ms - self.now_ms % MINUTE
        elif self.kept == seen:  # compare-and-set
            self.kept = MinuteState(last_minute_ms=minute)
            self.told.append(minute)
            if not lost:
                self.copies[copy] = self.kept
        else:
            self.copies[copy] = self.kept

    @invariant()
    def each_minute_is_told_at_most_once_and_in_order(self) -> None:
        assert self.told == sorted(set(self.told))


Minutes.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestMinutes = Minutes.TestCase
