"""The only module that touches the private key and the official SDK's signing functions; execution alone imports it.

The key must not show anywhere: not in a repr, a log, an error or a traceback that prints local variables. Errors of
the libraries below can hold the key in their text or their frames, so none of them leaves this module: what happened
is told by a fresh error without a cause.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Final, NoReturn

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_keys.backends import get_backend
from eth_keys.backends.coincurve import CoinCurveECCBackend
from hyperliquid.utils.signing import sign_l1_action
from pydantic import SecretStr

from tradingbot.domain.errors import Permanent
from tradingbot.domain.static import Network
from tradingbot.venue.network import is_mainnet
from tradingbot.venue.wire import Action, SignedRequest, batch_size


class BadKey(Permanent):
    """The private key cannot be used; the text never shows it."""


class SigningFailed(Permanent):
    """An action could not be signed."""


class Signer:
    """Signs actions for one account on one network."""

    __slots__ = ("_mainnet", "_vault", "_wallet", "address")

    def __init__(self, key: SecretStr, network: Network, vault: str | None = None) -> None:
        """Args:
            key: the API wallet's private key, 32 bytes in hex.
            network: picks the signing letter.
            vault: the sub-account or vault that is traded for, if any.

        Raises:
            BadKey: the key is not one, or the native signing library is missing.
        """
        self._wallet: Final = _wallet(key)
        self._mainnet: Final = is_mainnet(network)
        self._vault: Final = vault.lower() if vault else None
        self.address: Final[str] = self._wallet.address.lower()
        """The signer's address: the API wallet's, not the account's."""

    def sign(self, action: Action, *, nonce: int, expires_after_ms: int | None) -> SignedRequest:
        """Sign an action.

        Raises:
            SigningFailed: the action holds something that cannot be hashed.
        """
        signature = self._signature(action, nonce, expires_after_ms)
        envelope = {
            "action": action,
            "nonce": nonce,
            "signature": signature,
            "vaultAddress": self._vault,
            "expiresAfter": expires_after_ms,
        }
        return SignedRequest(
            kind=str(action.get("type")),
            body=json.dumps(envelope, separators=(",", ":")).encode(),
            nonce=nonce,
            expires_after_ms=expires_after_ms,
            batch=batch_size(action),
        )

    def _signature(self, action: Action, nonce: int, expires_after_ms: int | None) -> dict[str, Any]:
        signed: dict[str, Any] = {}
        failure = ""
        try:
            signed = sign_l1_action(self._wallet, action, self._vault, nonce, expires_after_ms, self._mainnet)
        except Exception as error:  # noqa: BLE001 - raised anew below, without the frames that hold the key
            failure = type(error).__name__
        if failure:
            raise SigningFailed(f"{action.get('type')} with nonce {nonce} could not be signed: {failure}")
        return signed

    def __repr__(self) -> str:
        # A traceback that prints locals may ask before the wallet is there.
        shown = {name: getattr(self, name, None) for name in ("address", "_mainnet", "_vault")}
        return f"Signer(address={shown['address']}, mainnet={shown['_mainnet']}, vault={shown['_vault']})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Signer is never copied or written out")


def _wallet(key: SecretStr) -> LocalAccount:
    if not isinstance(get_backend(), CoinCurveECCBackend):
        raise BadKey("the native signing library is missing: install coincurve (tradingbot[signing])")
    wallet: LocalAccount | None = None
    with suppress(Exception):  # its text or frames may hold the key; told below
        wallet = Account.from_key(key.get_secret_value().strip())
    if wallet is None:
        raise BadKey("the private key is not one: 0x and 64 hex digits are needed (its value is not shown)")
    return wallet
