"""From an empty cluster to orders that fill: the chart, the example, and what a person sees of it."""

from __future__ import annotations

import pytest

from harness.bot import COMPONENTS
from harness.waiting import eventually


def test_the_chart_installs_and_its_own_test_passes(operator):
    assert "Succeeded" in operator.test()


def test_the_example_becomes_eight_ready_pods(majors):
    majors.wait_ready()
    assert set(majors.pods_by_component()) == set(COMPONENTS)
    assert majors.status()["ready"] == "8/8"


def test_the_example_trades_until_orders_fill_at_the_exchange(majors):
    assert majors.exchange.wait_for_fills()
    assert majors.exchange.positions()


@pytest.mark.parametrize(
    "condition", ["Ready", "SpecValid", "ChildrenApplied", "RedisReady", "ModeApplied", "Preflight"]
)
def test_a_condition_of_a_bot_that_trades_is_true(majors, condition):
    found = majors.wait_condition(condition)
    assert found["observedGeneration"] == majors.generation()


def test_the_status_shows_the_account_as_the_exchange_has_it(majors):
    def told() -> dict | None:
        portfolio = majors.status().get("portfolio") or {}
        return portfolio if portfolio.get("gross") else None

    portfolio = eventually(told, what="the status has the account's figures", within_s=150, every_s=2)
    assert 9_000 < float(portfolio["equityUsd"]) < 11_000
    assert portfolio["lastCycle"]


def test_kubectl_get_shows_mode_readiness_equity_and_network(kubectl, majors):
    header, row = kubectl("get", "tb", majors.name, "-n", majors.namespace).splitlines()
    assert header.split() == ["NAME", "MODE", "APPLIED", "READY", "EQUITY", "NETWORK", "AGE"]
    name, mode, applied, ready, equity, network, _ = row.split()
    assert (name, mode, applied, ready, network) == ("majors", "NORMAL", "NORMAL", "8/8", "paper")
    assert float(equity) > 0


def test_an_event_tells_that_the_bot_is_ready(majors):
    eventually(lambda: majors.events("Ready"), what="an event says that the bot is ready", within_s=30)
