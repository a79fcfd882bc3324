"""From an approval to fills at the venue."""

from __future__ import annotations

from decimal import Decimal

from support.execution_bench import Bench
from tradingbot.domain.messages import ReportStatus


async def test_an_approved_weight_becomes_fills_at_the_venue(bench: Bench) -> None:
    await bench.ready()

    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        plan = await bench.plan_of(bench.cycle_id)
        await bench.until_reports(lambda found: any(each.status is ReportStatus.FILLED for each in found))
        await bench.tick(45)
        await bench.until_reports(lambda found: sum(each.status is ReportStatus.FILLED for each in found) == 3)

    assert len(plan.slices) == 3
    assert await bench.position("BTC") == sum(each.qty for each in plan.slices) == Decimal("0.02")
