"""One bot per network and account: who gets it, who is refused, and how it passes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.operator_bus import MASTER, NOW_MS, bot_of
from support.operator_kube import FakeKube
from tradingbot.domain.static import Network
from tradingbot.runtime.clock import ManualClock
from tradingbot_operator.accounts import LEASE, LEASE_API, AccountInUse, Accounts, Holder, lease_name
from tradingbot_operator.keys import account_of
from tradingbot_operator.kube import Forbidden, KubeError
from tradingbot_operator.resource import Bot

ACCOUNT = "0x" + "ab" * 20
LEASES = "operators"
TESTNET = {
    "exchange": {"network": "testnet", "accountAddress": ACCOUNT, "privateKeySecretRef": {"name": "key"}},
}


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube(clock=ManualClock(NOW_MS))


def accounts_at(kube: Any) -> Accounts:
    """One operator process."""
    return Accounts(kube, namespace=LEASES, clock=ManualClock(NOW_MS))


def resource(kube: FakeKube, name: str, *, namespace: str = "trading") -> Bot:
    """A bot that the API server knows."""
    body = kube.person_creates(namespace, name, TESTNET)
    return bot_of(TESTNET, name=name, namespace=namespace, uid=body["metadata"]["uid"])


def holder_of(kube: FakeKube) -> str:
    [lease] = kube.of_kind(LEASE)
    return str(lease["spec"]["holderIdentity"])


async def test_the_first_bot_gets_the_account_and_the_second_is_refused_by_name(kube: FakeKube) -> None:
    first, second = resource(kube, "first"), resource(kube, "second")
    accounts = accounts_at(kube)
    await accounts.claim(first, ACCOUNT)
    assert holder_of(kube) == f"trading/first/{first.uid}"
    with pytest.raises(AccountInUse, match="TradingBot first trades this account on testnet") as caught:
        await accounts.claim(second, ACCOUNT)
    assert caught.value.delay_s is not None
    assert (accounts.holds(first), accounts.holds(second)) == (True, False)


async def test_a_bot_of_another_namespace_is_not_named(kube: FakeKube) -> None:
    first, second = resource(kube, "secret-plan", namespace="elsewhere"), resource(kube, "second")
    await accounts_at(kube).claim(first, ACCOUNT)
    with pytest.raises(AccountInUse) as caught:
        await accounts_at(kube).claim(second, ACCOUNT)
    assert "secret-plan" not in str(caught.value)
    assert "elsewhere" not in str(caught.value)


async def test_the_same_account_on_another_network_and_in_other_letters_is_told_apart_or_not(kube: FakeKube) -> None:
    assert lease_name(Network.TESTNET, ACCOUNT) == lease_name(Network.TESTNET, ACCOUNT.upper().replace("0X", "0x"))
    assert lease_name(Network.TESTNET, ACCOUNT) != lease_name(Network.MAINNET, ACCOUNT)
    assert ACCOUNT[2:10] not in lease_name(Network.TESTNET, ACCOUNT)


async def test_a_claim_that_is_held_costs_nothing_until_it_is_to_be_verified(kube: FakeKube) -> None:
    bot, asked = resource(kube, "first"), 0

    def count(verb: str, kind: str, name: str) -> None:
        nonlocal asked
        asked += kind == LEASE

    kube.refuse = count
    accounts = accounts_at(kube)
    await accounts.claim(bot, ACCOUNT)
    before = asked
    await accounts.claim(bot, ACCOUNT)
    assert asked == before
    written = len(kube.writes)
    await accounts.claim(bot, ACCOUNT, verify=True)
    await accounts_at(kube).claim(bot, ACCOUNT)  # a restart finds it held: nothing is written
    assert (asked, len(kube.writes)) == (before + 2, written)


async def test_a_lease_that_somebody_deleted_is_made_again(kube: FakeKube) -> None:
    bot, accounts = resource(kube, "first"), accounts_at(kube)
    await accounts.claim(bot, ACCOUNT)
    await kube.delete(LEASE_API, LEASE, LEASES, lease_name(Network.TESTNET, ACCOUNT))
    await accounts.claim(bot, ACCOUNT, verify=True)
    assert holder_of(kube) == str(Holder.of(bot))


async def test_a_released_account_is_free(kube: FakeKube) -> None:
    first, second = resource(kube, "first"), resource(kube, "second")
    accounts = accounts_at(kube)
    await accounts.claim(first, ACCOUNT)
    await accounts.release(second, ACCOUNT)  # it holds nothing: nothing happens
    assert holder_of(kube) == str(Holder.of(first))
    await accounts.release(first, ACCOUNT)
    assert kube.of_kind(LEASE) == []
    await accounts.claim(second, ACCOUNT)
    assert holder_of(kube) == str(Holder.of(second))


async def test_the_lease_of_a_bot_that_is_gone_is_taken_over(kube: FakeKube) -> None:
    first, second = resource(kube, "first"), resource(kube, "second")
    await accounts_at(kube).claim(first, ACCOUNT)
    kube.person_deletes("trading", "first")
    accounts = accounts_at(kube)
    await accounts.claim(second, ACCOUNT)
    assert holder_of(kube) == str(Holder.of(second))
    [lease] = kube.of_kind(LEASE)
    assert lease["spec"]["leaseTransitions"] == 1


async def test_a_new_bot_of_the_same_name_is_another_bot(kube: FakeKube) -> None:
    first = resource(kube, "first")
    await accounts_at(kube).claim(first, ACCOUNT)
    kube.person_deletes("trading", "first")
    again = resource(kube, "first")
    assert again.uid != first.uid
    await accounts_at(kube).claim(again, ACCOUNT)
    assert holder_of(kube) == str(Holder.of(again))


async def test_a_holder_that_cannot_be_seen_counts_as_there(kube: FakeKube) -> None:
    first, second = resource(kube, "first", namespace="elsewhere"), resource(kube, "second")
    await accounts_at(kube).claim(first, ACCOUNT)
    kube.person_deletes("elsewhere", "first")
    kube.refuse = lambda verb, kind, name: Forbidden("not yours") if kind == "TradingBot" else None
    with pytest.raises(AccountInUse):
        await accounts_at(kube).claim(second, ACCOUNT)


async def test_a_holder_that_loses_its_lease_learns_it(kube: FakeKube) -> None:
    first, second = resource(kube, "first"), resource(kube, "second")
    accounts = accounts_at(kube)
    await accounts.claim(first, ACCOUNT)
    [lease] = kube.of_kind(LEASE)
    await kube.replace({**lease, "spec": {**lease["spec"], "holderIdentity": str(Holder.of(second))}})
    with pytest.raises(AccountInUse):
        await accounts.claim(first, ACCOUNT, verify=True)
    assert not accounts.holds(first)


class Rivalled:
    """An API server on which somebody else acts just before a request of ours."""

    def __init__(self, kube: FakeKube, *, before: str, act: Callable[[], Awaitable[object]]) -> None:
        self._kube, self._before, self._act = kube, before, act

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        async def call(*given: Any, **named: Any) -> Any:
            if verb == self._before:
                await self._act()
            return await getattr(self._kube, verb)(*given, **named)

        return call


async def test_two_operators_at_once_give_it_to_one(kube: FakeKube) -> None:
    first, second = resource(kube, "first"), resource(kube, "second")
    rival = accounts_at(kube)
    ours = accounts_at(Rivalled(kube, before="create", act=lambda: rival.claim(first, ACCOUNT)))
    with pytest.raises(AccountInUse):
        await ours.claim(second, ACCOUNT)
    assert holder_of(kube) == str(Holder.of(first))
    assert not ours.holds(second)


async def test_two_operators_that_take_over_at_once_give_it_to_one(kube: FakeKube) -> None:
    gone, first, second = resource(kube, "gone"), resource(kube, "first"), resource(kube, "second")
    await accounts_at(kube).claim(gone, ACCOUNT)
    kube.person_deletes("trading", "gone")
    rival = accounts_at(kube)
    ours = accounts_at(Rivalled(kube, before="replace", act=lambda: rival.claim(first, ACCOUNT)))
    with pytest.raises(AccountInUse):
        await ours.claim(second, ACCOUNT)
    assert holder_of(kube) == str(Holder.of(first))


async def test_of_bots_that_wait_the_oldest_comes_first(kube: FakeKube) -> None:
    old, young = resource(kube, "old"), resource(kube, "young")
    young = replace(young, created_at=old.created_at + timedelta(seconds=1))
    accounts = accounts_at(kube)
    with pytest.raises(AccountInUse, match="old"):
        await accounts.claim(young, ACCOUNT, rivals=[old, young])
    await accounts.claim(old, ACCOUNT, rivals=[old, young])
    assert holder_of(kube) == str(Holder.of(old))


async def test_another_failure_of_the_api_server_is_no_verdict(kube: FakeKube) -> None:
    bot, accounts = resource(kube, "first"), accounts_at(kube)
    kube.refuse = lambda verb, kind, name: KubeError("busy", status=503)
    with pytest.raises(KubeError):
        await accounts.claim(bot, ACCOUNT)
    assert not accounts.holds(bot)


async def test_two_bots_that_adopt_one_redis_are_one_account(kube: FakeKube) -> None:
    """A paper account derives from the bot's id, so that an adopted state is nobody else's."""
    adopted = "11111111-2222-4333-8444-555555555555"
    one, other = (
        bot_of(
            {"redis": {"adopt": adopted}}, name=name, uid=kube.person_creates("trading", name, {})["metadata"]["uid"]
        )
        for name in ("one", "other")
    )
    assert account_of(one, MASTER) == account_of(other, MASTER)
    accounts = accounts_at(kube)
    await accounts.claim(one, account_of(one, MASTER))
    with pytest.raises(AccountInUse, match="one"):
        await accounts.claim(other, account_of(other, MASTER))


async def test_a_dry_run_without_an_account_needs_no_lease(kube: FakeKube) -> None:
    bot, accounts = resource(kube, "first"), accounts_at(kube)
    await accounts.claim(bot, None)
    await accounts.release(bot, None)
    assert kube.of_kind(LEASE) == []


async def test_many_claims_at_once_end_with_one_holder(kube: FakeKube) -> None:
    bots = [resource(kube, f"b{at}") for at in range(20)]
    found = await asyncio.gather(*(accounts_at(kube).claim(bot, ACCOUNT) for bot in bots), return_exceptions=True)
    assert [each for each in found if each is None] == [None]
    assert all(each is None or isinstance(each, AccountInUse) for each in found)
