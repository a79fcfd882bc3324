"""A real API server takes the CRD, accepts the examples, and refuses what it must in words that help.

Runs where KIND_CLUSTER_NAME names a kind cluster (kubectl's context kind-NAME); nothing is created but a namespace of
its own and suspended bots in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.operator_specs import (
    ALLOWED,
    CHANGES,
    LITERALS,
    ROOT,
    RULES,
    SCHEMA,
    Accepted,
    Refused,
    body,
    example,
)
from tradingbot_operator.crd import CRD_FILES, crd
from tradingbot_operator.spec import TradingBotSpec

NAMESPACE = "dev-crd"
CLUSTER = os.environ.get("KIND_CLUSTER_NAME", "")

pytestmark = [
    pytest.mark.skipif(not CLUSTER or not shutil.which("kubectl"), reason="KIND_CLUSTER_NAME names no kind cluster"),
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("cluster"),
]


def kubectl(*words: str, given: Any = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl against the cluster."""
    return subprocess.run(
        ["kubectl", "--context", f"kind-{CLUSTER}", *words],
        input=None if given is None else json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module", autouse=True)
def crd_and_namespace() -> Iterator[None]:
    """The CRD as it is in the repository, and a namespace that goes afterwards."""
    applied = kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / CRD_FILES[0]))
    assert applied.returncode == 0, applied.stderr
    kubectl("wait", "--for=condition=Established", "crd/tradingbots.tradingbot.dev", "--timeout=30s")
    kubectl("create", "namespace", NAMESPACE)
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def apply(given: Any, *words: str) -> subprocess.CompletedProcess[str]:
    """Apply one resource in the namespace."""
    return kubectl("-n", NAMESPACE, "apply", "-f", "-", *words, given=given)


@pytest.mark.parametrize("name", ["tradingbot", "testnet", "mainnet", "language-model"])
def test_an_example_is_accepted(name: str) -> None:
    """As it stands, and nothing in it is unknown."""
    answer = apply(example(name), "--dry-run=server")
    assert (answer.returncode, answer.stderr) == (0, "")


def test_an_empty_spec_is_stored_as_the_models_defaults() -> None:
    """The API server and the models fill in the same."""
    answer = apply(body({}), "--dry-run=server", "-o", "json")
    assert TradingBotSpec.model_validate(json.loads(answer.stdout)["spec"]) == TradingBotSpec()


@pytest.mark.parametrize("case", [*RULES, *SCHEMA], ids=str)
def test_a_bad_resource_is_refused_with_words_that_help(case: Refused) -> None:
    """The answer says what is allowed, and at which field."""
    answer = apply(body(case.spec, name=case.bot), "--dry-run=server")
    assert answer.returncode != 0
    assert case.says in answer.stderr
    assert case.path in answer.stderr


@pytest.mark.parametrize("case", CHANGES, ids=str)
def test_a_forbidden_change_is_refused(case: Refused) -> None:
    """What cannot work later is refused now, and the bot stays as it was."""
    bot = body({**(case.before or {}), "suspend": True}, name=case.name)
    made = apply(bot)
    assert made.returncode == 0, made.stderr
    answer = kubectl("-n", NAMESPACE, "replace", "-f", "-", given=body({**case.spec, "suspend": True}, name=case.name))
    assert answer.returncode != 0
    assert case.says in answer.stderr
    assert case.path in answer.stderr


@pytest.mark.parametrize("case", ALLOWED, ids=str)
def test_an_allowed_change_is_taken(case: Accepted) -> None:
    """Rules about changes hold back nothing else."""
    made = apply(body({**case.before, "suspend": True}, name=case.name))
    assert made.returncode == 0, made.stderr
    answer = kubectl("-n", NAMESPACE, "replace", "-f", "-", given=body({"suspend": True, **case.after}, name=case.name))
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("spec", LITERALS, ids=str)
def test_a_secret_as_a_literal_is_refused(spec: dict[str, Any]) -> None:
    """By strict field validation, which kubectl asks for."""
    answer = apply(body(spec), "--dry-run=server")
    assert answer.returncode != 0
    assert "unknown field" in answer.stderr


