"""One TradingBot per network and account, across the whole cluster, held by a Lease.

Two bots on one account would each take the other's orders and positions for foreign. The Lease's name is a hash of
network and account, so that operators of different namespaces meet at the same one; it names its holder and does not
expire, because a bot that is not looked after for a while still owns its orders. It is released when the bot goes; one
whose holder is gone is taken over. Two claims at once are decided by the API server: a create that finds one, or a
replace of an older version, fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from tradingbot.domain.errors import Permanent, Temporary
from tradingbot.domain.static import Network
from tradingbot.runtime.clock import Clock
from tradingbot_operator.names import API_VERSION, APP, KIND, LABEL_MANAGED_BY, LABEL_NAME, MANAGED_BY
from tradingbot_operator.resource import Bot

LEASE_API: Final = "coordination.k8s.io/v1"
LEASE: Final = "Lease"
AGAIN_S: Final = 15.0
"""Real seconds after which a refused bot asks again."""
_CONFLICT = 409


class Api(Protocol):
    """What is needed of the API server (``kube.Kube``)."""

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> Awaitable[dict[str, Any] | None]: ...

    def create(self, manifest: dict[str, Any]) -> Awaitable[bool]: ...

    def replace(self, manifest: dict[str, Any]) -> Awaitable[dict[str, Any]]: ...

    def delete(
        self, api_version: str, kind: str, namespace: str, name: str, *, uid: str | None = None
    ) -> Awaitable[bool]: ...


class AccountInUse(Temporary):
    """Another TradingBot holds the account; this one must not run."""

    def __init__(self, message: str, *, delay_s: float = AGAIN_S) -> None:
        super().__init__(message, delay_s=delay_s)


@dataclass(frozen=True, slots=True)
class Holder:
    """The bot that a Lease names."""

    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, bot: Bot) -> Holder:
        """A bot as holder."""
        return cls(bot.namespace, bot.name, bot.uid)

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """The inverse of ``str``; None when it is something else."""
        parts = text.split("/")
        return cls(*parts) if len(parts) == 3 and all(parts) else None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}/{self.uid}"


def lease_name(network: Network, account: str) -> str:
    """Of the Lease that stands for an account; it tells nobody which account it is."""
    digest = hashlib.sha256(f"{network.value}:{account.lower()}".encode()).hexdigest()
    return f"tradingbot-account-{digest[:32]}"


class Accounts:
    """The accounts that this operator's bots hold.

    Args:
        kube: the API server.
        namespace: where the Leases of all operators of this cluster live.
        clock: for the times in them.
    """

    def __init__(self, kube: Api, *, namespace: str, clock: Clock) -> None:
        self._kube = kube
        self._namespace = namespace
        self._clock = clock
        self._held: dict[str, str] = {}
        """Uid of each bot that holds its account -> name of the Lease."""

    def holds(self, bot: Bot) -> bool:
        """Whether the bot holds its account, as far as this process knows."""
        return bot.uid in self._held

    async def claim(self, bot: Bot, account: str | None, *, rivals: Iterable[Bot] = (), verify: bool = False) -> None:
        """Hold the account for the bot. What is held already is not asked for again unless ``verify``.

        Args:
            bot: who wants it.
            account: the account; None (a dry run without one) needs no claim.
            rivals: other bots that want this account, as far as this operator knows: the oldest of them comes first.
            verify: ask the API server again.

        Raises:
            AccountInUse: another bot holds it, or came first.
            KubeError, Forbidden: the API server did not do it.
        """
        if account is None or (self.holds(bot) and not verify):
            return
        name = lease_name(bot.network, account)
        live = await self._kube.get(LEASE_API, LEASE, self._namespace, name)
        if live is None:
            self._let_older_first(bot, rivals)
            if not await self._kube.create(self._lease(name, bot)):
                raise self._lost(bot)
        else:
            await self._take_over(live, bot)
        self._held[bot.uid] = name

    async def release(self, bot: Bot, account: str | None) -> None:
        """Let another bot have the account; nothing when this one does not hold it."""
        self._held.pop(bot.uid, None)
        if account is None:
            return
        name = lease_name(bot.network, account)
        live = await self._kube.get(LEASE_API, LEASE, self._namespace, name)
        if live is not None and _holder_of(live) == Holder.of(bot):
            await self._kube.delete(LEASE_API, LEASE, self._namespace, name, uid=live["metadata"].get("uid"))

    def forget(self, uid: str) -> None:
        """Forget a bot that is gone; its Lease is taken over by whoever wants the account next."""
        self._held.pop(uid, None)

    async def _take_over(self, live: dict[str, Any], bot: Bot) -> None:
        """Hold a Lease that is there: ours, nobody's, or that of a bot that is gone."""
        holder = _holder_of(live)
        if holder == Holder.of(bot):
            return
        if holder is not None and await self._is_there(holder):
            self._held.pop(bot.uid, None)
            raise AccountInUse(self._in_use(bot, holder))
        wanted = self._lease(live["metadata"]["name"], bot)
        wanted["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        wanted["spec"]["leaseTransitions"] = int(live.get("spec", {}).get("leaseTransitions") or 0) + 1
        try:
            await self._kube.replace(wanted)
        except Temporary as error:
            if getattr(error, "status", None) != _CONFLICT:
                raise
            raise self._lost(bot) from error

    async def _is_there(self, holder: Holder) -> bool:
        """Whether the very resource that holds a Lease exists; what cannot be seen counts as there."""
        try:
            found: Mapping[str, Any] | None = await self._kube.get(API_VERSION, KIND, holder.namespace, holder.name)
        except Permanent:
            return True
        return found is not None and found.get("metadata", {}).get("uid") == holder.uid

    def _let_older_first(self, bot: Bot, rivals: Iterable[Bot]) -> None:
        older = [each for each in rivals if each.uid != bot.uid and _age(each) < _age(bot)]
        if older:
            raise AccountInUse(self._in_use(bot, Holder.of(min(older, key=_age))))

    def _lost(self, bot: Bot) -> AccountInUse:
        """Another bot was faster; the next try finds out which."""
        self._held.pop(bot.uid, None)
        return AccountInUse(f"another bot is taking this account on {bot.network} at this moment", delay_s=1.0)

    def _in_use(self, bot: Bot, holder: Holder) -> str:
        """Bots of other namespaces are not named: who may see them knows by the Lease."""
        if holder.namespace == bot.namespace:
            return f"TradingBot {holder.name} trades this account on {bot.network}: delete it, or name another account"
        return (
            f"a TradingBot of another namespace trades this account on {bot.network}; its Lease in namespace "
            f"{self._namespace} names it to those who may read it"
        )

    def _lease(self, name: str, bot: Bot) -> dict[str, Any]:
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, tz=UTC)
        return {
            "apiVersion": LEASE_API,
            "kind": LEASE,
            "metadata": {
                "name": name,
                "namespace": self._namespace,
                "labels": {LABEL_NAME: APP, LABEL_MANAGED_BY: MANAGED_BY},
            },
            "spec": {"holderIdentity": str(Holder.of(bot)), "acquireTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
        }


def _holder_of(lease: Mapping[str, Any]) -> Holder | None:
    return Holder.parse(str(lease.get("spec", {}).get("holderIdentity") or ""))


def _age(bot: Bot) -> tuple[datetime, str]:
    return bot.created_at, bot.uid
