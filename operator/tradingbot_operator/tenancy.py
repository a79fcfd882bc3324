"""What bots take from one another: an account, which one bot alone may trade, and the venue's request weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from tradingbot.domain.errors import Permanent
from tradingbot.domain.static import Network
from tradingbot_operator.accounts import AGAIN_S, AccountInUse, Accounts
from tradingbot_operator.desk import Desk
from tradingbot_operator.keys import account_of
from tradingbot_operator.memory import Memory
from tradingbot_operator.queue import Lane
from tradingbot_operator.resource import Bot, refusal_in
from tradingbot_operator.salvage import salvage
from tradingbot_operator.weight import Weights

log = structlog.stdlib.get_logger("tradingbot.operator.tenancy")


class Tenancy:
    """Accounts and shares of all bots."""

    def __init__(self, desk: Desk, accounts: Accounts, weights: Weights) -> None:
        self._desk = desk
        self._accounts = accounts
        self._weights = weights
        self._counted = False

    async def take_account(self, bot: Bot, memory: Memory) -> None:
        """Hold the account, or note why the bot may not have it; now and then ask whether it still has.

        Raises:
            KubeError, Forbidden: the API server did not do it.
        """
        now_s, refused = self._desk.clock.real_s(), ""
        verify = now_s >= memory.verify_s
        account = account_of(bot, self._desk.master)
        try:
            await self._accounts.claim(bot, account, rivals=self._rivals(bot, account), verify=verify)
        except AccountInUse as error:
            refused = str(error)
            self._desk.queue.retry(bot.key, Lane.CHILDREN, AGAIN_S)
        if verify:
            memory.verify_s = now_s + self._desk.settings.resync_seconds
        if bool(refused) != bool(memory.refused):
            self._desk.queue.add(bot.key, Lane.CHILDREN)  # for the mode file
            self._desk.queue.add(bot.key, Lane.MODE)
        if bot.spec.redis.adopt and memory.account_held == bool(refused):
            # Only such a bot's mode has waited for its account (may_write).
            self._desk.queue.add(bot.key, Lane.MODE)
        memory.refused, memory.account_held = refused, not refused

    async def release(self, bot: Bot) -> None:
        """Let another bot have the account.

        Raises:
            KubeError: the API server did not do it now.
        """
        try:
            await self._accounts.release(bot, account_of(bot, self._desk.master))
        except Permanent as error:
            # A right that the operator lost must not keep a bot from going; the next holder finds that it is gone.
            log.warning("lease_not_released", bot=bot.key, error=str(error))

    def divide_weight(self, bot: Bot, memory: Memory) -> None:
        """Count the bot among those that share the venue's weight, and wake those whose share changed by it."""
        if not self._counted:
            self._counted = True
            self._count_all()
        counts = not memory.refused and (bot.deleting or not bot.spec.suspend)
        for key in self._weights.observe(bot.key, bot.network, counts=counts) - {bot.key}:
            self._desk.queue.add(key, Lane.CHILDREN)

    async def share_of(self, bot: Bot) -> int:
        """The bot's share of the request weight a minute; tells when all of them together are too many."""
        share = self._weights.share(bot.key)
        if share.warning:
            await self._desk.say(bot, "WeightScarce", share.warning, action="DivideWeight", warning=True)
        return share.per_min

    def forget(self, key: str) -> None:
        """A bot is gone: the others share what it had."""
        for other in self._weights.forget(key):
            self._desk.queue.add(other, Lane.CHILDREN)

    def _count_all(self) -> None:
        """All bots at once: counted one after another they would be given a new share each time."""
        for body in self._desk.cache.bots():
            key, spec = f"{body['metadata']['namespace']}/{body['metadata']['name']}", body.get("spec") or {}
            network = _network_of(spec)
            if network is not None:
                self._weights.observe(
                    key, network, counts=not spec.get("suspend") and not refusal_in(body.get("status") or {})
                )

    def _rivals(self, bot: Bot, account: str | None) -> Iterator[Bot]:
        """Other bots that name the same account; a paper account belongs to one bot by its making."""
        for body in () if bot.network is Network.PAPER else self._desk.cache.bots():
            spec = body.get("spec") or {}
            if body["metadata"]["uid"] != bot.uid and _network_of(spec) is bot.network and _named(spec) == account:
                yield salvage(body)


def _exchange_of(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    exchange = spec.get("exchange")
    return exchange if isinstance(exchange, Mapping) else {}


def _network_of(spec: Mapping[str, Any]) -> Network | None:
    word = _exchange_of(spec).get("network", Network.PAPER.value)
    return Network(word) if word in set(Network) else None


def _named(spec: Mapping[str, Any]) -> str | None:
    exchange = _exchange_of(spec)
    named = exchange.get("vaultAddress") or exchange.get("accountAddress")
    return str(named).lower() if named else None
