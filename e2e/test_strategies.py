"""Who decides is a line of the resource: a model in the cluster, or a formula; and no other pod is restarted for it.

Both bots change at the same time, because a decision comes once a minute.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from harness.bot import COMPONENTS, Bot
from harness.cluster import IMAGE
from harness.exchange import INSIDE
from harness.kubectl import Kubectl, Manifest
from harness.secrets import places_of
from harness.waiting import eventually

MODEL = "model"
PORT = 8000
KEY = "sk-e2e-4f1c9a7e2b"
DECIDED_WITHIN_S = 150.0


@pytest.fixture(scope="module")
def endpoint(kubectl: Kubectl, namespace: str) -> str:
    """A language model's API beside the bots, behind a Service with another port than its pod's."""
    kubectl.apply(*model(namespace))
    kubectl("wait", "pod", MODEL, "-n", namespace, "--for=condition=Ready", "--timeout=120s", timeout_s=150)
    return f"http://{MODEL}/v1"


@pytest.fixture(scope="module")
def before(majors: Bot, resting: Bot) -> dict[str, dict[str, tuple[str, int]]]:
    """The pods as they were."""
    majors.wait_ready()
    return {bot.name: bot.incarnations() for bot in (majors, resting)}


@pytest.fixture(scope="module")
def changed(majors: Bot, resting: Bot, endpoint: str, before: dict[str, Any]) -> Iterator[None]:
    """One bot asks the model, the other one weighs by volatility; afterwards the baseline decides again."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "llm", "namespace": majors.namespace}}
    majors.kubectl.apply({**secret, "stringData": {"api-key": KEY}})
    ask = {"endpoint": endpoint, "model": "scripted", "apiKeySecretRef": {"name": "llm"}}
    majors.patch(ai={"strategy": "llm", **ask})
    resting.patch(ai={"strategy": "inverse_vol"})
    yield
    majors.patch(ai={"strategy": "baseline", **dict.fromkeys(ask)})
    resting.patch(ai={"strategy": "baseline"})
    for bot in (majors, resting):
        bot.wait_ready()


def test_a_model_in_the_cluster_decides(majors, changed):
    record = decision(majors, "llm")
    assert record["strategy"] == "llm"
    assert "error" not in record
    assert record["evidence"]["answers"][0]["confidence"] == 0.9
    assert set(record["steps"]["strategy"].values()) == {0.02}
    assert int(majors.redis("GET", f"llm.spend:{today(majors)}")) > 0


def test_the_way_to_the_model_ends_at_its_pods_and_their_port(majors, changed):
    policy = majors.kubectl.get("networkpolicy", f"{majors.name}-ai-decision", majors.namespace)
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": majors.namespace}},
        "podSelector": {"matchLabels": {"app": MODEL}},
    }
    assert {"to": [peer], "ports": [{"protocol": "TCP", "port": PORT}]} in policy["spec"]["egress"]
    assert not any(each == {"namespaceSelector": peer["namespaceSelector"]} for each in peers(policy))


def test_a_formula_decides(resting, changed):
    record = decision(resting, "inverse_vol")
    weights = record["steps"]["strategy"]
    assert min(weights.values()) > 0
    assert len(set(weights.values())) > 1


@pytest.mark.parametrize("name", ["majors", "resting"])
def test_no_other_pod_was_restarted_for_it(created, changed, before, name):
    now = created[name].incarnations()
    assert {component for component in COMPONENTS if now[component] != before[name][component]} == {"ai-decision"}


def test_the_models_key_is_in_the_decisions_pod_alone(majors, changed):
    hits = {component: places_of(majors, component, KEY) for component in COMPONENTS}
    assert {component for component, places in hits.items() if places} == {"ai-decision"}
    assert all(place.startswith("/etc/tradingbot/model/") for place in hits["ai-decision"])


def test_the_strategy_stands_in_the_wide_list(majors, changed):
    said = majors.kubectl("get", "tb", majors.name, "-n", majors.namespace, "-o", "wide")
    head, row = said.splitlines()
    assert "STRATEGY" in head
    assert " llm " in row


def decision(bot: Bot, used: str) -> dict[str, Any]:
    """The record of the first decision that a strategy made."""

    def look() -> dict[str, Any] | None:
        return next((each for each in decisions(bot) if each["used"] == used), None)

    def seen() -> list[tuple[Any, Any]]:
        return [(each["used"], each.get("error")) for each in decisions(bot)]

    return eventually(look, what=f"{bot.name}: {used} decides", within_s=DECIDED_WITHIN_S, every_s=1, seen=seen)


def decisions(bot: Bot) -> list[dict[str, Any]]:
    """What the audit log says of the last decisions, newest first."""
    lines = bot.redis("XREVRANGE", "audit.logs", "+", "-", "COUNT", "200").splitlines()
    records = [json.loads(line)["data"] for line in lines if line.startswith("{")]
    return [each["details"] for each in records if each["kind"] == "alpha.target" and each["details"].get("strategy")]


def peers(policy: Manifest) -> list[dict[str, Any]]:
    """All to whom a policy opens the way."""
    return [peer for rule in policy["spec"]["egress"] for peer in rule["to"]]


def today(bot: Bot) -> str:
    """The UTC day, by the bot's own clock."""
    return bot.exec("ai-decision", "date", "-u", "+%F").strip()


def model(namespace: str) -> tuple[Manifest, ...]:
    """A pod with the model, and its Service."""
    metadata = {"name": MODEL, "namespace": namespace}
    container = {
        "name": MODEL,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/srv/model.py", str(PORT)],
        "env": [{"name": "KEY", "value": KEY}],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "code", "mountPath": "/srv"}],
    }
    pod = {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "code", "configMap": {"name": MODEL}}],
    }
    code = {"model.py": (INSIDE / "model.py").read_text()}
    service = {"selector": {"app": MODEL}, "ports": [{"port": 80, "targetPort": PORT}]}
    return (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": code},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "labels": {"app": MODEL}}, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
    )
