"""Candles from the venue into one Parquet file a coin.

The venue answers candleSnapshot with the newest 5,000 bars of an interval and nothing older: three and a half days of
minutes, seventeen days of five minutes. Who wants more runs this again before they are gone; every run asks only for
what a file does not have yet, before it, within it and after it. A bar that is still forming is never kept. A file is
written beside the old one, read back and checked as a backtest reads it, and only then put in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tradingbot.domain.cycles import MINUTE_MS, from_ms
from tradingbot.domain.errors import Permanent
from tradingbot.paper.prices.candle_files import COLUMNS, read_candles
from tradingbot.venue.info import InfoClient
from tradingbot.venue.models import Candle

INTERVALS_MS: Mapping[str, int] = {"1m": MINUTE_MS, "5m": 5 * MINUTE_MS}
"""What backtests and the paper exchange can use."""
NEWEST = 5_000
"""The venue knows so many bars of an interval."""
PAGE = 1_000
"""Bars asked for at once: weight 20 + 17."""

Row = tuple[int, float, float, float, float, float]


class DownloadRefused(Permanent):
    """A file or a folder that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be had."""

    symbol: str
    interval: str
    start_ms: int | None
    """None: all that the venue knows."""
    end_ms: int | None
    """None: up to now."""
    network: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One coin's file after a download."""

    symbol: str
    path: Path
    bars: int
    """In the file."""
    new: int
    """Since the file before."""
    first_ms: int | None
    end_ms: int | None
    gaps: tuple[tuple[int, int], ...]
    """(start, end) in Unix milliseconds of what is missing between the first bar and the last."""
    out_of_reach_ms: int
    """How much of the time asked for is older than what the venue knows, and not in the file."""

    def missing(self, bar_ms: int) -> int:
        """Bars in the gaps."""
        return sum(end - start for start, end in self.gaps) // bar_ms


async def download(
    info: InfoClient, wanted: Wanted, folder: Path, *, progress: Callable[[int], None] = lambda _: None
) -> Fetched:
    """Bring one coin's file up to what is wanted; each page is kept as soon as it is there.

    Raises:
        DownloadRefused: the file is another network's or cannot be written.
        PricesError: the file, or what the venue answered, is no sound table of candles.
        VenueError: the venue does not answer, or does not know the coin.
    """
    bar_ms = INTERVALS_MS[wanted.interval]
    path = folder / f"{wanted.symbol}_{wanted.interval}.parquet"
    rows = _read(path, wanted)
    before = len(rows)
    now_ms = await info.server_time()
    this_bar_ms = now_ms - now_ms % bar_ms
    end_ms = this_bar_ms if wanted.end_ms is None else min(wanted.end_ms, this_bar_ms)
    oldest_ms = this_bar_ms - (NEWEST - 1) * bar_ms
    start_ms = oldest_ms if wanted.start_ms is None else wanted.start_ms
    known_ms = max(start_ms, oldest_ms)
    for start, stop in _pages(rows, start_ms=known_ms, end_ms=end_ms, bar_ms=bar_ms):
        bars = await info.candles(wanted.symbol, wanted.interval, start, stop - 1)
        new = {each.open_ms: _row(each) for each in bars if start <= each.open_ms < stop and each.close_ms < now_ms}
        if new:
            rows = dict(sorted((rows | new).items()))
            _write(path, rows, wanted)
        progress((stop - start) // bar_ms)
    times = list(rows) if len(rows) > 1 else []
    lacking = _spans(rows, start_ms=start_ms, end_ms=min(known_ms, end_ms), bar_ms=bar_ms)
    return Fetched(
        symbol=wanted.symbol,
        path=path,
        bars=len(times),
        new=len(times) - before,
        first_ms=times[0] if times else None,
        end_ms=times[-1] + bar_ms if times else None,
        gaps=tuple((a + bar_ms, b) for a, b in pairwise(times) if b - a > bar_ms),
        out_of_reach_ms=sum(stop - start for start, stop in lacking),
    )


def gap_lines(fetched: Fetched, *, bar_ms: int, most: int = 5) -> Iterator[str]:
    """The longest gaps of a file, for a person."""
    longest = sorted(fetched.gaps, key=lambda gap: gap[0] - gap[1])
    for start, end in longest[:most]:
        yield (
            f"{fetched.symbol}: no bars from {from_ms(start):%Y-%m-%d %H:%M} to {from_ms(end):%Y-%m-%d %H:%M} "
            f"({(end - start) // bar_ms} bars)"
        )
    if len(longest) > most:
        yield f"{fetched.symbol}: {len(longest) - most} more gaps"


def _spans(have: Mapping[int, Row], *, start_ms: int, end_ms: int, bar_ms: int) -> Iterator[tuple[int, int]]:
    """What of the time asked for is not there, in one piece each."""
    first = -(-start_ms // bar_ms) * bar_ms
    open_ms = None
    for t_ms in range(first, end_ms - bar_ms + 1, bar_ms):
        if t_ms not in have and open_ms is None:
            open_ms = t_ms
        elif t_ms in have and open_ms is not None:
            yield open_ms, t_ms
            open_ms = None
    if open_ms is not None:
        yield open_ms, first + (end_ms - first) // bar_ms * bar_ms


def _pages(have: Mapping[int, Row], *, start_ms: int, end_ms: int, bar_ms: int) -> list[tuple[int, int]]:
    return [
        (page, min(page + PAGE * bar_ms, stop))
        for start, stop in _spans(have, start_ms=start_ms, end_ms=end_ms, bar_ms=bar_ms)
        for page in range(start, stop, PAGE * bar_ms)
    ]


def _row(each: Candle) -> Row:
    return each.open_ms, float(each.open), float(each.high), float(each.low), float(each.close), float(each.volume)


def _read(path: Path, wanted: Wanted) -> dict[int, Row]:
    import pyarrow.parquet  # noqa: PLC0415 - heavy, and only this needs it

    if not path.exists():
        return {}
    table = read_candles(path)
    if table.bar_ms != INTERVALS_MS[wanted.interval]:
        raise DownloadRefused(f"{path}: bars of {table.bar_ms} ms, not of {wanted.interval}; use another folder")
    told = (pyarrow.parquet.read_schema(path).metadata or {}).get(b"network", b"").decode()
    if told and told != wanted.network:
        raise DownloadRefused(f"{path}: candles of {told}, not of {wanted.network}; use another folder")
    columns = (table.t_ms, table.open, table.high, table.low, table.close, table.volume)
    return {row[0]: row for row in zip(*columns, strict=True)}


def _write(path: Path, rows: Mapping[int, Row], wanted: Wanted) -> None:
    import pyarrow.parquet  # noqa: PLC0415

    if len(rows) < 2:
        return  # no recording yet: two bars tell how long one is
    types = [pyarrow.int64(), *[pyarrow.float64()] * 5]
    columns = zip(*rows.values(), strict=True)
    arrays = [pyarrow.array(values, kind) for values, kind in zip(columns, types, strict=True)]
    about = {"network": wanted.network, "symbol": wanted.symbol, "interval": wanted.interval}
    table = pyarrow.table(dict(zip(COLUMNS, arrays, strict=True))).replace_schema_metadata(about)
    draft = path.with_name(f".{path.stem}.{os.getpid()}.parquet")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            pyarrow.parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        read_candles(draft)
        draft.replace(path)
    except OSError as error:
        raise DownloadRefused(f"{path}: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
