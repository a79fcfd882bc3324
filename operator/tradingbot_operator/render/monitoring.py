"""What tells the Prometheus operator to read the services' metrics."""

from __future__ import annotations

from collections.abc import Iterator

from tradingbot_operator import names
from tradingbot_operator.render.context import Context
from tradingbot_operator.render.manifest import Manifest, manifest
from tradingbot_operator.resource import Bot


def monitors(bot: Bot, context: Context) -> Iterator[Manifest]:
    """A PodMonitor over the six services, where the chart asks for one."""
    if not context.settings.service_monitor:
        return
    spec = {
        "selector": {"matchLabels": names.pod_selector(bot.name)},
        "podTargetLabels": [names.LABEL_BOT, names.LABEL_COMPONENT],
        "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics", "interval": "15s"}],
    }
    yield manifest("PodMonitor", bot, bot.name, api_version="monitoring.coreos.com/v1", spec=spec)
