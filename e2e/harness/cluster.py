"""The kind cluster: an existing one, or a new one, with both images in it."""

from __future__ import annotations

import os
import subprocess

from harness.kubectl import Kubectl

NAME = os.environ.get("KIND_CLUSTER_NAME", "kind")
IMAGE = os.environ.get("E2E_IMAGE", "tradingbot:dev")
REDIS_IMAGE = os.environ.get("E2E_REDIS_IMAGE", "redis:7.0-bookworm")
NODE_IMAGE = os.environ.get("E2E_NODE_IMAGE", "")
"""For a new cluster; empty takes kind's own."""


LOAD = os.environ.get("E2E_LOAD", "always")
"""``never``: the image was loaded a moment ago (``make e2e``), which takes 20 s and shows nothing new."""


def find_or_create() -> Kubectl:
    """A client of the cluster, which is left running afterwards."""
    if NAME not in _run("kind", "get", "clusters").split():
        chosen = ["--image", NODE_IMAGE] if NODE_IMAGE else []
        _run("kind", "create", "cluster", "--name", NAME, "--wait", "180s", *chosen)
    client = Kubectl(f"kind-{NAME}")
    if LOAD != "never":
        _load(IMAGE)
    if not _has(client, REDIS_IMAGE):
        _load(REDIS_IMAGE)
    return client


def _has(client: Kubectl, image: str) -> bool:
    """Whether every node says that it has the image."""
    nodes = client.json("get", "nodes")["items"]
    known = [{name for each in node["status"]["images"] for name in each.get("names", [])} for node in nodes]
    return all(any(name.endswith(f"/{image}") for name in names) for names in known)


def _load(image: str) -> None:
    """Put a local image into the cluster; one that is not local must be there already, or be pulled by it."""
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0:
        _run("kind", "load", "docker-image", image, "--name", NAME)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout
