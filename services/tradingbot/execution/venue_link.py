"""What execution holds of the venue: reads, the one door for writes, and whose account it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tradingbot.execution.cancels_first import CancelsFirst
from tradingbot.venue.exchange import ExchangeClient
from tradingbot.venue.info import InfoClient
from tradingbot.venue.precision import AssetSpec
from tradingbot.venue.signing import Signer


@dataclass(slots=True, kw_only=True)
class VenueLink:
    """The venue of one account."""

    info: InfoClient
    urgent: InfoClient
    """Reads that no budget may delay: those of a HALT and of a fail-closed cancel."""
    exchange: ExchangeClient
    first: CancelsFirst
    """What makes the reads of ``info`` wait for cancels that the venue refuses for want of weight."""
    signer: Signer | None
    """None in DRY_RUN: nothing can be signed, so nothing can be sent."""
    account: str
    specs: Mapping[str, AssetSpec]
    skew_ms: int = 0
    """The venue's clock minus ours, as last seen."""
    min_nonce: int = 0
    """One more than the last nonce that was used: a later action never bears a smaller one."""

    def next_nonce(self, now_ms: int) -> int:
        """A nonce without Redis: max(last + 1, now)."""
        nonce = max(self.min_nonce, now_ms)
        self.used(nonce)
        return nonce

    def used(self, nonce: int) -> None:
        """Note a nonce that goes out."""
        self.min_nonce = max(self.min_nonce, nonce + 1)
