"""Candle files as one table: what is sound is taken bit for bit, what is missing is told, what is wrong is refused."""

from __future__ import annotations

import numpy as np
import pytest

from support.candles import MINUTE_MS, START_MS, rows_of, synthetic_candles, write_csv, write_folder
from tradingbot.paper.prices.model import PricesError
from tradingbot.replay.data.candles import between, coins_in, load_candles


@pytest.fixture
def candles():
    return synthetic_candles(90)


def test_a_folder_is_read_bit_for_bit(tmp_path, candles):
    loaded = load_candles(write_folder(tmp_path, candles))
    assert loaded.candles.symbols == ("BTC", "ETH", "SOL")
    assert loaded.missing == 0
    for name in ("open_ms", "open", "high", "low", "close", "volume"):
        assert np.array_equal(getattr(loaded.candles, name), getattr(candles, name))


def test_parquet_and_csv_are_one(tmp_path, candles):
    import pyarrow
    import pyarrow.parquet

    rows = rows_of(candles, "BTC")
    write_csv(tmp_path / "BTC_1m.csv", rows)
    columns = dict(
        zip(("timestamp_ms", "open", "high", "low", "close", "volume"), zip(*rows, strict=True), strict=True)
    )
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "ETH_1m.parquet")
    loaded = load_candles(tmp_path).candles
    assert np.array_equal(loaded.close[:, 0], loaded.close[:, 1])


def test_missing_bars_are_rows_of_nan_and_are_counted(tmp_path, candles):
    folder = write_folder(tmp_path, candles)
    rows = rows_of(candles, "ETH")
    del rows[60:65], rows[10]
    write_csv(folder / "ETH_1m.csv", rows)
    loaded = load_candles(folder)
    assert np.flatnonzero(np.isnan(loaded.candles.close[:, 1])).tolist() == [10, 60, 61, 62, 63, 64]
    assert not np.isnan(loaded.candles.close[:, [0, 2]]).any()
    gap = loaded.gaps[1]
    assert (gap.symbol, gap.missing, gap.longest, gap.longest_ms) == ("ETH", 6, 5, START_MS + 60 * MINUTE_MS)


def test_the_span_is_what_all_coins_share(tmp_path, candles):
    folder = write_folder(tmp_path, candles)
    write_csv(folder / "SOL_1m.csv", rows_of(candles, "SOL")[7:-3])
    loaded = load_candles(folder).candles
    assert loaded.open_ms.tolist() == candles.open_ms[7:-3].tolist()
    assert load_candles(folder, symbols=("BTC", "ETH")).candles.open_ms.tolist() == candles.open_ms.tolist()


def test_from_and_to_take_whole_bars_only(tmp_path, candles):
    folder = write_folder(tmp_path, candles)
    start, end = START_MS + 5 * MINUTE_MS - 1, START_MS + 20 * MINUTE_MS + 59_999
    loaded = load_candles(folder, start_ms=start, end_ms=end).candles
    assert loaded.open_ms[0] == START_MS + 5 * MINUTE_MS
    assert loaded.open_ms[-1] == START_MS + 19 * MINUTE_MS
    cut = between(candles, start_ms=start, end_ms=end)
    assert cut.open_ms.tolist() == loaded.open_ms.tolist()
    assert np.array_equal(cut.close, loaded.close)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda rows: rows.insert(4, rows[3]), "row 5: .*without duplicates"),
        (lambda rows: rows.reverse(), "row 2: .*must be sorted"),
        (lambda rows: rows[8].__setitem__(2, 0.5), "row 9: .*must lie between low .* and high"),
        (lambda rows: rows[8].__setitem__(4, "nan"), "row 9: prices must be positive"),
        (lambda rows: rows[8].__setitem__(5, -1), "row 9: volume must be 0 or more"),
        (lambda rows: rows[8].__setitem__(1, "much"), "row 9: could not convert"),
        (lambda rows: [row.__setitem__(0, row[0] + 1) for row in rows], "row 1: .*not the start of a bar"),
        (lambda rows: rows.clear(), "0 rows"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_row(tmp_path, candles, spoil, text):
    folder = write_folder(tmp_path, candles)
    rows = rows_of(candles, "ETH")
    spoil(rows)
    write_csv(folder / "ETH_1m.csv", rows)
    with pytest.raises(PricesError, match=f"ETH_1m.csv.*{text}"):
        load_candles(folder)


def test_bars_of_two_lengths_are_refused(tmp_path, candles):
    folder = write_folder(tmp_path, candles)
    rows = [row for row in rows_of(candles, "ETH") if row[0] % 300_000 == 0]
    write_csv(folder / "ETH_1m.csv", rows)
    with pytest.raises(PricesError, match=r"ETH_1m.csv: bars of 5 min, those of BTC_1m.csv last 1 min"):
        load_candles(folder)


def test_no_file_no_coin_and_no_time_are_refused_in_words(tmp_path, candles):
    with pytest.raises(PricesError, match="no candle files"):
        load_candles(tmp_path)
    folder = write_folder(tmp_path, candles)
    with pytest.raises(PricesError, match="no candles for XRP"):
        load_candles(folder, symbols=("XRP",))
    with pytest.raises(PricesError, match="no bar is left: the coins share 2026-02-18 16:00 to 2026-02-18 17:30"):
        load_candles(folder, start_ms=START_MS + 10**9)


def test_coins_come_in_the_usual_order_whatever_the_files_are_called(tmp_path):
    for name in ("ZEC_1m.csv", "SOL.csv", "BTC_1m.parquet", "AAVE_x.csv", "notes.txt"):
        (tmp_path / name).touch()
    assert coins_in(tmp_path) == ("BTC", "SOL", "AAVE", "ZEC")


def test_a_coin_that_begins_late_or_ends_early_is_named_with_what_it_costs_the_others(tmp_path):
    days = synthetic_candles(4 * 1_440, symbols=("BTC", "ETH"))
    folder = write_folder(tmp_path, days)
    assert load_candles(folder).left_out == ()

    write_csv(folder / "ETH_1m.csv", rows_of(days, "ETH")[2_160:-1_440])
    loaded = load_candles(folder)
    assert loaded.left_out == (
        "ETH begins 2026-02-20 04:00: 1.5 days of other coins are not used.",
        "ETH ends 2026-02-21 15:59: 1.0 days of other coins are not used.",
    )
    asked = {"start_ms": START_MS + 2_000 * MINUTE_MS, "end_ms": START_MS + 4_000 * MINUTE_MS}
    assert load_candles(folder, **asked).left_out == ()
