"""Who signed a request: recovered with the official SDK's functions, as the venue does, without any key.

Only this module of the paper exchange imports the SDK. The signing letter is testnet's: that is what the SDK
takes for every address that is not mainnet's own.
"""

from __future__ import annotations

from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from hyperliquid.utils.signing import (
    USD_SEND_SIGN_TYPES,
    WITHDRAW_SIGN_TYPES,
    recover_agent_or_user_from_l1_action,
    recover_user_from_user_signed_action,
)

from tradingbot.paper.actions import ApproveAgent, Request, UsdSend, UserSigned, Withdraw, canonical

_APPROVE_AGENT_SIGN_TYPES = [
    {"name": "hyperliquidChain", "type": "string"},
    {"name": "agentAddress", "type": "address"},
    {"name": "agentName", "type": "string"},
    {"name": "nonce", "type": "uint64"},
]
_USER_SIGNED = {
    ApproveAgent: ("HyperliquidTransaction:ApproveAgent", _APPROVE_AGENT_SIGN_TYPES),
    UsdSend: ("HyperliquidTransaction:UsdSend", USD_SEND_SIGN_TYPES),
    Withdraw: ("HyperliquidTransaction:Withdraw", WITHDRAW_SIGN_TYPES),
}


def recover_signer(request: Request) -> str | None:
    """The lower-case address that signed the request; None when no address can be recovered."""
    signature = {"r": int(request.signature.r, 16), "s": int(request.signature.s, 16), "v": request.signature.v}
    try:
        if isinstance(request.action, UserSigned):
            return _recover_user_signed(request.action, signature)
        address = recover_agent_or_user_from_l1_action(
            canonical(request.action),
            signature,
            request.vault_address,
            request.nonce,
            request.expires_after,
            False,  # noqa: FBT003 - the SDK's signature: not mainnet
        )
    except (BadSignature, ValidationError, ValueError):
        return None
    return str(address).lower()


def _recover_user_signed(action: UserSigned, signature: dict[str, int]) -> str:
    primary_type, sign_types = _USER_SIGNED[type(action)]
    message = canonical(action)
    if isinstance(action, ApproveAgent):
        # The SDK signs the empty name of an unnamed agent and then leaves the key out of the request.
        message.setdefault("agentName", "")
    address = recover_user_from_user_signed_action(
        message,
        signature,
        sign_types,
        primary_type,
        False,  # noqa: FBT003 - the SDK's signature: not mainnet
    )
    return str(address).lower()
