"""The control endpoint: the log as ground truth, money, positions and prices by hand."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from paper.conftest import ALICE, ALICE_KEY
from support.paper import Paper, SetPrices, Trader, order, paper_exchange
from tradingbot.paper.server import create_app
from tradingbot.runtime.clock import ManualClock

SOL = 5
CLOID = "0x0000000000000000000000000000abcd"


async def get(trader: Trader, path: str) -> object:
    async with httpx.AsyncClient(verify=False) as client:
        return (await client.get(trader.paper.http_url + path)).json()


async def test_the_log_tells_every_action_with_its_verdict_and_every_step_of_every_order(alice: Trader) -> None:
    nonce = alice.next_nonce()
    until = nonce + 5_000
    await alice.place(order(SOL, "buy", "1", "155", tif="Ioc", cloid=CLOID), nonce=nonce, expires=until)
    await alice.send({"type": "noop"}, nonce=nonce)

    log = await get(alice, "/control/log")

    assert isinstance(log, list)
    actions = [line for line in log if line["kind"] == "action"]
    assert [(a["type"], a["nonce"], a["signer"], a["cloids"], a["expiresAfter"]) for a in actions] == [
        ("order", nonce, ALICE, [CLOID], until),
        ("noop", nonce, ALICE, [], None),
    ]
    assert [a["admitted"] for a in actions] == [True, False]
    assert actions[1]["verdict"] == f"Invalid nonce: duplicate nonce {nonce}"
    assert [line["status"] for line in log if line["kind"] == "order"] == ["filled"]
    assert [line["cloid"] for line in log if line["kind"] == "fill"] == [CLOID]
    assert [line["id"] for line in log] == sorted(line["id"] for line in log)


async def test_the_log_can_be_read_on_from_where_one_stopped(alice: Trader) -> None:
    await alice.send({"type": "noop"})
    first = await get(alice, "/control/log?kind=action")
    assert isinstance(first, list)
    await alice.send({"type": "noop"})

    more = await get(alice, f"/control/log?kind=action&after={first[-1]['id']}")

    assert isinstance(more, list)
    assert len(first) == len(more) == 1


async def test_the_log_never_holds_a_signature(paper: Paper, alice: Trader) -> None:
    body = alice.signed({"type": "noop"})
    await alice.post(body)

    assert body["signature"]["r"] not in json.dumps(paper.log())


async def test_the_status_says_where_prices_come_from() -> None:
    async with paper_exchange(accounts=[ALICE], clock=ManualClock()) as paper:
        status = await get(Trader(paper, ALICE_KEY), "/control/status")

    assert isinstance(status, dict)
    assert (status["prices"], status["synthetic"]) == ("synthetic", True)
    assert status["accounts"][0]["address"] == ALICE


async def test_deposits_and_withdrawals_move_equity_and_stand_in_the_ledger(paper: Paper, alice: Trader) -> None:
    for amount in ("500", "-200"):
        await alice.post({"user": ALICE, "amount_usd": amount}, "/control/deposit")

    ledger = await paper.info("userNonFundingLedgerUpdates", user=ALICE, startTime=0)
    assert (await alice.state())["marginSummary"]["accountValue"] == "10300.0"
    assert [(row["delta"]["type"], row["delta"]["usdc"]) for row in ledger] == [
        ("deposit", "10000.0"),
        ("deposit", "500.0"),
        ("withdraw", "200.0"),
    ]


async def test_a_position_opened_by_hand_is_there_and_a_shock_moves_its_value(paper: Paper, alice: Trader) -> None:
    await alice.post({"user": ALICE, "coin": "SOL", "sz": "-10"}, "/control/position")
    before = float((await alice.state())["marginSummary"]["accountValue"])
    await alice.post({"coin": "SOL", "factor": 1.1}, "/control/price")

    after = float((await alice.state())["marginSummary"]["accountValue"])

    assert (await alice.state())["assetPositions"][0]["position"]["szi"] == "-10.0"
    assert (await paper.info("allMids"))["SOL"] == "165.0"
    assert after - before == pytest.approx(-150)


async def test_a_delisted_coin_has_no_price_and_no_orders_and_keeps_its_id_and_its_positions(
    paper: Paper, alice: Trader
) -> None:
    await alice.post({"user": ALICE, "coin": "SOL", "sz": "10"}, "/control/position")
    await alice.place(order(SOL, "buy", "1", "100", cloid=CLOID))
    await alice.post({"coin": "SOL", "factor": 1.1}, "/control/price")
    before = await alice.state()

    assert (await alice.post({"coin": "SOL"}, "/control/delist")).status_code == 200

    meta, contexts = await paper.info("metaAndAssetCtxs")
    assert meta["universe"][SOL] == meta["universe"][SOL] | {"name": "SOL", "isDelisted": True}
    assert contexts[SOL]["midPx"] is None
    assert "SOL" not in await paper.info("allMids")
    assert await paper.info("l2Book", coin="SOL") is None
    assert (await alice.status_of(CLOID))["order"]["status"] == "delistedCanceled"
    (refused,) = await alice.place(order(SOL, "sell", "1", "160", reduce_only=True))
    assert refused == {"error": f"Order has invalid asset. asset={SOL}"}
    await paper.step(120)
    after = await alice.state()
    assert after["marginSummary"] == before["marginSummary"]
    assert after["assetPositions"][0]["position"]["positionValue"] == "1650.0"


async def test_a_delisting_outlasts_a_restart_with_the_last_mark(tmp_path: Path) -> None:
    clock = ManualClock()
    async with paper_exchange(accounts=[ALICE], clock=clock, prices=SetPrices(), data_dir=tmp_path) as paper:
        trader = Trader(paper, ALICE_KEY)
        await trader.post({"user": ALICE, "coin": "SOL", "sz": "10"}, "/control/position")
        await trader.post({"coin": "SOL", "factor": 1.1}, "/control/price")
        await trader.post({"coin": "SOL"}, "/control/delist")
        before = await trader.state()
    async with paper_exchange(accounts=[ALICE], clock=clock, prices=SetPrices(), data_dir=tmp_path) as paper:
        await paper.step(60)
        assert "SOL" not in await paper.info("allMids")
        assert (await Trader(paper, ALICE_KEY).state())["marginSummary"] == before["marginSummary"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/control/price", {"coin": "NOPE", "factor": 2}, 404),
        ("/control/price", {"coin": "SOL", "factor": -1}, 422),
        ("/control/delist", {"coin": "NOPE"}, 404),
        ("/control/delist", {"coin": "DELISTED2"}, 404),
        ("/control/position", {"user": "0x" + "0" * 40, "coin": "SOL", "sz": "1"}, 404),
        ("/control/faults", {"kind": "nonsense"}, 422),
    ],
)
async def test_a_wrong_request_changes_nothing_and_says_why(
    alice: Trader, path: str, body: dict[str, object], status: int
) -> None:
    answer = await alice.post(body, path)

    assert answer.status_code == status
    assert answer.json()["error"]


async def test_faults_are_set_listed_and_cleared_over_http(alice: Trader) -> None:
    await alice.post([{"kind": "rate_limit", "path": "/info"}], "/control/faults")
    struck = await alice.post({"type": "allMids"}, "/info")
    async with httpx.AsyncClient(verify=False) as client:
        await client.delete(alice.paper.http_url + "/control/faults")
    later = await alice.post({"type": "allMids"}, "/info")

    assert (struck.status_code, later.status_code) == (429, 200)


@pytest.mark.parametrize(("peer", "status"), [("127.0.0.1", 200), ("::1", 200), ("10.244.0.8", 403), ("odd", 403)])
async def test_control_answers_this_machine_alone_wherever_the_exchange_listens(
    paper: Paper, peer: str, status: int
) -> None:
    app = create_app(paper.venue, paper.running.hub)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=(peer, 40_000)), base_url="http://paper"
    ) as client:
        assert (await client.get("/control/status")).status_code == status
        assert (await client.post("/control/price", json={"coin": "SOL", "factor": 1.0})).status_code == status
        assert (await client.post("/info", json={"type": "meta"})).status_code == 200
