"""The status of a TradingBot: what the operator writes there, and what it means.

``status.py`` computes it; this model is what the CRD's schema and docs/resource.md are made from. A field that is not
here would be dropped by the API server without a word, so ``status.py``'s tests read its output with this model.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from tradingbot.domain.modes import Mode
from tradingbot_operator.spec import SpecModel

Text = Annotated[str, StringConstraints(max_length=1024)]
Word = Annotated[str, StringConstraints(max_length=128)]
Message = Annotated[str, StringConstraints(max_length=32_768)]


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(SpecModel):
    """One observation, in the form that all Kubernetes tools know."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)]
    """Ready, SpecValid, ChildrenApplied, RedisReady, ModeApplied, Preflight, Degraded, Paused or AccountInUse."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[
        str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    """Why, in one CamelCase word."""
    message: Message = ""
    """Why, for a person."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The spec's generation that this was said about."""
    last_transition_time: datetime
    """When its status last changed."""


class ModeStatus(SpecModel):
    """What the bot may do now, who said so, and how far execution has obeyed."""

    desired: Mode | None = None
    """What the spec asks for; HALT of a bot that is suspended or being deleted."""
    effective: Mode | None = None
    """The strictest of the spec, the breaker and a person; absent when it cannot be known."""
    source: Word | None = None
    """Whose it is: spec, breaker, person, or local (execution's own stop)."""
    reason: Text | None = None
    """Why."""
    generation: int | None = None
    """The spec's generation that Redis holds."""
    requested_at: datetime | None = None
    """When the operator wrote it to Redis."""
    received_at: datetime | None = None
    """From here on execution sends nothing that the mode forbids."""
    cancelled_at: datetime | None = None
    """From here on no order of the bot is open."""
    acked_at: datetime | None = None
    """From here on nothing can come any more: every intent is settled or provably absent."""
    open_orders: int | None = None
    """Orders of the bot that are open."""
    flatten: Word | None = None
    """After a HALT with haltAction Flatten: pending, flat or failed."""


class BreakerStatus(SpecModel):
    """What the risk engine restricts."""

    mode: Mode | None = None
    """NORMAL while it restricts nothing."""
    reason: Text | None = None
    """Why."""
    latch_id: Word | None = None
    """The id to put into the annotation tradingbot.dev/clear-breaker; absent when it clears by itself."""


class PersonStatus(SpecModel):
    """What a person restricts from the command line or the monitor."""

    mode: Mode | None = None
    """NORMAL while nobody does."""
    reason: Text | None = None
    """Why."""
    by: Word | None = None
    """Who."""
    until_generation: int | None = None
    """It ends when the spec's generation in Redis reaches this one."""


class PortfolioStatus(SpecModel):
    """Figures of the account; rounded, and written at most once a minute."""

    equity_usd: Word | None = None
    """Equity in USD, such as "10023.41"."""
    gross: float | None = None
    """Σ|w|, a fraction of equity."""
    net: float | None = None
    """Σw, a fraction of equity."""
    drawdown: float | None = None
    """How far equity is below its peak, a fraction of the peak."""
    last_cycle: Word | None = None
    """The last cycle that was planned, such as 20260218T1600Z."""
    last_cycle_at: datetime | None = None
    """When it began."""


class ParametersStatus(SpecModel):
    """The parameters in force."""

    generation: int | None = None
    """The spec's generation that they come from."""
    version: int | None = None
    """Rises with each change."""


class TradingBotStatus(SpecModel):
    """What the operator has seen and done."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The spec's generation that the operator has acted upon."""
    phase: Word | None = None
    """One word for a person, derived from the conditions: read those in scripts."""
    ready: Word | None = None
    """Pods that are ready, of those wanted, such as 8/8."""
    bot_id: Word | None = None
    """What names the bot in Redis and in its orders; redis.adopt takes this."""
    account: Word | None = None
    """The account that is traded; on paper the one that the operator made."""
    weight_per_minute: int | None = None
    """The bot's share of the venue's request weight per address and minute."""
    mode: ModeStatus | None = None
    """What the bot may do now, and how far execution has obeyed."""
    breaker: BreakerStatus | None = None
    """What the risk engine restricts."""
    person: PersonStatus | None = None
    """What a person restricts."""
    portfolio: PortfolioStatus | None = None
    """Figures of the account."""
    parameters: ParametersStatus | None = None
    """The parameters in force."""
    overrides: Annotated[dict[Annotated[str, StringConstraints(max_length=128)], Word], Field(max_length=64)] | None = (
        None
    )
    """A person's own `ctl set`, by parameter; they last until the next change of the spec."""
    deletion: Text | None = None
    """How far a deletion has come, and what it waits for."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Observations in the form that all Kubernetes tools know."""
