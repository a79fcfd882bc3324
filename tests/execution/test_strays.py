"""Own orders that the log does not know are found while trading too; a DRY_RUN that meets some says so and waits."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from pydantic import SecretStr

from support.execution_bench import KEY, Bench
from support.stage import BOT_ID
from tradingbot.domain.ids import cloid
from tradingbot.domain.messages import AuditRecord, Side
from tradingbot.domain.static import Network
from tradingbot.venue.exchange import ExchangeClient
from tradingbot.venue.http import open_http
from tradingbot.venue.signing import Signer
from tradingbot.venue.wire import WireOrder, cancel_by_cloid_action, order_action

DRY = {"DRY_RUN": "true", "HL_PRIVATE_KEY": ""}
STRAY = cloid(bot_id=BOT_ID, client_order_id="forgotten", attempt=0)


async def send(bench: Bench, action: dict) -> None:
    async with open_http(bench.paper.http_url) as http:
        signed = Signer(SecretStr(KEY), Network.PAPER).sign(
            action, nonce=bench.clock.now_ms() - 60_000, expires_after_ms=None
        )
        await ExchangeClient(http).send(signed)


async def place_stray(bench: Bench) -> None:
    order = WireOrder(asset_id=0, side=Side.BUY, px=Decimal(50_000), size=Decimal("0.01"), tif="Gtc", cloid=STRAY)
    await send(bench, order_action([order]))


async def none_open(bench: Bench) -> bool:
    await bench.tick(5)
    return await bench.resting() == []


async def lifted(bench: Bench) -> bool:
    await bench.tick(5)
    return bench.lifted()


async def stops(bench: Bench) -> list[AuditRecord]:
    return [each for each in await bench.audits("local_stop") if each.cause == "dry_run"]


async def test_an_own_order_that_appears_while_trading_is_cancelled(bench: Bench) -> None:
    await bench.ready()
    async with bench.trading():
        await bench.begun()
        await bench.tick(20)  # past the last look of the recovery
        await place_stray(bench)
        await bench.until(lambda: none_open(bench))


async def test_looking_for_strays_leaves_the_bots_own_orders_alone(bench: Bench) -> None:
    await bench.ready(twap_slices=1, order_tif="Alo", slice_timeout_s=300)
    async with bench.trading():
        await bench.begun()
        for _ in range(3):
            await bench.next_cycle()
            await bench.approve(BTC=0.12, ETH=0.12)
            await bench.plan_of(bench.cycle_id)
        assert [each for each in await bench.intents() if each.reason == "unknown_to_log"] == []


async def test_a_dry_run_that_finds_open_orders_of_its_own_says_so_once_and_writes_no_cancels(bench: Bench) -> None:
    await bench.ready()
    await place_stray(bench)
    async with bench.trading(**DRY) as process:

        async def told() -> bool:
            return bool(await stops(bench))

        await bench.until(told)
        await bench.tick(30)
        (stop,) = await stops(bench)
        assert "DRY_RUN" in stop.details["reason"]
        assert await bench.intents() == []

        async def shown() -> bool:
            await bench.tick(5)  # the reason moves up when the stops before it have lifted
            return "DRY_RUN" in process.health.readiness[1]

        await bench.until(shown)
        await send(bench, cancel_by_cloid_action([(0, STRAY)]))
        await bench.until(lambda: lifted(bench))
        assert [each.details["reason"] for each in (await stops(bench))[1:]] == ["over"]


async def test_a_dry_run_does_not_ask_for_the_cancel_of_orders_that_its_own_log_holds_open(bench: Bench) -> None:
    await bench.ready(twap_slices=1, order_tif="Alo")
    async with bench.doomed():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12)
        await bench.until(bench.resting)
    written = len(await bench.intents())
    async with bench.trading(**DRY):

        async def told() -> bool:
            return bool(await stops(bench))

        await bench.until(told)
        await bench.tick(40)
        await asyncio.sleep(0)
        assert len(await bench.intents()) == written
        assert len(await stops(bench)) == 1
