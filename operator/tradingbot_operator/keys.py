"""What is derived from the operator's master key: passwords of the bus and the paper exchange's wallets.

Derived secrets are known again after a restart without reading any Secret, and one that was deleted is made again with
the same content. Every derivation is HMAC-SHA256 over a domain, a purpose, the bot's namespace and its id, so that no
two purposes can ever meet in one value. The namespace, because a spec may name any id to adopt: who may make a bot in
one namespace is not to be given what belongs to a bot in another. The master key is the only thing worth stealing
here: it is never shown.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any, Final

import coincurve
from Crypto.Hash import keccak
from pydantic import SecretStr

from tradingbot.domain.errors import Permanent
from tradingbot_operator.resource import Bot

MASTER_SECRET: Final = "tradingbot-operator-master"  # noqa: S105 - the name of a Secret
"""The Secret in the operator's own namespace that holds the master key."""
MASTER_FIELD: Final = "master-key"
"""Its one field: 64 hex digits."""

_DOMAIN: Final = b"tradingbot.dev/derive/v1"
_BYTES: Final = 32
_ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
"""Of secp256k1's group: a private key lies between 1 and this, exclusive."""


class BadMasterKey(Permanent):
    """The stored master key cannot be used; its content is never shown."""


class MasterKey:
    """32 bytes that everything else is derived from."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != _BYTES:
            raise BadMasterKey(f"the master key must have {_BYTES} bytes, not {len(key)}")
        self._key = key

    def __repr__(self) -> str:
        return "MasterKey(**********)"

    def __reduce__(self) -> Any:
        raise TypeError("a master key is never written anywhere but into its Secret")

    @classmethod
    def generate(cls) -> MasterKey:
        """A new one, from the operating system's randomness: the seeded one would be guessable."""
        return cls(secrets.token_bytes(_BYTES))

    @classmethod
    def from_text(cls, text: str) -> MasterKey:
        """As the Secret holds it.

        Raises:
            BadMasterKey: not 64 hex digits.
        """
        try:
            return cls(bytes.fromhex(text.strip()))
        except ValueError:
            raise BadMasterKey(f"{MASTER_SECRET}: {MASTER_FIELD} must be {2 * _BYTES} hex digits") from None

    def text(self) -> SecretStr:
        """As the Secret holds it."""
        return SecretStr(self._key.hex())

    def password(self, namespace: str, bot_id: str, user: str) -> str:
        """The password of a user of the bot's Redis: 64 hex digits."""
        return self._derive("redis-password", namespace, bot_id, user).hex()

    def paper_agent_key(self, namespace: str, bot_id: str) -> SecretStr:
        """The private key that signs the bot's orders on its paper exchange: 0x and 64 hex digits."""
        return SecretStr(f"0x{self._agent_scalar(namespace, bot_id):064x}")

    def paper_agent_address(self, namespace: str, bot_id: str) -> str:
        """The address of `paper_agent_key`, lower case."""
        scalar = self._agent_scalar(namespace, bot_id)
        point = coincurve.PublicKey.from_secret(scalar.to_bytes(_BYTES, "big"))
        digest = keccak.new(digest_bits=256, data=point.format(compressed=False)[1:]).digest()
        return f"0x{digest[-20:].hex()}"

    def paper_account(self, namespace: str, bot_id: str) -> str:
        """The account that the bot trades on its paper exchange; nobody has its key, as on a real venue we have not."""
        return f"0x{self._derive('paper-account', namespace, bot_id)[-20:].hex()}"

    def _agent_scalar(self, namespace: str, bot_id: str) -> int:
        # The bias of this modulus is below 2^-127; without it one bot in 2^128 could not start.
        return int.from_bytes(self._derive("paper-agent", namespace, bot_id), "big") % (_ORDER - 1) + 1

    def _derive(self, purpose: str, *parts: str) -> bytes:
        # Each part is preceded by its length, so that ("a", "bc") and ("ab", "c") differ.
        fields = [part.encode() for part in (purpose, *parts)]
        message = b"".join(len(each).to_bytes(4, "big") + each for each in (_DOMAIN, *fields))
        return hmac.new(self._key, message, hashlib.sha256).digest()


def account_of(bot: Bot, master: MasterKey) -> str | None:
    """The account that is traded, lower case: derived on paper, else the vault or the account of the spec.

    None only where the spec names none, which the API server refuses off paper.
    """
    exchange = bot.spec.exchange
    if exchange.network == "paper":
        return master.paper_account(bot.namespace, bot.bot_id)
    named = exchange.vault_address or exchange.account_address
    return named.lower() if named else None
