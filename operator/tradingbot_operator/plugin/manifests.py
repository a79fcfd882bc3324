"""`render` and `diff`: what the operator would make of a resource, on paper and against the cluster.

Rendering is pure, so it runs here as it runs in the operator. Three things only the operator can know, because they
come from its master key: on paper the account and its agent, and the hashes of Redis' passwords. For a bot that is in
the cluster they are read from where they stand in plain sight; for one that is not they are zeros.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tradingbot.bus.acl import ROLES
from tradingbot.domain.errors import Permanent
from tradingbot_operator import names
from tradingbot_operator.drift import stamped
from tradingbot_operator.plugin.bots import RESOURCE, Resource
from tradingbot_operator.plugin.kubectl import Kubectl, KubectlFailed
from tradingbot_operator.render import Context, Manifest, render
from tradingbot_operator.render.model import Backend, model_backend, model_service
from tradingbot_operator.resource import Bot, InvalidSpec, parse
from tradingbot_operator.settings import OperatorSettings, load_settings, parse_settings

_UNKNOWN_ADDRESS = f"0x{'0' * 40}"
_UNKNOWN_HASH = "0" * 64
_UNSAID: Mapping[str, Any] = {"image": "tradingbot:unsaid", "operatorNamespace": "tradingbot-system"}
_OPERATOR = f"{names.LABEL_NAME}={names.MANAGED_BY}"
_SETTINGS_FIELD = "settings.yaml"


class NotAResource(Permanent):
    """A file holds no TradingBot."""


def read_resources(path: Path) -> list[dict[str, Any]]:
    """The TradingBots of a file, ``-`` for standard input; other objects in it are passed over.

    Raises:
        NotAResource: it cannot be read, or holds none.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        documents = list(yaml.safe_load_all(text))
    except OSError as error:
        raise NotAResource(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NotAResource(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    found = [each for each in documents if isinstance(each, dict) and each.get("kind") == names.KIND]
    if not found:
        raise NotAResource(f"{path}: holds no {names.KIND}")
    return found


async def operator_settings(kubectl: Kubectl, path: Path | None, *, namespace: str) -> tuple[OperatorSettings, str]:
    """The operator's settings and where they come from: a file, else the operator that watches the namespace, else the
    only one that can be seen, else none."""
    if path is not None:
        return load_settings(path), str(path)
    try:
        maps = (await kubectl.read("get", "configmaps", "--all-namespaces", f"--selector={_OPERATOR}"))["items"]
    except KubectlFailed:
        maps = []
    found = [each for each in maps if _SETTINGS_FIELD in (each.get("data") or {})]
    read = [(parse_settings(yaml.safe_load(each["data"][_SETTINGS_FIELD])), each["metadata"]) for each in found]
    watching = [each for each in read if namespace in each[0].watched] or read
    if len(watching) != 1:
        return parse_settings(
            dict(_UNSAID)
        ), "defaults, so images and namespaces are wrong (name the operator's with --settings)"
    settings, metadata = watching[0]
    return settings, f"{metadata['namespace']}/{metadata['name']}"


async def live_twin(kubectl: Kubectl, body: Resource) -> Resource | None:
    """The resource of that name in the cluster; None when there is none or it may not be read."""
    metadata = body["metadata"]
    there = Kubectl(context=kubectl.context, namespace=metadata.get("namespace") or kubectl.namespace)
    try:
        found: Resource = await there.read("get", RESOURCE, metadata["name"])
    except KubectlFailed:
        return None
    return found


def as_in_cluster(body: Mapping[str, Any], live: Resource | None, *, namespace: str | None) -> Bot:
    """The bot of a file with the identity that it has in the cluster, where it is there.

    Raises:
        InvalidSpec: the spec breaks the model or a rule; unknown fields are errors here.
    """
    own = dict(body["metadata"])
    twin = live["metadata"] if live is not None else {}
    metadata = {**own, "uid": twin.get("uid") or own.get("uid") or "00000000-0000-0000-0000-000000000000"}
    metadata["namespace"] = own.get("namespace") or twin.get("namespace") or namespace or "default"
    bot = parse({**body, "metadata": metadata}, strict=True)
    return replace(bot, generation=_generation(bot, live))


def _generation(bot: Bot, live: Resource | None) -> int:
    """The generation that the spec has, or will have when it is applied."""
    if live is None:
        return 1
    there = int(live["metadata"].get("generation", 0))
    try:
        return there if parse(live).spec == bot.spec else there + 1
    except InvalidSpec:
        return there + 1


async def context_here(kubectl: Kubectl, bot: Bot, live: Resource | None, settings: OperatorSettings) -> Context:
    """What rendering needs, as far as a person may see it."""
    there = Kubectl(context=kubectl.context, namespace=bot.namespace)
    config, redis, paper, model = await asyncio.gather(
        _found(there, live, "configmap", names.config_map(bot.name)),
        _found(there, live, "configmap", names.redis_config_map(bot.name)),
        _found(there, live, "deployment.apps", names.child(bot.name, names.PAPER)),
        _model(kubectl, live, bot),
    )
    exchange = bot.spec.exchange
    named = exchange.vault_address or exchange.account_address
    known = (config.get("data") or {}).get("HL_ACCOUNT_ADDRESS", _UNKNOWN_ADDRESS)
    return Context(
        settings=settings,
        account=named.lower() if named else known,
        agent_address=_agent(paper),
        password_hashes=_hashes((redis.get("data") or {}).get("users.acl", "")),
        model=model,
    )


async def _model(kubectl: Kubectl, live: Resource | None, bot: Bot) -> Backend | None:
    named = model_service(bot)
    if named is None:
        return None
    there = Kubectl(context=kubectl.context, namespace=named.namespace)
    return model_backend(bot, await _found(there, live, "service", named.name))


async def _found(kubectl: Kubectl, bot: Resource | None, kind: str, name: str) -> Resource:
    """A child of a bot that is in the cluster; nothing where it is not, or may not be read."""
    if bot is None:
        return {}
    try:
        found: Resource = await kubectl.read("get", kind, name)
    except KubectlFailed:
        return {}
    return found


def _agent(paper: Resource) -> str:
    template = ((paper.get("spec") or {}).get("template") or {}).get("spec") or {}
    for container in template.get("containers") or []:
        for word in container.get("args") or []:
            if word.startswith("--agent="):
                return str(word.removeprefix("--agent="))
    return _UNKNOWN_ADDRESS


def _hashes(acl: str) -> dict[str, str]:
    found = dict(re.findall(r"^user (\S+) .*#([0-9a-f]{64})$", acl, flags=re.MULTILINE))
    return {role: found.get(role, _UNKNOWN_HASH) for role in ROLES}


def rendered(bot: Bot, context: Context) -> tuple[Manifest, ...]:
    """What the operator would apply, as it would apply it."""
    return tuple(stamped(each) for each in render(bot, context))


def as_yaml(manifests: tuple[Manifest, ...]) -> str:
    """All of them as one YAML stream."""
    return str(yaml.safe_dump_all(manifests, sort_keys=False, width=118, explicit_start=True))


def bare(body: Mapping[str, Any], bot: Bot) -> Manifest:
    """The resource itself as a person would apply it: without what the API server adds."""
    kept = {name: body["metadata"][name] for name in ("name", "labels", "annotations") if name in body["metadata"]}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {**kept, "namespace": bot.namespace},
        "spec": body.get("spec") or {},
    }
