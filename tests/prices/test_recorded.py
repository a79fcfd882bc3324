"""Recorded candles: what is read, what stands still, what is refused."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from prices.conftest import T0, Row
from tradingbot.paper.prices import BookModel, PricesError, RecordedPrices, candles_until, load_prices

MINUTE = 60_000
Write = Callable[[str, Sequence[Row]], Path]


def minutes(*numbers: int, px: float = 100.0) -> list[Row]:
    """A candle for each minute number, up one dollar a minute, two dollars high."""
    return [(T0 + n * MINUTE, px + n, px + n + 1.5, px + n - 0.5, px + n + 1, 2.0) for n in numbers]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_csv_and_parquet_tell_the_same_candles(write_candles: Write, suffix: str) -> None:
    source = RecordedPrices.load(write_candles(f"BTC_1m{suffix}", minutes(0, 1, 2)), symbols=["BTC"])
    candle = source.candle("BTC", T0 + MINUTE + 1)
    assert candle is not None
    assert (candle.t_ms, candle.open, candle.high, candle.low, candle.close) == (T0 + MINUTE, 101, 102.5, 100.5, 102)
    assert (candle.volume, candle.still) == (2.0, False)
    assert [each.t_ms for each in source.candles("BTC", T0, T0 + 3 * MINUTE)] == [T0, T0 + MINUTE, T0 + 2 * MINUTE]


def test_a_missing_minute_stands_still_at_the_last_close_and_is_marked(write_candles: Write) -> None:
    source = RecordedPrices.load(write_candles("BTC_1m.csv", minutes(0, 1, 4)), symbols=["BTC"])
    for minute in (2, 3):
        still = source.candle("BTC", T0 + minute * MINUTE)
        assert still is not None
        assert still.still
        assert (still.open, still.high, still.low, still.close, still.volume) == (102, 102, 102, 102, 0)
        assert source.mid("BTC", T0 + minute * MINUTE + 12_345) == 102
    following = source.candle("BTC", T0 + 4 * MINUTE)
    assert following is not None
    assert not following.still


def test_only_the_span_that_all_coins_share_is_told(write_candles: Write) -> None:
    place = write_candles("BTC_1m.csv", minutes(0, 1, 2, 3)).parent
    write_candles("ETH_1m.csv", minutes(2, 3, 4, px=50))
    source = RecordedPrices.load(place, symbols=["BTC", "ETH"])
    assert (source.start_ms, source.end_ms) == (T0 + 2 * MINUTE, T0 + 4 * MINUTE)
    assert source.mid("BTC", T0 + 2 * MINUTE - 1) is None
    assert source.candle("ETH", T0 + 4 * MINUTE) is None
    assert len(source.candles("BTC", 0, 2 * T0)) == 2
    assert source.mid("SOL", T0 + 2 * MINUTE) is None


def test_a_five_minute_bar_is_repeated_minute_by_minute_along_its_path(write_candles: Write) -> None:
    rows = [(T0, 100.0, 110.0, 98.0, 105.0, 50.0), (T0 + 5 * MINUTE, 105.0, 106.0, 104.0, 104.0, 5.0)]
    source = RecordedPrices.load(write_candles("BTC_5m.csv", rows), symbols=["BTC"])
    five = source.candles("BTC", T0, T0 + 5 * MINUTE)
    assert [each.t_ms for each in five] == [T0 + n * MINUTE for n in range(5)]
    assert (five[0].open, five[-1].close) == (100, 105)
    assert (max(each.high for each in five), min(each.low for each in five)) == (110, 98)
    assert sum(each.volume for each in five) == pytest.approx(50)
    assert all(before.close == after.open for before, after in itertools.pairwise(five))
    for candle in five:
        inside = [source.mid("BTC", candle.t_ms + ms) or 0 for ms in range(0, MINUTE, 500)]
        assert candle.low <= min(inside) <= max(inside) <= candle.high


def test_the_forming_minute_tells_nothing_that_is_still_to_come(write_candles: Write) -> None:
    source = RecordedPrices.load(write_candles("BTC_1m.csv", minutes(0, 1, 2)), symbols=["BTC"])
    now = T0 + MINUTE + 10_000
    known = candles_until(source, "BTC", start_ms=T0, end_ms=T0 + 10 * MINUTE, now_ms=now)
    assert [each.t_ms for each in known] == [T0, T0 + MINUTE]
    assert known[-1].close == source.mid("BTC", now)
    seen = [source.mid("BTC", T0 + MINUTE + ms) or 0 for ms in range(0, 10_001, 100)]
    assert (known[-1].high, known[-1].low) == (max(seen), min(seen))
    assert known[-1].volume == pytest.approx(2.0 / 6)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([*minutes(0, 1), *minutes(1)], r"row 3: timestamp_ms \d+ after \d+; rows must be sorted, without duplicates"),
        ([*minutes(1, 0)], r"row 2: .*sorted"),
        ([*minutes(0), (T0 + MINUTE, 100.0, 99.0, 98.0, 98.5, 1.0)], r"row 2: open 100.0 .* low 98.0 and high 99.0"),
        ([*minutes(0), (T0 + MINUTE, 100.0, 101.0, 100.5, 101.0, 1.0)], r"row 2: open 100.0 .* low 100.5"),
        ([*minutes(0), (T0 + MINUTE, 0.0, 101.0, 0.0, 101.0, 1.0)], r"row 2: prices must be positive"),
        ([*minutes(0), (T0 + MINUTE, 100.0, float("inf"), 100.0, 100.0, 1.0)], r"row 2: prices must be positive"),
        ([*minutes(0), (T0 + MINUTE, 100.0, 101.0, 99.0, 100.0, -1.0)], r"row 2: volume must be 0 or more"),
        ([(row[0] + 1, *row[1:]) for row in minutes(0, 1)], r"row 1: timestamp_ms \d+ is not the start of a bar"),
        ([*minutes(0, 3)], r"bars of 180000 ms; only one-minute and five-minute"),
        ([*minutes(0)], r"1 rows; a recording needs two"),
        ([], r"0 rows; a recording needs two"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_faulty_file_is_refused_by_name_and_row(
    write_candles: Write, rows: list[Row], complaint: str, suffix: str
) -> None:
    path = write_candles(f"BTC_1m{suffix}", rows)
    with pytest.raises(PricesError, match=complaint) as refused:
        RecordedPrices.load(path, symbols=["BTC"])
    assert str(path) in str(refused.value)


def test_text_that_is_no_number_is_refused_by_row(write_candles: Write) -> None:
    path = write_candles("BTC_1m.csv", minutes(0, 1))
    path.write_text(path.read_text().replace("2.0", "many", 1))
    with pytest.raises(PricesError, match="row 1: could not convert string to float: 'many'"):
        RecordedPrices.load(path, symbols=["BTC"])


def test_an_absent_column_is_named(write_candles: Write) -> None:
    path = write_candles("BTC_1m.csv", minutes(0, 1))
    path.write_text(path.read_text().replace("volume", "turnover", 1))
    with pytest.raises(PricesError, match="no column volume"):
        RecordedPrices.load(path, symbols=["BTC"])


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "BTC_1m.parquet").write_text("hello")
    with pytest.raises(PricesError, match="not a readable Parquet file"):
        RecordedPrices.load(tmp_path, symbols=["BTC"])


def test_an_absent_coin_and_an_ambiguous_one_are_named(write_candles: Write) -> None:
    place = write_candles("BTC_1m.csv", minutes(0, 1)).parent
    with pytest.raises(PricesError, match="no candles for ETH"):
        RecordedPrices.load(place, symbols=["BTC", "ETH"])
    write_candles("BTC.csv", minutes(0, 1))
    with pytest.raises(PricesError, match=r"more than one file for BTC \(BTC.csv, BTC_1m.csv\)"):
        RecordedPrices.load(place, symbols=["BTC"])


def test_files_without_a_common_minute_are_refused(write_candles: Write) -> None:
    place = write_candles("BTC_1m.csv", minutes(0, 1)).parent
    write_candles("ETH_1m.csv", minutes(5, 6))
    with pytest.raises(PricesError, match="share no minute"):
        RecordedPrices.load(place, symbols=["BTC", "ETH"])


def test_a_start_outside_the_recording_is_refused(write_candles: Write) -> None:
    path = write_candles("BTC_1m.csv", minutes(0, 1, 2))
    assert load_prices(str(path), symbols=["BTC"], start_ms=T0 + MINUTE).label == "recorded"
    with pytest.raises(PricesError, match="none at"):
        load_prices(str(path), symbols=["BTC"], start_ms=T0 + 3 * MINUTE)


@pytest.mark.parametrize(
    ("spec", "speed", "complaint"),
    [
        ("live", 2.0, "live prices cannot run at speed 2"),
        ("synthetic:", 1.0, "the seed must be a whole number"),
        ("synthetic:x", 1.0, "the seed must be a whole number"),
        ("no/such/place", 1.0, "wanted live, synthetic"),
    ],
)
def test_a_text_that_names_no_prices_is_refused(spec: str, speed: float, complaint: str) -> None:
    with pytest.raises(PricesError, match=complaint):
        load_prices(spec, symbols=["BTC"], speed=speed)


def test_a_relative_path_is_also_looked_for_in_the_data_folder(write_candles: Write) -> None:
    path = write_candles("BTC_1m.csv", minutes(0, 1))
    assert load_prices(path.name, symbols=["BTC"], data_dir=path.parent).mid("BTC", T0) == 100


@pytest.mark.skipif("TB_RECORDED_DATA" not in os.environ, reason="TB_RECORDED_DATA names no folder of recorded candles")
def test_a_real_recording_is_read_whole() -> None:
    symbols = ["BTC", "ETH", "SOL", "ADA", "DOGE"]
    source = load_prices(os.environ["TB_RECORDED_DATA"], symbols=symbols)
    assert source.start_ms is not None
    assert source.end_ms is not None
    assert source.end_ms - source.start_ms > 3_600_000
    books = BookModel(source)
    for symbol in symbols:
        for at_ms in range(source.start_ms + 3_600_000, source.end_ms, (source.end_ms - source.start_ms) // 200):
            mid, candle, depth = source.mid(symbol, at_ms), source.candle(symbol, at_ms), books.book(symbol, at_ms)
            assert mid is not None
            assert candle is not None
            assert depth is not None
            assert candle.low <= mid <= candle.high
            assert depth.bids[0][0] <= mid <= depth.asks[0][0]
