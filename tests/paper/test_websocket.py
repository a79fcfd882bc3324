"""Point 8: the greeting, normalised echoes, snapshots where the venue sends them, silence where it is silent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from paper.conftest import ALICE, ALICE_KEY
from support.paper import Paper, SetPrices, Trader, order, paper_exchange
from tradingbot.paper.options import Quirks, SnapshotFlag

SOL = 5


class Client:
    """A socket that keeps what it hears."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, content: Any) -> None:
        await self.socket.send(content if isinstance(content, str) else json.dumps(content))

    async def hear(self) -> Any:
        return json.loads(await asyncio.wait_for(self.socket.recv(), 60))

    async def hear_on(self, channel: str) -> Any:
        while (frame := await self.hear())["channel"] != channel:
            pass
        return frame["data"]

    async def subscribe(self, **wanted: Any) -> Any:
        await self.say({"method": "subscribe", "subscription": wanted})
        return await self.hear()

    async def closes_with(self) -> int | None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.wait_for(self.socket.recv(), 60)
        return self.socket.close_code


@contextlib.asynccontextmanager
async def client(paper: Paper) -> AsyncIterator[Client]:
    async with connect(paper.ws_url, ping_interval=None) as socket:
        assert await socket.recv() == "Websocket connection established."
        yield Client(socket)


@pytest.mark.parametrize(
    ("wanted", "echo"),
    [
        ({"type": "l2Book", "coin": "SOL"}, {"nSigFigs": None, "mantissa": None}),
        ({"type": "userFills", "user": ALICE.upper().replace("X", "x")}, {"user": ALICE, "aggregateByTime": False}),
        ({"type": "orderUpdates", "user": ALICE}, {}),
        ({"type": "allMids"}, {}),
    ],
)
async def test_a_subscription_is_echoed_in_its_normal_form(
    paper: Paper, wanted: dict[str, Any], echo: dict[str, Any]
) -> None:
    async with client(paper) as reader:
        answer = await reader.subscribe(**wanted)

    assert answer == {
        "channel": "subscriptionResponse",
        "data": {"method": "subscribe", "subscription": wanted | echo},
    }


async def test_fills_come_with_a_marked_snapshot_and_updates_without_the_mark(paper: Paper, alice: Trader) -> None:
    await alice.place(order(SOL, "buy", "1", "155", tif="Ioc"))
    async with client(paper) as reader:
        await reader.subscribe(type="userFills", user=ALICE)
        snapshot = await reader.hear_on("userFills")
        await alice.place(order(SOL, "sell", "1", "145", tif="Ioc"))
        update = await reader.hear_on("userFills")

    assert (snapshot["isSnapshot"], len(snapshot["fills"])) == (True, 1)
    assert "isSnapshot" not in update
    assert update["fills"][0]["dir"] == "Close Long"


async def test_the_mark_of_later_messages_may_also_be_false() -> None:
    quirks = Quirks(snapshot_flag=SnapshotFlag.FALSE)
    async with paper_exchange(prices=SetPrices(), accounts=[ALICE], quirks=quirks) as paper, client(paper) as reader:
        await reader.subscribe(type="userFills", user=ALICE)
        await reader.hear_on("userFills")
        await Trader(paper, ALICE_KEY).place(order(SOL, "buy", "1", "155", tif="Ioc"))
        update = await reader.hear_on("userFills")

    assert update["isSnapshot"] is False


async def test_order_updates_have_no_snapshot_and_no_user_and_keep_the_rest_of_a_cancel(
    paper: Paper, alice: Trader
) -> None:
    (status,) = await alice.place(order(SOL, "buy", "1", "140"))
    async with client(paper) as reader:
        await reader.subscribe(type="orderUpdates", user=ALICE)
        await alice.cancel(SOL, status["resting"]["oid"])
        (update,) = await reader.hear_on("orderUpdates")

    assert update["status"] == "canceled"
    assert update["order"]["sz"] == "1.0"
    assert "user" not in update


async def test_user_events_speak_on_the_channel_named_user(paper: Paper, alice: Trader) -> None:
    async with client(paper) as reader:
        await reader.subscribe(type="userEvents", user=ALICE)
        await alice.place(order(SOL, "buy", "1", "155", tif="Ioc"))
        event = await reader.hear_on("user")

    assert event["fills"][0]["coin"] == "SOL"


async def test_trades_tell_the_taker_and_old_ones_come_unmarked(paper: Paper, alice: Trader) -> None:
    await alice.place(order(SOL, "buy", "1", "155", tif="Ioc"))
    async with client(paper) as reader:
        await reader.subscribe(type="trades", coin="SOL")
        old = await reader.hear_on("trades")
        await alice.place(order(SOL, "sell", "1", "145", tif="Ioc"))
        new = await reader.hear_on("trades")

    assert [trade["side"] for trade in (*old, *new)] == ["B", "A"]


