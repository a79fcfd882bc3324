"""What a pod of a bot can not do: take root's rights, read the key, write another's stream, reach what it need not."""

from __future__ import annotations

import base64
import json

import pytest

from harness.bot import COMPONENTS, SERVICES, Bot
from harness.cluster import IMAGE
from harness.exchange import INSIDE
from harness.kubectl import Kubectl
from harness.secrets import places_of
from harness.waiting import eventually

# ------------------------------------------------------------------ Pod Security


def test_the_namespace_refuses_a_pod_that_is_not_restricted(kubectl, namespace):
    said = kubectl.refusal("run", "root", "-n", namespace, "--image=redis:7.0-bookworm", "--dry-run=server")
    assert 'violates PodSecurity "restricted:latest"' in said


def test_every_pod_of_a_bot_runs_in_that_namespace(majors):
    assert set(majors.pods_by_component()) == set(COMPONENTS)


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_pod_has_a_token_for_the_api_server(majors, component):
    found = majors.exec(component, "sh", "-c", "ls /var/run/secrets/kubernetes.io 2>/dev/null || true")
    assert found.strip() == ""


# ------------------------------------------------------------------ the key


def test_the_private_key_is_in_files_and_environment_of_execution_alone(majors):
    secret = majors.kubectl.get("secret", f"{majors.name}-paper-agent", majors.namespace)
    key = base64.b64decode(secret["data"]["private-key"]).decode().removeprefix("0x")
    hits = {component: places_of(majors, component, key) for component in COMPONENTS}
    assert len(hits["execution"]) == 1
    assert hits["execution"][0].startswith("/etc/tradingbot/key/")
    assert {component for component, places in hits.items() if places} == {"execution"}


def test_the_search_finds_what_is_there(majors):
    """The search above would find a secret: each pod's own hostname stands in a file and in its environment."""
    for component in COMPONENTS:
        assert places_of(majors, component, majors.pod(component)), component


# ------------------------------------------------------------------ Redis users

WRITERS = {
    "md.features.1m": {"market_data"},
    "alpha.target": {"ai_decision"},
    "risk.approved": {"risk_engine"},
    "exec.plan": {"execution"},
    "exec.orders": {"execution"},
    "exec.reports": {"execution"},
    "state.snapshot": {"portfolio_state"},
    "state.events": {"portfolio_state"},
    "ctl.commands": {"risk_engine", "monitor"},
    "audit.logs": {"market_data", "portfolio_state", "ai_decision", "risk_engine", "execution", "monitor"},
    "dlq.md.features.1m": {"ai_decision"},
    "dlq.alpha.target": {"risk_engine"},
    "dlq.risk.approved": {"execution"},
    "dlq.exec.orders": {"execution"},
    "dlq.exec.reports": {"portfolio_state"},
    "dlq.state.snapshot": {"risk_engine"},
    "dlq.ctl.commands": {"execution", "risk_engine"},
}
"""The stream table of the design, and the dead letters of those who consume."""
TAKERS = {
    "md.features.1m": {"ai_decision"},
    "alpha.target": {"risk_engine"},
    "risk.approved": {"execution"},
    "exec.orders": {"execution"},
    "exec.reports": {"portfolio_state"},
    "state.snapshot": {"risk_engine"},
    "ctl.commands": {"execution", "risk_engine"},
}
FORBIDDEN = (
    ("CONFIG", "GET", "appendonly"),
    ("ACL", "LIST"),
    ("KEYS", "no-such-key"),
    ("FLUSHALL", "BOGUS"),
    ("FUNCTION", "LOAD", "nonsense"),
    ("SHUTDOWN", "BOGUS"),
    ("SET", "ctl.mode.spec", "x", "NX", "XX"),
    ("HSET", "ctl.params", "one", "1", "odd"),
    ("DEL", "bot.server"),
)


@pytest.mark.parametrize("component", SERVICES)
def test_a_service_may_do_at_its_redis_what_its_work_needs_and_nothing_else(majors, component):
    service = component.replace("-", "_")
    asked = json.dumps({"streams": list(WRITERS), "commands": FORBIDDEN})
    found = json.loads(majors.exec(component, "python", "-c", (INSIDE / "rights.py").read_text(), stdin=asked))
    assert found["user"] == service
    assert set(found["writes"]) == {stream for stream, roles in WRITERS.items() if service in roles}
    assert set(found["takes"]) == {stream for stream, roles in TAKERS.items() if service in roles}
    assert found["commands"] == []


def test_nobody_enters_redis_without_a_password(majors):
    assert "NOAUTH" in majors.exec("redis", "sh", "-c", "redis-cli xlen ctl.commands || true")


# ------------------------------------------------------------------ the network

