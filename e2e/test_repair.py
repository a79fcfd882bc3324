"""What a person breaks by hand is put right again: every child deleted, edited, scaled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness.bot import READY_WITHIN_S, WRITABLE_KINDS, Bot, to_ms
from harness.kubectl import Manifest
from harness.waiting import eventually

REPAIRED_WITHIN_S = 60.0
"""A second on an idle machine; the figures of a run are printed."""

EDITS: dict[str, dict[str, Any]] = {
    "Deployment": {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}},
    "StatefulSet": {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}},
    "Service": {"spec": {"selector": {"app.kubernetes.io/component": "nobody"}}},
    "ConfigMap": {"data": {"odd": "one"}},
    "ServiceAccount": {"automountServiceAccountToken": True},
    "NetworkPolicy": {"spec": {"egress": [{}], "ingress": [{}]}},
    "PodDisruptionBudget": {"spec": {"maxUnavailable": None, "minAvailable": 0}},
}


def intent(manifest: Manifest) -> dict[str, Any]:
    """What a child is for, without what the cluster adds as time passes."""
    kept = {key: manifest.get(key) for key in ("spec", "data", "automountServiceAccountToken")}
    if manifest["kind"] == "Service":
        kept["spec"] = {key: value for key, value in kept["spec"].items() if not key.startswith(("clusterIP", "ipFam"))}
    return kept


@pytest.fixture(scope="module")
def whole(majors) -> dict[tuple[str, str], Manifest]:
    """The children of a bot that is ready."""
    majors.wait_ready()
    return majors.children(WRITABLE_KINDS)


def repaired(bot: Bot, kind: str, name: str, wanted: dict[str, Any], *, uid: str = "") -> float:
    """Seconds until a child is as it was, and another one than ``uid``."""
    started = time.monotonic()

    def look() -> bool:
        found = bot.kubectl.get(kind, name, bot.namespace)
        return found is not None and intent(found) == wanted and found["metadata"]["uid"] != uid

    def seen() -> Any:
        found = bot.kubectl.get(kind, name, bot.namespace)
        return "nothing" if found is None else list(differences(wanted, intent(found)))

    eventually(look, what=f"{kind} {name} is repaired", within_s=REPAIRED_WITHIN_S, every_s=0.1, seen=seen)
    return time.monotonic() - started


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Where two contents differ."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted({*wanted, *found}):
            yield from differences(wanted.get(key), found.get(key), f"{path}.{key}")
    elif wanted != found:
        yield f"{path}: {found!r} instead of {wanted!r}"


def report(took: dict[str, float], how: str) -> None:
    ordered = sorted(took.values())
    print(f"\n{how}: {len(ordered)} children, repaired in {ordered[len(ordered) // 2]:.2f} s (median), ", end="")
    print(f"{ordered[-1]:.2f} s at most ({max(took, key=lambda name: took[name])})")


def test_every_child_that_is_edited_by_hand_is_put_back(majors, whole):
    took = {}
    for (kind, name), manifest in whole.items():
        majors.kubectl.patch(kind, name, majors.namespace, EDITS[kind])
        took[f"{kind} {name}"] = repaired(majors, kind, name, intent(manifest))
    report(took, "edited")


def test_every_deployment_that_is_scaled_by_hand_runs_one_pod_again(majors, whole):
    took = {}
    for (kind, name), manifest in whole.items():
        if kind in {"Deployment", "StatefulSet"}:
            majors.kubectl("scale", kind, name, "-n", majors.namespace, "--replicas=2")
            took[f"{kind} {name}"] = repaired(majors, kind, name, intent(manifest))
    report(took, "scaled")


def test_a_service_that_is_scaled_to_nothing_comes_back(majors, whole):
    name = f"{majors.name}-monitor"
    majors.kubectl("scale", "deployment", name, "-n", majors.namespace, "--replicas=0")
    repaired(majors, "Deployment", name, intent(whole["Deployment", name]))
    majors.wait_ready()


def test_every_child_that_is_deleted_by_hand_is_made_again(majors, whole):
    took = {}
    for (kind, name), manifest in majors.children(WRITABLE_KINDS).items():
        majors.kubectl.delete(kind, name, majors.namespace)
        wanted = intent(whole[kind, name])
        took[f"{kind} {name}"] = repaired(majors, kind, name, wanted, uid=manifest["metadata"]["uid"])
    report(took, "deleted")


def test_no_child_is_missing_and_none_is_new_after_all_that(majors, whole):
    assert set(majors.children(WRITABLE_KINDS)) == set(whole)


def test_a_deleted_secret_is_made_again_when_a_pod_misses_it(majors):
    majors.wait_ready()
    secrets = majors.children(("secrets",))
    assert {name for _, name in secrets} == {"majors-bus", "majors-paper-agent"}
    majors.kubectl.delete("secret", ["majors-bus", "majors-paper-agent"], majors.namespace)
    majors.kubectl.kill(majors.pod("execution"), majors.namespace)
    found = eventually(
        lambda: (now := majors.children(("secrets",))) and len(now) == 2 and now,
        what="both Secrets are there again",
        within_s=90,
        every_s=1,
    )
    for key, secret in found.items():
        assert secret["data"] == secrets[key]["data"], "a Secret came back with another content"


def test_the_bot_trades_on_after_all_that(majors):
    majors.wait_ready(within_s=READY_WITHIN_S)
    since = majors.exchange.now_ms()
    eventually(
        lambda: cycle_ms(majors) > since,
        what="a new cycle is planned",
        within_s=200,
        every_s=2,
    )


def cycle_ms(bot: Bot) -> int:
    """When the last cycle began that the status tells of."""
    return to_ms(bot.status()["portfolio"]["lastCycleAt"])