async def test_mids_books_and_candles_speak_when_the_market_moves(paper: Paper, prices: SetPrices) -> None:
    async with client(paper) as reader:
        for wanted in (
            {"type": "allMids"},
            {"type": "l2Book", "coin": "SOL"},
            {"type": "bbo", "coin": "SOL"},
            {"type": "candle", "coin": "SOL", "interval": "1m"},
        ):
            await reader.subscribe(**wanted)
            await reader.hear()
        prices.set("SOL", 160.0)
        await paper.step(1)
        frames = {(frame := await reader.hear())["channel"]: frame["data"] for _ in range(4)}

    assert frames["allMids"]["mids"]["SOL"] == "160.0"
    assert frames["l2Book"]["levels"][0][0]["px"] == "159.98"
    assert frames["bbo"]["bbo"][1]["px"] == "160.02"
    assert frames["candle"]["c"] == "160.0"


async def test_pings_and_mistakes_are_answered_and_the_socket_stays(paper: Paper) -> None:
    async with client(paper) as reader:
        await reader.say({"method": "ping"})
        pong = await reader.hear()
        await reader.say("nonsense")
        broken = await reader.hear()
        unknown = await reader.subscribe(type="nonsense")
        await reader.subscribe(type="orderUpdates", user=ALICE)
        twice = await reader.subscribe(type="orderUpdates", user=ALICE)
        await reader.say({"method": "unsubscribe", "subscription": {"type": "userEvents", "user": ALICE}})
        never = await reader.hear()

    assert pong == {"channel": "pong"}
    assert broken["data"] == "Error parsing JSON into valid websocket request: nonsense"
    assert unknown["data"] == 'Invalid subscription {"type":"nonsense"}'
    assert twice["data"].startswith("Already subscribed: ")
    assert never["data"].startswith("Already unsubscribed: ")


async def test_an_unknown_coin_closes_the_socket_without_a_word(paper: Paper) -> None:
    async with client(paper) as reader:
        await reader.say({"method": "subscribe", "subscription": {"type": "l2Book", "coin": "NOPE"}})

        assert await reader.closes_with() == 1006


async def test_a_silent_socket_is_closed_after_a_minute_and_a_ping_keeps_it(paper: Paper) -> None:
    async with client(paper) as silent, client(paper) as pinging:
        await paper.step(40)
        await pinging.say({"method": "ping"})
        await pinging.hear()
        await paper.step(25)
        code = await silent.closes_with()
        await pinging.say({"method": "ping"})
        still = await pinging.hear()

    assert code == 1000
    assert still == {"channel": "pong"}


@pytest.mark.parametrize("code", [1000, 1006])
async def test_sockets_are_closed_or_broken_off_on_request(paper: Paper, code: int) -> None:
    async with client(paper) as reader:
        paper.faults({"kind": "close_sockets", "close_code": code, "count": 1})
        await paper.step(1)

        assert await reader.closes_with() == code


async def test_an_eleventh_connection_is_refused(paper: Paper) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(client(paper))
        with pytest.raises(InvalidStatus) as refused:
            async with connect(paper.ws_url):
                pass

    assert refused.value.response.status_code == 429


@pytest.mark.parametrize("most", [10, 15])
async def test_only_so_many_users_are_tracked(most: int) -> None:
    async with (
        paper_exchange(prices=SetPrices(), accounts=[ALICE], quirks=Quirks(tracked_users=most)) as paper,
        client(paper) as reader,
    ):
        answers = [await reader.subscribe(type="orderUpdates", user=f"0x{index:040x}") for index in range(most + 1)]

    assert [answer["channel"] for answer in answers] == ["subscriptionResponse"] * most + ["error"]
    assert answers[-1]["data"] == f"Cannot track more than {most} total users."


async def test_reads_and_actions_can_be_posted(paper: Paper, alice: Trader) -> None:
    action = alice.signed({"type": "order", "orders": [order(SOL, "buy", "1", "140")], "grouping": "na"})
    async with client(paper) as reader:
        await reader.say({"method": "post", "id": 7, "request": {"type": "info", "payload": {"type": "allMids"}}})
        read = await reader.hear_on("post")
        await reader.say({"method": "post", "id": 8, "request": {"type": "action", "payload": action}})
        done = await reader.hear_on("post")
        await reader.say({"method": "post", "id": 9, "request": {"type": "info", "payload": {"type": "nonsense"}}})
        failed = await reader.hear_on("post")

    assert (read["id"], read["response"]["payload"]["data"]["SOL"]) == (7, "150.0")
    assert done["response"]["payload"]["status"] == "ok"
    assert failed["response"] == {
        "type": "error",
        "payload": "422 Failed to deserialize the JSON body into the target type",
    }


async def test_nothing_is_replayed_after_a_reconnect(paper: Paper, alice: Trader) -> None:
    async with client(paper) as reader:
        await reader.subscribe(type="orderUpdates", user=ALICE)
    await alice.place(order(SOL, "buy", "1", "140"))
    async with client(paper) as reader:
        await reader.subscribe(type="orderUpdates", user=ALICE)
        await reader.say({"method": "ping"})

        assert await reader.hear() == {"channel": "pong"}
