"""The operator comes and goes, or is there twice: bots do not notice."""

from __future__ import annotations

import pytest

from harness.bot import CHILD_KINDS, Bot
from harness.waiting import eventually, throughout

QUIET_S = 10.0


@pytest.fixture(scope="module")
def asleep(majors) -> Bot:
    """A bot that is suspended: nothing about it changes by itself."""
    majors.patch(suspend=True)
    majors.wait_condition("Suspended", within_s=120)
    eventually(lambda: not majors.pods(), what="a suspended bot has no pods", within_s=90, every_s=1)
    return majors


def versions(bot: Bot) -> dict[tuple[str, str], str]:
    """The resource version of each child."""
    return {key: each["metadata"]["resourceVersion"] for key, each in bot.children(CHILD_KINDS).items()}


def settled(bot: Bot) -> dict:
    """The resource without what time alone changes: figures of the account, at most once a minute."""
    found = bot.seen()
    status = {key: value for key, value in found["status"].items() if key != "portfolio"}
    kept = {key: found["metadata"].get(key) for key in ("generation", "annotations", "finalizers", "labels")}
    return {"status": {**status, "conditions": [without_message(each) for each in status["conditions"]]}, **kept}


def without_message(condition: dict) -> dict:
    return {key: value for key, value in condition.items() if key != "message"}


def test_a_suspended_bot_keeps_its_volume_configuration_and_secrets(asleep):
    kinds = {kind for kind, _ in asleep.children()}
    assert kinds == {"ConfigMap", "Secret", "PersistentVolumeClaim"}
    assert asleep.status()["mode"]["desired"] == "HALT"


def test_a_restarted_operator_writes_nothing_to_healthy_bots(operator, asleep, resting):
    resting.wait_ready()
    bots = (asleep, resting)
    before = {bot.name: (versions(bot), settled(bot)) for bot in bots}
    asleep_before = asleep.seen()["metadata"]["resourceVersion"]
    operator.kill()
    eventually(
        lambda: operator.ready_pods() and operator.metric("tradingbot_operator_reconciles_total") >= 4,
        what="the new operator has looked at both bots",
        within_s=180,
        every_s=1,
    )
    throughout(operator.ready_pods, what="the operator stays ready", for_s=QUIET_S, every_s=2)
    assert operator.metric("tradingbot_operator_child_writes_total") == 0
    assert {bot.name: (versions(bot), settled(bot)) for bot in bots} == before
    assert asleep.seen()["metadata"]["resourceVersion"] == asleep_before


def test_two_operators_at_once_do_no_harm(operator, resting):
    operator.scale(2)
    try:
        resting.exchange.wait_for_open_orders()
        halted = resting.set_mode("HALT")
        assert resting.exchange.open_orders() == []
        commands = resting.redis("xlen", "ctl.commands")
        before = versions(resting)
        throughout(lambda: versions(resting) == before, what="children stay as they are", for_s=QUIET_S, every_s=2)
        assert resting.redis("xlen", "ctl.commands") == commands
        assert resting.status()["mode"] == halted
        resting.set_mode("NORMAL")
    finally:
        operator.scale(1)


def test_a_bot_that_wakes_up_goes_on_with_its_account(asleep):
    placed = len(asleep.exchange.known())
    asleep.patch(suspend=False)
    asleep.wait_ready()
    asleep.exchange.wait_until_readable()
    assert len(asleep.exchange.read()) >= placed
    asleep.wait_mode("NORMAL")
