"""The six services: one Deployment each, alike but for the two that hold a key: execution and ai_decision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tradingbot.domain.services import SERVICES
from tradingbot.domain.static import Network
from tradingbot_operator import names
from tradingbot_operator.render.config import MODE_FIELD, environment
from tradingbot_operator.render.context import Context
from tradingbot_operator.render.decision import decision_environment, decision_mounts
from tradingbot_operator.render.manifest import Manifest, digest
from tradingbot_operator.render.pods import (
    PRIVATE_FILES,
    TRADINGBOT_USER,
    Mount,
    Pod,
    deployment,
    secret_variable,
    variables,
)
from tradingbot_operator.resource import Bot
from tradingbot_operator.settings import Component

EXECUTION: Final = "execution"
AI_DECISION: Final = "ai-decision"
MODE_FOLDER: Final = "/etc/tradingbot/mode"
KEY_FOLDER: Final = "/etc/tradingbot/key"
KEY_FIELD: Final = "private-key"
_EXECUTION_GRACE_S: Final = 30
"""Execution cancels what is open before it goes, and the venue may be slow."""

_PORT = {"port": "metrics"}
_PROBES: Final = {
    # A start is slow on a busy node and while Redis is away; only a process that once was up and hangs is restarted.
    "startupProbe": {
        "httpGet": {"path": "/healthz", **_PORT},
        "periodSeconds": 2,
        "timeoutSeconds": 5,
        "failureThreshold": 150,
    },
    "readinessProbe": {
        "httpGet": {"path": "/readyz", **_PORT},
        "periodSeconds": 5,
        "timeoutSeconds": 5,
        "failureThreshold": 2,
    },
    "livenessProbe": {
        "httpGet": {"path": "/healthz", **_PORT},
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 6,
    },
}


def services(bot: Bot, context: Context) -> Iterator[Manifest]:
    """A Deployment for each service."""
    config_hash = digest(environment(bot, context))
    for service in SERVICES:
        yield deployment(bot, context, _pod(bot, context, service, config_hash=config_hash))


def _pod(bot: Bot, context: Context, service: str, *, config_hash: str) -> Pod:
    component: Any = names.component_of(service)
    execution = service == EXECUTION
    return Pod(
        component=component,
        image=bot.spec.image or context.settings.image,
        user=TRADINGBOT_USER,
        args=("run", service),
        env=[_bus_url(bot, service), *variables(_own_environment(bot, component))],
        env_from=names.config_map(bot.name),
        ports={"metrics": names.METRICS_PORT},
        probes=_PROBES,
        mounts=_mounts(bot, component),
        config_hash=config_hash,
        grace_s=_EXECUTION_GRACE_S if execution else 20,
    )


def _bus_url(bot: Bot, service: str) -> dict[str, Any]:
    theirs = bot.spec.redis.url_secret_ref
    if theirs is not None:
        return secret_variable("REDIS_URL", secret=theirs.name, key=theirs.key)
    return secret_variable("REDIS_URL", secret=names.bus_secret(bot.name), key=service)


def _own_environment(bot: Bot, component: Component) -> dict[str, str]:
    if component == "monitor":
        # The page takes commands: reached by port-forward, which the API server guards, and not from the network.
        return {"MONITOR_HOST": "127.0.0.1", "MONITOR_PORT": str(names.MONITOR_PORT)}
    if component == AI_DECISION:
        return decision_environment(bot.spec.ai)
    if component != EXECUTION:
        return {}
    values = {"MODE_FILE": f"{MODE_FOLDER}/{MODE_FIELD}"}
    if not bot.spec.dry_run_in_force:
        values["HL_PRIVATE_KEY_FILE"] = f"{KEY_FOLDER}/{KEY_FIELD}"
    if bot.spec.exchange.vault_address is not None:
        values["HL_VAULT_ADDRESS"] = bot.spec.exchange.vault_address.lower()
    if bot.spec.redis.accept_weak_durability:
        values["REDIS_ACCEPT_WEAK_DURABILITY"] = "true"
    return values


def _mounts(bot: Bot, component: Component) -> tuple[Mount, ...]:
    if component == AI_DECISION:
        return decision_mounts(bot.spec.ai)
    return _execution_mounts(bot) if component == EXECUTION else ()


def _execution_mounts(bot: Bot) -> tuple[Mount, ...]:
    mode = Mount(name="mode", path=MODE_FOLDER, source={"configMap": {"name": names.mode_config_map(bot.name)}})
    if bot.spec.dry_run_in_force:
        return (mode,)
    secret, field = key_secret(bot)
    source = {
        "secret": {"secretName": secret, "items": [{"key": field, "path": KEY_FIELD}], "defaultMode": PRIVATE_FILES}
    }
    return (mode, Mount(name="key", path=KEY_FOLDER, source=source))


def key_secret(bot: Bot) -> tuple[str, str]:
    """The Secret with the key that signs, and its field."""
    given = bot.spec.exchange.private_key_secret_ref
    if bot.network is Network.PAPER or given is None:
        return names.paper_agent_secret(bot.name), KEY_FIELD
    return given.name, given.key
