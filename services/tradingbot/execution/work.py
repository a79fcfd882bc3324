"""An action on its way: its record, as the commit fixed it, and the entries that have been read so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tradingbot.bus.entries import Entry
from tradingbot.domain.errors import Permanent
from tradingbot.domain.ids import Cloid
from tradingbot.domain.messages import OrderIntent
from tradingbot.domain.modes import Mode
from tradingbot.execution.intents import FLATTEN
from tradingbot.venue.wire import WireOrder


class BadAction(Permanent):
    """An action whose record and entries do not fit together: it can never be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """``action:{id}``: what the commit fixed."""

    nonce: int
    expires_after_ms: int | None
    """None for a cancel."""
    lease_token: int
    asset_ids: tuple[int, ...]

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Record:
        """From the hash's fields.

        Raises:
            BadAction: there is no such record, or it is not one of ours.
        """
        try:
            expires = fields.get("expires_after", "")
            return cls(
                nonce=int(fields["nonce"]),
                expires_after_ms=int(expires) if expires else None,
                lease_token=int(fields["lease_token"]),
                asset_ids=tuple(int(each) for each in fields["asset_ids"].split(",")),
            )
        except (KeyError, ValueError) as error:
            raise BadAction(f"no usable record of the action: {type(error).__name__} {error}") from error


@dataclass(slots=True, kw_only=True)
class Work:
    """One action."""

    action_id: str
    size: int
    place: bool
    entries: dict[int, Entry[OrderIntent]] = field(default_factory=dict)
    started: bool = False

    @property
    def complete(self) -> bool:
        """True when all of its entries have been read."""
        return len(self.entries) == self.size

    @property
    def in_order(self) -> list[Entry[OrderIntent]]:
        """The entries in the order of the action."""
        return [self.entries[index] for index in sorted(self.entries)]

    @property
    def intents(self) -> list[OrderIntent]:
        """Their intents."""
        return [each.data for each in self.in_order]

    @property
    def cloids(self) -> list[str]:
        """Their orders."""
        return [each.cloid for each in self.intents]

    @property
    def symbols(self) -> set[str]:
        """What it trades."""
        return {each.symbol for each in self.intents}

    @property
    def at_most(self) -> Mode:
        """The strictest mode in which it may be sent."""
        if all(each.reason == FLATTEN for each in self.intents):
            return Mode.HALT
        return Mode.REDUCE_ONLY if all(each.reduce_only for each in self.intents) else Mode.NORMAL


def wire_orders(intents: Iterable[OrderIntent], record: Record) -> list[WireOrder]:
    """The orders as they are signed: from the record and the entries alone, the same at every try."""
    return [
        WireOrder(
            asset_id=asset_id,
            side=each.side,
            px=each.limit_px,
            size=each.qty,
            tif=each.tif,
            reduce_only=each.reduce_only,
            cloid=Cloid(each.cloid),
        )
        for each, asset_id in zip(intents, record.asset_ids, strict=True)
    ]


def wire_cancels(intents: Iterable[OrderIntent], record: Record) -> list[tuple[int, Cloid]]:
    """The cancels as they are signed."""
    return [(asset_id, Cloid(each.cloid)) for each, asset_id in zip(intents, record.asset_ids, strict=True)]
