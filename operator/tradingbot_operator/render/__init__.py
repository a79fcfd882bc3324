"""From a bot to its manifests: pure, so that what a release would change is seen by reading files.

``render`` gives what is applied and watched; ``secrets`` what is only created. A change of risk, execution or AI
parameters, or of the mode, changes no pod template.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tradingbot.domain.static import Network
from tradingbot_operator.render.config import config_map, mode_config_map
from tradingbot_operator.render.context import Context, context_of
from tradingbot_operator.render.disruption import budgets
from tradingbot_operator.render.manifest import Manifest
from tradingbot_operator.render.monitoring import monitors
from tradingbot_operator.render.network import policies
from tradingbot_operator.render.paper import paper, paper_state
from tradingbot_operator.render.pods import service_account
from tradingbot_operator.render.redis import redis, redis_state
from tradingbot_operator.render.secrets import bus_url, secrets
from tradingbot_operator.render.services import services
from tradingbot_operator.resource import Bot

__all__ = ["KINDS", "OPTIONAL_KINDS", "Context", "Manifest", "bus_url", "context_of", "render", "secrets"]

KINDS: Final = (
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "ServiceAccount"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
)
"""(apiVersion, kind) of everything that ``render`` may give."""
OPTIONAL_KINDS: Final = (("monitoring.coreos.com/v1", "PodMonitor"),)
"""The same, only where ``serviceMonitor`` is set: other clusters do not know them."""


def render(bot: Bot, context: Context) -> tuple[Manifest, ...]:
    """All children of a bot that are applied, in the order in which to apply them; what is missing is to be pruned."""
    return (*_state(bot, context), *(() if context.at_rest else _parts(bot, context)))


def _state(bot: Bot, context: Context) -> Iterator[Manifest]:
    """What stays while the bot is suspended."""
    yield config_map(bot, context)
    yield mode_config_map(bot)
    if bot.spec.redis.url_secret_ref is None:
        yield from redis_state(bot, context)
    if bot.network is Network.PAPER:
        yield from paper_state(bot, context)


def _parts(bot: Bot, context: Context) -> Iterator[Manifest]:
    """What makes it run; nothing may start before it is fenced in."""
    yield service_account(bot)
    yield from policies(bot, context)
    if bot.spec.redis.url_secret_ref is None:
        yield from redis(bot, context)
    if bot.network is Network.PAPER:
        yield from paper(bot, context)
    yield from services(bot, context)
    yield from budgets(bot)
    yield from monitors(bot, context)
