"""Point 2: the signer is recovered from the canonical action; agents act for their master until they may not."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from eth_account import Account
from hyperliquid.utils.signing import sign_agent, sign_l1_action

from paper.conftest import ALICE, ALICE_KEY, BOB
from support.paper import Paper, SetPrices, Trader, order, paper_exchange
from tradingbot.paper.actions import Request, canonical
from tradingbot.paper.signatures import recover_signer

DAY_MS = 86_400_000
STRANGER_KEY = "0x" + "99" * 32
SDK_VECTOR_KEY = "0x0123456789012345678901234567890123456789012345678901234567890123"
CLOID = "0x0000000000000000000000000000abcd"


def approval(master: Trader, agent: str, *, name: str | None) -> dict[str, Any]:
    """approveAgent as the SDK builds it."""
    nonce = master.next_nonce()
    action: dict[str, Any] = {"type": "approveAgent", "agentAddress": agent, "agentName": name or "", "nonce": nonce}
    signature = sign_agent(master.wallet, action, False)
    if name is None:
        del action["agentName"]
    return {"action": action, "nonce": nonce, "signature": signature, "vaultAddress": None, "expiresAfter": None}


def test_the_sdks_published_testnet_signature_recovers_to_its_key() -> None:
    body = {
        "action": {"type": "order", "orders": [order(1, "buy", "100", "100")], "grouping": "na"},
        "nonce": 0,
        "signature": {
            "r": "0x82b2ba28e76b3d761093aaded1b1cdad4960b3af30212b343fb2e6cdfa4e3d54",
            "s": "0x6b53878fc99d26047f4d7e8c90eb98955a109f44209163f52d8dc4278cbbd9f5",
            "v": 27,
        },
    }

    signer = recover_signer(Request.model_validate_json(json.dumps(body)))

    assert signer == str(Account.from_key(SDK_VECTOR_KEY).address).lower()


async def test_key_order_trailing_zeros_and_upper_case_ids_do_not_change_the_signer(alice: Trader) -> None:
    body = alice.signed({"type": "order", "orders": [order(5, "buy", "1", "140", cloid=CLOID)], "grouping": "na"})
    spec = body["action"]["orders"][0]
    shuffled = {key: spec[key] for key in reversed(spec)} | {"p": "140.000", "c": CLOID.upper().replace("X", "x")}
    body["action"] = {"grouping": "na", "orders": [shuffled], "type": "order"}

    answer = (await alice.post(body)).json()

    assert answer["response"]["data"]["statuses"][0]["resting"]["cloid"] == CLOID


@pytest.mark.parametrize(
    "action",
    [
        {"type": "order", "orders": [order(5, "buy", "1", "140", cloid=CLOID)], "grouping": "na"},
        {"type": "cancel", "cancels": [{"a": 5, "o": 1}]},
        {"type": "cancelByCloid", "cancels": [{"asset": 5, "cloid": CLOID}]},
        {"type": "batchModify", "modifies": [{"oid": CLOID, "order": order(5, "buy", "1", "140")}]},
        {"type": "scheduleCancel", "time": 123},
        {"type": "scheduleCancel"},
        {"type": "updateLeverage", "asset": 5, "isCross": True, "leverage": 3},
        {"type": "updateIsolatedMargin", "asset": 5, "isBuy": True, "ntli": -1000000},
        {"type": "noop"},
    ],
)
def test_the_canonical_form_of_every_action_is_what_the_sdk_signs(action: dict[str, Any]) -> None:
    wallet = Account.from_key(STRANGER_KEY)
    body = {
        "action": action,
        "nonce": 5,
        "signature": sign_l1_action(wallet, action, None, 5, 9, False),
        "expiresAfter": 9,
    }
    request = Request.model_validate_json(json.dumps(body))

    assert canonical(request.action) == action
    assert list(canonical(request.action)) == list(action)
    assert recover_signer(request) == str(wallet.address).lower()


async def test_an_unknown_signer_does_not_exist(paper: Paper) -> None:
    stranger = Trader(paper, STRANGER_KEY)

    answer = await stranger.send({"type": "noop"})

    assert answer == {"status": "err", "response": f"User or API Wallet {stranger.address} does not exist."}


async def test_a_changed_action_recovers_to_some_other_address_that_does_not_exist(alice: Trader) -> None:
    body = alice.signed({"type": "order", "orders": [order(5, "buy", "1", "140")], "grouping": "na"})
    body["action"]["orders"][0]["s"] = "2"

    answer = (await alice.post(body)).json()

    assert answer["status"] == "err"
    assert answer["response"].endswith("does not exist.")
    assert alice.address not in answer["response"]


async def test_an_agent_of_the_options_trades_for_the_first_account() -> None:
    agent = Account.from_key(STRANGER_KEY).address
    async with paper_exchange(
        prices=SetPrices(), accounts=[ALICE, BOB], agents=[agent, f"{'0x' + 'ab' * 20}:{BOB}"]
    ) as paper:
        trader = Trader(paper, STRANGER_KEY)
        await trader.place(order(5, "buy", "1", "140"))
        opened = await paper.info("openOrders", user=ALICE)
        roles = [await paper.info("userRole", user=each) for each in (trader.address, "0x" + "ab" * 20, ALICE, NOBODY)]

    assert len(opened) == 1
    assert roles == [
        {"role": "agent", "data": {"user": ALICE}},
        {"role": "agent", "data": {"user": BOB}},
        {"role": "user"},
        {"role": "missing"},
    ]


NOBODY = "0x" + "77" * 20


@pytest.mark.parametrize("name", [None, "bot"])
async def test_an_approved_agent_may_sign_and_a_named_one_is_listed(
    paper: Paper, alice: Trader, name: str | None
) -> None:
    agent = Trader(paper, STRANGER_KEY)

    approved = (await alice.post(approval(alice, agent.address, name=name))).json()
    placed = await agent.place(order(5, "buy", "1", "140"))
    listed = await paper.info("extraAgents", user=alice.address)

    assert approved == {"status": "ok", "response": {"type": "default"}}
    assert "resting" in placed[0]
    assert [each["address"] for each in listed] == ([agent.address] if name else [])


async def test_a_new_agent_under_the_same_name_ends_the_old_one(paper: Paper, alice: Trader) -> None:
    old, new = Trader(paper, STRANGER_KEY), Trader(paper, "0x" + "98" * 32)
    await alice.post(approval(alice, old.address, name="bot"))
    await alice.post(approval(alice, new.address, name="bot"))

    assert (await old.send({"type": "noop"}))["response"].endswith("does not exist.")
    assert (await new.send({"type": "noop"}))["status"] == "ok"


async def test_an_expired_agent_does_not_exist(paper: Paper, alice: Trader) -> None:
    agent = Trader(paper, STRANGER_KEY)
    until = paper.clock.now_ms() + 60_000
    await alice.post(approval(alice, agent.address, name=f"bot valid_until {until}"))
    before = await agent.send({"type": "noop"})
    await paper.step(61)

    assert before["status"] == "ok"
    assert (await agent.send({"type": "noop"}))["response"].endswith("does not exist.")


async def test_an_agent_may_not_approve_agents(paper: Paper, alice: Trader) -> None:
    agent = Trader(paper, STRANGER_KEY)
    await alice.post(approval(alice, agent.address, name=None))

    answer = (await agent.post(approval(agent, NOBODY, name=None))).json()

    assert answer["response"] == f"Must deposit before performing actions. User: {agent.address}"


async def test_only_three_named_agents_and_never_one_address_twice(alice: Trader) -> None:
    answers = [
        (await alice.post(approval(alice, "0x" + f"{index:02x}" * 20, name=f"bot{index}"))).json()
        for index in range(1, 5)
    ]
    again = (await alice.post(approval(alice, "0x" + "01" * 20, name="bot1"))).json()

    assert [answer["status"] for answer in answers] == ["ok", "ok", "ok", "err"]
    assert again == {"status": "err", "response": "Extra agent already used."}


async def test_a_nonce_counts_once_even_when_the_action_was_refused(alice: Trader) -> None:
    nonce = alice.next_nonce()
    refused = order(5, "buy", "0.01", "150")
    await alice.place(refused, nonce=nonce)

    again = await alice.send({"type": "order", "orders": [refused], "grouping": "na"}, nonce=nonce)

    assert again == {"status": "err", "response": f"Invalid nonce: duplicate nonce {nonce}"}


async def test_a_hundred_and_first_nonce_must_be_above_the_smallest_kept(paper: Paper, alice: Trader) -> None:
    base = paper.clock.now_ms()
    for offset in range(100):
        await alice.send({"type": "noop"}, nonce=base + offset)

    low = await alice.send({"type": "noop"}, nonce=base - 1)
    between = await alice.send({"type": "noop"}, nonce=base + 500)

    assert low["response"] == f"Invalid nonce: nonce too low {base - 1} < {base}"
    assert between["status"] == "ok"


@pytest.mark.parametrize(("offset_ms", "text"), [(-2 * DAY_MS, "too low"), (DAY_MS, "too high")])
async def test_a_nonce_outside_the_window_is_refused(paper: Paper, alice: Trader, offset_ms: int, text: str) -> None:
    answer = await alice.send({"type": "noop"}, nonce=paper.clock.now_ms() + offset_ms)

    assert text in answer["response"]


async def test_an_expired_action_is_refused_uses_its_nonce_and_costs_five(paper: Paper, alice: Trader) -> None:
    nonce, late = alice.next_nonce(), paper.clock.now_ms() - 1
    first = await alice.send({"type": "noop"}, nonce=nonce, expires=late)
    second = await alice.send({"type": "noop"}, nonce=nonce, expires=late)
    used = (await paper.info("userRateLimit", user=alice.address))["nRequestsUsed"]

    assert first == {"status": "err", "response": "Action already expired"}
    assert second["response"].startswith("Invalid nonce: duplicate")
    assert used == 5


async def test_the_same_bytes_sent_at_once_by_ten_clients_act_once(paper: Paper, alice: Trader) -> None:
    body = alice.signed({"type": "order", "orders": [order(5, "buy", "1", "140")], "grouping": "na"})

    answers = [answer.json()["status"] for answer in await asyncio.gather(*(alice.post(body) for _ in range(10)))]

    assert sorted(answers) == ["err"] * 9 + ["ok"]
    assert len(await paper.info("openOrders", user=alice.address)) == 1


async def test_a_vault_is_not_registered(paper: Paper) -> None:
    trader = Trader(paper, ALICE_KEY)
    nonce, vault = trader.next_nonce(), "0x" + "aa" * 20
    body = {
        "action": {"type": "noop"},
        "nonce": nonce,
        "signature": sign_l1_action(trader.wallet, {"type": "noop"}, vault, nonce, None, False),
        "vaultAddress": vault,
        "expiresAfter": None,
    }

    assert (await trader.post(body)).json()["response"] == f"Vault not registered: {vault}"
