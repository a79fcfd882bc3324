"""The operator, installed by its chart as a person installs it."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from harness.cluster import IMAGE, REDIS_IMAGE
from harness.kubectl import Kubectl, Manifest
from harness.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts" / "tradingbot-operator"
CRD = "tradingbots.tradingbot.dev"
RELEASE = "operator"
STARTS_WITHIN_S = 180.0


class Operator:
    """One release of the chart."""

    def __init__(self, kubectl: Kubectl, namespace: str, watched: list[str]) -> None:
        self.kubectl = kubectl
        self.namespace = namespace
        self.watched = watched

    # ---------------------------------------------------------------- helm

    def install(self, **values: Any) -> str:
        """Install or upgrade, and wait until it is ready; what Helm prints."""
        repository, _, tag = IMAGE.rpartition(":")
        given = {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
            "redis": {"image": REDIS_IMAGE, **values.pop("redis", {})},
            "watch": {"namespaces": self.watched},
            **values,
        }
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(given, file)
            file.flush()
            # An earlier run has left the definition behind, as the chart promises.
            return self._helm(
                "upgrade", "--install", RELEASE, str(CHART), "-f", file.name, "--take-ownership", "--wait"
            )

    def test(self) -> str:
        """``helm test``."""
        return self._helm("test", RELEASE)

    def uninstall(self) -> None:
        self._helm("uninstall", RELEASE, "--ignore-not-found", "--wait")

    def _helm(self, *words: str) -> str:
        command = ["helm", "--kube-context", self.kubectl.context, "-n", self.namespace, *words, "--timeout", "240s"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"helm {' '.join(words)}: {done.stderr.strip()}"
        return done.stdout

    # ---------------------------------------------------------------- its pods

    @property
    def deployment(self) -> str:
        return str(self.kubectl.list("deployments", self.namespace)[0]["metadata"]["name"])

    def pods(self) -> list[Manifest]:
        """Its pods that are not ending."""
        found = self.kubectl.list("pods", self.namespace, "app.kubernetes.io/name=tradingbot-operator")
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def ready_pods(self) -> list[str]:
        return [each["metadata"]["name"] for each in self.pods() if is_ready(each)]

    def scale(self, replicas: int) -> None:
        """As many as that, all ready; none: also none ending."""
        self.kubectl("scale", "deployment", self.deployment, "-n", self.namespace, f"--replicas={replicas}")

        def look() -> bool:
            left = self.kubectl.list("pods", self.namespace, "app.kubernetes.io/name=tradingbot-operator")
            return len(left) == len(self.ready_pods()) == replicas

        eventually(look, what=f"{replicas} operators run", within_s=STARTS_WITHIN_S, every_s=1)

    def kill(self) -> None:
        """End its pods at once, without a chance to finish anything."""
        for pod in self.pods():
            self.kubectl.kill(pod["metadata"]["name"], self.namespace)

    def wait_ready(self) -> str:
        """The name of a ready pod."""
        return eventually(self.ready_pods, what="the operator is ready", within_s=STARTS_WITHIN_S, every_s=1)[0]

    def log(self) -> str:
        selector = "app.kubernetes.io/name=tradingbot-operator"
        return self.kubectl("logs", "-n", self.namespace, "-l", selector, "--tail=2000", check=False)

    def metrics(self) -> dict[str, float]:
        """The samples of its metrics, by name and labels as they are printed."""
        script = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/metrics').read().decode())"
        text = self.kubectl.exec(self.wait_ready(), self.namespace, "python", "-c", script)
        found = re.findall(r"^([^#\s][^ ]*(?:\{[^}]*\})?) ([-+0-9.eEinfNa]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        return sum(value for key, value in self.metrics().items() if key.partition("{")[0] == name)


def is_ready(pod: Manifest) -> bool:
    """Whether a pod has said that it is ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
