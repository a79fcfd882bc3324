"""The services' settings as ConfigMaps: the environment, and apart from it the mode.

Only what never changes while a bot runs is in the environment; risk, execution and AI parameters reach the services
over the bus. The mode lives in a ConfigMap of its own, because a change of it must restart nothing.
"""

from __future__ import annotations

from tradingbot.domain.static import Network, PriceLabel
from tradingbot_operator import names
from tradingbot_operator.modes import mode_file
from tradingbot_operator.render.context import Context
from tradingbot_operator.render.manifest import Manifest, manifest
from tradingbot_operator.render.paper import paper_urls
from tradingbot_operator.resource import Bot

MODE_FIELD = "mode"


def environment(bot: Bot, context: Context) -> dict[str, str]:
    """What all six services are given, by the names of ``tradingbot.runtime.settings``."""
    values = {
        "BOT_ID": bot.bot_id,
        "UNIVERSE": ",".join(bot.spec.universe),
        "CYCLE_SECONDS": str(bot.spec.cycle_seconds),
        "HL_NETWORK": bot.network.value,
        "HL_ACCOUNT_ADDRESS": context.account,
        "DRY_RUN": str(bot.spec.dry_run_in_force).lower(),
        "PRICE_SOURCE": price_source(bot).value,
        "METRICS_HOST": "0.0.0.0",  # noqa: S104 - behind a NetworkPolicy; the node probes it
        "METRICS_PORT": str(names.METRICS_PORT),
        "LOG_LEVEL": context.settings.log_level,
        "OTEL_EXPORTER_OTLP_ENDPOINT": context.settings.otlp_endpoint,
        **_venue(bot),
    }
    return {name: value for name, value in values.items() if value}


def config_map(bot: Bot, context: Context) -> Manifest:
    """The environment."""
    return manifest("ConfigMap", bot, names.config_map(bot.name), data=environment(bot, context))


def mode_config_map(bot: Bot) -> Manifest:
    """What execution holds itself to while Redis has no word of the spec, or that of an older generation."""
    return manifest("ConfigMap", bot, names.mode_config_map(bot.name), data={MODE_FIELD: mode_file(bot)})


def price_source(bot: Bot) -> PriceLabel:
    """Where prices come from, for the label that travels with them."""
    made_up = bot.network is Network.PAPER and bot.spec.exchange.paper_settings.prices != PriceLabel.LIVE.value
    return PriceLabel.SYNTHETIC if made_up else PriceLabel.LIVE


def _venue(bot: Bot) -> dict[str, str | None]:
    exchange = bot.spec.exchange
    http_url, ws_url = paper_urls(bot) if bot.network is Network.PAPER else (exchange.http_url, exchange.ws_url)
    return {"HL_HTTP_URL": http_url, "HL_WS_URL": ws_url}