def test_a_status_write_keeps_every_field_of_the_model() -> None:
    """The API server drops what the schema does not know, without a word."""
    status = {
        "observedGeneration": 1, "phase": "Trading", "ready": "8/8", "botId": "u", "account": "0x1",
        "weightPerMinute": 550,
        "mode": {
            "desired": "HALT", "effective": "HALT", "source": "spec", "reason": "r", "generation": 3,
            "requestedAt": "2026-11-22T20:00:00.123456Z", "receivedAt": "2026-11-22T20:00:00Z",
            "cancelledAt": "2026-11-22T20:00:00Z", "ackedAt": "2026-11-22T20:00:00Z", "openOrders": 0,
            "flatten": "flat",
        },
        "breaker": {"mode": "HALT", "reason": "drawdown", "latchId": "loss-1"},
        "person": {"mode": "NORMAL", "reason": "x", "by": "ann", "untilGeneration": 4},
        "portfolio": {
            "equityUsd": "10000.00", "gross": 0.4, "net": 0.2, "drawdown": 0.01, "lastCycle": "20260218T1600Z",
            "lastCycleAt": "2026-02-18T16:00:00Z",
        },
        "parameters": {"generation": 3, "version": 5},
        "overrides": {"risk.max_gross": "0.3"},
        "deletion": "waiting for the venue",
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "AllPodsReady", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-11-22T20:00:00Z",
        }],
    }  # fmt: skip
    assert apply(body({"suspend": True}, name="status")).returncode == 0
    patch = ("patch", "tb", "status", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    answer = kubectl("-n", NAMESPACE, *patch, "-o", "json")
    assert answer.returncode == 0, answer.stderr
    kept = json.loads(answer.stdout)
    assert kept["status"] == status
    assert kept["metadata"]["generation"] == 1
    shown = kubectl("-n", NAMESPACE, "get", "tb", "status").stdout.splitlines()
    assert shown[0].split() == ["NAME", "MODE", "APPLIED", "READY", "EQUITY", "NETWORK", "AGE"]
    assert shown[1].split()[:6] == ["status", "NORMAL", "HALT", "8/8", "10000.00", "paper"]


RATCHETS = "ratchets.dev-crd.tradingbot.dev"


def relabelled(*, rules_below: bool) -> dict[str, Any]:
    """The CRD under another name; without ``rules_below`` only the spec's own rules, as an older version's might."""
    text = json.dumps(crd()).replace('"group": "tradingbot.dev"', '"group": "dev-crd.tradingbot.dev"')
    other = json.loads(text)
    other["metadata"]["name"] = RATCHETS
    other["spec"]["names"] = {"kind": "Ratchet", "listKind": "RatchetList", "plural": "ratchets", "singular": "ratchet"}
    if not rules_below:
        spec = other["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for part in spec["properties"].values():
            part.pop("x-kubernetes-validations", None)
    return other


def test_a_rule_that_an_upgrade_adds_does_not_refuse_the_halt_of_a_bot_that_was_there_before() -> None:
    """The API server passes over the rules of parts that a change leaves alone."""
    old = body({"universe": ["BTC", "BTC"], "ai": {"strategy": "llm"}, "risk": {"maxNet": 0.5}, "suspend": True})
    old |= {"apiVersion": "dev-crd.tradingbot.dev/v1alpha1", "kind": "Ratchet"}
    try:
        for rules_below in (False, True):
            made = kubectl("apply", "--server-side", "-f", "-", given=relabelled(rules_below=rules_below))
            assert made.returncode == 0, made.stderr
            kubectl("wait", "--for=condition=Established", f"crd/{RATCHETS}", "--timeout=30s")
            if not rules_below:
                assert _in_time(lambda: apply(old)).returncode == 0
        assert "maxNet must not be above" in _until_refused({"spec": {"risk": {"maxNet": 0.6}}})
        halted = kubectl("-n", NAMESPACE, "patch", RATCHETS, "majors", "--type=merge", '-p={"spec":{"mode":"HALT"}}')
        assert halted.returncode == 0, halted.stderr
    finally:
        kubectl("delete", "crd", RATCHETS, "--wait=false")


def _in_time(work: Callable[[], subprocess.CompletedProcess[str]]) -> subprocess.CompletedProcess[str]:
    """The API server serves a new kind a moment after it has taken it."""
    for _ in range(20):
        if (answer := work()).returncode == 0:
            return answer
        time.sleep(0.5)
    return work()


def _until_refused(patch: dict[str, Any]) -> str:
    """The API server's refusal once it goes by the new rules; a dry run until then."""
    words = ("-n", NAMESPACE, "patch", RATCHETS, "majors", "--type=merge", f"-p={json.dumps(patch)}")
    for _ in range(40):
        if (answer := kubectl(*words, "--dry-run=server")).returncode:
            return answer.stderr
        time.sleep(0.5)
    return "it was never refused"
