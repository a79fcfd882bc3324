"""Who may talk to whom: nothing, unless it is said here.

A policy for each component says all that may reach it and all that it may reach; one more denies the rest to whatever
carries the bot's label. The node's own probes and port-forwards come from the node, which policies do not hold back.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, Final

from tradingbot.domain.static import Network
from tradingbot_operator import names
from tradingbot_operator.render import paper, redis
from tradingbot_operator.render.context import Context
from tradingbot_operator.render.manifest import Manifest, manifest
from tradingbot_operator.render.model import Backend, host_and_port, model_service, service_at
from tradingbot_operator.resource import Bot
from tradingbot_operator.settings import EgressRule

Rule = dict[str, Any]

VENUE_COMPONENTS: Final = ("market-data", "portfolio-state", "execution")
"""Who talks to the venue."""
AI_DECISION: Final = "ai-decision"
"""Who talks to the language model."""
NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
_HTTPS: Final = 443
_PRIVATE: Final = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
"""Not the internet: the cluster, its nodes, the cloud's metadata server. The venue has IPv4 addresses, so IPv6 stays
closed."""


def policies(bot: Bot, context: Context) -> Iterator[Manifest]:
    """All of the bot's NetworkPolicies."""
    yield _policy(bot, "", ingress=[], egress=[])
    for component in names.SERVICE_COMPONENTS:
        yield _policy(bot, component, ingress=_metrics(context), egress=list(_service_egress(bot, context, component)))
    if bot.spec.redis.url_secret_ref is None:
        yield _policy(bot, names.REDIS, ingress=[_redis_ingress(bot, context)], egress=[])
    if bot.network is Network.PAPER:
        clients = [_pods(bot, component) for component in VENUE_COMPONENTS]
        live = bot.spec.exchange.paper_settings.prices == "live"
        egress = [*context.settings.dns_egress, internet()] if live else []
        yield _policy(bot, names.PAPER, ingress=[{"from": clients, "ports": [_tcp(paper.PORT)]}], egress=egress)


def internet(port: int = _HTTPS) -> EgressRule:
    """The way to public addresses."""
    return {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": list(_PRIVATE)}}], "ports": [_tcp(port)]}


def _service_egress(bot: Bot, context: Context, component: str) -> Iterator[EgressRule]:
    yield from context.settings.dns_egress
    if bot.spec.redis.url_secret_ref is None:
        yield {"to": [_pods(bot, names.REDIS)], "ports": [_tcp(redis.PORT)]}
    else:
        yield from context.settings.external_redis_egress
    if component in VENUE_COMPONENTS:
        yield _venue(bot)
    if component == AI_DECISION:
        yield from _model(bot, context)
    yield from context.settings.extra_egress


def _venue(bot: Bot) -> EgressRule:
    if bot.network is Network.PAPER:
        return {"to": [_pods(bot, names.PAPER)], "ports": [_tcp(paper.PORT)]}
    return _to_url(bot, bot.spec.exchange.http_url) if bot.spec.exchange.http_url else internet()


def _model(bot: Bot, context: Context) -> Iterator[EgressRule]:
    """The way to the language model, and whatever else the chart's owner opens for strategies that ask somebody."""
    ai = bot.spec.ai
    if ai.asks_a_model and ai.endpoint:
        yield _to_model(bot, ai.endpoint, context.model)
    if ai.may_ask:
        yield from context.settings.model_egress


def _to_model(bot: Bot, endpoint: str, backend: Backend | None) -> EgressRule:
    """The way to a model: to the pods behind its Service where that could be read, else to its namespace, at the
    endpoint's port."""
    service = model_service(bot)
    if service is None:
        return _to_url(bot, endpoint)
    peer = _namespace(service.namespace)
    if backend is None:
        return {"to": [peer], "ports": [_tcp(host_and_port(endpoint)[1])]}
    return {"to": [{**peer, "podSelector": {"matchLabels": dict(backend.labels)}}], "ports": [_tcp(backend.port)]}


def _to_url(bot: Bot, url: str) -> EgressRule:
    """The way to an address of a person's own: in the cluster by its namespace, else by its port."""
    host, port = host_and_port(url)
    service = service_at(host, namespace=bot.namespace)
    if service is not None:
        return {"to": [_namespace(service.namespace)]}  # the port that counts is the pod's
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return internet(port)
    return {"to": [{"ipBlock": {"cidr": str(ipaddress.ip_network(address))}}], "ports": [_tcp(port)]}


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: name}}}


def _redis_ingress(bot: Bot, context: Context) -> Rule:
    operator = {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: context.settings.operator_namespace}},
        "podSelector": {"matchLabels": dict(context.settings.operator_labels)},
    }
    services = {
        "podSelector": {
            "matchLabels": names.pod_selector(bot.name),
            "matchExpressions": [
                {"key": names.LABEL_COMPONENT, "operator": "In", "values": list(names.SERVICE_COMPONENTS)}
            ],
        }
    }
    return {"from": [services, operator], "ports": [_tcp(redis.PORT)]}


def _metrics(context: Context) -> list[Rule]:
    if context.settings.metrics_from is None:
        return []
    scrapers = {"namespaceSelector": {"matchLabels": dict(context.settings.metrics_from)}}
    return [{"from": [scrapers], "ports": [_tcp(names.METRICS_PORT)]}]


def _policy(bot: Bot, component: str, *, ingress: list[Rule], egress: list[EgressRule]) -> Manifest:
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": names.pod_selector(bot.name, component)},
        "policyTypes": ["Ingress", "Egress"],
    }
    spec |= {name: rules for name, rules in (("ingress", ingress), ("egress", egress)) if rules}
    name = names.child(bot.name, component) if component else names.child(bot.name, "deny")
    return manifest("NetworkPolicy", bot, name, component=component, api_version="networking.k8s.io/v1", spec=spec)


def _pods(bot: Bot, component: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": names.pod_selector(bot.name, component)}}


def _tcp(port: int | str) -> dict[str, Any]:
    return {"protocol": "TCP", "port": port}
