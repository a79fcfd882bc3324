"""One TradingBot in the cluster: its resource, its pods, its Redis and its exchange."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from harness.exchange import Exchange
from harness.kubectl import Kubectl, KubectlError, Manifest
from harness.specs import Spec
from harness.waiting import eventually

SERVICES = ("market-data", "portfolio-state", "ai-decision", "risk-engine", "execution", "monitor")
COMPONENTS = (*SERVICES, "redis", "paper")
READY_WITHIN_S = 240.0
ACK_WITHIN_S = 60.0

WRITABLE_KINDS = (
    "deployments",
    "statefulsets",
    "services",
    "configmaps",
    "serviceaccounts",
    "networkpolicies",
    "poddisruptionbudgets",
)
"""The kinds of children that the operator applies and repairs."""
CHILD_KINDS = (*WRITABLE_KINDS, "secrets", "persistentvolumeclaims")


class Bot:
    """A bot by its name."""

    def __init__(self, kubectl: Kubectl, name: str, namespace: str) -> None:
        self.kubectl = kubectl
        self.name = name
        self.namespace = namespace
        self.exchange = Exchange(kubectl, pod=lambda: self.pod("paper"), namespace=namespace)

    # ---------------------------------------------------------------- the resource

    def manifest(self, spec: Spec) -> Manifest:
        metadata = {"name": self.name, "namespace": self.namespace}
        return {"apiVersion": "tradingbot.dev/v1alpha1", "kind": "TradingBot", "metadata": metadata, "spec": spec}

    def create(self, spec: Spec) -> None:
        self.kubectl.apply(self.manifest(spec))

    def patch(self, **spec: Any) -> int:
        """A merge patch of the spec; the generation that it leads to."""
        self.kubectl.patch("tb", self.name, self.namespace, {"spec": spec})
        return self.generation()

    def annotate(self, name: str, value: str | None) -> None:
        self.kubectl.patch("tb", self.name, self.namespace, {"metadata": {"annotations": {name: value}}})

    def resource(self) -> Manifest | None:
        return self.kubectl.get("tb", self.name, self.namespace)

    def seen(self) -> Manifest:
        """The resource, which must be there."""
        found = self.resource()
        assert found is not None, f"{self.name} is gone"
        return found

    def generation(self) -> int:
        return int(self.seen()["metadata"]["generation"])

    def status(self) -> dict[str, Any]:
        found = self.resource()
        return (found or {}).get("status") or {}

    def condition(self, kind: str) -> dict[str, Any]:
        """A condition; empty while there is none."""
        return next((each for each in self.status().get("conditions", []) if each["type"] == kind), {})

    def delete(self) -> None:
        """Ask for its deletion."""
        self.kubectl.delete("tb", self.name, self.namespace)

    # ---------------------------------------------------------------- waiting

    def wait(self, check: Callable[[dict[str, Any]], Any], *, what: str, within_s: float) -> dict[str, Any]:
        """The status, once ``check`` of it is true."""

        def look() -> dict[str, Any] | None:
            status = self.status()
            return status if status and check(status) else None

        return eventually(look, what=f"{self.name}: {what}", within_s=within_s, seen=lambda: brief(self.status()))

    def wait_condition(
        self, kind: str, status: str = "True", *, reason: str = "", within_s: float = READY_WITHIN_S
    ) -> dict[str, Any]:
        """A condition, once it has a status (and a reason)."""

        def look() -> dict[str, Any] | None:
            found = self.condition(kind)
            return found if found.get("status") == status and reason in {"", found.get("reason")} else None

        what = f"{self.name}: {kind} is {status} {reason}".rstrip()
        return eventually(look, what=what, within_s=within_s, seen=lambda: brief(self.status()))

    def wait_ready(self, *, within_s: float = READY_WITHIN_S) -> None:
        """Ready for the present generation."""

        def look() -> bool:
            found = self.resource() or {}
            status = found.get("status") or {}
            ready = {each["type"]: each["status"] for each in status.get("conditions", [])}.get("Ready") == "True"
            return ready and status.get("observedGeneration") == found["metadata"]["generation"]

        eventually(look, what=f"{self.name} is Ready", within_s=within_s, every_s=1, seen=lambda: brief(self.status()))

    def set_mode(self, mode: str, *, within_s: float = ACK_WITHIN_S) -> dict[str, Any]:
        """Patch the mode and wait until it is applied; the status' mode."""
        generation = self.patch(mode=mode)
        return self.wait_mode(mode, generation=generation, within_s=within_s)

    def wait_mode(self, mode: str, *, generation: int = 0, within_s: float = ACK_WITHIN_S) -> dict[str, Any]:
        """The status' mode, once it is in effect and acknowledged for a generation."""

        def applied(status: dict[str, Any]) -> bool:
            found = status.get("mode") or {}
            condition = next((each for each in status.get("conditions", []) if each["type"] == "ModeApplied"), {})
            return (
                found.get("desired") == mode
                and found.get("effective") == mode
                and condition.get("status") == "True"
                and condition.get("observedGeneration", 0) >= generation
            )

        return dict(self.wait(applied, what=f"{mode} is applied", within_s=within_s)["mode"])

    def wait_gone(self, *, within_s: float = 180.0) -> None:
        eventually(
            lambda: self.resource() is None,
            what=f"{self.name} is gone",
            within_s=within_s,
            every_s=1,
            seen=lambda: brief(self.status()),
        )

    # ---------------------------------------------------------------- pods and children

    @property
    def selector(self) -> str:
        return f"tradingbot.dev/bot={self.name}"

    def pods(self) -> list[Manifest]:
        """Its pods that are not ending."""
        found = self.kubectl.list("pods", self.namespace, self.selector)
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def pods_by_component(self) -> dict[str, Manifest]:
        return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in self.pods()}

    def pod(self, component: str) -> str:
        """The name of a component's pod."""
        selector = f"{self.selector},app.kubernetes.io/component={component}"
        names = [
            each["metadata"]["name"]
            for each in self.kubectl.list("pods", self.namespace, selector)
            if "deletionTimestamp" not in each["metadata"]
        ]
        if not names:
            raise KubectlError(f"{self.name} has no {component} pod")
        return str(names[0])

    def exec(self, component: str, *command: str, stdin: str | None = None, timeout_s: float = 60.0) -> str:
        """What a command in a component's pod prints."""
        return self.kubectl.exec(self.pod(component), self.namespace, *command, stdin=stdin, timeout_s=timeout_s)

    def children(self, kinds: tuple[str, ...] = CHILD_KINDS) -> dict[tuple[str, str], Manifest]:
        """What the operator made for it, by kind and name."""
        found = self.kubectl.list(",".join(kinds), self.namespace, self.selector)
        return {(each["kind"], each["metadata"]["name"]): each for each in found}

    def incarnations(self) -> dict[str, tuple[str, int]]:
        """By component: the pod's uid and how often its container was restarted."""
        return {
            component: (
                pod["metadata"]["uid"],
                sum(each["restartCount"] for each in pod["status"].get("containerStatuses", [])),
            )
            for component, pod in self.pods_by_component().items()
        }

    # ---------------------------------------------------------------- Redis

    def redis(self, *words: str, user: str = "monitor") -> str:
        """What redis-cli prints in the bot's own Redis, as one of its users."""
        password = self.password(user)
        script = 'read -r REDISCLI_AUTH; export REDISCLI_AUTH; exec redis-cli --user "$0" "$@"'
        return self.exec("redis", "bash", "-c", script, user, *words, stdin=f"{password}\n").strip()

    def password(self, user: str) -> str:
        """A Redis user's password, as the Secret of the bot has it."""
        secret = self.kubectl.get("secret", f"{self.name}-bus", self.namespace)
        assert secret is not None, "the bot has no bus Secret"
        url = base64.b64decode(secret["data"][user]).decode()
        return urlsplit(url).password or ""

    def events(self, reason: str = "") -> list[Manifest]:
        """Events about it, of a reason."""
        found = self.kubectl.list("events.events.k8s.io", self.namespace)
        return [
            each
            for each in found
            if each.get("regarding", {}).get("kind") == "TradingBot"
            and each["regarding"]["name"] == self.name
            and reason in {"", each.get("reason")}
        ]


def brief(status: dict[str, Any]) -> str:
    """A status in a few lines, for a message."""
    conditions = {each["type"]: f"{each['status']} {each['reason']}" for each in status.get("conditions", [])}
    return json.dumps({"mode": status.get("mode"), "ready": status.get("ready"), "conditions": conditions})


def to_ms(stamp: str) -> int:
    """Unix milliseconds of a time in a status."""
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)
