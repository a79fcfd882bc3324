"""Whatever the venue does to a request, each intent leads to at most one order and to one end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.execution_bench import Bench, check_invariants
from tradingbot.domain.messages import ReportStatus
from tradingbot.execution.tracker import Tracker


def ended(found: list, count: int) -> bool:
    return len({(e.client_order_id, e.attempt) for e in found if e.status.terminal}) >= count


async def trade_one_cycle(bench: Bench, fault: dict, **parameters: Any) -> None:
    await bench.ready(twap_slices=1, **parameters)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        bench.paper.faults(fault)
        await bench.approve(BTC=0.12, ETH=0.12)
        await bench.plan_of(bench.cycle_id)
        for _ in range(40):
            await bench.tick(1)
            if ended(await bench.reports(), 2):
                break
        bench.paper.clear_faults()
        await bench.tick(15)
        await bench.until_reports(lambda found: ended(found, 2))


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_after", "path": "/exchange", "count": 1},
        {"kind": "drop_after", "path": "/exchange", "count": 3},
        {"kind": "drop_before", "path": "/exchange", "count": 1},
        {"kind": "drop_before", "path": "/exchange"},
        {"kind": "rate_limit", "path": "/exchange", "count": 1},
        {"kind": "server_error", "path": "/exchange", "count": 1},
        {"kind": "server_error_after", "path": "/exchange", "count": 2},
        {"kind": "delay", "path": "/exchange", "count": 1, "delay_ms": 9_000},
        {"kind": "drop_after", "path": "/info", "probability": 0.5},
        {"kind": "close_sockets", "count": 5},
    ],
    ids=lambda fault: "-".join(str(each) for each in fault.values()),
)
async def test_an_intent_leads_to_at_most_one_order_and_to_one_end(bench: Bench, fault: dict) -> None:
    await trade_one_cycle(bench, fault)

    await check_invariants(bench)


async def test_a_lost_answer_does_not_lose_the_fill(bench: Bench) -> None:
    await trade_one_cycle(bench, {"kind": "drop_after", "path": "/exchange", "count": 1})

    reports = await bench.reports()
    assert {each.symbol for each in reports if each.status is ReportStatus.FILLED} == {"BTC", "ETH"}
    await check_invariants(bench)


async def test_a_request_that_never_arrives_ends_as_absent_and_trades_nothing(bench: Bench) -> None:
    # Without a replacement: one would be placed as soon as the requests arrive again.
    await trade_one_cycle(bench, {"kind": "drop_before", "path": "/exchange"}, replace_once=False)

    reports = await bench.reports()
    assert {each.error for each in reports if each.status.terminal} == {"absent"}
    assert await bench.position("BTC") == 0


async def test_a_refused_resend_says_nothing_of_the_first_sending(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is lost; what the venue says to the same bytes later must not end the order."""

    async def deaf(self: Tracker) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Tracker, "listen", deaf)
    await bench.ready(order_tif="Alo", twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        bench.paper.faults({"kind": "drop_after", "path": "/exchange", "type": "order", "count": 1})
        await bench.approve(BTC=0.12)

        async def admitted() -> bool:
            return bool(bench.orders_sent())

        await bench.until(admitted)
        bench.paper.faults({"kind": "rate_limit", "path": "/exchange", "type": "order", "count": 9})
        await bench.tick(10)
        await bench.until_read("exec.orders", "exec_orders_grp")
        assert not any(each.status.terminal for each in await bench.reports())
        assert len(await bench.resting()) == 1
        bench.paper.clear_faults()
        await bench.tick(40)
        await bench.until_reports(lambda found: any(e.status.terminal for e in found))

    await check_invariants(bench)
