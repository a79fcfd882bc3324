"""A plan at work: time-outs, replacement, reductions first, flips, limits of rate, and what is not placed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from support.execution_bench import WIDE, Bench, check_invariants, execution_bench
from tradingbot.domain.messages import OrderAction, ReportStatus, Side
from tradingbot.domain.params import RiskParams


def of(found: list, symbol: str) -> list:
    return [each for each in found if each.symbol == symbol]


async def hold(bench: Bench, **weights: float) -> None:
    """Trade to these weights in a cycle of its own."""
    await bench.next_cycle()
    await bench.approve(**weights)
    await bench.plan_of(bench.cycle_id)
    await bench.tick(50)


async def test_a_slice_that_times_out_is_cancelled_and_replaced_once(bench: Bench) -> None:
    await bench.ready(twap_slices=1, order_tif="Alo")
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_reports(lambda found: found)
        assert len(await bench.resting()) == 1
        await bench.tick(22)
        await bench.until_reports(lambda found: any(each.attempt == 1 for each in found))
        (second,) = await bench.resting()
        await bench.tick(22)
        await bench.until_reports(lambda found: sum(each.status.terminal for each in found) == 2)
        assert await bench.resting() == []

    assert Decimal(second["sz"]) == Decimal("0.02")
    await check_invariants(bench)


async def test_nothing_rests_when_the_next_cycle_begins(bench: Bench) -> None:
    await bench.ready(order_tif="Alo", slice_timeout_s=300)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12, ETH=0.12)
        await bench.plan_of(bench.cycle_id)
        await bench.tick(45)
        assert len(await bench.resting()) == 6
        await bench.tick(14)
        await bench.until_reports(lambda found: sum(each.status.terminal for each in found) == 6)
        assert await bench.resting() == []

    await check_invariants(bench)


async def test_increases_wait_until_reductions_have_ended(bench: Bench) -> None:
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await hold(bench, BTC=0.2)
        await bench.params(twap_slices=1, order_tif="Alo")
        await bench.next_cycle()
        await bench.approve(BTC=0.1, ETH=0.1)
        await bench.until_reports(lambda found: any(each.reduce_only for each in found))
        await bench.tick(5)
        assert of(await bench.reports(), "ETH") == []
        await bench.tick(17)
        await bench.until_reports(lambda found: of(found, "ETH"))

    await check_invariants(bench)


async def test_a_flip_closes_the_whole_position_before_it_opens_the_other_side(bench: Bench) -> None:
    risk = WIDE.model_copy(update={"allow_short": True})
    await bench.ready()
    async with bench.trading():
        await bench.begun()
        await hold(bench, BTC=0.2)
        await bench.params(risk=risk, twap_slices=1)
        await bench.next_cycle()
        await bench.approve(BTC=-0.1)
        plan = await bench.plan_of(bench.cycle_id)
        await bench.tick(10)
        await bench.until_reports(lambda found: [e for e in found if e.side is Side.SELL and not e.reduce_only])
        await bench.tick(5)

    closing, opening = plan.slices
    assert (closing.reduce_only, closing.closes, closing.qty) == (True, True, Decimal("0.03333"))
    assert not opening.reduce_only
    assert -Decimal("0.0167") < await bench.position("BTC") < -Decimal("0.0166")
    await check_invariants(bench)


async def test_only_an_explicit_zero_closes_and_the_close_is_one_order_of_the_exact_size(bench: Bench) -> None:
    await bench.ready()
    async with bench.trading():
        await bench.begun()
        await hold(bench, BTC=0.12, ETH=0.12)
        held = await bench.position("ETH")
        await bench.next_cycle()
        await bench.approve(BTC=0.0)
        plan = await bench.plan_of(bench.cycle_id)
        await bench.tick(5)
        await bench.until_reports(lambda found: sum(e.status is ReportStatus.FILLED for e in found) == 7)

    assert [(each.symbol, each.qty, each.closes) for each in plan.slices] == [("BTC", Decimal("0.02"), True)]
    assert (await bench.position("BTC"), await bench.position("ETH")) == (0, held)
    await check_invariants(bench)


async def test_a_slice_without_a_fresh_mid_is_skipped_and_told(bench: Bench) -> None:
    await bench.ready(twap_slices=2)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_reports(lambda found: any(e.status is ReportStatus.FILLED for e in found))
        bench.prices.mids.pop("BTC")  # market_data goes silent about it
        await bench.tick(25)
        await bench.until(lambda: bench.audits("stale_mid"))

    assert len({each.client_order_id for each in await bench.reports()}) == 1


async def test_a_rate_limited_slice_is_skipped_and_told(bench: Bench) -> None:
    await bench.ready(twap_slices=1, max_orders_per_min=1)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until_reports(lambda found: any(e.status is ReportStatus.FILLED for e in found))
        await bench.tick(25)
        await bench.next_cycle()
        await bench.tick(1)
        await bench.approve(BTC=0.3, ETH=0.2)
        await bench.plan_of(bench.cycle_id)
        await bench.until(lambda: bench.audits("rate_limited"))

    assert of(await bench.reports(), "ETH") == []
    await check_invariants(bench)


async def test_a_bucket_that_holds_too_little_lets_as_many_through_as_it_holds(bench: Bench) -> None:
    await bench.ready(twap_slices=1, max_orders_per_min=2)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12, ETH=0.12, SOL=0.12)
        await bench.until(lambda: bench.audits("rate_limited"))
        await bench.until_reports(lambda found: sum(e.status is ReportStatus.FILLED for e in found) == 2)

    await check_invariants(bench)


async def test_intents_never_leave_the_limits_in_force(bench: Bench) -> None:
    """The approval asks for more than the caps that execution reads: what does not fit is not placed."""
    await bench.params(risk=RiskParams(max_gross=0.4, max_net=0.2, caps={}, default_cap=0.1), twap_slices=2)
    await bench.breaker()
    await bench.mirror()
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.5, ETH=0.5)
        await bench.tick(50)
        await bench.until_reports(lambda found: sum(e.status is ReportStatus.FILLED for e in found) >= 2)

    btc, eth = await bench.position("BTC") * 60_000, await bench.position("ETH") * 3_000
    assert 900 < btc <= 1_000
    assert 900 < eth <= 1_000
    await check_invariants(bench)


@pytest.mark.parametrize("cap", [0.02, 0.05])
async def test_a_thousand_dollars_trade_bitcoin_and_ether_at_small_caps(valkey, valkey_server, cap: float) -> None:
    """The mission's M2: 20 and 50 dollars a coin are filled."""
    async with execution_bench(valkey, valkey_server, start_equity_usd=Decimal(1_000)) as bench:
        risk = RiskParams(max_gross=0.4, max_net=0.2, caps={"BTC": cap, "ETH": cap})
        await bench.ready()
        await bench.params(risk=risk)
        async with bench.trading(UNIVERSE="BTC,ETH"):
            await bench.begun()
            await hold(bench, BTC=cap, ETH=cap)
            await bench.until_reports(lambda found: sum(e.status is ReportStatus.FILLED for e in found) >= 2)

        assert 12 <= await bench.position("BTC") * 60_000 <= 1_000 * cap
        assert 12 <= await bench.position("ETH") * 3_000 <= 1_000 * cap
        await check_invariants(bench)


