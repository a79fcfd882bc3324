"""What every pod has in common: Pod Security "restricted", no token of the API server, a read-only file system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tradingbot_operator import names
from tradingbot_operator.render.context import Context
from tradingbot_operator.render.manifest import Manifest, manifest
from tradingbot_operator.resource import Bot
from tradingbot_operator.settings import Component

TRADINGBOT_USER = 10001
"""The user of our own image."""
REDIS_USER = 999
"""The user of the official Redis and Valkey images."""
PRIVATE_FILES = 0o440
"""Readable by the pod's own user, through its group, and by nobody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A volume and where the container finds it."""

    name: str
    path: str
    source: Mapping[str, Any]
    writable: bool = False

    def volume(self) -> dict[str, Any]:
        """As in a pod's `volumes`."""
        return {"name": self.name, **self.source}

    def mount(self) -> dict[str, Any]:
        """As in a container's `volumeMounts`."""
        return {"name": self.name, "mountPath": self.path, **({} if self.writable else {"readOnly": True})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """The one container of a component, and what is special about it."""

    component: Component
    image: str
    user: int
    ports: Mapping[str, int]
    probes: Mapping[str, Any]
    args: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Sequence[dict[str, Any]] = ()
    env_from: str | None = None
    """A ConfigMap."""
    mounts: Sequence[Mount] = ()
    has_state: bool = False
    """Whether it writes to a volume that is named by the bot's id."""
    config_hash: str | None = None
    grace_s: int = 20


def template(bot: Bot, context: Context, pod: Pod) -> dict[str, Any]:
    """A pod template."""
    metadata: dict[str, Any] = {"labels": names.labels(bot.name, pod.component)}
    if pod.config_hash:
        metadata["annotations"] = {names.CONFIG_HASH: pod.config_hash}
    if pod.has_state:
        metadata["labels"] |= _state_label(bot)
    settings = context.settings
    spec: dict[str, Any] = {
        "serviceAccountName": bot.name,
        "automountServiceAccountToken": False,
        # A Service called "monitor" would otherwise set MONITOR_PORT.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pod.grace_s,
        "securityContext": _pod_security(pod),
        "containers": [_container(bot, context, pod)],
        "volumes": [mount.volume() for mount in pod.mounts],
        "affinity": _alone_with_its_volume(bot, pod) if pod.has_state else {},
        "imagePullSecrets": [{"name": each} for each in settings.image_pull_secrets],
        "nodeSelector": dict(settings.node_selector),
        "tolerations": [dict(each) for each in settings.tolerations],
    }
    return {"metadata": metadata, "spec": _without_empty(spec)}


def deployment(bot: Bot, context: Context, pod: Pod) -> Manifest:
    """One replica that is never there twice."""
    spec = {
        "replicas": 1,
        "revisionHistoryLimit": 2,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": names.pod_selector(bot.name, pod.component)},
        "template": template(bot, context, pod),
    }
    name = names.child(bot.name, pod.component)
    return manifest("Deployment", bot, name, component=pod.component, api_version="apps/v1", spec=spec)


def service(bot: Bot, component: Component, *, port: int) -> Manifest:
    """A stable address for a component."""
    spec = {
        "selector": names.pod_selector(bot.name, component),
        "ports": [{"name": component, "port": port, "targetPort": component, "protocol": "TCP"}],
    }
    return manifest("Service", bot, names.child(bot.name, component), component=component, spec=spec)


def service_account(bot: Bot) -> Manifest:
    """The pods' identity, which may do nothing and holds no token."""
    return manifest("ServiceAccount", bot, bot.name, automountServiceAccountToken=False)


def volume_claim(bot: Bot, context: Context, *, name: str, component: Component, storage: str) -> Manifest:
    """A volume for one pod; one that is retained has no owner and outlives the bot."""
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage}},
    }
    if context.settings.storage_class is not None:
        spec["storageClassName"] = context.settings.storage_class
    owned = not bot.spec.redis.retain
    return manifest("PersistentVolumeClaim", bot, name, component=component, owned=owned, spec=spec)


def resources(bot: Bot, context: Context, component: Component) -> dict[str, dict[str, str]]:
    """The resource's own requests and limits over the chart's."""
    base = context.settings.resources_of(component)
    own = bot.spec.resources.of(component)
    requests = {**base.requests.manifest(), **(own.requests if own else {})}
    limits = {**base.limits.manifest(), **(own.limits if own else {})}
    return {part: values for part, values in (("requests", requests), ("limits", limits)) if values}


def secret_variable(name: str, *, secret: str, key: str) -> dict[str, Any]:
    """An environment variable from a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def variables(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Environment variables with plain values."""
    return [{"name": name, "value": value} for name, value in values.items()]


def _state_label(bot: Bot) -> dict[str, str]:
    return {names.LABEL_BOT_ID: bot.bot_id}


def _alone_with_its_volume(bot: Bot, pod: Pod) -> dict[str, Any]:
    """ReadWriteOnce keeps a volume to one node, and this a node to one pod with it."""
    others = {"matchLabels": {**_state_label(bot), names.LABEL_COMPONENT: pod.component}}
    term = {"labelSelector": others, "topologyKey": "kubernetes.io/hostname"}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _container(bot: Bot, context: Context, pod: Pod) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": pod.component,
        "image": pod.image,
        "imagePullPolicy": context.settings.image_pull_policy,
        "command": list(pod.command),
        "args": list(pod.args),
        "envFrom": [{"configMapRef": {"name": pod.env_from}}] if pod.env_from else [],
        "env": list(pod.env),
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in pod.ports.items()],
        "resources": resources(bot, context, pod.component),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [mount.mount() for mount in pod.mounts],
        **pod.probes,
    }
    return _without_empty(container)


def _pod_security(pod: Pod) -> dict[str, Any]:
    context: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": pod.user,
        "runAsGroup": pod.user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if pod.mounts:
        context |= {"fsGroup": pod.user, "fsGroupChangePolicy": "OnRootMismatch"}
    return context


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    """The API server drops empty lists and maps; what is sent is to equal what it answers."""
    return {name: value for name, value in fields.items() if value not in ([], {}, None)}
