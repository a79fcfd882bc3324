"""Modes, as the exchange saw them obeyed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.bot import Bot, to_ms
from harness.waiting import eventually

PLUGIN = Path(sys.executable).with_name("kubectl-tradingbot")
SMALL = {"maxGross": 0.02, "maxNet": 0.02, "caps": {"BTC": 0.005, "ETH": 0.005}, "defaultCap": 0.005}
NORMAL_SIZE = {"maxGross": None, "maxNet": None, "caps": {"BTC": 0.15, "ETH": 0.15}, "defaultCap": None}


def assert_halted(bot: Bot, mode: dict, *, since_ms: int) -> None:
    """The exchange's log says: something was cancelled, nothing is open, nothing came after the HALT was received."""
    received_ms, acked_ms = to_ms(mode["receivedAt"]), to_ms(mode["ackedAt"])
    assert since_ms <= received_ms <= acked_ms
    assert mode["openOrders"] == 0
    assert bot.exchange.open_orders() == []
    cancelled = [e for e in bot.exchange.orders() if e.status == "canceled" and e.status_ms >= since_ms]
    assert cancelled, "nothing was open at the HALT: this shows nothing"
    assert max(each.status_ms for each in cancelled) <= acked_ms
    late = [each for each in bot.exchange.requests_after(received_ms + 1) if each["type"] == "order"]
    assert late == [], "a request reached the exchange after the HALT was received"


def plugin(word: str, bot: Bot) -> str:
    """What ``kubectl tradingbot`` prints."""
    words = (word, bot.name, "-n", bot.namespace, "--context", bot.kubectl.context)
    done = subprocess.run([PLUGIN, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"
    return done.stdout


def test_halt_cancels_all_that_is_open_and_lets_nothing_follow(resting):
    resting.set_mode("NORMAL")
    resting.exchange.wait_for_open_orders(3)
    since_ms = resting.exchange.now_ms()
    mode = resting.set_mode("HALT")
    assert_halted(resting, mode, since_ms=since_ms)
    assert mode["source"] == "spec"


def test_nothing_is_placed_while_it_is_halted(resting):
    acked_ms = to_ms(resting.status()["mode"]["ackedAt"])
    planned = resting.redis("xlen", "risk.approved")
    eventually(
        lambda: resting.redis("xlen", "risk.approved") != planned, what="a cycle passes", within_s=130, every_s=2
    )
    assert resting.exchange.requests_after(acked_ms) == []


def test_normal_lifts_it_and_orders_come_again(resting):
    mode = resting.set_mode("NORMAL")
    assert mode["source"] == "spec"
    since_ms = resting.exchange.now_ms()
    eventually(lambda: resting.exchange.placed_after(since_ms), what="orders come again", within_s=150, every_s=1)


def test_reduce_only_sends_orders_that_reduce_and_no_others(resting):
    eventually(resting.exchange.positions, what="the bot has positions", within_s=180, every_s=2)
    resting.patch(risk=SMALL)
    mode = resting.set_mode("REDUCE_ONLY")
    since_ms = to_ms(mode["ackedAt"])
    eventually(
        lambda: resting.exchange.placed_after(since_ms), what="an order that reduces goes out", within_s=150, every_s=1
    )
    assert all(each.reduce_only for each in resting.exchange.placed_after(since_ms))
    resting.patch(risk=NORMAL_SIZE)
    resting.set_mode("NORMAL")


@pytest.fixture
def refused_children(kubectl, operator, resting):
    """A policy of the cluster that refuses the operator every change of a Deployment: what it applies fails."""
    name = f"refuse-{operator.namespace}"
    account = f"system:serviceaccount:{operator.namespace}:{operator.deployment}"
    kubectl.apply(*refusal_of(account, name=name))
    words = ("deployment", f"{resting.name}-monitor", "-n", resting.namespace, "-p", '{"spec":{"paused":true}}')
    trial = ("patch", *words, "--dry-run=server", "--as", account)
    eventually(lambda: "may change" in kubectl.run(*trial).stderr, what="the policy is in force", within_s=60)
    yield
    kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name)


def refusal_of(account: str, *, name: str) -> tuple[dict, dict]:
    """An admission policy, and its binding, against an account's changes of Deployments."""
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    deployments = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [{**deployments, "operations": ["CREATE", "UPDATE"]}]},
        "matchConditions": [{"name": "account", "expression": f"request.userInfo.username == '{account}'"}],
        "validations": [{"expression": "false", "message": "no Deployment may change during this test"}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    return (
        {**api, "kind": "ValidatingAdmissionPolicy", "spec": policy},
        {**api, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
    )


def test_quick_changes_end_in_a_halt_while_children_fail_to_apply(resting, refused_children):
    # What the pods are made of changes, so that the operator keeps trying to apply what the policy refuses.
    resting.patch(resources={"monitor": {"requests": {"cpu": "11m", "memory": "64Mi"}}})
    resting.wait_condition("ChildrenApplied", "False", reason="ApplyFailed", within_s=60)
    resting.exchange.wait_for_open_orders()
    since_ms = resting.exchange.now_ms()
    for mode in ("NORMAL", "REDUCE_ONLY", "HALT"):
        resting.kubectl.patch("tb", resting.name, resting.namespace, {"spec": {"mode": mode}})
    mode = resting.wait_mode("HALT", generation=resting.generation())
    assert_halted(resting, mode, since_ms=since_ms)
    assert resting.condition("ChildrenApplied")["status"] == "False"


def test_children_are_applied_once_they_can_be(resting):
    resting.patch(resources={"monitor": None})
    resting.wait_condition("ChildrenApplied", within_s=120)
    resting.set_mode("NORMAL")
    resting.wait_ready()


def test_the_plugin_halts_while_the_operator_is_down(operator, resting):
    resting.exchange.wait_for_open_orders()
    operator.scale(0)
    try:
        since_ms = resting.exchange.now_ms()
        plugin("halt", resting)
        eventually(
            lambda: not resting.exchange.open_orders(), what="nothing is open any more", within_s=60, every_s=0.5
        )
        assert resting.seen()["spec"]["mode"] == "HALT"
        assert json.loads(resting.redis("--json", "hgetall", "ctl.mode.person"))["mode"] == "HALT"
        acked_ms = resting.exchange.now_ms()
    finally:
        operator.scale(1)
    mode = resting.wait_mode("HALT", generation=resting.generation(), within_s=120)
    assert resting.exchange.requests_after(acked_ms) == []
    assert resting.exchange.open_orders() == []
    assert to_ms(mode["receivedAt"]) >= since_ms


def test_a_person_s_halt_has_ended_by_then_so_that_the_plugin_can_resume(resting):
    plugin("resume", resting)
    resting.wait_mode("NORMAL", generation=resting.generation())
    assert resting.status().get("person", {}).get("mode", "NORMAL") == "NORMAL"


def test_a_halt_whose_operator_is_killed_in_the_middle_is_carried_through(operator, resting):
    resting.exchange.wait_for_open_orders()
    since_ms = resting.exchange.now_ms()
    generation = resting.patch(mode="HALT")
    operator.kill()
    mode = resting.wait_mode("HALT", generation=generation, within_s=180)
    assert_halted(resting, mode, since_ms=since_ms)
    resting.set_mode("NORMAL")