async def test_dry_run_needs_no_key_and_sends_nothing(bench: Bench) -> None:
    await bench.ready()
    async with bench.trading(DRY_RUN="true", HL_PRIVATE_KEY=""):
        await bench.begun()
        await hold(bench, BTC=0.12)
        reports = await bench.until_reports(lambda found: sum(e.status.terminal for e in found) == 3)

    assert {(each.status, each.error, each.dry_run) for each in reports} == {(ReportStatus.CANCELED, "dry_run", True)}
    assert all(each.dry_run for each in await bench.intents())
    assert (await bench.plans())[0].dry_run
    assert bench.orders_sent() == []


async def test_each_intent_is_on_record_before_it_is_sent_and_after_it_ended(bench: Bench) -> None:
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await hold(bench, BTC=0.12)

    (intent,) = [each for each in await bench.intents() if each.action is OrderAction.PLACE]
    (action,) = bench.orders_sent()
    record = await bench.redis.hgetall(f"action:{intent.action_id}")
    assert (action["nonce"], action["expiresAfter"]) == (int(record["nonce"]), int(record["expires_after"]))
    kept = await bench.dedup(intent.client_order_id)
    assert kept["0"]["status"] == "FILLED"
    assert kept["0"]["exchange_order_id"] == str((await bench.reports())[-1].exchange_order_id)
    (record,) = await bench.audits("exec.reports")
    assert record.details["outcomes"] == {"FILLED": 1}
