"""The bot's Secrets: derived, so that they can be made again, and created only: neither applied, watched nor read."""

from __future__ import annotations

from collections.abc import Mapping

from tradingbot.bus.acl import ROLES
from tradingbot.bus.names import OPERATOR
from tradingbot.domain.static import Network
from tradingbot_operator import names
from tradingbot_operator.keys import MasterKey
from tradingbot_operator.render.manifest import Manifest, manifest
from tradingbot_operator.render.redis import PORT
from tradingbot_operator.render.services import KEY_FIELD
from tradingbot_operator.resource import Bot


def secrets(bot: Bot, master: MasterKey) -> tuple[Manifest, ...]:
    """The addresses of the bus with its users' passwords, and the paper exchange's key."""
    made = []
    if bot.spec.redis.url_secret_ref is None:
        # Not the operator's: it derives its own, and no pod may have it.
        urls = {role: bus_url(bot, master, role) for role in ROLES if role != OPERATOR}
        made.append(_secret(bot, names.bus_secret(bot.name), urls, component=names.REDIS))
    if bot.network is Network.PAPER:
        key = {KEY_FIELD: master.paper_agent_key(bot.namespace, bot.bot_id).get_secret_value()}
        made.append(_secret(bot, names.paper_agent_secret(bot.name), key, component=names.PAPER))
    return tuple(made)


def bus_url(bot: Bot, master: MasterKey, user: str) -> str:
    """The address of the bot's own Redis for one of its users; holds a password."""
    host = f"{names.child(bot.name, names.REDIS)}.{bot.namespace}.svc"
    return f"redis://{user}:{master.password(bot.namespace, bot.bot_id, user)}@{host}:{PORT}/0"


def _secret(bot: Bot, name: str, fields: Mapping[str, str], *, component: str) -> Manifest:
    return manifest("Secret", bot, name, component=component, type="Opaque", stringData=dict(fields))
