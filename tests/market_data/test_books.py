"""What a book says of its liquidity: exact on books made by hand, absent where nothing can be known."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.domain.ids import Symbol
from tradingbot.domain.messages import BookFacts
from tradingbot.market_data.books import CHURN_OVER_MS, LEAST_SAMPLES, MAX_AGE_MS, Books
from tradingbot.market_data.liquidity import book_features, book_fields
from tradingbot.venue.models import Book, Level

T = 1_771_430_400_000
levels = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 10_000)), max_size=20, unique_by=lambda each: each[0])


def book(bids: list[tuple[float, float]], asks: list[tuple[float, float]], symbol: str = "BTC") -> Book:
    def side(each: list[tuple[float, float]]) -> tuple[Level, ...]:
        return tuple(Level(Decimal(str(px)), Decimal(str(size))) for px, size in each)

    return Book(symbol=Symbol(symbol), time_ms=0, bids=side(bids), asks=side(asks))


STEADY = book([(999.5, 2), (998.5, 3), (900, 1000)], [(1000.5, 1), (1001.5, 1), (1100, 1000)])

CROSSED = book([(1001, 1)], [(1000, 1)])


def after(seconds: int, *, of: Book = STEADY, books: Books | None = None, start_ms: int = T) -> Books:
    kept = books or Books(["BTC", "ETH"])
    for second in range(seconds):
        kept.put(of, at_ms=start_ms + second * 1000)
    return kept


def test_depth_counts_within_the_band_alone() -> None:
    facts = after(1).facts("BTC", now_ms=T)
    assert facts is not None
    assert facts.bid_usd == 999.5 * 2 + 998.5 * 3
    assert facts.ask_usd == 1000.5 + 1001.5
    features = book_features(facts)
    assert features.spread_bps == pytest.approx(10.0)
    assert features.book_imbalance == (facts.bid_usd - facts.ask_usd) / (facts.bid_usd + facts.ask_usd)


def test_what_is_usual_needs_a_minute_of_books() -> None:
    early = after(LEAST_SAMPLES - 1).facts("BTC", now_ms=T + (LEAST_SAMPLES - 2) * 1000)
    assert early is not None
    assert early.typical_usd is None
    assert book_features(early).liquidity_score is None
    enough = after(LEAST_SAMPLES).facts("BTC", now_ms=T + (LEAST_SAMPLES - 1) * 1000)
    assert enough is not None
    assert book_features(enough).liquidity_score == 1.0


def test_a_book_half_as_deep_as_usual_scores_one_half() -> None:
    books, now_ms = after(100), T + 100_000
    books.put(book([(999.5, 20)], [(1000.5, 0.5), (1001.5, 0.5)]), at_ms=now_ms)
    facts = books.facts("BTC", now_ms=now_ms)
    assert facts is not None
    assert book_features(facts).liquidity_score == pytest.approx(0.5)


def test_a_book_that_never_has_anything_near_the_mid_scores_nothing() -> None:
    facts = after(100, of=book([(900, 5)], [(1100, 5)])).facts("BTC", now_ms=T + 99_000)
    assert facts is not None
    assert book_features(facts).liquidity_score == 0.0
    assert book_features(facts).book_imbalance is None


def test_intensity_is_how_often_the_depth_was_renewed_in_a_minute() -> None:
    books, now_ms = after(61), T + 61_000
    still = books.facts("BTC", now_ms=T + 60_000)
    assert still is not None
    assert book_features(still).liq_intensity == 0.0
    books.put(book([(999.5, 2), (998.5, 3)], [(1000.5, 3), (1001.5, 1)]), at_ms=now_ms)
    facts = books.facts("BTC", now_ms=now_ms)
    assert facts is not None
    assert facts.churn_usd == 2 * 1000.5
    assert book_features(facts).liq_intensity == 2001.0 / (facts.bid_usd + facts.ask_usd)


def test_a_gap_leaves_intensity_unknown_for_a_minute_and_keeps_what_is_usual() -> None:
    books = after(100)
    back_ms = T + 99_000 + MAX_AGE_MS + 1
    books.put(STEADY, at_ms=back_ms)
    facts = books.facts("BTC", now_ms=back_ms)
    assert facts is not None
    assert facts.churn_usd is None
    assert facts.typical_usd is not None
    after(61, books=books, start_ms=back_ms)
    facts = books.facts("BTC", now_ms=back_ms + CHURN_OVER_MS)
    assert facts is not None
    assert facts.churn_usd == 0.0


def test_an_old_book_says_nothing() -> None:
    books = after(1)
    assert books.facts("BTC", now_ms=T + MAX_AGE_MS) is not None
    assert books.facts("BTC", now_ms=T + MAX_AGE_MS + 1) is None
    assert books.missing(["BTC", "ETH"], now_ms=T) == ("ETH",)
    assert books.missing(["BTC", "ETH"], now_ms=T + MAX_AGE_MS + 1) == ("BTC", "ETH")


def test_a_book_stamped_ahead_of_a_clock_that_went_back_says_nothing() -> None:
    books = after(1)
    assert books.facts("BTC", now_ms=T - 1) is None
    assert books.missing(["BTC"], now_ms=T - 1) == ("BTC",)


def test_what_was_usual_before_the_clock_went_back_is_dropped_and_learnt_anew() -> None:
    books, back_ms = after(100), T - 3_600_000
    books.put(STEADY, at_ms=back_ms)
    facts = books.facts("BTC", now_ms=back_ms)
    assert facts is not None
    assert (facts.typical_usd, facts.churn_usd) == (None, None)
    after(LEAST_SAMPLES + 1, books=books, start_ms=back_ms)
    facts = books.facts("BTC", now_ms=back_ms + LEAST_SAMPLES * 1000)
    assert facts is not None
    assert facts.typical_usd == 2002.0
    assert facts.churn_usd == 0.0


@pytest.mark.parametrize(
    "useless",
    [book([], [(1000.5, 1)]), book([(999.5, 1)], []), book([], []), CROSSED],
    ids=["no bids", "no asks", "empty", "crossed"],
)
def test_a_book_without_two_sides_says_nothing_until_the_next_one(useless: Book) -> None:
    books = after(LEAST_SAMPLES)
    now_ms = T + LEAST_SAMPLES * 1000
    books.put(useless, at_ms=now_ms)
    assert books.facts("BTC", now_ms=now_ms) is None
    assert books.missing(["BTC"], now_ms=now_ms) == (), "there is nothing newer to ask for"
    books.put(STEADY, at_ms=now_ms + 1000)
    facts = books.facts("BTC", now_ms=now_ms + 1000)
    assert facts is not None
    assert facts.typical_usd is not None, "what was usual is still known"


@pytest.mark.parametrize("newest", [STEADY, CROSSED], ids=["good", "crossed"])
def test_a_book_older_than_the_newest_is_refused(newest: Book) -> None:
    books, late = Books(["BTC"]), book([(999, 7)], [(1001, 7)])
    assert books.put(replace(newest, time_ms=T), at_ms=T + 100)
    known = books.facts("BTC", now_ms=T + 200)
    assert not books.put(replace(late, time_ms=T - 1), at_ms=T + 200)
    assert books.facts("BTC", now_ms=T + 200) == known
    assert books.put(replace(late, time_ms=T), at_ms=T + 300), "two books of one moment are not in order"


def test_a_venue_whose_time_went_back_is_heard_again_once_the_newest_book_is_old() -> None:
    books, back = Books(["BTC"]), replace(STEADY, time_ms=T - 3_600_000)
    books.put(replace(STEADY, time_ms=T), at_ms=T)
    assert not books.put(back, at_ms=T + MAX_AGE_MS)
    assert books.put(back, at_ms=T + MAX_AGE_MS + 1)
    assert books.facts("BTC", now_ms=T + MAX_AGE_MS + 1) is not None


def test_a_coin_outside_the_universe_is_not_kept() -> None:
    books = Books(["BTC"])
    assert not books.put(book([(1, 1)], [(2, 1)], symbol="DOGE"), at_ms=T)
    assert books.facts("DOGE", now_ms=T) is None


@given(bids=levels, asks=levels, usual=st.none() | st.floats(0, 1e9), churn=st.none() | st.floats(0, 1e12))
def test_features_keep_their_ranges(
    bids: list[tuple[int, int]], asks: list[tuple[int, int]], usual: float | None, churn: float | None
) -> None:
    books = Books(["BTC"])
    down = sorted(((10_000 - px / 4, size) for px, size in bids), reverse=True)
    up = sorted((10_000 + px / 4, size) for px, size in asks)
    books.put(book(down, up), at_ms=T)
    facts = books.facts("BTC", now_ms=T)
    if not bids or not asks:
        assert facts is None
        return
    assert facts is not None
    features = book_features(facts.model_copy(update={"typical_usd": usual, "churn_usd": churn}))
    assert features.spread_bps > 0
    assert features.book_imbalance is None or -1 <= features.book_imbalance <= 1
    assert features.liquidity_score is None or 0 <= features.liquidity_score <= 1
    assert features.liq_intensity is None or features.liq_intensity >= 0


def test_features_are_made_again_from_the_facts_on_the_bus() -> None:
    books, now_ms = after(100), T + 99_000
    facts = books.facts("BTC", now_ms=now_ms)
    assert facts is not None
    again = BookFacts.model_validate_json(facts.model_dump_json())
    assert book_fields({"BTC": again}) == book_fields({"BTC": facts})
    assert book_fields({}) == dict.fromkeys(("spread_bps", "book_imbalance", "liquidity_score", "liq_intensity"))
