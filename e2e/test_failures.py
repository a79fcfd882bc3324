"""What breaks under a bot's feet, and what the exchange saw of it."""

from __future__ import annotations

import pytest

from harness.bot import READY_WITHIN_S, Bot, to_ms
from harness.kubectl import KubectlError
from harness.waiting import eventually

PAUSE = "tradingbot.dev/pause"


def duplicates(bot: Bot) -> list[str]:
    """Client ids under which more than one order was ever admitted."""
    seen: dict[str, set[int]] = {}
    for line in bot.exchange.read():
        if line["kind"] == "order" and line["cloid"] and not line["status"].endswith("Rejected"):
            seen.setdefault(line["cloid"], set()).add(line["oid"])
    return [cloid for cloid, oids in seen.items() if len(oids) > 1]


def assert_trades_on(bot: Bot) -> None:
    """It is ready, and it places orders again."""
    bot.wait_ready(within_s=READY_WITHIN_S)
    since_ms = bot.exchange.now_ms()
    eventually(lambda: bot.exchange.placed_after(since_ms), what="orders come again", within_s=200, every_s=2)
    assert duplicates(bot) == []


def test_execution_killed_with_orders_open_cancels_them_when_it_is_back(resting):
    open_before = {each.oid for each in resting.exchange.wait_for_open_orders()}
    killed = resting.pod("execution")
    killed_ms = resting.exchange.now_ms()
    resting.kubectl.kill(killed, resting.namespace)

    def ended() -> bool:
        return not {each.oid for each in resting.exchange.open_orders()} & open_before

    eventually(ended, what="the orders of the killed process have ended", within_s=120, every_s=1)
    assert resting.exchange.requests_after(killed_ms, "cancelByCloid") or resting.exchange.requests_after(
        killed_ms, "cancel"
    )
    assert_trades_on(resting)


def test_redis_killed_stops_trading_and_loses_nothing(resting):
    resting.exchange.wait_for_open_orders()
    written = resting.redis("xlen", "exec.reports")
    killed = resting.pod("redis")
    resting.kubectl.kill(killed, resting.namespace)
    eventually(lambda: redis_answers(resting, killed), what="another Redis answers", within_s=120, every_s=1)
    assert int(resting.redis("xlen", "exec.reports")) >= int(written)
    assert_trades_on(resting)
    assert resting.exchange.positions().keys() <= {"BTC", "ETH", "SOL", "ADA", "DOGE"}


def redis_answers(bot: Bot, killed: str) -> bool:
    """Whether a Redis in another incarnation answers. A StatefulSet's pod keeps its name."""
    try:
        return bot.redis("ping") == "PONG" and int(bot.redis("xlen", "ctl.commands")) > 0
    except KubectlError:
        return False


@pytest.fixture
def unpaused(resting):
    """Whatever happens, the bot's children are repaired afterwards."""
    yield
    resting.annotate(PAUSE, None)


def test_a_halt_that_reaches_neither_redis_nor_execution_is_unknown_and_then_obeyed(resting, unpaused):
    resting.exchange.wait_for_open_orders()
    resting.annotate(PAUSE, "true")
    resting.wait_condition("Paused", within_s=60)
    killed = [resting.pod("execution"), resting.pod("redis")]
    for kind, component in (("deployment", "execution"), ("statefulset", "redis")):
        name = f"{resting.name}-{component}"
        resting.kubectl("scale", kind, name, "-n", resting.namespace, "--replicas=0")
    for pod in killed:
        resting.kubectl.kill(pod, resting.namespace)
    eventually(lambda: not {"execution", "redis"} & set(resting.pods_by_component()), what="both are gone", within_s=90)
    resting.patch(mode="HALT")
    resting.wait_condition("ModeApplied", "Unknown", reason="RedisUnreachable", within_s=90)
    resting.annotate(PAUSE, None)
    mode = resting.wait_mode("HALT", generation=resting.generation(), within_s=240)
    assert resting.exchange.open_orders() == []
    assert resting.exchange.requests_after(to_ms(mode["requestedAt"])) == []
    resting.set_mode("NORMAL")
    assert_trades_on(resting)


def test_a_halt_under_a_bad_image_is_obeyed_and_holds_when_the_image_is_good_again(resting):
    resting.exchange.wait_for_open_orders()
    resting.patch(image="tradingbot:no-such-image")
    resting.wait_condition("Ready", "False", within_s=90)
    generation = resting.patch(mode="HALT")
    resting.wait(
        lambda status: status["mode"]["desired"] == "HALT" and status["observedGeneration"] == generation,
        what="the HALT is taken up",
        within_s=60,
    )
    resting.patch(image=None)
    mode = resting.wait_mode("HALT", generation=resting.generation(), within_s=300)
    resting.wait_ready()
    resting.exchange.wait_until_readable()
    assert resting.exchange.open_orders() == []
    assert resting.exchange.requests_after(to_ms(mode["requestedAt"])) == []
    resting.set_mode("NORMAL")
    assert_trades_on(resting)
