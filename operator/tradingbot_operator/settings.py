"""The operator's settings: one YAML file that the chart renders from its values.

Names are in camelCase, as chart values are. What belongs to one bot is in its resource; here is what the cluster's
owner decides for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from tradingbot.domain.static import HttpUrl
from tradingbot.runtime.settings import SettingsError

SETTINGS_VARIABLE = "TRADINGBOT_OPERATOR_SETTINGS"
"""The environment variable that names the file."""
DEFAULT_PATH = "/etc/tradingbot-operator/settings.yaml"

Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
Component = Literal[
    "market-data", "portfolio-state", "ai-decision", "risk-engine", "execution", "monitor", "redis", "paper"
]
EgressRule = dict[str, Any]
"""A rule as in NetworkPolicy `spec.egress`; the API server checks it."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, hide_input_in_errors=True
    )


class Amounts(_Section):
    """CPU and memory, as Kubernetes writes them."""

    cpu: Quantity | None = None
    memory: Quantity | None = None

    def over(self, base: Amounts) -> Amounts:
        """These, and where one is not given the base's."""
        return Amounts(cpu=self.cpu or base.cpu, memory=self.memory or base.memory)

    def manifest(self) -> dict[str, str]:
        """As in a container's `resources`; empty when nothing is asked for."""
        return {name: value for name, value in (("cpu", self.cpu), ("memory", self.memory)) if value}


class Resources(_Section):
    """What a container asks for and what it may have at most."""

    requests: Amounts = Amounts()
    limits: Amounts = Amounts()

    def over(self, base: Resources) -> Resources:
        """These, and where one is not given the base's."""
        return Resources(requests=self.requests.over(base.requests), limits=self.limits.over(base.limits))


def _size(*, cpu: str, memory: str, at_most: str) -> Resources:
    return Resources(requests=Amounts(cpu=cpu, memory=memory), limits=Amounts(memory=at_most))


DEFAULT_RESOURCES: Mapping[Component, Resources] = {
    "market-data": _size(cpu="20m", memory="64Mi", at_most="192Mi"),
    "portfolio-state": _size(cpu="20m", memory="64Mi", at_most="192Mi"),
    "ai-decision": _size(cpu="10m", memory="64Mi", at_most="192Mi"),
    "risk-engine": _size(cpu="20m", memory="64Mi", at_most="192Mi"),
    "execution": _size(cpu="40m", memory="96Mi", at_most="256Mi"),
    "monitor": _size(cpu="10m", memory="64Mi", at_most="256Mi"),
    "redis": _size(cpu="40m", memory="128Mi", at_most="512Mi"),
    "paper": _size(cpu="20m", memory="96Mi", at_most="384Mi"),
}
"""Measured after 5 minutes of trading five coins: services 45 to 77 MB, Redis 21 MB. The CPU is a share of a busy
node rather than a need: Redis and execution come first in it. No limit of CPU: a throttled cancel is worse than a busy
node."""

_CLUSTER_DNS: EgressRule = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        },
        {"ipBlock": {"cidr": "169.254.20.10/32"}},
    ],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}
_REDIS_ANYWHERE: EgressRule = {"ports": [{"protocol": "TCP", "port": 6379}, {"protocol": "TCP", "port": 6380}]}


