"""The language model that runs in the cluster: its Service, and what a policy has to open to reach the pods behind it.

A policy is judged behind the Service's address, by the pods and by their port, and both stand in the Service alone.
So the operator reads it, where it may.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from tradingbot_operator.resource import Bot

_HTTP: Final = 80
_HTTPS: Final = 443
_LABEL: Final = re.compile("[a-z0-9]([-a-z0-9]*[a-z0-9])?")
"""The name becomes part of a request to the API server: nothing that could make it another request."""


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A Service by its address in the cluster."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Backend:
    """The pods behind a Service, and the port (or its name) on which they listen."""

    labels: Mapping[str, str]
    port: int | str


def host_and_port(url: str) -> tuple[str, int]:
    """Where a URL leads."""
    parts = urlsplit(url)
    return (parts.hostname or "").rstrip("."), parts.port or (_HTTPS if parts.scheme == "https" else _HTTP)


def service_at(host: str, *, namespace: str) -> ServiceName | None:
    """The Service that a host names, as seen from a namespace; None for an address and for a name outside."""
    try:
        # First of all: an IPv6 address has no dots, as a Service's name.
        ipaddress.ip_address(host)
    except ValueError:
        labels = host.split(".")
        if not all(map(_LABEL.fullmatch, labels)) or (len(labels) > 1 and labels[2:3] != ["svc"]):
            return None
        return ServiceName(namespace if len(labels) == 1 else labels[1], labels[0])
    return None


def model_service(bot: Bot) -> ServiceName | None:
    """The Service of the bot's language model; None where it asks none, or one elsewhere."""
    ai = bot.spec.ai
    if not ai.asks_a_model or ai.endpoint is None:
        return None
    return service_at(host_and_port(ai.endpoint)[0], namespace=bot.namespace)


def model_backend(bot: Bot, service: Mapping[str, Any] | None) -> Backend | None:
    """What stands behind the Service of the bot's language model.

    Args:
        bot: whose endpoint names the Service.
        service: as the API server gives it; None or empty where there is none, or it may not be read.

    Returns:
        None where the Service does not tell: it selects no pods itself, or has no such port.
    """
    spec = (service or {}).get("spec") or {}
    labels = spec.get("selector")
    if bot.spec.ai.endpoint is None or not labels or spec.get("type") == "ExternalName":
        return None
    port = host_and_port(bot.spec.ai.endpoint)[1]
    if spec.get("clusterIP") == "None":
        return Backend(labels, port)  # its name leads to the pods themselves
    found = [each for each in spec.get("ports") or () if each["port"] == port and each.get("protocol", "TCP") == "TCP"]
    return Backend(labels, found[0].get("targetPort", port)) if found else None
