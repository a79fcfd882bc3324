"""Troubles on request: what a client sees of them, and what has happened all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from support.paper import Paper, Trader, order
from tradingbot.paper.faults import Fault, Faults, Kind, parse_fault

SOL = 5


async def opened(paper: Paper, alice: Trader) -> int:
    return len(await paper.info("openOrders", user=alice.address))


async def try_to_place(alice: Trader, **options: Any) -> Any:
    return await alice.send({"type": "order", "orders": [order(SOL, "buy", "1", "140")], "grouping": "na"}, **options)


async def test_a_drop_before_acceptance_breaks_the_connection_and_nothing_happened(paper: Paper, alice: Trader) -> None:
    paper.faults({"kind": "drop_before", "path": "/exchange", "count": 1})

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await try_to_place(alice)

    assert await opened(paper, alice) == 0
    assert (await try_to_place(alice))["status"] == "ok"


async def test_a_drop_after_acceptance_breaks_the_connection_and_the_order_stands(paper: Paper, alice: Trader) -> None:
    paper.faults({"kind": "drop_after", "path": "/exchange", "type": "order", "count": 1})
    nonce = alice.next_nonce()

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await try_to_place(alice, nonce=nonce)
    again = await try_to_place(alice, nonce=nonce)

    assert await opened(paper, alice) == 1
    assert again["response"] == f"Invalid nonce: duplicate nonce {nonce}"
    assert [line["verdict"] for line in paper.log("action")] == ["ok", again["response"]]


async def test_a_server_error_may_come_before_or_after_the_action_took_effect(paper: Paper, alice: Trader) -> None:
    found = []
    for kind in ("server_error", "server_error_after"):
        paper.faults({"kind": kind, "path": "/exchange", "count": 1})
        with pytest.raises(httpx.HTTPStatusError) as error:
            await try_to_place(alice)
        found.append((error.value.response.status_code, await opened(paper, alice)))

    assert found == [(502, 0), (502, 1)]


async def test_a_rate_limit_is_429_null(paper: Paper, alice: Trader) -> None:
    paper.faults({"kind": "rate_limit", "path": "/info", "type": "allMids", "count": 1})

    answer = await alice.post({"type": "allMids"}, "/info")
    other = await alice.post({"type": "meta"}, "/info")

    assert (answer.status_code, answer.text, other.status_code) == (429, "null", 200)


async def test_a_delay_in_virtual_time_lasts_until_the_clock_has_moved(paper: Paper, alice: Trader) -> None:
    paper.faults({"kind": "delay", "path": "/exchange", "delay_ms": 3_000, "count": 1})

    sending = asyncio.create_task(try_to_place(alice))
    while paper.venue.faults.rules != []:
        await asyncio.sleep(0)
    before = len(paper.log("action"))
    await paper.step(3)
    answer = await sending

    assert before == 0
    assert answer["status"] == "ok"


def test_the_same_seed_strikes_the_same_requests() -> None:
    def strikes(seed: int) -> list[bool]:
        faults = Faults([Fault(kind=Kind.DROP_AFTER, probability=0.3)], seed=seed)
        return [bool(faults.strike("/exchange", "order")) for _ in range(200)]

    assert strikes(1) == strikes(1) != strikes(2)
    assert 30 < sum(strikes(1)) < 90


def test_a_rule_strikes_its_path_and_type_alone_and_as_often_as_it_says() -> None:
    faults = Faults([Fault(kind=Kind.DELAY, path="/exchange", type="order", count=2)])

    hits = [faults.strike(*each) for each in (("/info", "order"), ("/exchange", "cancel"))]
    counted = [len(faults.strike("/exchange", "order")) for _ in range(3)]

    assert hits == [[], []]
    assert counted == [1, 1, 0]


def test_a_fault_can_be_written_as_an_option() -> None:
    assert parse_fault("drop_after,path=/exchange,type=order,count=1") == Fault(
        kind=Kind.DROP_AFTER, path="/exchange", type="order", count=1
    )
    assert parse_fault("429,count=3") == Fault(kind=Kind.RATE_LIMIT, count=3)
    assert parse_fault("503") == Fault(kind=Kind.SERVER_ERROR, status=503)
    for wrong in ("drop_after,pth=/exchange", "drop_after,count", "404", "drop_after,probability=2"):
        with pytest.raises(ValueError):
            parse_fault(wrong)
