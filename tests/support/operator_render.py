"""Bots and what is rendered of them, for tests of the operator's rendering."""

from __future__ import annotations

from typing import Any

from support.operator_specs import ACCOUNT, OTHER, body
from tradingbot_operator.keys import MasterKey
from tradingbot_operator.render import Manifest, context_of, render
from tradingbot_operator.render.model import model_backend
from tradingbot_operator.resource import Bot, parse
from tradingbot_operator.settings import OperatorSettings, parse_settings

UID = "6f1c8a52-0d3b-4e2e-9a51-2f0c6f1f7d11"
MASTER = MasterKey(bytes(range(32)))
SETTINGS = OperatorSettings(image="tradingbot:1", redis_image="redis:7", operator_namespace="tradingbot-system")

EVERYTHING: dict[str, Any] = {
    "mode": "REDUCE_ONLY",
    "dryRun": False,
    "universe": ["BTC", "ETH"],
    "cycleSeconds": 300,
    "exchange": {
        "network": "mainnet",
        "accountAddress": ACCOUNT,
        "vaultAddress": ACCOUNT,
        "privateKeySecretRef": {"name": "agent", "key": "pk"},
        "liveTrading": True,
    },
    "redis": {"storage": "4Gi", "retain": True, "adopt": "01234567-89ab-cdef-0123-456789abcdef",
              "acceptWeakDurability": True},
    "image": "registry.example/tradingbot:2",
    "resources": {"execution": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
                  "redis": {"limits": {"memory": "2Gi"}}},
}  # fmt: skip
"""A spec in which every field that is rendered is set."""

EVERY_SETTING: dict[str, Any] = {
    "image": "tradingbot:1",
    "imagePullPolicy": "Always",
    "imagePullSecrets": ["registry"],
    "redisImage": "redis:7",
    "operatorNamespace": "tradingbot-system",
    "operatorLabels": {"app.kubernetes.io/name": "tradingbot-operator", "app.kubernetes.io/instance": "tb"},
    "resources": {"monitor": {"limits": {"memory": "300Mi"}}},
    "storageClass": "fast",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "trading", "operator": "Exists"}],
    "serviceMonitor": True,
    "metricsFrom": {"kubernetes.io/metadata.name": "monitoring"},
    "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"protocol": "TCP", "port": 4318}]}],
    "otlpEndpoint": "http://10.1.2.3:4318",
    "logLevel": "WARNING",
}

THEIR_REDIS: dict[str, Any] = {"redis": {"urlSecretRef": {"name": "their-redis", "key": "dsn"}}}

__all__ = ["ACCOUNT", "EVERYTHING", "EVERY_SETTING", "MASTER", "OTHER", "SETTINGS", "THEIR_REDIS", "UID"]


def bot(spec: dict[str, Any] | None = None, **metadata: Any) -> Bot:
    """A bot as the operator reads it; metadata.deletionTimestamp makes one that is being deleted."""
    given = {"namespace": "bots", "uid": UID, "generation": 1, "resourceVersion": "7", **metadata}
    return parse(body(spec, **given), strict=True)


def rendered(
    spec: dict[str, Any] | None = None,
    *,
    settings: OperatorSettings = SETTINGS,
    at_rest: bool = False,
    service: Manifest | None = None,
    **metadata: Any,
) -> tuple[Manifest, ...]:
    """What is rendered of a spec; ``service`` is that of its language model, as far as the operator may read it."""
    each = bot(spec, **metadata)
    return render(each, context_of(each, settings, MASTER, model=model_backend(each, service), at_rest=at_rest))


def everything() -> tuple[Manifest, ...]:
    """A bot on the main network with every field and every setting."""
    return rendered(EVERYTHING, settings=parse_settings(EVERY_SETTING))


def find(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """The one manifest of this kind and name."""
    (found,) = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    """The manifests of these kinds."""
    return [each for each in manifests if each["kind"] in kinds]


def templates(manifests: tuple[Manifest, ...]) -> dict[str, dict[str, Any]]:
    """Component -> its pod template."""
    found = of_kind(manifests, "Deployment", "StatefulSet")
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"] for each in found}


def container(template: dict[str, Any]) -> dict[str, Any]:
    """The one container of a pod template."""
    (found,) = template["spec"]["containers"]
    return found
