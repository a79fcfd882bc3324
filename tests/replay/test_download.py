"""Candles from a venue that answers: all that it has, page by page, never twice, and honest about what is missing."""

from __future__ import annotations

import asyncio
import os

import pytest
import stamina
from typer.testing import CliRunner

from support.paper import SYMBOLS, paper_exchange
from tradingbot.cli import app
from tradingbot.domain.static import Network, PriceLabel
from tradingbot.local.folder import DataFolder, Identity, Running
from tradingbot.paper.prices import SyntheticPrices
from tradingbot.paper.prices.candle_files import read_candles
from tradingbot.replay.data.candles import coins_in, load_candles
from tradingbot.replay.data.download import PAGE, DownloadRefused, Wanted, download, gap_lines
from tradingbot.runtime.clock import Anchor, ManualClock
from tradingbot.venue.budget import MemoryBudget
from tradingbot.venue.errors import UnknownCoin, VenueError
from tradingbot.venue.http import open_http
from tradingbot.venue.info import InfoClient

MINUTE_MS = 60_000
NOW_MS = 1_771_430_400_000


class WithHoles(SyntheticPrices):
    """A market that has no bars in the given minutes."""

    holes: range = range(0)

    def candles(self, symbol, start_ms, end_ms):
        return [each for each in super().candles(symbol, start_ms, end_ms) if each.t_ms not in self.holes]


