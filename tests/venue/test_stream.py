"""The stream on a real socket: it comes back by itself, says when something may be missing, and notices silence."""

import asyncio
import json
from contextlib import aclosing
from decimal import Decimal
from itertools import pairwise

import pytest

from support.scripted import confirm, scripted_socket
from tradingbot.domain.messages import ReportStatus
from tradingbot.runtime.clock import Ids, ManualClock
from tradingbot.venue.events import (
    AllMids,
    BestPrices,
    Candles,
    Connected,
    Disconnected,
    L2Book,
    Liquidation,
    NonUserCancel,
    OrderUpdates,
    StreamError,
    Trades,
    UserEventFills,
    UserFills,
    UserFunding,
    read_event,
)
from tradingbot.venue.stream import StreamTiming, Subscription, VenueStream

USER = "0xAbCdEf0000000000000000000000000000000001"
MIDS = Subscription("allMids")
BOOK = Subscription("l2Book", coin="BTC")
ORDERS = Subscription("orderUpdates", user=USER)


def say(channel, data):
    return json.dumps({"channel": channel, "data": data})


class Listener:
    """Reads a stream in the background; time stands still unless it is waited for."""

    def __init__(self, url, *subscriptions, timing=None):
        self.clock = ManualClock()
        self.wanted = subscriptions
        self.stream = VenueStream(url, lambda: self.wanted, clock=self.clock, ids=Ids(1), timing=timing)
        self.events = []

    async def __aenter__(self):
        self.task = asyncio.create_task(self.stream.run(self.hear))
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def hear(self, event):
        self.events.append(event)

    async def until(self, kind, *, count=1, moving_s=0.0):
        """The count-th event of a kind; moves the stream's time while it waits, if told to."""
        async with asyncio.timeout(60):
            while len(found := [each for each in self.events if isinstance(each, kind)]) < count:
                await asyncio.sleep(0.002)
                if moving_s:
                    await self.clock.advance(moving_s)
        return found[count - 1]


async def test_a_first_connection_is_told_once_all_subscriptions_are_confirmed():
    async with scripted_socket(confirm) as script, Listener(script.url, MIDS, ORDERS) as listener:
        connected = await listener.until(Connected)

        assert connected == Connected(first=True, gap_s=0.0)
        assert listener.stream.connected
        assert script.received[0] == [
            {"method": "subscribe", "subscription": {"type": "allMids"}},
            {"method": "subscribe", "subscription": {"type": "orderUpdates", "user": USER}},
        ]


async def test_a_lost_connection_is_made_again_with_all_subscriptions_and_the_gap_is_told():
    async with scripted_socket(confirm) as script, Listener(script.url, MIDS, ORDERS) as listener:
        await listener.until(Connected)
        await listener.clock.advance(3)
        script.connections[0].transport.abort()
        await listener.until(Disconnected)
        assert not listener.stream.connected
        again = await listener.until(Connected, count=2, moving_s=0.5)

        assert not again.first
        assert again.gap_s >= 3
        assert [each["subscription"]["type"] for each in script.received[1]] == ["allMids", "orderUpdates"]


@pytest.mark.parametrize("code", [1000, 1001, 1011])
async def test_a_polite_goodbye_is_a_lost_connection_too(code):
    async with scripted_socket(confirm) as script, Listener(script.url, MIDS) as listener:
        await listener.until(Connected)
        await script.connections[0].close(code)
        await listener.until(Connected, count=2, moving_s=0.5)

        assert [type(each) for each in listener.events] == [Connected, Disconnected, Connected]


async def test_a_venue_that_is_away_is_tried_again_with_growing_pauses():
    async with scripted_socket(confirm) as script:
        url = script.url
    async with Listener(url, MIDS) as listener:
        at_s = []
        for count in range(1, 8):
            await listener.until(Disconnected, count=count, moving_s=0.25)
            at_s.append(listener.clock.real_s())
    pauses = [after - before for before, after in pairwise(at_s)]

    assert pauses[-1] > 8 * pauses[0]
    assert max(pauses) <= StreamTiming().back_off_most_s + 2


