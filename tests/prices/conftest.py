"""Small recordings that the tests make themselves."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tradingbot.paper.prices.candle_files import COLUMNS

Row = tuple[int, float, float, float, float, float]
T0 = 1_750_000_020_000 - 1_750_000_020_000 % 300_000
"""A moment at which both a minute and five minutes begin."""


@pytest.fixture
def write_candles(tmp_path: Path) -> Callable[[str, Sequence[Row]], Path]:
    """Write rows to a file in the test's folder; the suffix picks the format."""

    def write(name: str, rows: Sequence[Row]) -> Path:
        path = tmp_path / name
        if path.suffix == ".csv":
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([COLUMNS, *rows])
        else:
            import pyarrow
            import pyarrow.parquet

            columns = list(zip(*rows, strict=True)) or [() for _ in COLUMNS]
            pyarrow.parquet.write_table(pyarrow.table(dict(zip(COLUMNS, map(list, columns), strict=True))), path)
        return path

    return write