VENUE_CLIENTS = ("market-data", "portfolio-state", "execution")
PORT = {"redis": 6379, "paper": 3001}


@pytest.fixture(scope="module")
def strangers(kubectl, namespace, unwatched) -> dict[str, str]:
    """A pod that belongs to no bot, in the bots' namespace and in another one: name -> namespace."""
    found = {"stranger-near": namespace, "stranger-far": unwatched}
    for name, where in found.items():
        kubectl.apply(stranger(name, where))
    for name, where in found.items():
        kubectl("wait", "pod", name, "-n", where, "--for=condition=Ready", "--timeout=120s", timeout_s=150)
    return found


def stranger(name: str, namespace: str) -> dict:
    container = {
        "name": "stranger",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def addresses_of(bot: Bot) -> dict[str, list]:
    """Where the pods of a bot listen."""
    pods = bot.pods_by_component()
    return {f"{bot.name}/{name}": [pods[name]["status"]["podIP"], PORT.get(name, 9090)] for name in COMPONENTS}


def cluster_addresses(kubectl: Kubectl) -> dict[str, list]:
    api = kubectl.get("service", "kubernetes", "default")
    dns = kubectl.get("service", "kube-dns", "kube-system")
    node = kubectl.json("get", "nodes")["items"][0]["status"]["addresses"]
    host = next(each["address"] for each in node if each["type"] == "InternalIP")
    return {
        "API server": [api["spec"]["clusterIP"], 443],
        "API server on the node": [host, 6443],
        "kubelet": [host, 10250],
        "DNS": [dns["spec"]["clusterIP"], 53],
    }


def reached(kubectl: Kubectl, pod: str, namespace: str, targets: dict[str, list], *, python: bool = True) -> set[str]:
    """The names of the targets that a pod can connect to."""
    if python:
        script = (INSIDE / "reach.py").read_text()
        answer = kubectl.exec(pod, namespace, "python", "-c", script, stdin=json.dumps(list(targets.values())))
        return {name for name, good in zip(targets, json.loads(answer), strict=True) if good}
    lines = "".join(f"{host} {port}\n" for host, port in targets.values())
    answer = kubectl.exec(pod, namespace, "bash", "-c", (INSIDE / "reach.sh").read_text(), stdin=lines)
    good = {tuple(line.split()[:2]) for line in answer.splitlines() if line.endswith("true")}
    return {name for name, (host, port) in targets.items() if (host, str(port)) in good}


@pytest.fixture(scope="module")
def targets(kubectl, majors, resting) -> dict[str, list]:
    """All that could be reached: both bots' pods, and the cluster's own services."""
    return {**addresses_of(majors), **addresses_of(resting), **cluster_addresses(kubectl)}


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_pod_reaches_what_its_work_needs_and_nothing_else(kubectl, majors, targets, component):
    needed = {
        *(["majors/redis", "DNS"] if component in SERVICES else []),
        *(["majors/paper"] if component in VENUE_CLIENTS else []),
    }
    others = {name: where for name, where in targets.items() if name != f"majors/{component}"}
    pod = majors.pod(component)

    def look() -> bool:
        return reached(kubectl, pod, majors.namespace, others, python=component != "redis") == needed

    def seen() -> set[str]:
        return reached(kubectl, pod, majors.namespace, others, python=component != "redis")

    eventually(look, what=f"{component} reaches {sorted(needed)} and nothing else", within_s=30, seen=seen)


@pytest.mark.parametrize("name", ["stranger-near", "stranger-far"])
def test_a_stranger_reaches_no_pod_of_a_bot(kubectl, strangers, targets, name):
    bots = {key: where for key, where in targets.items() if "/" in key}
    assert reached(kubectl, name, strangers[name], bots) == set()


def test_a_stranger_reaches_what_no_policy_guards(kubectl, strangers, targets):
    """The probe would see an open port: nothing but the policies closes them."""
    assert {"API server", "DNS"} <= reached(kubectl, "stranger-far", strangers["stranger-far"], targets)


def test_the_operator_reaches_of_the_bots_only_their_redis(kubectl, operator, targets):
    bots = {key: where for key, where in targets.items() if "/" in key}
    found = reached(kubectl, operator.wait_ready(), operator.namespace, bots)
    assert found == {"majors/redis", "resting/redis"}


def test_the_exchange_s_control_is_closed_to_other_pods(majors):
    script = (
        "import urllib.request, urllib.error\n"
        "try:\n    print(urllib.request.urlopen('http://majors-paper:3001/control/status', timeout=5).status)\n"
        "except urllib.error.HTTPError as error:\n    print(error.code)\n"
    )
    assert majors.exec("execution", "python", "-c", script).strip() in {"403", "404"}
