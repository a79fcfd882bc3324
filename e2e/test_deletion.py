"""Deletion, as the exchange saw it: by each policy, without an operator, and of a bot that is broken."""

from __future__ import annotations

import time

import pytest

from harness import namespaces
from harness.bot import CHILD_KINDS, Bot
from harness.specs import EXAMPLE, merged
from harness.venue import Venue, Wallet
from harness.waiting import eventually, throughout

FLATTENED, LEFT, STUCK = Wallet(), Wallet(), Wallet()
PAUSE = "tradingbot.dev/pause"
DEADLINE_S = 20
GTC = {"orderTif": "Gtc", "priceGuardBps": 50}


@pytest.fixture(scope="module")
def venue(kubectl) -> Venue:
    """An exchange whose log outlives the bots."""
    found = Venue(kubectl, namespaces.create(kubectl, "venue"), [FLATTENED, LEFT, STUCK])
    found.start()
    return found


def trader(venue: Venue, namespace: str, wallet: Wallet, name: str, **spec) -> Bot:
    """A bot on that exchange."""
    bot = Bot(venue.kubectl, name, namespace)
    bot.kubectl.apply(venue.secret(wallet, name=f"{name}-key", namespace=namespace))
    bot.create(venue.spec(wallet, secret=f"{name}-key", **spec))
    return bot


def orders_of(venue: Venue, wallet: Wallet) -> list:
    venue.exchange.read()
    return [each for each in venue.exchange.orders() if each.user == wallet.account]


def positions_of(venue: Venue, wallet: Wallet) -> dict[str, float]:
    venue.exchange.read()
    return venue.exchange.positions(wallet.account)


def left_of(bot: Bot) -> dict:
    """What still stands of a bot, its retained volumes aside."""
    return bot.children(CHILD_KINDS)


def assert_nothing_is_left(bot: Bot) -> None:
    eventually(
        lambda: not left_of(bot),
        what="the children are gone too",
        within_s=120,
        every_s=2,
        seen=lambda: left_of(bot).keys(),
    )


@pytest.fixture(scope="module")
def traders(venue, operator, namespace) -> dict[str, Bot]:
    """Three bots on that exchange, for three ways to go; they start while others are deleted."""
    return {
        "flattened": trader(venue, namespace, FLATTENED, "flattened", deletionPolicy="Flatten", execution=GTC),
        "left": trader(venue, namespace, LEFT, "left", deletionPolicy="Leave"),
        "stuck": trader(venue, namespace, STUCK, "stuck", deletionDeadlineSeconds=DEADLINE_S),
    }


@pytest.fixture
def flattened(traders) -> Bot:
    """Buys at once, and is to close what it has when it is deleted."""
    return traders["flattened"]


def test_cancel_orders_cancels_and_confirms_before_the_bot_goes(majors):
    """The exchange goes with its bot: its log is read along until the end."""
    majors.wait_ready()
    majors.exchange.read()
    with majors.exchange.followed():
        majors.delete()
        majors.wait_gone()
    assert [each for each in majors.exchange.orders() if each.is_open] == []
    assert_nothing_is_left(majors)


def test_without_an_operator_a_bot_waits_and_then_goes_with_its_orders_cancelled(operator, resting, traders):
    resting.exchange.wait_for_open_orders()
    operator.scale(0)
    try:
        with resting.exchange.followed():
            resting.delete()
            eventually(
                lambda: resting.seen()["metadata"].get("deletionTimestamp"),
                what="the deletion is asked for",
                within_s=30,
            )
            throughout(resting.resource, what="the bot waits for its operator", for_s=5)
            operator.scale(1)
            resting.wait_gone(within_s=240)
    finally:
        operator.scale(1)
    orders = resting.exchange.orders()
    assert [each for each in orders if each.is_open] == []
    assert [each for each in orders if each.status == "canceled"]
    assert_nothing_is_left(resting)


def test_a_second_bot_on_the_same_account_is_refused(venue, flattened, namespace):
    flattened.wait_ready()
    second = trader(venue, namespace, FLATTENED, "second")
    found = second.wait_condition("AccountInUse", within_s=60)
    assert "flattened" in found["message"]
    assert second.pods() == []
    second.delete()
    second.wait_gone(within_s=60)


def test_flatten_closes_the_positions_before_the_bot_goes(venue, flattened):
    eventually(lambda: positions_of(venue, FLATTENED), what="it has positions", within_s=300, every_s=2)
    flattened.delete()
    flattened.wait_gone(within_s=240)
    assert positions_of(venue, FLATTENED) == {}
    orders = orders_of(venue, FLATTENED)
    assert [each for each in orders if each.is_open] == []
    assert any(each.reduce_only for each in orders)
    assert_nothing_is_left(flattened)


def test_leave_goes_at_once_without_an_operator_and_touches_nothing(venue, operator, traders):
    bot = traders["left"]

    def resting() -> set[int]:
        return {each.oid for each in orders_of(venue, LEFT) if each.is_open}

    eventually(resting, what="orders rest", within_s=300, every_s=1)
    assert not bot.seen()["metadata"].get("finalizers")
    operator.scale(0)
    try:
        bot.delete()
        bot.wait_gone(within_s=15)
        assert_nothing_is_left(bot)
    finally:
        operator.scale(1)


def test_a_bot_whose_redis_is_broken_goes_at_its_deadline_and_says_so(traders, namespace):
    bot = traders["stuck"]
    bot.wait_ready()
    bot.annotate(PAUSE, "true")
    bot.wait_condition("Paused", within_s=60)
    killed = bot.pod("redis")
    bot.kubectl("scale", "statefulset", "stuck-redis", "-n", namespace, "--replicas=0")
    bot.kubectl.kill(killed, namespace)
    asked_s = time.monotonic()
    bot.delete()
    bot.wait_gone(within_s=120)
    assert time.monotonic() - asked_s >= DEADLINE_S - 1
    told = eventually(
        lambda: [each for each in bot.events() if each["type"] == "Warning" and "have passed" in each["note"]],
        what="a warning tells that the deadline has passed",
        within_s=30,
    )
    assert "may still be open" in told[0]["note"] or "were open" in told[0]["note"]
    assert_nothing_is_left(bot)


def test_a_bot_that_never_ran_goes_at_once(operator, namespace):
    bot = Bot(operator.kubectl, "never-ran", namespace)
    bot.create(merged(EXAMPLE, {"suspend": True, "redis": {"storage": None, "urlSecretRef": {"name": "none"}}}))
    bot.wait_condition("SpecValid", within_s=60)
    bot.delete()
    bot.wait_gone(within_s=60)
    assert_nothing_is_left(bot)
