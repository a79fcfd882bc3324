"""Budgets that let a drain go on.

Each part runs once, by its lease, so no budget can keep it running through an eviction. One that forbids the only pod
to go, or that makes one part wait for another to be ready, would block the drain of a one-node cluster for ever. What
these do: they say that a pod may go at any time, one that is not ready too, and show it in `kubectl get pdb`. An
eviction then ends the pod as any deletion does: execution cancels what is open before it goes.
"""

from __future__ import annotations

from collections.abc import Iterator

from tradingbot_operator import names
from tradingbot_operator.render.manifest import Manifest, manifest
from tradingbot_operator.resource import Bot


def budgets(bot: Bot) -> Iterator[Manifest]:
    """For execution, which holds orders, and for Redis, which holds the state."""
    own_redis = bot.spec.redis.url_secret_ref is None
    for component in ("execution", *((names.REDIS,) if own_redis else ())):
        spec = {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.pod_selector(bot.name, component)},
        }
        name = names.child(bot.name, component)
        yield manifest("PodDisruptionBudget", bot, name, component=component, api_version="policy/v1", spec=spec)
