"""The requests to ``/exchange``, typed: what does not fit is answered 422 before any signature is looked at.

``canonical`` rebuilds an action in the schema's key order with normalised decimals and lower-case ids; that form,
not the received text, is what the signer is recovered from, as on the venue.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from tradingbot.paper.decimals import wire

MAX_DECIMALS = 8
_NUMBER = re.compile(r"[0-9]{1,32}(\.[0-9]{1,32})?")


def _decimal(value: object) -> Decimal:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise ValueError("a number is a string without sign or exponent")
    if len(value.partition(".")[2].rstrip("0")) > MAX_DECIMALS:
        raise ValueError(f"at most {MAX_DECIMALS} decimals")
    return Decimal(value)


def _number_text(value: str) -> str:
    _decimal(value)
    return value


Number = Annotated[Decimal, BeforeValidator(_decimal), PlainSerializer(wire)]
Cloid = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{32}$"), AfterValidator(str.lower)]
Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$"), AfterValidator(str.lower)]
Hex = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{1,64}$")]
Count = Annotated[int, Field(ge=0, lt=2**64)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)


class Limit(_Wire):
    tif: Literal["Gtc", "Ioc", "Alo", "FrontendMarket"]


class Trigger(_Wire):
    is_market: bool
    trigger_px: Number
    tpsl: Literal["tp", "sl"]


class LimitType(_Wire):
    limit: Limit


class TriggerType(_Wire):
    trigger: Trigger


class OrderSpec(_Wire):
    """One order: asset, is buy, price, size, reduce only, type, client id."""

    a: Count
    b: bool
    p: Number
    s: Number
    r: bool
    t: LimitType | TriggerType
    c: Cloid | None = None

    @property
    def tif(self) -> str | None:
        """None for a trigger order."""
        return self.t.limit.tif if isinstance(self.t, LimitType) else None


class Builder(_Wire):
    b: Address
    f: Count


class Priority(_Wire):
    p: Count


class Order(_Wire):
    type: Literal["order"]
    orders: list[OrderSpec]
    grouping: Literal["na", "normalTpsl", "positionTpsl"] | Priority
    builder: Builder | None = None


class CancelSpec(_Wire):
    a: Count
    o: Count


class Cancel(_Wire):
    type: Literal["cancel"]
    cancels: list[CancelSpec]
    f: Literal[True] | None = None


class CancelByCloidSpec(_Wire):
    asset: Count
    cloid: Cloid


class CancelByCloid(_Wire):
    type: Literal["cancelByCloid"]
    cancels: list[CancelByCloidSpec]
    f: Literal[True] | None = None


class ModifySpec(_Wire):
    oid: Count | Cloid
    order: OrderSpec


class Modify(_Wire):
    type: Literal["modify"]
    oid: Count | Cloid
    order: OrderSpec
    a: Literal[True] | None = None


class BatchModify(_Wire):
    type: Literal["batchModify"]
    modifies: list[ModifySpec]
    a: Literal[True] | None = None


class ScheduleCancel(_Wire):
    type: Literal["scheduleCancel"]
    time: Count | None = None


class UpdateLeverage(_Wire):
    type: Literal["updateLeverage"]
    asset: Count
    is_cross: bool
    leverage: Count


class UpdateIsolatedMargin(_Wire):
    type: Literal["updateIsolatedMargin"]
    asset: Count
    is_buy: bool
    ntli: int


class Noop(_Wire):
    type: Literal["noop"]


class _UserSigned(_Wire):
    hyperliquid_chain: Literal["Mainnet", "Testnet"]
    signature_chain_id: Hex


class ApproveAgent(_UserSigned):
    type: Literal["approveAgent"]
    agent_address: Address
    agent_name: str | None = None
    nonce: Count


class _Payment(_UserSigned):
    # Both texts are signed as they stand, so neither may be normalised.
    destination: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    amount: Annotated[str, AfterValidator(_number_text)]
    time: Count


class UsdSend(_Payment):
    type: Literal["usdSend"]


class Withdraw(_Payment):
    type: Literal["withdraw3"]


UserSigned = ApproveAgent | UsdSend | Withdraw
Action = Annotated[
    Order
    | Cancel
    | CancelByCloid
    | Modify
    | BatchModify
    | ScheduleCancel
    | UpdateLeverage
    | UpdateIsolatedMargin
    | Noop
    | ApproveAgent
    | UsdSend
    | Withdraw,
    Field(discriminator="type"),
]


class Signature(_Wire):
    r: Hex
    s: Hex
    v: Literal[27, 28]


class Request(_Wire):
    """The envelope of ``/exchange``."""

    action: Action
    nonce: Count
    signature: Signature
    vault_address: Address | None = None
    expires_after: Count | None = None


def canonical(action: BaseModel) -> dict[str, Any]:
    """The action as it is hashed: schema's key order, normal numbers, absent options left out."""
    return action.model_dump(by_alias=True, exclude_none=True)


def entries(action: BaseModel) -> int:
    """How many orders, cancels or modifications one action carries; others count one."""
    match action:
        case Order():
            return len(action.orders)
        case Cancel() | CancelByCloid():
            return len(action.cancels)
        case BatchModify():
            return len(action.modifies)
        case _:
            return 1


def cloids(action: BaseModel) -> tuple[str, ...]:
    """Every client id that the action names, in its order."""
    match action:
        case Order():
            found = [order.c for order in action.orders]
        case CancelByCloid():
            found = [cancel.cloid for cancel in action.cancels]
        case BatchModify():
            found = [modify.order.c for modify in action.modifies]
        case Modify():
            found = [action.order.c]
        case _:
            found = []
    return tuple(cloid for cloid in found if cloid is not None)
