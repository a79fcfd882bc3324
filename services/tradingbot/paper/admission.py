"""Who may act, and how often: signer, nonce, expiry, size of the action, the address's budget, in the venue's order."""

from __future__ import annotations

from decimal import Decimal

from tradingbot.paper.accounts import START_REQUESTS, Account
from tradingbot.paper.actions import Cancel, CancelByCloid, Request, UserSigned, entries
from tradingbot.paper.nonces import Nonces
from tradingbot.paper.rules import MAX_ENTRIES
from tradingbot.paper.world import World

TRICKLE_MS = 10_000
"""An exhausted address may still send one request in this time."""
EXPIRED_COST = 5
CANCEL_EXTRA = 100_000


class Refused(Exception):  # noqa: N818 - the venue's answer, not an error of ours
    """A whole action is refused with ``status: err``."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Admission:
    """The gate of ``/exchange``."""

    def __init__(self, world: World) -> None:
        self._world = world

    def admit(self, request: Request, *, signer: str | None, now_ms: int) -> str:
        """The account that the request acts for; its nonce is used up from here on.

        Raises:
            Refused: with the venue's text.
        """
        if signer is None:
            raise Refused("Unable to recover signer.")
        account = self._account(request, signer, now_ms)
        if request.vault_address is not None:
            raise Refused(f"Vault not registered: {request.vault_address}")
        if (text := self._world.nonces.get(signer, Nonces()).refusal(request.nonce, now_ms=now_ms)) is not None:
            raise Refused(text)
        self._world.use_nonce(signer, request.nonce)
        if request.expires_after is not None and request.expires_after < now_ms:
            account.requests_used += EXPIRED_COST
            self._world.touch(account)
            raise Refused("Action already expired")
        if entries(request.action) > MAX_ENTRIES:
            raise Refused(f"Signed action over weight limit of {MAX_ENTRIES}.")
        self._check_budget(account, request, now_ms)
        return account.address

    def charge(self, user: str, request: Request, *, accepted: bool) -> None:
        """Count a batch of n as n; a refusal of the whole costs nothing."""
        if accepted:
            account = self._world.accounts[user]
            account.requests_used += entries(request.action)
            self._world.touch(account)

    def _account(self, request: Request, signer: str, now_ms: int) -> Account:
        account = self._world.accounts.get(signer)
        if isinstance(request.action, UserSigned):
            if account is None or not _has_deposited(account):
                raise Refused(f"Must deposit before performing actions. User: {signer}")
            return account
        agent = self._world.agents.get(signer)
        if account is None and agent is not None and agent.may_sign(now_ms):
            account = self._world.accounts.get(agent.master)
        if account is None:
            raise Refused(f"User or API Wallet {signer} does not exist.")
        if not _has_deposited(account):
            raise Refused(f"Must deposit before performing actions. User: {account.address}")
        return account

    def _check_budget(self, account: Account, request: Request, now_ms: int) -> None:
        cap = request_cap(account)
        if isinstance(request.action, Cancel | CancelByCloid):
            cap = min(cap + CANCEL_EXTRA, cap * 2)
        count = entries(request.action)
        if account.requests_used + count <= cap:
            return
        if count == 1 and now_ms - account.trickled_ms >= TRICKLE_MS:
            account.trickled_ms = now_ms
            self._world.touch(account)
            return
        raise Refused(
            f"Too many cumulative requests sent ({account.requests_used + count} > {cap}) for cumulative volume "
            f"traded ${account.volume_usd:.2f}. Place taker orders to free up 1 request per USDC traded."
        )


def request_cap(account: Account) -> int:
    """10,000 and one for each USDC traded."""
    return START_REQUESTS + int(account.volume_usd)


def _has_deposited(account: Account) -> bool:
    return account.raw_usd != Decimal(0) or bool(account.positions) or account.volume_usd > 0
