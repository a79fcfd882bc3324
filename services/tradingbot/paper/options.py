"""What a paper exchange can be told: accounts, prices, and how it answers the venue's open questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, get_type_hints

from tradingbot.paper.faults import Fault


class DuplicateCloid(StrEnum):
    """A second order under the client id of an open one."""

    ACCEPT = "accept"
    REJECT = "reject"


class PartMatch(StrEnum):
    """The acknowledgement of a Gtc order that matched in part and rests."""

    FILLED = "filled"
    RESTING = "resting"


class PreValidation(StrEnum):
    """The envelope of a refusal before any order of a batch was looked at."""

    OK = "ok"
    """Status ok with one entry for the whole batch."""
    ERR = "err"


class SnapshotFlag(StrEnum):
    """``isSnapshot`` of the messages after the first."""

    ABSENT = "absent"
    FALSE = "false"


class BboText(StrEnum):
    """How a refused post-only order quotes the best bid and ask."""

    PLAIN = "plain"
    SPACED = "spaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """Answers to what is not documented; a client must live with all of them."""

    duplicate_cloid: DuplicateCloid = DuplicateCloid.ACCEPT
    gtc_part_match: PartMatch = PartMatch.RESTING
    prevalidation: PreValidation = PreValidation.OK
    snapshot_flag: SnapshotFlag = SnapshotFlag.ABSENT
    bbo_text: BboText = BboText.PLAIN
    tracked_users: int = 10
    """Most distinct users in WebSocket subscriptions: 10 or 15."""


def parse_quirks(texts: Sequence[str]) -> Quirks:
    """``name=value`` as ``--quirk`` takes it: ``duplicate_cloid=reject``.

    Raises:
        ValueError: an unknown name or value; it says which there are.
    """
    kinds: dict[str, type] = get_type_hints(Quirks)
    chosen: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in kinds:
            raise ValueError(f"{name!r} is none of {', '.join(kinds)}")
        chosen[name] = kinds[name](value)
    return Quirks(**chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperOptions:
    """The settings of ``tradingbot paper``."""

    host: str = "127.0.0.1"
    port: int = 3001
    """0: any free port."""
    data_dir: Path | None = None
    """Where paper.sqlite lives; None: in memory, gone with the process."""
    prices: str = "synthetic"
    """live, synthetic, synthetic:SEED, or a file or folder of candles."""
    symbols: tuple[str, ...] = ("BTC", "ETH", "SOL", "ADA", "DOGE")
    accounts: tuple[str, ...] = ()
    """Addresses that hold money."""
    agents: tuple[str, ...] = ()
    """``ADDRESS`` (of the first account) or ``ADDRESS:MASTER``."""
    start_equity_usd: Decimal = Decimal(10_000)
    """What a new account starts with, USD."""
    tick_ms: int = 250
    """How often the market moves, virtual ms."""
    latency_ms: int = 0
    """Time from request to answer, virtual ms; the venue's median is 200."""
    ip_weight_per_min: int = 1_200
    """Weight a virtual minute of all clients together, who count as one address."""
    order_status_lag_ms: int = 1_000
    """orderStatus knows a new order at the latest after this long, virtual ms; 0: at once."""
    schedule_cancel_volume_usd: Decimal = Decimal(1_000_000)
    """Volume an account must have traded before scheduleCancel works, USD."""
    idle_close_s: float = 60.0
    """A WebSocket on which nothing was sent for this long is closed, real seconds."""
    quirks: Quirks = field(default_factory=Quirks)
    faults: tuple[Fault, ...] = ()
    seed: int = 1
    """Of the faults' dice."""
