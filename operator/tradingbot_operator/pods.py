"""What a bot's pods say of themselves: pure readings of their metadata and status."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tradingbot.domain.static import Network
from tradingbot_operator.names import LABEL_COMPONENT, PAPER, REDIS, SERVICE_COMPONENTS
from tradingbot_operator.resource import Bot

_BROKEN: Final = frozenset(
    {
        *("CrashLoopBackOff", "RunContainerError", "CreateContainerError", "CreateContainerConfigError"),
        *("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"),
    }
)
"""Reasons for which a container waits that no waiting cures."""
_MISSING_SECRET: Final = frozenset({"CreateContainerConfigError", "ContainerCreating"})
"""Reasons for which a container waits that a missing Secret gives: one for its environment, one for a mount (a pod's
status tells no more of that one, so every container that is being created counts)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod."""

    name: str
    component: str
    created_at: datetime
    ready: bool
    deleting: bool
    started: bool
    """Whether a container of it has ever run."""
    problem: str
    """Why a container of it cannot run, as ``Reason: message``; empty when none is stuck."""
    wants_secret: bool
    """Whether it may be waiting for a Secret."""


def read_pods(bodies: Iterable[Mapping[str, Any]]) -> tuple[Pod, ...]:
    """The pods of a bot, by name."""
    return tuple(sorted((_pod(body) for body in bodies), key=lambda pod: pod.name))


def wanted_components(bot: Bot) -> tuple[str, ...]:
    """The components of a running bot: one pod each."""
    redis = () if bot.spec.redis.url_secret_ref else (REDIS,)
    paper = (PAPER,) if bot.network is Network.PAPER else ()
    return (*SERVICE_COMPONENTS, *redis, *paper)


def ready_components(pods: Iterable[Pod]) -> frozenset[str]:
    """The components that have a ready pod."""
    return frozenset(pod.component for pod in pods if pod.ready and not pod.deleting)


def of_component(pods: Iterable[Pod], component: str) -> tuple[Pod, ...]:
    """The pods of one component."""
    return tuple(pod for pod in pods if pod.component == component)


def _pod(body: Mapping[str, Any]) -> Pod:
    metadata, status = body["metadata"], body.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    waiting = list(_waiting(containers))
    return Pod(
        name=metadata["name"],
        component=(metadata.get("labels") or {}).get(LABEL_COMPONENT, ""),
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        ready=any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ()),
        deleting="deletionTimestamp" in metadata,
        started=any(_started(each) for each in containers),
        problem=_problem(waiting, status.get("conditions") or ()),
        wants_secret=any(reason in _MISSING_SECRET for reason, _ in waiting),
    )


def _problem(waiting: Iterable[tuple[str, str]], conditions: Iterable[Mapping[str, Any]]) -> str:
    stuck = [(reason, text) for reason, text in waiting if reason in _BROKEN]
    stuck += [
        (each.get("reason", ""), each.get("message", ""))
        for each in conditions
        if each["type"] == "PodScheduled" and each["status"] == "False"
    ]
    return next((f"{reason}: {text}".rstrip(": ") for reason, text in stuck), "")


def _waiting(containers: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for each in containers:
        if state := (each.get("state") or {}).get("waiting"):
            yield state.get("reason", ""), state.get("message", "")


def _started(container: Mapping[str, Any]) -> bool:
    now, before = container.get("state") or {}, container.get("lastState") or {}
    return "running" in now or "terminated" in now or bool(before) or bool(container.get("restartCount"))
