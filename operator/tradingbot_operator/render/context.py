"""All that rendering needs besides the bot itself, so that it stays pure and never sees the master key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from tradingbot.bus.acl import ROLES
from tradingbot.domain.static import Network
from tradingbot_operator.keys import MasterKey, account_of
from tradingbot_operator.render.model import Backend
from tradingbot_operator.resource import Bot
from tradingbot_operator.settings import OperatorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is the same for a bot until the operator's settings change."""

    settings: OperatorSettings
    account: str | None
    """The account that is traded."""
    agent_address: str | None
    """The paper exchange's wallet that signs; None off paper."""
    password_hashes: Mapping[str, str]
    """Redis user -> SHA-256 of its password in hex: of 256 random bits, so that the hash gives nothing away."""
    model: Backend | None = None
    """What stands behind the Service of the language model; None where it is not known."""
    at_rest: bool = False
    """Whether the pods are to go: a suspended bot whose HALT is acknowledged."""


def context_of(
    bot: Bot, settings: OperatorSettings, master: MasterKey, *, model: Backend | None = None, at_rest: bool = False
) -> Context:
    """The context of a bot. ``at_rest`` only once a suspended bot's HALT is acknowledged."""
    return Context(
        settings=settings,
        account=account_of(bot, master),
        agent_address=(master.paper_agent_address(bot.namespace, bot.bot_id) if bot.network is Network.PAPER else None),
        password_hashes={
            user: hashlib.sha256(master.password(bot.namespace, bot.bot_id, user).encode()).hexdigest()
            for user in ROLES
        },
        model=model,
        at_rest=at_rest,
    )