class OperatorSettings(_Section):
    """What the chart's values give the operator."""

    image: Annotated[str, Field(min_length=1)]
    """The image of every pod but Redis; a resource may name another. No default: the chart's version decides."""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets in the bots' namespaces."""
    redis_image: Annotated[str, Field(min_length=1)] = "redis:7.4-bookworm"
    """Redis >= 7.0 or Valkey, with `redis-server` and `redis-cli` on the path, run as user 999."""

    operator_namespace: Annotated[str, Field(min_length=1)]
    """Where the operator runs: its pods there may reach the bots' Redis."""
    operator_labels: Annotated[dict[str, str], Field(min_length=1)] = {"app.kubernetes.io/name": "tradingbot-operator"}
    """Labels of the operator's pods. Never empty: that would admit the whole namespace."""
    namespaces: tuple[str, ...] = ()
    """The namespaces that are watched; empty: the operator's own."""
    account_lease_namespace: str | None = None
    """Where the Leases of accounts live. Default: the operator's own namespace."""
    ip_weight_per_min: Annotated[int, Field(ge=60, le=1200)] = 1100
    """The venue's request weight per address and minute, divided among the bots that run."""

    resources: dict[Component, Resources] = {}
    """Per component, over DEFAULT_RESOURCES."""
    storage_class: str | None = None
    """Of the bots' volumes. Default: the cluster's own."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()

    service_monitor: bool = False
    """Whether a PodMonitor is made for each bot; needs the Prometheus operator's resources."""
    metrics_from: dict[str, str] | None = None
    """Labels of the namespaces that may read the bots' /metrics. Default: none may."""
    extra_egress: tuple[EgressRule, ...] = ()
    """Further egress of the services: OTLP, PostgreSQL, alerts."""
    model_egress: tuple[EgressRule, ...] = ()
    """Further egress of ai_decision's pods that decide by llm, regime or a plugin: a model in a private network, which
    the way to `spec.ai.endpoint` leaves out."""
    dns_egress: tuple[EgressRule, ...] = (_CLUSTER_DNS,)
    """The way to the cluster's DNS. Default: kube-dns in kube-system and the node's cache."""
    external_redis_egress: tuple[EgressRule, ...] = (_REDIS_ANYWHERE,)
    """The way to a Redis of `redis.urlSecretRef`, whose address only the Secret knows. Default: 6379 and 6380."""
    otlp_endpoint: HttpUrl | None = None
    """OTLP/HTTP endpoint for the services' traces; `extraEgress` must let them through. Default: no traces."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Of the services and of the operator."""

    resync_seconds: Annotated[float, Field(gt=0)] = 300
    """Real seconds between two looks at a resource that nothing has woken."""
    mode_receive_seconds: Annotated[float, Field(gt=0)] = 10
    """Real seconds in which execution must say that it has a restriction; then its pod is deleted."""
    mode_ack_seconds: Annotated[float, Field(gt=0)] = 30
    """Real seconds in which execution must acknowledge a restriction; then its pod is deleted."""

    @property
    def watched(self) -> tuple[str, ...]:
        """The namespaces that are watched."""
        return self.namespaces or (self.operator_namespace,)

    @property
    def lease_namespace(self) -> str:
        """Where the Leases of accounts live."""
        return self.account_lease_namespace or self.operator_namespace

    def resources_of(self, component: Component) -> Resources:
        """What a component's container is given unless the resource says otherwise."""
        base = DEFAULT_RESOURCES[component]
        return self.resources[component].over(base) if component in self.resources else base


def load_settings(path: Path) -> OperatorSettings:
    """Read the file.

    Raises:
        SettingsError: one line per field that is missing, unknown or wrong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: not YAML: {' '.join(str(error).split())}"]) from None
    return parse_settings(content if content is not None else {})


def parse_settings(content: Any) -> OperatorSettings:
    """The settings that were read.

    Raises:
        SettingsError: one line per field that is missing, unknown or wrong.
    """
    if not isinstance(content, dict):
        raise SettingsError(["the settings must be a mapping of names to values"])
    try:
        return OperatorSettings.model_validate(content)
    except ValidationError as error:
        lines = _lines(error.errors(include_url=False, include_input=True), content)
        raise SettingsError(list(dict.fromkeys(lines))) from None


def _lines(errors: list[ErrorDetails], content: dict[str, Any]) -> Iterator[str]:
    for error in errors:
        # The key of a mapping is marked by pydantic with a part of its own, which says nothing to a person.
        path = ".".join(str(part) for part in error["loc"] if part != "[key]")
        if error["type"] == "missing":
            yield f"{path}: not set; it has no default"
        elif error["type"] == "extra_forbidden":
            yield f"{path}: no such setting"
        else:
            text = error["msg"].removeprefix("Value error, ")
            yield f"{path}: {text[:1].lower()}{text[1:]}; was {_shown(content, error['loc'])}"


def _shown(content: Any, path: tuple[int | str, ...]) -> str:
    for part in path:
        if part == "[key]":
            break
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            return "nothing"
    return repr(content)
