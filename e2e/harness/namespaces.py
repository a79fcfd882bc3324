"""Namespaces of this run: their own names, the strictest Pod Security, gone at the end."""

from __future__ import annotations

import os
import secrets

from harness.kubectl import Kubectl

KEPT = os.environ.get("E2E_RUN", "")
"""The name of a run whose installation and bots are kept, and used again by the next run of that name."""
RUN = KEPT or secrets.token_hex(3)
"""In every name of this run, so that two runs on one cluster do not meet."""
RUN_LABEL = "tradingbot.dev/e2e-run"


def create(kubectl: Kubectl, purpose: str) -> str:
    """A namespace in which only pods of the restricted profile may start."""
    name = f"e2e-{purpose}-{RUN}"
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
        RUN_LABEL: RUN,
    }
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return name


def remove_all(kubectl: Kubectl) -> None:
    """Delete the run's namespaces, letting go of resources whose operator has gone."""
    names = [
        each["metadata"]["name"] for each in kubectl.json("get", "namespaces", "-l", f"{RUN_LABEL}={RUN}")["items"]
    ]
    for name in names:
        bots = kubectl.run("get", "tb", "-n", name, "-o", "name")
        for resource in bots.stdout.split():
            kubectl.run("patch", resource, "-n", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    if names:
        kubectl("delete", "namespace", *names, "--wait=false")
