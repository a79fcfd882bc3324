"""Point 1 of the venue's behaviour: what is 200, 400, 415, 422, 429, 500, and with which body."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from paper.conftest import ALICE, ALICE_KEY
from support.paper import Paper, SetPrices, Trader, order, paper_exchange

TYPED = "Failed to deserialize the JSON body into the target type"


async def test_a_business_refusal_is_http_200_with_an_error_per_order_that_names_the_asset(alice: Trader) -> None:
    answer = await alice.post(
        alice.signed({"type": "order", "orders": [order(5, "buy", "0.01", "150")], "grouping": "na"})
    )

    assert answer.status_code == 200
    assert answer.json()["response"]["data"]["statuses"] == [{"error": "Order must have minimum value of $10. asset=5"}]


@pytest.mark.parametrize("path", ["/info", "/exchange"])
async def test_a_body_that_is_not_json_is_400(paper: Paper, path: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(paper.http_url + path, content=b"{", headers={"Content-Type": "application/json"})

    assert answer.status_code == 400
    assert answer.text.startswith("Failed to parse the request body as JSON")


async def test_another_content_type_is_415(paper: Paper) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(paper.http_url + "/info", content=b"{}", headers={"Content-Type": "text/plain"})

    assert (answer.status_code, answer.text) == (415, "Expected request with `Content-Type: application/json`")


@pytest.mark.parametrize(
    "change",
    [
        {"p": 150},
        {"p": "1e2"},
        {"p": "-150"},
        {"p": "NaN"},
        {"p": ""},
        {"s": "0.123456789"},
        {"x": 1},
        {"t": {"limit": {"tif": "Fok"}}},
        {"c": "0x12"},
        {"b": "true"},
    ],
)
async def test_an_order_that_does_not_fit_the_schema_is_422_before_its_signature_is_looked_at(
    alice: Trader, change: dict[str, Any]
) -> None:
    body = alice.signed({"type": "order", "orders": [order(5, "buy", "1", "150")], "grouping": "na"})
    body["action"]["orders"][0] |= change

    answer = await alice.post(body)

    assert (answer.status_code, answer.text) == (422, TYPED)
    assert answer.headers["content-type"].startswith("text/plain")


async def test_unknown_fields_are_422_on_exchange_and_ignored_on_info(alice: Trader) -> None:
    body = alice.signed({"type": "noop"})
    refused = await alice.post(body | {"surprise": 1})
    read = await alice.post({"type": "allMids", "surprise": 1}, "/info")

    assert refused.status_code == 422
    assert read.status_code == 200


@pytest.mark.parametrize("query", [{"type": "nonsense"}, {"type": "orderStatus"}, {"type": "openOrders", "user": "x"}])
async def test_an_info_request_of_an_unknown_type_or_without_its_fields_is_422(
    alice: Trader, query: dict[str, Any]
) -> None:
    assert (await alice.post(query, "/info")).status_code == 422


@pytest.mark.parametrize("shape", [{"nSigFigs": 1}, {"nSigFigs": 6}, {"nSigFigs": 5, "mantissa": 3}, {"mantissa": 2}])
async def test_a_book_with_a_bad_aggregation_is_500_null(alice: Trader, shape: dict[str, int]) -> None:
    answer = await alice.post({"type": "l2Book", "coin": "BTC", **shape}, "/info")

    assert (answer.status_code, answer.text) == (500, "null")


async def test_a_book_of_an_unknown_coin_is_200_null(alice: Trader) -> None:
    answer = await alice.post({"type": "l2Book", "coin": "NOPE"}, "/info")

    assert (answer.status_code, answer.text) == (200, "null")


async def test_too_much_weight_in_a_minute_is_429_null_and_comes_back_with_time() -> None:
    async with paper_exchange(prices=SetPrices(), accounts=[ALICE], ip_weight_per_min=40) as paper:
        trader = Trader(paper, ALICE_KEY)
        first, second, third = [await trader.post({"type": "meta"}, "/info") for _ in range(3)]
        await paper.step(30)
        later = await trader.post({"type": "meta"}, "/info")

    assert [first.status_code, second.status_code, third.status_code, later.status_code] == [200, 200, 429, 200]
    assert third.text == "null"


async def test_server_errors_carry_html(paper: Paper, alice: Trader) -> None:
    paper.faults({"kind": "server_error", "path": "/info", "status": 503, "count": 1})

    answer = await alice.post({"type": "allMids"}, "/info")

    assert answer.status_code == 503
    assert answer.text.startswith("<html>")