class Asked:
    """A budget without a limit that remembers what was taken."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def take(self, weight: float, *, reserve: float = 0.0) -> None:
        self.taken.append(weight)

    async def left(self) -> float:
        return 1e9


@pytest.fixture(autouse=True)
def retries_without_waiting():
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
def market():
    return WithHoles(symbols=SYMBOLS, seed=7)


@pytest.fixture
async def paper(market):
    async with paper_exchange(prices=market, clock=ManualClock(NOW_MS + 30_000), ip_weight_per_min=100_000) as exchange:
        yield exchange


@pytest.fixture
def budget():
    return Asked()


@pytest.fixture
async def info(paper, budget):
    async with open_http(paper.http_url) as http:
        yield InfoClient(http, budget)


def wanted(*, minutes=None, until=0, symbol="BTC", interval="1m", network="paper"):
    return Wanted(
        symbol=symbol,
        interval=interval,
        start_ms=None if minutes is None else NOW_MS - minutes * MINUTE_MS,
        end_ms=NOW_MS - until * MINUTE_MS,
        network=network,
    )


async def test_every_bar_that_is_over_is_kept_as_the_venue_told_it(tmp_path, info, paper, market):
    found = await download(info, wanted(minutes=90), tmp_path)
    table = read_candles(tmp_path / "BTC_1m.parquet")
    assert (found.bars, found.new, found.gaps, found.out_of_reach_ms) == (90, 90, (), 0)
    assert list(table.t_ms) == list(range(NOW_MS - 90 * MINUTE_MS, NOW_MS, MINUTE_MS))
    request = {"coin": "BTC", "interval": "1m", "startTime": NOW_MS - 90 * MINUTE_MS, "endTime": NOW_MS - 1}
    told = await paper.info("candleSnapshot", req=request)
    assert [(float(row["o"]), float(row["c"]), float(row["v"])) for row in told] == list(
        zip(table.open, table.close, table.volume, strict=True)
    )


async def test_the_bar_that_is_still_forming_is_left_out(tmp_path, info):
    found = await download(info, Wanted(**{**vars_of(wanted(minutes=5)), "end_ms": None}), tmp_path)
    assert found.end_ms == NOW_MS


def vars_of(each):
    return {name: getattr(each, name) for name in ("symbol", "interval", "start_ms", "end_ms", "network")}


async def test_a_second_download_asks_for_what_is_new_alone_and_nothing_is_there_twice(tmp_path, info, budget):
    await download(info, wanted(minutes=120, until=60), tmp_path)
    budget.taken.clear()
    again = await download(info, wanted(minutes=120), tmp_path)
    assert (again.bars, again.new) == (120, 60)
    assert budget.taken == [2, 20, 1]  # the clock, one page, its 60 bars
    budget.taken.clear()
    third = await download(info, wanted(minutes=120), tmp_path)
    assert (third.bars, third.new, budget.taken) == (120, 0, [2])


async def test_what_lies_before_a_file_and_within_it_is_fetched_too(tmp_path, info):
    await download(info, wanted(minutes=30, until=20), tmp_path)
    await download(info, wanted(minutes=10), tmp_path)
    whole = await download(info, wanted(minutes=60), tmp_path)
    assert (whole.bars, whole.gaps) == (60, ())


async def test_a_long_time_comes_in_pages(tmp_path, info, budget):
    seen = []
    found = await download(info, wanted(minutes=2 * PAGE + 10), tmp_path, progress=seen.append)
    assert seen == [PAGE, PAGE, 10]
    assert found.bars == 2 * PAGE + 10
    assert budget.taken.count(20) == 3


async def test_what_the_venue_no_longer_knows_is_told(tmp_path, info):
    found = await download(info, wanted(minutes=6000, interval="5m"), tmp_path)
    assert found.out_of_reach_ms == 0
    found = await download(info, wanted(minutes=5100), tmp_path)
    assert found.bars == 4999
    assert found.out_of_reach_ms == 101 * MINUTE_MS


async def test_gaps_are_told_and_filled_when_the_venue_has_them_after_all(tmp_path, info, market):
    market.holes = range(NOW_MS - 40 * MINUTE_MS, NOW_MS - 33 * MINUTE_MS, MINUTE_MS)
    found = await download(info, wanted(minutes=60), tmp_path)
    assert found.missing(MINUTE_MS) == 7
    assert list(gap_lines(found, bar_ms=MINUTE_MS)) == [
        "BTC: no bars from 2026-02-18 15:20 to 2026-02-18 15:27 (7 bars)"
    ]
    assert load_candles(tmp_path).gaps[0].missing == 7
    market.holes = range(0)
    again = await download(info, wanted(minutes=60), tmp_path)
    assert (again.new, again.gaps) == (7, ())


async def test_what_was_fetched_before_the_venue_failed_is_kept(tmp_path, info, paper):
    pages = 0

    def fail_after_the_first_page(_: int) -> None:
        nonlocal pages
        pages += 1
        paper.faults({"kind": "server_error", "path": "/info", "type": "candleSnapshot"})

    with pytest.raises(VenueError):
        await download(info, wanted(minutes=2 * PAGE), tmp_path, progress=fail_after_the_first_page)
    assert pages == 1
    assert len(read_candles(tmp_path / "BTC_1m.parquet").t_ms) == PAGE
    paper.clear_faults()
    found = await download(info, wanted(minutes=2 * PAGE), tmp_path)
    assert (found.bars, found.new) == (2 * PAGE, PAGE)
    assert [each.name for each in tmp_path.iterdir()] == ["BTC_1m.parquet"]


async def test_candles_of_two_networks_are_never_mixed(tmp_path, info):
    await download(info, wanted(minutes=10), tmp_path)
    with pytest.raises(DownloadRefused, match=r"BTC_1m.parquet: candles of paper, not of mainnet"):
        await download(info, wanted(minutes=20, network="mainnet"), tmp_path)


async def test_a_coin_that_the_venue_does_not_have_is_refused_by_name(tmp_path, info):
    with pytest.raises((UnknownCoin, VenueError), match="NOPE"):
        await download(info, wanted(minutes=10, symbol="NOPE"), tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_the_weight_budget_is_waited_for(tmp_path, paper):
    clock = ManualClock(NOW_MS)
    async with open_http(paper.http_url) as http:
        asking = asyncio.create_task(
            download(InfoClient(http, MemoryBudget(clock, capacity_per_min=60)), wanted(minutes=2 * PAGE), tmp_path)
        )
        waited = 0
        async with asyncio.timeout(60):
            while not asking.done():
                await clock.advance(1)
                await asyncio.sleep(0.005)
                waited += 1
        assert (await asking).bars == 2 * PAGE
    # 2 + 2·(20 + 17) weight of 60 a minute: a minute's worth is there at the start, 16 s bring the rest.
    assert waited >= 16


def running_bot(path, *, paper_url, prices="synthetic:7"):
    """A data folder whose bot is said to run, in this process."""
    folder = DataFolder.make(path)
    folder.claim(
        Identity(
            bot_id="b", network=Network.PAPER, account="0x0", agent=None, prices=prices, label=PriceLabel.SYNTHETIC
        )
    )
    nowhere = "redis://127.0.0.1:1"
    folder.note_running(
        Running(
            pid=os.getpid(),
            redis_url=nowhere,
            operator_url=nowhere,
            monitor_url="",
            paper_url=paper_url,
            account="0x0",
            anchor=str(Anchor.real()),
        )
    )
    return path


async def run_download(*arguments):
    return await asyncio.to_thread(CliRunner().invoke, app, ["download", *map(str, arguments)])


async def test_the_exchange_of_the_bot_that_runs_here_is_found(tmp_path, paper, monkeypatch):
    running_bot(tmp_path / "data" / "one", paper_url=paper.http_url)
    monkeypatch.chdir(tmp_path)
    asked = ("--network", "paper", "--out", "candles", "--coins", "BTC", "--from", "2026-02-18T15:00", "--to")
    said = await run_download(*asked, "2026-02-18T15:30")
    assert said.exit_code == 0, said.exception
    assert "BTC: 30 new bars" in said.output
    named = await run_download(*asked, "2026-02-18T15:40", "--data-dir", "data/one")
    assert "BTC: 10 new bars, 40 in BTC_1m.parquet" in named.output
    other = running_bot(tmp_path / "other", paper_url=paper.http_url, prices="synthetic:8")
    mixed = await run_download(*asked, "2026-02-18T15:50", "--data-dir", other)
    assert "candles of paper (synthetic:7), not of paper (synthetic:8)" in str(mixed.exception)
    unnamed = tmp_path / "data" / "two"
    other.rename(unnamed)
    assert "more than one bot runs here (one, two)" in str((await run_download(*asked, "2026-02-18T16:00")).exception)


async def test_what_was_downloaded_is_told_although_the_next_coin_fails(tmp_path, paper):
    folder = running_bot(tmp_path / "bot", paper_url=paper.http_url)
    asked = ("--network", "paper", "--out", tmp_path / "c", "--data-dir", folder, "--from", "2026-02-18T15:00")
    said = await run_download(*asked, "--coins", "BTC,NOPE")
    assert said.exit_code != 0
    assert "NOPE" in str(said.exception)
    assert "BTC: 60 new bars" in said.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--from", "2026-02-02", "--to", "2026-02-01"], "not before"),
        (["--from", "tomorrow"], "wanted a date"),
        (["--coins", " , "], "--coins: none is named"),
        (["--interval", "1h"], "one of 1m, 5m"),
        (["--data-dir", "somewhere"], "only with --network paper"),
        (["--url", "venue:3001"], "--url venue:3001: must start with http://"),
        (["--url", "http://u:pw@venue:99999"], "--url http://[redacted]@venue:99999: must name a host"),
        (["--network", "paper", "--data-dir", "nowhere"], "nowhere: no bot runs on this data folder"),
    ],
)
async def test_a_download_that_cannot_be_meant_is_refused_before_anything_is_asked(arguments, why, tmp_path):
    said = await run_download("--out", tmp_path / "c", *arguments)
    assert why in str(said.exception)
    assert not (tmp_path / "c").exists()


async def test_a_bot_on_a_real_venue_has_no_paper_exchange(tmp_path):
    folder = running_bot(tmp_path / "bot", paper_url=None)
    said = await run_download("--network", "paper", "--out", tmp_path / "c", "--data-dir", folder)
    assert "trades on a real venue" in str(said.exception)


async def test_what_a_killed_download_left_half_written_is_no_coin(tmp_path, info):
    await download(info, wanted(minutes=10), tmp_path)
    (tmp_path / ".BTC_1m.4711.parquet").write_bytes(b"PAR1")
    assert coins_in(tmp_path) == ("BTC",)
