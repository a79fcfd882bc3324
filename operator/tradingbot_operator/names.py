"""Names that the operator, the chart and the plugin agree on: the resource's, its children's, labels, annotations."""

from __future__ import annotations

from typing import Final

from tradingbot.domain.services import SERVICES

GROUP: Final = "tradingbot.dev"
VERSION: Final = "v1alpha1"
PLURAL: Final = "tradingbots"
KIND: Final = "TradingBot"
API_VERSION: Final = f"{GROUP}/{VERSION}"

FIELD_MANAGER: Final = "tradingbot-operator"
"""Owns what the children's manifests say. Never renamed: the old name would keep its fields for ever."""
STATUS_MANAGER: Final = "tradingbot-operator-status"
FINALIZER: Final = f"{GROUP}/stop-trading"

PAUSE: Final = f"{GROUP}/pause"
"""Annotation "true": children are left alone; modes still work."""
CLEAR_BREAKER: Final = f"{GROUP}/clear-breaker"
"""Annotation with the id of the latched breaker to clear."""
RENDERED: Final = f"{GROUP}/rendered"
"""Annotation on a child: hash of the manifest as rendered."""
CONFIG_HASH: Final = f"{GROUP}/config"
"""Annotation on a pod template: hash of the configuration, so that a change of it restarts the pod."""

LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_BOT: Final = f"{GROUP}/bot"
LABEL_BOT_ID: Final = f"{GROUP}/bot-id"
"""On pods with a volume: two bots that name one volume (one adopts what another still uses) never share it."""
APP: Final = "tradingbot"
MANAGED_BY: Final = "tradingbot-operator"
CHILDREN_SELECTOR: Final = f"{LABEL_MANAGED_BY}={MANAGED_BY}"

REDIS: Final = "redis"
PAPER: Final = "paper"
SERVICE_COMPONENTS: Final = tuple(service.replace("_", "-") for service in SERVICES)
COMPONENTS: Final = (*SERVICE_COMPONENTS, REDIS, PAPER)

MAX_NAME_LENGTH: Final = 40
"""Of a bot's name: the longest child's name adds a component and a pod's two random parts, and 63 is the limit."""

MONITOR_PORT: Final = 8090
METRICS_PORT: Final = 9090


def component_of(service: str) -> str:
    """The component of a service: its name with dashes."""
    return service.replace("_", "-")


def labels(bot: str, component: str = "") -> dict[str, str]:
    """The labels of a child and, with a component, of its pods."""
    named = {LABEL_COMPONENT: component} if component else {}
    return {
        LABEL_NAME: APP,
        LABEL_INSTANCE: bot,
        **named,
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_BOT: bot,
    }


def pod_selector(bot: str, component: str = "") -> dict[str, str]:
    """What selects the pods of a bot, or of one component of it."""
    return {LABEL_BOT: bot, **({LABEL_COMPONENT: component} if component else {})}


def child(bot: str, component: str) -> str:
    """The name of a component's Deployment, Service, PodDisruptionBudget and NetworkPolicy."""
    return f"{bot}-{component}"


def config_map(bot: str) -> str:
    """The ConfigMap with the pods' environment."""
    return f"{bot}-config"


def mode_config_map(bot: str) -> str:
    """The ConfigMap whose key ``mode`` execution mounts; outside the configuration's hash."""
    return f"{bot}-mode"


def redis_config_map(bot: str) -> str:
    """The ConfigMap with redis.conf and users.acl."""
    return f"{bot}-redis"


def bus_secret(bot: str) -> str:
    """The Secret with a whole redis:// URL for each Redis user."""
    return f"{bot}-bus"


def paper_agent_secret(bot: str) -> str:
    """The Secret with the paper exchange's agent key, under ``private-key``."""
    return f"{bot}-paper-agent"


def redis_claim(bot_id: str) -> str:
    """The PersistentVolumeClaim of Redis; named by the bot's id alone, so that an adopting bot finds it."""
    return f"tradingbot-redis-{bot_id}"


def paper_claim(bot_id: str) -> str:
    """The PersistentVolumeClaim of the paper exchange."""
    return f"tradingbot-paper-{bot_id}"
