"""``tradingbot download``: the venue's candles into Parquet files."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tradingbot.commands.local import DataDir
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.errors import Permanent
from tradingbot.domain.static import Network, check_http_url, split_list
from tradingbot.local.access import find_running
from tradingbot.runtime.clock import SystemClock
from tradingbot.runtime.logging import redact

if TYPE_CHECKING:
    from tradingbot.replay.data.download import Fetched, Wanted


class DownloadOptions(Permanent):
    """Options that cannot be used."""


def download(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="One file a coin; goes on where they end.")],
    coins: Annotated[str, typer.Option(help="Which.")] = "BTC,ETH,SOL,ADA,DOGE",
    interval: Annotated[str, typer.Option(help="1m or 5m.")] = "1m",
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Like 2026-02-01, UTC. Default: all there is.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Default: now.")] = None,
    network: Annotated[Network, typer.Option(help="Public data: no key, no account.")] = Network.MAINNET,
    url: Annotated[
        str | None,
        typer.Option(help="Another address. Default with --network paper: of the bot that runs here, else port 3001."),
    ] = None,
    weight_per_min: Annotated[
        int, typer.Option(min=60, max=1200, help="Of the address's 1200 a minute; leaves room for a bot.")
    ] = 600,
    data_dir: DataDir = None,
) -> None:
    """Download candles from the venue, for `backtest` and for `up --prices`.

    The venue keeps the newest 5000 bars only: 3.5 days of 1m, 17 days of 5m. Run it again before they are gone (from
    cron, say): it adds what is new and never writes a bar twice. Gaps are told and asked for again each time.

        tradingbot download --out candles/ --coins BTC,ETH --interval 1m
    """
    from tradingbot.replay.data.download import INTERVALS_MS, Wanted, gap_lines  # noqa: PLC0415
    from tradingbot.replay.data.moments import moment_ms  # noqa: PLC0415

    if interval not in INTERVALS_MS:
        raise DownloadOptions(f"--interval {interval}: one of {', '.join(INTERVALS_MS)}")
    bar_ms = INTERVALS_MS[interval]
    start_ms, end_ms = moment_ms(start, option="--from"), moment_ms(end, option="--to")
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        raise DownloadOptions(f"--from {start} is not before --to {end}")
    if not split_list(coins):
        raise DownloadOptions("--coins: none is named")
    if url is not None:
        _check(url)
    market = network.value
    if network is Network.PAPER and url is None:
        url, market = _paper(data_dir)
    elif data_dir is not None:
        raise DownloadOptions("--data-dir: only with --network paper and without --url")
    wanted = [
        Wanted(symbol=coin, interval=interval, start_ms=start_ms, end_ms=end_ms, network=market)
        for coin in split_list(coins)
    ]

    def tell(fetched: Fetched) -> None:
        typer.echo(_line(fetched, bar_ms))
        for line in gap_lines(fetched, bar_ms=bar_ms):
            typer.echo(f"  {line}")

    asyncio.run(_download(wanted, out, network=network, url=url, weight_per_min=weight_per_min, tell=tell))


def _check(url: str) -> None:
    try:
        check_http_url(url)
    except ValueError as error:
        raise DownloadOptions(f"--url {redact(url)}: {error}") from None


def _paper(data_dir: Path | None) -> tuple[str | None, str]:
    """Where the exchange of the bot that runs here is, and how its market is called: two of them are never mixed."""
    found = find_running(data_dir)
    if found is None:
        return None, Network.PAPER.value
    folder, running = found
    identity = folder.identity()
    if running.paper_url is None or identity is None:
        raise DownloadOptions(f"{folder.path}: its bot trades on a real venue; name that with --network")
    return running.paper_url, f"{Network.PAPER.value} ({identity.prices})"


async def _download(
    wanted: list[Wanted],
    out: Path,
    *,
    network: Network,
    url: str | None,
    weight_per_min: int,
    tell: Callable[[Fetched], None],
) -> None:
    """Each coin's file in turn; what is there is told at once, because the next may fail."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from tradingbot.replay.data.download import download as fetch  # noqa: PLC0415
    from tradingbot.venue.budget import MemoryBudget  # noqa: PLC0415
    from tradingbot.venue.http import open_http  # noqa: PLC0415
    from tradingbot.venue.info import InfoClient  # noqa: PLC0415
    from tradingbot.venue.network import urls  # noqa: PLC0415

    budget = MemoryBudget(SystemClock(), capacity_per_min=weight_per_min)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        async with open_http(urls(network, url).http_url) as http:
            for each in wanted:
                task = bar.add_task(each.symbol, total=None)
                info = InfoClient(http, budget)
                tell(await fetch(info, each, out, progress=partial(bar.advance, task)))


def _line(each: Fetched, bar_ms: int) -> str:
    if each.first_ms is None or each.end_ms is None:
        return f"{each.symbol}: the venue has fewer than two bars of that time; nothing is written"
    text = (
        f"{each.symbol}: {each.new:,} new bars, {each.bars:,} in {each.path.name}, "
        f"{from_ms(each.first_ms):%Y-%m-%d %H:%M} to {from_ms(each.end_ms):%Y-%m-%d %H:%M}, "
        f"{each.missing(bar_ms):,} missing"
    )
    if each.out_of_reach_ms >= bar_ms:
        text += f"; {each.out_of_reach_ms // bar_ms:,} bars asked for are older than the venue keeps"
    return text
