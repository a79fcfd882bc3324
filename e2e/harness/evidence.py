"""What a person would look at after a failure: the operator's log, the bots, pods and events."""

from __future__ import annotations

import json

from harness.kubectl import Kubectl

LINES = 60


def gather(kubectl: Kubectl, *, operator: str, bots: list[str]) -> str:
    """A report of one installation, short enough to read."""
    parts = [_part("operator's log", kubectl("logs", "-n", operator, "-l", _OPERATOR, f"--tail={LINES}", check=False))]
    for namespace in [operator, *bots]:
        parts.append(_part(f"pods of {namespace}", kubectl("get", "pods", "-n", namespace, "-o", "wide", check=False)))
        parts.append(_part(f"events of {namespace}", _events(kubectl, namespace)))
    parts += [_part(f"bots of {each}", _bots(kubectl, each)) for each in bots]
    return "\n".join(parts)


_OPERATOR = "app.kubernetes.io/name=tradingbot-operator"


def _part(title: str, text: str) -> str:
    return f"==== {title}\n{text.rstrip()}"


def _events(kubectl: Kubectl, namespace: str) -> str:
    text = kubectl("get", "events", "-n", namespace, "--sort-by=.metadata.creationTimestamp", check=False)
    return "\n".join(text.splitlines()[-LINES:])


def _bots(kubectl: Kubectl, namespace: str) -> str:
    text = kubectl("get", "tb", "-n", namespace, "-o", "json", check=False)
    found = json.loads(text)["items"] if text.strip() else []
    return "\n".join(
        json.dumps(
            {"name": each["metadata"]["name"], "metadata": _slim(each["metadata"]), "status": each.get("status")}
        )
        for each in found
    )


def _slim(metadata: dict[str, object]) -> dict[str, object]:
    return {key: metadata.get(key) for key in ("name", "generation", "annotations", "finalizers", "deletionTimestamp")}
