"""An upgrade of the chart and of the definition under a running bot."""

from __future__ import annotations

import json

from harness.bot import CHILD_KINDS
from harness.operator import CRD
from harness.waiting import eventually


def columns(kubectl) -> list[str]:
    versions = kubectl.json("get", "crd", CRD)["spec"]["versions"]
    return [each["name"] for each in versions[0]["additionalPrinterColumns"]]


def test_a_chart_upgrade_brings_the_definition_up_to_date_and_leaves_bots_alone(kubectl, operator, resting):
    resting.wait_ready()
    now = columns(kubectl)
    kubectl(
        "patch", "crd", CRD, "--type=json", "-p",
        json.dumps([{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns/0"}]),
    )  # fmt: skip
    assert columns(kubectl) == now[1:]
    before = resting.incarnations()
    children = {key: each["metadata"]["resourceVersion"] for key, each in resting.children(CHILD_KINDS).items()}
    pod = operator.wait_ready()

    operator.install(resyncSeconds=120, podAnnotations={"upgraded": "yes"})

    assert columns(kubectl) == now
    eventually(lambda: pod not in operator.ready_pods() and operator.ready_pods(), what="a new operator", within_s=120)
    since_ms = resting.exchange.now_ms()
    eventually(lambda: resting.exchange.placed_after(since_ms), what="the bot trades on", within_s=200, every_s=2)
    assert resting.incarnations() == before
    after = {key: each["metadata"]["resourceVersion"] for key, each in resting.children(CHILD_KINDS).items()}
    assert after == children
    resting.exchange.wait_for_open_orders()
    resting.set_mode("HALT")
    assert resting.exchange.open_orders() == []
    resting.set_mode("NORMAL")
