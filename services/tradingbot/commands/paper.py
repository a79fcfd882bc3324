"""``tradingbot paper``: the paper exchange alone, for your own client or for the official SDK."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from tradingbot.domain.errors import Permanent
from tradingbot.domain.static import PriceLabel, split_list
from tradingbot.local.environment import base_environment
from tradingbot.local.plan import choose_anchor
from tradingbot.local.span import recorded_span
from tradingbot.runtime.clock import Anchor, SystemClock

_SYNTHETIC_OR_LIVE = ("synthetic", "live")
_CYCLE_SECONDS = 60


class PaperRefused(Permanent):
    """An option that cannot be used."""


def paper(
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="TCP port; 0 takes a free one.")] = 3001,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep the state here; without it, it ends with the process.")
    ] = None,
    prices: Annotated[
        str, typer.Option(metavar="live|synthetic[:SEED]|PATH", help="Where prices come from.")
    ] = "synthetic",
    symbols: Annotated[str, typer.Option(help="The coins that are listed.")] = "BTC,ETH,SOL,ADA,DOGE",
    account: Annotated[list[str] | None, typer.Option(help="An address that holds money; repeatable.")] = None,
    agent: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS[:MASTER]", help="An API wallet that may sign; repeatable.")
    ] = None,
    start_equity_usd: Annotated[float, typer.Option(min=0, help="What a new account starts with.")] = 10_000,
    latency_ms: Annotated[int, typer.Option(min=0, help="Time from request to answer; the venue's median is 200.")] = 0,
    order_status_lag_ms: Annotated[
        int, typer.Option(min=0, help="orderStatus knows a new order at the latest after this long.")
    ] = 1000,
    ip_weight_per_min: Annotated[int, typer.Option(min=1, help="Request weight a minute of all clients.")] = 1200,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[,NAME=VALUE…]",
            help="Trouble on request, such as drop_after,path=/exchange,count=1 or delay,delay_ms=500; repeatable.",
        ),
    ] = None,
    quirk: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="How to answer what the venue leaves open; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the faults' dice.")] = 1,
    speed: Annotated[
        float, typer.Option(help="How much faster than real time. CLOCK_ANCHOR in the environment wins.")
    ] = 1.0,
) -> None:
    """Run the paper exchange alone: Hyperliquid's HTTP and WebSocket API against made-up money.

    Anything that speaks to Hyperliquid can trade on it, the official SDK too (base_url=http://127.0.0.1:3001, signing
    as for the test network). An account's own key may sign, and its agents. docs/paper-exchange.md says what it does.

        tradingbot paper --account 0xYOUR_ADDRESS --prices synthetic:7 --fault 429,count=3
    """
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "prices": prices,
        "symbols": split_list(symbols),
        "accounts": tuple(each.lower() for each in account or ()),
        "agents": tuple(each.lower() for each in agent or ()),
        "start_equity_usd": Decimal(str(start_equity_usd)),
        "latency_ms": latency_ms,
        "order_status_lag_ms": order_status_lag_ms,
        "ip_weight_per_min": ip_weight_per_min,
        "seed": seed,
    }
    asyncio.run(_serve(given, faults=fault or [], quirks=quirk or [], speed=speed))


async def _serve(given: dict[str, Any], *, faults: list[str], quirks: list[str], speed: float) -> None:
    from tradingbot.paper.faults import parse_fault  # noqa: PLC0415 - the exchange loads a lot
    from tradingbot.paper.options import PaperOptions, parse_quirks  # noqa: PLC0415
    from tradingbot.paper.server import run_paper  # noqa: PLC0415

    try:
        rules = tuple(parse_fault(each) for each in faults)
    except (ValidationError, ValueError) as error:
        raise PaperRefused(f"--fault: {error}") from None
    try:
        given["quirks"] = parse_quirks(quirks)
    except ValueError as error:
        raise PaperRefused(f"--quirk: {error}") from None
    clock = SystemClock(await _anchor(given["prices"], symbols=given["symbols"], speed=speed))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    sys.stderr.write(f"paper exchange on http://{given['host']}:{given['port']}, prices {given['prices']}\n")
    try:
        await run_paper(PaperOptions(**given, faults=rules), clock=clock, stop=stop)
    except OSError as error:
        raise PaperRefused(f"--port {given['port']}: {error.strerror}") from None


async def _anchor(prices: str, *, symbols: tuple[str, ...], speed: float) -> Anchor:
    """The run's own anchor, else one that starts where ``up`` would."""
    if text := os.environ.get("CLOCK_ANCHOR"):
        return Anchor.parse(text)
    now_ms = SystemClock().now_ms()
    if prices.partition(":")[0] in _SYNTHETIC_OR_LIVE:
        return Anchor.real() if speed == 1 else Anchor.at(virtual_start_ms=now_ms, speed=speed)
    return choose_anchor(
        label=PriceLabel.RECORDED,
        speed=speed,
        cycle_seconds=_CYCLE_SECONDS,
        now_ms=now_ms,
        resume_ms=None,
        span=await recorded_span(prices, symbols=symbols, environ=base_environment(os.environ)),
    )