async def test_a_proxy_of_the_machine_is_not_asked_for_this_machine(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with scripted_socket(confirm) as script, Listener(script.url, MIDS) as listener:
        assert (await listener.until(Connected)).first


async def test_a_ping_is_sent_and_a_missing_pong_ends_the_connection():
    async def never_pong(connection, message):
        if message["method"] != "ping":
            await confirm(connection, message)

    async with scripted_socket(never_pong) as script, Listener(script.url, MIDS) as listener:
        await listener.until(Connected)
        lost = await listener.until(Disconnected, moving_s=1)

        assert "no pong" in lost.reason
        assert {"method": "ping"} in script.received[0]


async def test_answered_pings_keep_the_connection():
    async with scripted_socket(confirm) as script, Listener(script.url, MIDS) as listener:
        await listener.until(Connected)
        for _ in range(300):
            await listener.clock.advance(0.5)
            await asyncio.sleep(0.001)

        assert len(script.connections) == 1
        assert sum(each == {"method": "ping"} for each in script.received[0]) >= 5


async def test_silence_of_a_subscription_that_always_ticks_ends_the_connection():
    ticking = Subscription("allMids", max_silence_s=15)
    timing = StreamTiming(ping_every_s=3600)
    async with scripted_socket(confirm) as script, Listener(script.url, ticking, timing=timing) as listener:
        await listener.until(Connected)
        await script.connections[0].send(say("allMids", {"mids": {"BTC": "1.0"}}))
        await listener.until(AllMids)
        assert listener.stream.silent_s("allMids") == 0
        lost = await listener.until(Disconnected, moving_s=1)

        assert "allMids silent for 15" in lost.reason
        assert listener.stream.silent_s("allMids") == float("inf")


async def test_a_subscription_that_is_never_confirmed_is_named():
    async def half(connection, message):
        if message.get("subscription", {}).get("type") == "allMids":
            await confirm(connection, message)

    async with scripted_socket(half) as script, Listener(script.url, MIDS, ORDERS) as listener:
        lost = await listener.until(Disconnected, moving_s=1)

        assert "orderUpdates" in lost.reason
        assert "allMids" not in lost.reason
        assert not [each for each in listener.events if isinstance(each, Connected)]


async def test_what_the_venue_refuses_is_told_and_the_connection_stays():
    async with scripted_socket(confirm) as script, Listener(script.url, MIDS) as listener:
        await listener.until(Connected)
        await script.connections[0].send(say("error", 'Already subscribed: {"type":"allMids"}'))
        error = await listener.until(StreamError)

        assert "Already subscribed" in error.text
        assert listener.stream.connected


@pytest.mark.parametrize("text", ["not json", "{}", "[]", say("l2Book", {"coin": "BTC"}), say("userFills", None)])
async def test_what_cannot_be_read_is_told_and_the_stream_goes_on(text):
    async with scripted_socket(confirm) as script, Listener(script.url, MIDS) as listener:
        await listener.until(Connected)
        await script.connections[0].send(text)
        await script.connections[0].send(say("allMids", {"mids": {"BTC": "1.0"}}))
        await listener.until(AllMids)

        assert [type(each) for each in listener.events] == [Connected, StreamError, AllMids]


async def test_a_channel_that_nobody_asked_for_is_passed_over():
    async with scripted_socket(confirm) as script, Listener(script.url, MIDS) as listener:
        await listener.until(Connected)
        await script.connections[0].send(say("notification", {"notification": "hello"}))
        await script.connections[0].send(say("allMids", {"mids": {"BTC": "1.0"}}))
        await listener.until(AllMids)

        assert [type(each) for each in listener.events] == [Connected, AllMids]


async def test_a_failing_listener_is_not_taken_for_a_lost_connection():
    async def fail(_event):
        raise OSError("the listener's own trouble")

    async with scripted_socket(confirm) as script:
        stream = VenueStream(script.url, [MIDS], clock=ManualClock(), ids=Ids(1))
        with pytest.raises(OSError, match="own trouble"):
            await asyncio.wait_for(stream.run(fail), 60)
        async with asyncio.timeout(60):
            await script.connections[0].wait_closed()


async def test_closing_the_events_closes_the_connection():
    async with scripted_socket(confirm) as script:
        stream = VenueStream(script.url, [MIDS], clock=ManualClock(), ids=Ids(1))
        async with aclosing(stream.events()) as events:
            assert isinstance(await anext(events), Connected)
        async with asyncio.timeout(60):
            await script.connections[0].wait_closed()


async def test_what_is_no_longer_wanted_is_not_asked_for_again():
    async with scripted_socket(confirm) as script, Listener(script.url, MIDS, BOOK) as listener:
        await listener.until(Connected)
        listener.wanted = (MIDS,)
        script.connections[0].transport.abort()
        await listener.until(Connected, count=2, moving_s=0.5)

        assert [each["subscription"]["type"] for each in script.received[-1]] == ["allMids"]


async def test_what_is_wanted_later_is_asked_for_on_a_new_connection():
    async with scripted_socket(confirm) as script, Listener(script.url, MIDS) as listener:
        await listener.until(Connected)
        listener.wanted = (MIDS, BOOK)
        lost = await listener.until(Disconnected, moving_s=0.5)
        await listener.until(Connected, count=2, moving_s=0.5)

        assert "not asked for: {'type': 'l2Book', 'coin': 'BTC'}" in lost.reason
        assert [each["subscription"]["type"] for each in script.received[-1]] == ["allMids", "l2Book"]


async def test_nothing_wanted_makes_no_connection_until_something_is():
    async with scripted_socket(confirm) as script, Listener(script.url) as listener:
        for _ in range(100):
            await listener.clock.advance(1)
        assert (listener.events, script.connections) == ([], [])
        listener.wanted = (BOOK,)
        await listener.until(Connected, moving_s=0.5)

        assert [each["subscription"]["type"] for each in script.received[-1]] == ["l2Book"]


ORDER = {
    "coin": "BTC",
    "side": "B",
    "limitPx": "100.0",
    "sz": "0.4",
    "oid": 9,
    "timestamp": 1,
    "origSz": "1.0",
    "cloid": "0x00000000000000000000000000000001",
}
FILL = {
    "coin": "BTC",
    "px": "100.0",
    "sz": "0.6",
    "side": "B",
    "time": 5,
    "startPosition": "0.0",
    "dir": "Open Long",
    "closedPnl": "0.0",
    "hash": "0x0",
    "oid": 9,
    "crossed": False,
    "fee": "0.01",
    "tid": 3,
    "feeToken": "USDC",
}
CANDLE = {"t": 0, "T": 59999, "s": "BTC", "i": "1m", "o": "1", "h": "2", "l": "1", "c": "2", "v": "3", "n": 4}


def test_order_updates_are_typed_and_spot_is_left_out():
    rows = [{"order": ORDER | {"coin": coin}, "status": "open", "statusTimestamp": 7} for coin in ("BTC", "@1")]
    event = read_event("orderUpdates", rows)

    assert isinstance(event, OrderUpdates)
    (status,) = event.orders
    assert (status.order.oid, status.report_status) == (9, ReportStatus.PARTIAL)


@pytest.mark.parametrize(
    ("flag", "snapshot"), [({"isSnapshot": True}, True), ({"isSnapshot": False}, False), ({}, False)]
)
def test_a_snapshot_of_fills_is_told_from_new_ones(flag, snapshot):
    event = read_event("userFills", {"user": USER, "fills": [FILL, FILL | {"coin": "xyz:NVDA"}]} | flag)

    assert isinstance(event, UserFills)
    assert event.is_snapshot is snapshot
    assert [each.size for each in event.fills] == [Decimal("0.6")]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"fills": [FILL]}, UserEventFills),
        ({"funding": {"time": 1, "coin": "BTC", "usdc": "-1", "szi": "1", "fundingRate": "0.1"}}, UserFunding),
        ({"liquidation": {"lid": 1, "liquidated_user": USER}}, Liquidation),
        ({"nonUserCancel": [{"coin": "BTC", "oid": 9}]}, NonUserCancel),
    ],
)
def test_user_events_come_on_the_channel_user(data, kind):
    assert isinstance(read_event("user", data), kind)


def test_market_channels_are_typed():
    level = {"px": "99.0", "sz": "1", "n": 2}
    book = read_event("l2Book", {"coin": "BTC", "time": 5, "levels": [[level], []], "fast": True})
    best = read_event("bbo", {"coin": "BTC", "time": 5, "bbo": [level, None]})
    trades = read_event(
        "trades",
        [
            {
                "coin": "BTC",
                "side": "A",
                "px": "1",
                "sz": "2",
                "time": 5,
                "hash": "0x0",
                "tid": 6,
                "users": ["0x1", "0x2"],
            }
        ],
    )

    assert isinstance(book, L2Book)
    assert book.book.bids[0].px == 99
    assert isinstance(best, BestPrices)
    assert best.book.asks == ()
    assert isinstance(trades, Trades)
    assert trades.trades[0].tid == 6


@pytest.mark.parametrize("data", [CANDLE, [CANDLE], CANDLE | {"o": 1, "h": 2.0, "l": 1, "c": 2, "v": 3.0}])
def test_candles_are_read_as_one_or_many_and_as_text_or_numbers(data):
    event = read_event("candle", data)

    assert isinstance(event, Candles)
    assert (event.candles[0].high, event.candles[0].volume) == (2, 3)
