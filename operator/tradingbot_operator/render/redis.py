"""The bot's own Redis: one pod that writes each command to disk before it answers, on a volume that survives the pod.

The volume's claim is a manifest of its own, named by the bot's id, so that another bot can adopt it; a StatefulSet
is used because it never runs two pods at once, not even on two nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

from tradingbot.bus.acl import ROLES, acl_rules
from tradingbot_operator import names
from tradingbot_operator.render.context import Context
from tradingbot_operator.render.manifest import Manifest, digest, manifest
from tradingbot_operator.render.pods import (
    PRIVATE_FILES,
    REDIS_USER,
    Mount,
    Pod,
    resources,
    service,
    template,
    volume_claim,
)
from tradingbot_operator.render.quantity import amount
from tradingbot_operator.resource import Bot

PORT: Final = 6379
PROBE_USER: Final = "probe"
_CONFIG_FOLDER: Final = "/etc/redis"
_DATA_FOLDER: Final = "/data"
_DISK_PART: Final = 4
"""The volume holds the append-only file at twice the data, and during a rewrite once more."""
_MEMORY_PART: Final = Fraction(6, 10)
"""Of the memory limit: the rest is for buffers, and for pages that change while a child writes the file anew."""
_LEAST_BYTES: Final = 32 * 1024**2

_PING: Final = {
    "exec": {"command": ["redis-cli", "-e", "--no-auth-warning", "--user", PROBE_USER, "--pass", PROBE_USER, "ping"]},
    "timeoutSeconds": 5,
}
_PROBES: Final = {
    # Loading a large append-only file takes its time; it answers LOADING until then.
    "startupProbe": {**_PING, "periodSeconds": 2, "failureThreshold": 300},
    "readinessProbe": {"tcpSocket": {"port": "redis"}, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
    # Two minutes: a busy node is slow to run a probe, and a restart would cost more than it mends.
    "livenessProbe": {**_PING, "periodSeconds": 20, "failureThreshold": 6},
}


def redis(bot: Bot, context: Context) -> Iterator[Manifest]:
    """The StatefulSet and its Service."""
    yield service(bot, "redis", port=PORT)
    name = names.child(bot.name, names.REDIS)
    spec = {
        "replicas": 1,
        "serviceName": name,
        # With OrderedReady a pod with a bad image would never be replaced by a good one.
        "podManagementPolicy": "Parallel",
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": names.pod_selector(bot.name, names.REDIS)},
        "template": template(bot, context, _pod(bot, context)),
    }
    yield manifest("StatefulSet", bot, name, component=names.REDIS, api_version="apps/v1", spec=spec)


def redis_state(bot: Bot, context: Context) -> Iterator[Manifest]:
    """What outlives the pod: its configuration and its volume."""
    yield manifest(
        "ConfigMap", bot, names.redis_config_map(bot.name), component=names.REDIS, data=configuration(bot, context)
    )
    claim, storage = names.redis_claim(bot.bot_id), bot.spec.redis.storage
    yield volume_claim(bot, context, name=claim, component="redis", storage=storage)


def configuration(bot: Bot, context: Context) -> dict[str, str]:
    """redis.conf and users.acl."""
    settings = {
        "port": str(PORT),
        "dir": _DATA_FOLDER,
        "aclfile": f"{_CONFIG_FOLDER}/users.acl",
        # The default user is off, and a NetworkPolicy says who may connect.
        "protected-mode": "no",
        "appendonly": "yes",
        # An order's intent must survive a power cut before the order is sent.
        "appendfsync": "always",
        "save": '""',
        "maxmemory": str(max_memory_bytes(bot, context)),
        # A full bus refuses writes and execution fails closed; evicting a key would forget an order.
        "maxmemory-policy": "noeviction",
        "tcp-keepalive": "30",
    }
    return {
        "redis.conf": "".join(f"{name} {value}\n" for name, value in settings.items()),
        "users.acl": "".join(f"user {line}\n" for line in _users(context)),
    }


def max_memory_bytes(bot: Bot, context: Context) -> int:
    """The bound at which Redis refuses writes: what the volume and the memory limit can hold, in bytes."""
    bounds = [amount(bot.spec.redis.storage) / _DISK_PART]
    limit = resources(bot, context, "redis").get("limits", {}).get("memory")
    if limit is not None:
        bounds.append(amount(limit) * _MEMORY_PART)
    return max(_LEAST_BYTES, int(min(bounds)))


def _users(context: Context) -> Iterator[str]:
    # Off: nobody becomes this user. Its rights count all the same: Redis 7 reads its own append-only file as this
    # user, and drops every transaction and function call in it that the user may not repeat.
    yield "default off resetpass ~* &* +@all"
    yield f"{PROBE_USER} reset on nopass +ping"
    for role in ROLES:
        yield f"{role} {' '.join(acl_rules(role))} #{context.password_hashes[role]}"


def _pod(bot: Bot, context: Context) -> Pod:
    config: dict[str, Any] = {
        "configMap": {"name": names.redis_config_map(bot.name), "defaultMode": PRIVATE_FILES},
    }
    claim = {"persistentVolumeClaim": {"claimName": names.redis_claim(bot.bot_id)}}
    return Pod(
        component="redis",
        image=context.settings.redis_image,
        user=REDIS_USER,
        command=("redis-server", f"{_CONFIG_FOLDER}/redis.conf"),
        ports={"redis": PORT},
        probes=_PROBES,
        has_state=True,
        mounts=(
            Mount(name="config", path=_CONFIG_FOLDER, source=config),
            Mount(name="data", path=_DATA_FOLDER, source=claim, writable=True),
        ),
        config_hash=digest(configuration(bot, context)),
        grace_s=30,
    )
