"""What may no longer be sent does not leave, however long its connection to the venue took."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import anyio
import httpx
import pytest

from execution.test_control import acked
from support.execution_bench import Bench, check_invariants
from tradingbot.bus.control import read_applied
from tradingbot.domain.messages import Command, ReportStatus
from tradingbot.domain.modes import Mode
from tradingbot.venue import http
from tradingbot.venue.exchange import ActionResult, ExchangeClient
from tradingbot.venue.wire import SignedRequest


class SlowWay:
    """Holds up the connection of each order until it is let go on; those of all else are made at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connecting = asyncio.Event()
        self.go_on = asyncio.Event()
        ordering: ContextVar[bool] = ContextVar("ordering", default=False)
        send, connect_tcp = ExchangeClient.send, anyio.connect_tcp

        async def marked(client: ExchangeClient, request: SignedRequest, **options: Any) -> ActionResult:
            ordering.set(request.kind == "order")
            return await send(client, request, **options)

        async def held_up(*args: Any, **options: Any) -> Any:
            if ordering.get():
                self.connecting.set()
                await self.go_on.wait()
            return await connect_tcp(*args, **options)

        monkeypatch.setattr(ExchangeClient, "send", marked)
        monkeypatch.setattr(anyio, "connect_tcp", held_up)
        monkeypatch.setattr(http, "LIMITS", httpx.Limits(max_connections=20, max_keepalive_connections=0))


async def test_a_halt_that_is_received_while_an_orders_connection_is_made_holds_the_order_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = SlowWay(monkeypatch)
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until(lambda: happened(way.connecting))
        await bench.command(Command.HALT)
        await bench.until(lambda: halt_received(bench))
        way.go_on.set()
        reports = await bench.until_reports(lambda found: [each for each in found if each.status.terminal])
        await bench.tick(3)
        await acked(bench)

    assert bench.orders_sent() == []
    assert [each.status for each in reports] == [ReportStatus.CANCELED]
    await check_invariants(bench)


async def happened(event: asyncio.Event) -> bool:
    return event.is_set()


async def halt_received(bench: Bench) -> bool:
    applied = await read_applied(bench.redis)
    return applied is not None and applied.mode is Mode.HALT and applied.received_at is not None
