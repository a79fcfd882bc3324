"""The client against the paper exchange: real signatures, a real book, real troubles."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import count

import httpx
import pytest
import stamina
from pydantic import SecretStr

from support.paper import ACCOUNT, Paper, SetPrices, paper_exchange
from tradingbot.domain.ids import Cloid
from tradingbot.domain.messages import ReportStatus, Side
from tradingbot.domain.static import Network
from tradingbot.paper.options import DuplicateCloid, PartMatch, PreValidation, Quirks, SnapshotFlag
from tradingbot.runtime.clock import Ids
from tradingbot.venue import errors as e
from tradingbot.venue.budget import MemoryBudget
from tradingbot.venue.events import Connected, OrderUpdates, UserFills
from tradingbot.venue.exchange import ExchangeClient, Filled, Resting, Success
from tradingbot.venue.http import open_http
from tradingbot.venue.info import InfoClient
from tradingbot.venue.signing import Signer
from tradingbot.venue.stream import Subscription, VenueStream
from tradingbot.venue.wire import (
    WireOrder,
    cancel_action,
    cancel_by_cloid_action,
    noop_action,
    order_action,
    update_leverage_action,
)

SIGNER = Signer(SecretStr("0x" + "11" * 32), Network.PAPER)
STRANGER = Signer(SecretStr("0x" + "22" * 32), Network.PAPER)
CLOIDS = [Cloid(f"0x{i:032x}") for i in range(1, 6)]


@pytest.fixture(autouse=True)
def retries_without_waiting():
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


@dataclass
class Desk:
    paper: Paper
    prices: SetPrices
    info: InfoClient
    exchange: ExchangeClient
    specs: dict

    def __post_init__(self):
        self.nonces = count(self.paper.clock.now_ms())

    def order(self, symbol="BTC", *, px="59000", size="0.01", side=Side.BUY, tif="Gtc", reduce_only=False, cloid=None):
        return WireOrder(
            asset_id=self.specs[symbol].asset_id,
            side=side,
            px=Decimal(px),
            size=Decimal(size),
            tif=tif,
            reduce_only=reduce_only,
            cloid=cloid,
        )

    def sign(self, action, *, ttl_ms=5000, signer=SIGNER):
        expires = self.paper.clock.now_ms() + ttl_ms if ttl_ms else None
        return signer.sign(action, nonce=next(self.nonces), expires_after_ms=expires)

    async def do(self, action, **options):
        return (await self.exchange.send(self.sign(action, **options))).statuses

    async def place(self, *orders, **options):
        return await self.do(order_action(orders), **options)


@asynccontextmanager
async def desk(**options):
    prices = SetPrices()
    options.setdefault("order_status_lag_ms", 0)
    async with (
        paper_exchange(prices=prices, agents=(SIGNER.address,), **options) as paper,
        open_http(paper.http_url) as http,
    ):
        info = InfoClient(http, MemoryBudget(paper.clock, capacity_per_min=100_000))
        yield Desk(paper, prices, info, ExchangeClient(http), await info.meta())


async def test_an_order_rests_is_found_and_is_cancelled():
    async with desk() as d:
        (resting,) = await d.place(d.order(cloid=CLOIDS[0]))
        assert isinstance(resting, Resting)
        (row,) = await d.info.open_orders(ACCOUNT)
        by_cloid = await d.info.order_status(ACCOUNT, CLOIDS[0])
        by_oid = await d.info.order_status(ACCOUNT, resting.oid)

        assert (row.oid, row.cloid, row.limit_px, row.size) == (resting.oid, CLOIDS[0], 59000, Decimal("0.01"))
        assert by_cloid == by_oid
        assert by_cloid.report_status is ReportStatus.ACK

        assert await d.do(cancel_by_cloid_action([(0, CLOIDS[0])]), ttl_ms=None) == (Success(),)
        gone = await d.info.order_status(ACCOUNT, CLOIDS[0])
        assert (gone.report_status, gone.terminal) == (ReportStatus.CANCELED, True)
        assert await d.info.open_orders(ACCOUNT) == ()
        (again,) = await d.do(cancel_action([(0, resting.oid)]), ttl_ms=None)
        assert isinstance(again.error, e.OrderGone)


async def test_a_marketable_order_fills_and_the_position_and_fills_agree():
    async with desk() as d:
        (filled,) = await d.place(d.order(px="60600", size="0.05", tif="Ioc", cloid=CLOIDS[0]))
        fills = await d.info.fills_since(ACCOUNT, 0)
        account = await d.info.clearinghouse_state(ACCOUNT)
        held = account.positions["BTC"]

        assert isinstance(filled, Filled)
        assert filled.total_size == sum(each.size for each in fills) == held.size == Decimal("0.05")
        assert {each.cloid for each in fills} == {CLOIDS[0]}
        assert all(each.crossed and each.fee > 0 for each in fills)
        paid = sum(each.fee + each.size * (each.px - held.mark_px) for each in fills)
        assert abs(account.equity - (10_000 - paid)) < Decimal("0.01")


async def test_a_batch_is_answered_one_by_one():
    async with desk() as d:
        statuses = await d.place(
            d.order(cloid=CLOIDS[0]),
            d.order(size="0.0001"),
            d.order(px="61000", tif="Alo"),
            d.order(px="59000", tif="Ioc"),
            d.order(size="5"),
            d.order(reduce_only=True),
        )

        assert isinstance(statuses[0], Resting)
        assert [type(each.error) for each in statuses[1:]] == [
            e.MinNotional,
            e.PostOnlyWouldMatch,
            e.IocNoMatch,
            e.InsufficientMargin,
            e.ReduceOnlyWouldIncrease,
        ]


@pytest.mark.parametrize("envelope", PreValidation)
async def test_a_refusal_before_admission_is_padded_in_either_envelope(envelope):
    async with desk(quirks=Quirks(prevalidation=envelope)) as d:
        statuses = await d.place(d.order(cloid=CLOIDS[0]), d.order(size="0.0000001"))

        assert [type(each.error) for each in statuses] == [e.BadSize, e.BadSize]
        assert await d.info.order_status(ACCOUNT, CLOIDS[0]) is None


@pytest.mark.parametrize("ack", PartMatch)
async def test_an_order_that_matched_in_part_is_understood_by_either_acknowledgement(ack):
    async with desk(quirks=Quirks(gtc_part_match=ack)) as d:
        d.prices.USD_A_LEVEL = 100.0
        (status,) = await d.place(d.order(px="60600", size="0.05", cloid=CLOIDS[0]))
        found = await d.info.order_status(ACCOUNT, CLOIDS[0])
        fills = await d.info.fills_since(ACCOUNT, 0)

        assert isinstance(status, Filled if ack is PartMatch.FILLED else Resting)
        assert found.report_status is ReportStatus.PARTIAL
        assert found.order.filled_at_most == sum(each.size for each in fills) > 0


@pytest.mark.parametrize("duplicates", DuplicateCloid)
async def test_we_never_count_on_the_venue_to_find_duplicates(duplicates):
    async with desk(quirks=Quirks(duplicate_cloid=duplicates)) as d:
        first, second = [*await d.place(d.order(cloid=CLOIDS[0])), *await d.place(d.order(cloid=CLOIDS[0]))]

        assert isinstance(first, Resting)
        assert isinstance(second, Resting) is (duplicates is DuplicateCloid.ACCEPT)


async def test_a_lost_answer_is_unknown_and_the_same_bytes_again_are_not_a_second_order():
    async with desk() as d:
        d.paper.faults({"kind": "drop_after", "path": "/exchange", "count": 1})
        request = d.sign(order_action([d.order(cloid=CLOIDS[0])]))
        with pytest.raises(e.OutcomeUnknown):
            await d.exchange.send(request)
        with pytest.raises(e.AlreadyAdmitted):
            await d.exchange.send(request, resend=True)

        assert len(await d.info.open_orders(ACCOUNT)) == 1


async def test_a_lost_request_is_unknown_and_the_same_bytes_again_are_the_order():
    async with desk() as d:
        d.paper.faults({"kind": "drop_before", "path": "/exchange", "count": 1})
        request = d.sign(order_action([d.order(cloid=CLOIDS[0])]))
        with pytest.raises(e.OutcomeUnknown):
            await d.exchange.send(request)
        result = await d.exchange.send(request, resend=True)

        assert isinstance(result.statuses[0], Resting)
        assert len(await d.info.open_orders(ACCOUNT)) == 1


@pytest.mark.parametrize("kind", ["server_error", "server_error_after"])
async def test_a_server_error_after_sending_is_unknown_whether_it_took_effect_or_not(kind):
    async with desk() as d:
        d.paper.faults({"kind": kind, "path": "/exchange", "count": 1})
        with pytest.raises(e.OutcomeUnknown):
            await d.place(d.order(cloid=CLOIDS[0]))

        assert len(await d.info.open_orders(ACCOUNT)) == (1 if kind.endswith("after") else 0)


async def test_an_answer_slower_than_our_patience_is_unknown():
    async with desk() as d:
        d.paper.faults({"kind": "delay", "path": "/exchange", "real_delay_ms": 1500, "count": 1})
        async with open_http(d.paper.http_url, timeout=httpx.Timeout(0.5)) as impatient:
            with pytest.raises(e.OutcomeUnknown):
                await ExchangeClient(impatient).send(d.sign(order_action([d.order(cloid=CLOIDS[0])])))


async def test_a_rate_limited_write_took_no_effect():
    async with desk() as d:
        d.paper.faults({"kind": "rate_limit", "path": "/exchange", "count": 1})
        request = d.sign(order_action([d.order(cloid=CLOIDS[0])]))
        with pytest.raises(e.RateLimited):
            await d.exchange.send(request)

        assert await d.info.open_orders(ACCOUNT) == ()
        assert isinstance((await d.exchange.send(request)).statuses[0], Resting)


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "drop_before", "drop_after"])
async def test_reads_get_through_troubles_that_pass(kind):
    async with desk() as d:
        d.paper.faults({"kind": kind, "path": "/info", "count": 3})

        assert (await d.info.clearinghouse_state(ACCOUNT)).equity == 10_000


async def test_reads_give_up_on_troubles_that_stay():
    async with desk() as d:
        d.paper.faults({"kind": "server_error", "path": "/info"})

        with pytest.raises(e.VenueUnavailable):
            await d.info.clearinghouse_state(ACCOUNT)


async def test_the_weights_we_count_are_those_the_venue_counts():
    async with desk(ip_weight_per_min=200) as d:
        # meta took 20 of the 200 at the desk's opening; the first refusal must come exactly when the rest is used.
        for _ in range(9):
            await InfoClient(d.info._http, MemoryBudget(d.paper.clock), attempts=1).meta()
        with stamina.set_testing(True, attempts=1), pytest.raises(e.RateLimited):
            await InfoClient(d.info._http, MemoryBudget(d.paper.clock), attempts=1).all_mids()


async def test_a_budget_of_the_venues_size_keeps_us_below_its_limit():
    async with desk(ip_weight_per_min=100) as d:
        info = InfoClient(d.info._http, MemoryBudget(d.paper.clock, capacity_per_min=75))
        asking = asyncio.create_task(_ask_often(info))
        for _ in range(4000):
            if asking.done():
                break
            await d.paper.step(0.25)
            await asyncio.sleep(0.001)

        assert await asking == 20


async def _ask_often(info):
    with stamina.set_testing(True, attempts=1):
        return len([await info.meta() for _ in range(20)])


async def test_an_expired_action_is_refused_and_leaves_nothing():
    async with desk() as d:
        request = d.sign(order_action([d.order(cloid=CLOIDS[0])]), ttl_ms=1000)
        await d.paper.step(2)
        with pytest.raises(e.Expired):
            await d.exchange.send(request)

        assert await d.info.open_orders(ACCOUNT) == ()


async def test_nonces_that_are_too_old_or_too_new_are_refused():
    async with desk() as d:
        now_ms = d.paper.clock.now_ms()
        for nonce in (now_ms - 3 * 86_400_000, now_ms + 2 * 86_400_000):
            with pytest.raises(e.BadNonce):
                await d.exchange.send(SIGNER.sign(noop_action(), nonce=nonce, expires_after_ms=None))


async def test_a_key_that_nobody_approved_is_told_by_its_address():
    async with desk() as d:
        with pytest.raises(e.UnknownSigner, match=STRANGER.address):
            await d.place(d.order(), signer=STRANGER)


async def test_a_signature_for_another_network_is_an_unknown_signer():
    async with desk() as d:
        with pytest.raises(e.UnknownSigner):
            await d.place(d.order(), signer=Signer(SecretStr("0x" + "11" * 32), Network.MAINNET))


async def test_the_post_only_period_is_a_state_and_not_a_refusal():
    async with desk() as d:
        d.paper.faults({"kind": "post_only", "delay_ms": 60_000, "count": 1})
        (taker,) = await d.place(d.order(px="60600", tif="Ioc"))
        (maker,) = await d.place(d.order(tif="Alo"))

        assert isinstance(taker.error, e.PostOnlyPeriod)
        assert isinstance(maker, Resting)


async def test_leverage_is_set_and_read_back():
    async with desk() as d:
        await d.do(update_leverage_action(0, is_cross=True, leverage=3), ttl_ms=None)
        found = await d.info.active_asset_data(ACCOUNT, "BTC")
        with pytest.raises(e.LeverageRefused):
            await d.do(update_leverage_action(0, is_cross=True, leverage=400), ttl_ms=None)

        assert (found.leverage, found.is_cross) == (3, True)


async def test_who_is_who_is_told():
    async with desk() as d:
        signer, account = await d.info.user_role(SIGNER.address), await d.info.user_role(ACCOUNT)
        agents = await d.info.extra_agents(ACCOUNT)

        assert (signer.role, signer.master) == ("agent", ACCOUNT)
        assert account.role == "user"
        assert all(each.address == SIGNER.address for each in agents)
        assert await d.info.user_abstraction(ACCOUNT) in {"default", "disabled"}
        assert (await d.info.user_rate_limit(ACCOUNT)).left > 9_000
        assert (await d.info.user_fees(ACCOUNT)).taker == Decimal("0.00045")
        assert await d.info.server_time() == d.paper.clock.now_ms()


async def test_an_api_wallets_own_address_answers_as_an_empty_account():
    async with desk() as d:
        account = await d.info.clearinghouse_state(SIGNER.address)

        assert (account.equity, dict(account.positions)) == (0, {})


async def test_market_reads_are_understood():
    async with desk() as d:
        now_ms = d.paper.clock.now_ms()
        mids, book = await d.info.all_mids(), await d.info.l2_book("BTC")
        candles = await d.info.candles("BTC", "1m", now_ms - 600_000, now_ms)
        contexts = await d.info.asset_contexts()

        assert book.bids[0].px < mids["BTC"] < book.asks[0].px
        assert len(candles) >= 10
        assert contexts["BTC"].mark_px > 0
        with pytest.raises(e.UnknownCoin):
            await d.info.l2_book("NOPE")


async def test_the_starting_money_is_a_deposit_or_none():
    async with desk() as d:
        updates = await d.info.ledger_updates(ACCOUNT, 0)

        assert sum(each.usd for each in updates) in (0, 10_000)


async def test_more_fills_than_a_page_are_all_read_once():
    async with desk() as d:
        d.prices.USD_A_LEVEL = 2_000.0
        for turn in range(60):
            side, px = (Side.BUY, "60600") if turn % 2 == 0 else (Side.SELL, "59400")
            await d.place(d.order(px=px, size="0.3", side=side, tif="Ioc"))
            await d.paper.step(60)
        fills = await d.info.fills_since(ACCOUNT, 0)
        account = await d.info.clearinghouse_state(ACCOUNT)
        held = account.positions["BTC"].size if "BTC" in account.positions else Decimal(0)

        assert len(fills) > 500
        assert len({each.key for each in fills}) == len(fills)
        assert sum(each.signed_size for each in fills) == held


@pytest.mark.parametrize("flag", SnapshotFlag)
async def test_orders_and_fills_are_streamed(flag):
    async with desk(quirks=Quirks(snapshot_flag=flag)) as d:
        events = asyncio.Queue()
        subscriptions = [Subscription("orderUpdates", user=ACCOUNT), Subscription("userFills", user=ACCOUNT)]
        stream = VenueStream(d.paper.ws_url, subscriptions, clock=d.paper.clock, ids=Ids(1))
        running = asyncio.create_task(stream.run(events.put))
        try:
            await _until(events, lambda event: isinstance(event, Connected))
            await d.place(d.order(px="60600", tif="Ioc", cloid=CLOIDS[0]))
            seen = await _until(events, lambda event: isinstance(event, UserFills) and not event.is_snapshot, d.paper)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        updates = [each for event in seen if isinstance(event, OrderUpdates) for each in event.orders]

        assert seen[-1].fills[0].cloid == CLOIDS[0]
        assert {each.order.cloid for each in updates} <= {CLOIDS[0]}


async def test_closed_sockets_are_opened_again_and_the_gap_is_told():
    async with desk() as d:
        events = asyncio.Queue()
        stream = VenueStream(d.paper.ws_url, [Subscription("allMids")], clock=d.paper.clock, ids=Ids(1))
        running = asyncio.create_task(stream.run(events.put))
        try:
            await _until(events, lambda event: isinstance(event, Connected))
            async with httpx.AsyncClient() as http:
                await http.post(f"{d.paper.http_url}/control/faults", json={"kind": "close_sockets"})
            seen = await _until(events, lambda event: isinstance(event, Connected), d.paper)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        assert not seen[-1].first


async def _until(events, wanted, paper=None):
    """All events up to the wanted one; moves the market's time while it waits, if told to."""
    seen = []
    async with asyncio.timeout(60):
        while not seen or not wanted(seen[-1]):
            while events.empty():
                await asyncio.sleep(0.005)
                if paper is not None:
                    await paper.step(0.25)
            seen.append(events.get_nowait())
    return seen
