"""Parameters change while the bot runs: the next cycle trades by them, and no pod is restarted."""

from __future__ import annotations

from harness.specs import RESTING
from harness.waiting import eventually


def test_a_changed_parameter_shows_in_the_next_orders_and_restarts_nothing(resting):
    resting.exchange.wait_for_open_orders()
    before = resting.incarnations()
    generation = resting.patch(execution={"orderTif": "Gtc", "priceGuardBps": 50})

    applied = resting.wait(
        lambda status: (status.get("parameters") or {}).get("generation") == generation,
        what="the parameters are in force",
        within_s=30,
    )
    assert applied["parameters"]["version"] > 1
    since = resting.exchange.now_ms()
    eventually(
        lambda: [each for each in resting.exchange.placed_after(since) if each.tif == "Gtc"],
        what="an order goes out by the new parameter",
        within_s=150,
        every_s=1,
    )
    assert resting.incarnations() == before


def test_the_positions_that_they_made_stand_at_the_exchange(resting):
    eventually(
        lambda: resting.exchange.fills() and resting.exchange.positions(),
        what="positions stand",
        within_s=120,
        every_s=1,
    )


def test_a_parameter_goes_back_the_same_way(resting):
    before = resting.incarnations()
    generation = resting.patch(execution={"orderTif": RESTING["execution"]["orderTif"], "priceGuardBps": None})
    resting.wait(
        lambda status: (status.get("parameters") or {}).get("generation") == generation,
        what="the parameters are in force",
        within_s=30,
    )
    assert resting.incarnations() == before


def test_a_persons_own_parameter_counts_and_shows_until_the_spec_changes(resting):
    script = 'read -r REDIS_URL; export REDIS_URL; exec tradingbot ctl set "$@"'
    url = f"redis://person:{resting.password('person')}@{resting.name}-redis:6379/0"
    resting.exec("monitor", "sh", "-c", script, "set", "risk.turnover_cap", "0.07", stdin=f"{url}\n")
    resting.wait(
        lambda status: (status.get("overrides") or {}).get("risk.turnover_cap") == "0.07",
        what="the override shows",
        within_s=150,
    )
    resting.patch(execution={"maxCancelsPerMinute": 31})
    resting.wait(lambda status: not status.get("overrides"), what="the override has ended", within_s=150)
