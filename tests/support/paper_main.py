"""The process behind ``support.paper.paper_process``: prints its port and serves until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tradingbot.paper.options import PaperOptions
from tradingbot.paper.prices import load_prices
from tradingbot.paper.server import serving
from tradingbot.runtime.clock import SystemClock


async def main(data_dir: str, prices: str, accounts: str, agents: str) -> None:
    options = PaperOptions(
        port=0,
        data_dir=Path(data_dir),
        prices=prices,
        accounts=tuple(filter(None, accounts.split(","))),
        agents=tuple(filter(None, agents.split(","))),
        order_status_lag_ms=0,
    )
    clock = SystemClock()
    source = load_prices(prices, symbols=options.symbols, start_ms=clock.now_ms())
    async with serving(options, clock=clock, prices=source) as running:
        sys.stdout.write(f"{running.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
