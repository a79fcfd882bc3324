"""What a WebSocket client may subscribe to, and how the venue writes it back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tradingbot.paper.actions import Address
from tradingbot.paper.bars import INTERVALS_MS


class _Subscription(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, alias_generator=to_camel)

    @property
    def user_address(self) -> str | None:
        """The user whose events it brings."""
        return None

    @property
    def coin_name(self) -> str | None:
        """The coin whose market it shows."""
        return None

    def echo(self) -> dict[str, Any]:
        """The normalised form: absent options spelt out, addresses in lower case."""
        return self.model_dump(by_alias=True)


class _OfCoin(_Subscription):
    coin: str

    @property
    def coin_name(self) -> str | None:
        return self.coin


class _OfUser(_Subscription):
    user: Address

    @property
    def user_address(self) -> str | None:
        return self.user


class AllMids(_Subscription):
    type: Literal["allMids"]
    dex: str | None = None

    def echo(self) -> dict[str, Any]:
        return self.model_dump(by_alias=True, exclude_none=True)


class L2Book(_OfCoin):
    type: Literal["l2Book"]
    n_sig_figs: Literal[2, 3, 4, 5] | None = None
    mantissa: Literal[2, 5] | None = None
    fast: bool | None = None

    def echo(self) -> dict[str, Any]:
        found = self.model_dump(by_alias=True)
        return found if self.fast is not None else {key: found[key] for key in found if key != "fast"}


class Bbo(_OfCoin):
    type: Literal["bbo"]


class Trades(_OfCoin):
    type: Literal["trades"]


class ActiveAssetCtx(_OfCoin):
    type: Literal["activeAssetCtx"]


class CandleBars(_OfCoin):
    type: Literal["candle"]
    interval: Annotated[str, Field(pattern="^(" + "|".join(INTERVALS_MS) + ")$")]


class UserFills(_OfUser):
    type: Literal["userFills"]
    aggregate_by_time: bool = False


class OrderUpdates(_OfUser):
    type: Literal["orderUpdates"]


class UserEvents(_OfUser):
    type: Literal["userEvents"]


class UserFundings(_OfUser):
    type: Literal["userFundings"]


class LedgerUpdates(_OfUser):
    type: Literal["userNonFundingLedgerUpdates"]


class ClearinghouseState(_OfUser):
    type: Literal["clearinghouseState"]
    dex: str = ""


class OpenOrders(_OfUser):
    type: Literal["openOrders"]
    dex: str = ""


class ActiveAssetData(_OfUser):
    type: Literal["activeAssetData"]
    coin: str

    @property
    def coin_name(self) -> str | None:
        return self.coin


class Notification(_OfUser):
    type: Literal["notification"]


Subscription = Annotated[
    AllMids
    | L2Book
    | Bbo
    | Trades
    | ActiveAssetCtx
    | CandleBars
    | UserFills
    | OrderUpdates
    | UserEvents
    | UserFundings
    | LedgerUpdates
    | ClearinghouseState
    | OpenOrders
    | ActiveAssetData
    | Notification,
    Field(discriminator="type"),
]


@dataclass(frozen=True, slots=True)
class Message:
    """Something to send: a channel and its data."""

    channel: str
    data: Any
