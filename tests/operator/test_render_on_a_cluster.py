"""A real API server takes what is rendered, with Pod Security "restricted" enforced, and answers what was sent.

Runs where KIND_CLUSTER_NAME names a kind cluster (kubectl's context kind-NAME); nothing is created but a namespace.
"""

import json
import os
import shutil
import subprocess

import pytest

from support.operator_render import EVERYTHING, MASTER, SETTINGS, THEIR_REDIS, bot, everything, rendered
from tradingbot_operator.drift import drifted, stamped
from tradingbot_operator.render import secrets

NAMESPACE = "dev-render-check"
CLUSTER = os.environ.get("KIND_CLUSTER_NAME", "")

pytestmark = [
    pytest.mark.skipif(not CLUSTER or not shutil.which("kubectl"), reason="KIND_CLUSTER_NAME names no kind cluster"),
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("cluster"),
]

SETS = {
    "paper": rendered(),
    "everything": everything(),
    "their redis": rendered(THEIR_REDIS),
    "dry run": rendered({**EVERYTHING, "dryRun": True}, settings=SETTINGS),
    "live prices": rendered({"exchange": {"paper": {"prices": "live"}}}),
    "odd quantities": rendered({"resources": {"execution": {
        "requests": {"cpu": 0.5, "memory": "1024Mi"}, "limits": {"memory": "1.5Gi"}}}}),
}  # fmt: skip


def kubectl(*words, given=None):
    return subprocess.run(
        ["kubectl", "--context", f"kind-{CLUSTER}", *words], input=given, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module", autouse=True)
def restricted_namespace():
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    applied = kubectl("apply", "--server-side", "-f", "-", given=json.dumps(made))
    assert applied.returncode == 0, applied.stderr
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def dry_run(manifests):
    """What the API server would make of them, and what it warns of."""
    items = [json.loads(json.dumps(each)) for each in manifests]
    for each in items:
        each["metadata"]["namespace"] = NAMESPACE
    done = kubectl(
        "apply", "--server-side", "--dry-run=server", "--field-manager=tradingbot-operator", "-o", "json", "-f", "-",
        given=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return items, json.loads(done.stdout)["items"], done.stderr


@pytest.mark.parametrize("name", SETS)
def test_the_api_server_takes_every_manifest_and_answers_what_was_sent(name):
    known = [stamped(each) for each in SETS[name] if each["kind"] != "PodMonitor"]
    sent, answered, warnings = dry_run(known)
    assert "violate PodSecurity" not in warnings
    assert "Warning" not in warnings
    assert len(sent) == len(answered)
    assert {f"{want['kind']}/{want['metadata']['name']}": drifted(want, got)
            for want, got in zip(sent, answered, strict=True) if drifted(want, got)} == {}  # fmt: skip


def test_pods_of_the_templates_are_admitted_where_restricted_is_enforced():
    known = [*SETS["paper"], *SETS["everything"]]
    templates = [each["spec"]["template"] for each in known if "template" in each.get("spec", {})]
    templates = json.loads(json.dumps(templates))
    for template in templates:
        del template["spec"]["serviceAccountName"]  # nothing is created that it could name
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"pod-{index}", "labels": template["metadata"]["labels"]},
            "spec": template["spec"],
        }
        for index, template in enumerate(templates)
    ]
    assert len(pods) == 15
    dry_run(pods)


def test_secrets_are_taken():
    dry_run(secrets(bot(), MASTER))
