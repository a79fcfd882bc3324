"""The parameters that may change while the bot runs: risk, execution, AI.

They live in ``ctl.params`` (written by the operator, locally by ``up``) and are overridden by a person's
``ctl.params.person``. Nobody trades before reading them; they change at a cycle's start only.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from tradingbot.domain.model import Model

Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0, le=10)]


class HaltAction(StrEnum):
    """What follows an acknowledged HALT."""

    HOLD = "Hold"
    FLATTEN = "Flatten"


class ExternalPositions(StrEnum):
    """What to do with a position in a coin outside the universe, or opened by hand."""

    HOLD = "Hold"
    REDUCE = "Reduce"


class OrderTif(StrEnum):
    """Time in force of a slice's order, in the venue's words."""

    GTC = "Gtc"
    IOC = "Ioc"
    ALO = "Alo"


class RiskParams(Model):
    """The hard limits that every target is cut to. Weights are fractions of equity."""

    max_gross: Weight = 0.40
    """Σ|w| at most. Default 0.40: a small live account keeps most of its equity in cash."""
    max_net: Weight = 0.20
    """|Σw| at most."""
    caps: dict[str, Annotated[float, Field(ge=0, le=10)]] = {"BTC": 0.15, "ETH": 0.15}
    """|w| at most, by symbol."""
    default_cap: Annotated[float, Field(ge=0, le=10)] = 0.10
    """|w| at most for a symbol that ``caps`` does not name."""
    turnover_cap: Weight = 0.10
    """Σ|w_new − w_now| of increases at most, per cycle."""
    drawdown_reduce_only: Annotated[float, Field(gt=0, le=1)] = 0.02
    """REDUCE_ONLY while equity is this fraction below its peak."""
    drawdown_halt: Annotated[float, Field(gt=0, le=1)] = 0.03
    """Latched HALT when equity is this fraction below its peak."""
    max_daily_fee_bps: Annotated[float, Field(ge=0)] = 50
    """Fees of a UTC day, in basis points of equity, above which the rest of the day is REDUCE_ONLY."""
    allow_short: bool = False
    """Whether negative weights are approved."""
    halt_action: HaltAction = HaltAction.HOLD
    """What follows an acknowledged HALT: Hold keeps positions, Flatten closes them. Default Hold: closing costs money
    and a person may know better."""
    external_positions: ExternalPositions = ExternalPositions.HOLD
    """What to do with a position that is not ours: Hold shows and counts it, Reduce closes it. Default Hold."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.drawdown_halt < self.drawdown_reduce_only:
            raise ValueError("drawdown_halt must not be below drawdown_reduce_only")
        return self

    def cap(self, symbol: str) -> float:
        """The most |w| that a symbol may have."""
        return self.caps.get(symbol, self.default_cap)


class ExecutionParams(Model):
    """How targets become orders."""

    twap_slices: Annotated[int, Field(ge=1, le=20)] = 3
    """Slices of a symbol's change at most; fewer where a slice would fall below 1.2 times the venue's minimum.
    Default 3: one every 20 s of a minute."""
    slice_interval_s: Annotated[float, Field(ge=0, le=3600)] = 20
    """Virtual seconds between the starts of two slices. Default 20."""
    slice_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 20
    """Virtual seconds after which an open slice is cancelled. Default 20: when the next one starts."""
    px_guard_bps: Annotated[float, Field(ge=0, le=500)] = 20
    """A limit price lies at most this far beyond the mid. Default 20: fills at once in a normal book, and no worse."""
    max_guard_bps: Annotated[float, Field(ge=0, le=500)] = 50
    """Where the book is thin or its spread wide, a limit price may lie this far beyond the mid. Default 50: a wide
    book is crossed once, and no worse. No more than PX_GUARD_BPS turns it off."""
    thin_book_score: Fraction = 0.5
    """A book whose liquidity_score is below this is thin: increases are made smaller in proportion, and guards wider.
    Default 0.5: half as deep as usual. 0 turns it off."""
    order_tif: OrderTif = OrderTif.GTC
    """Time in force of a slice: Gtc rests until its time-out, Ioc fills at once or not at all, Alo never takes.
    Default Gtc."""
    replace_once: bool = True
    """Whether a slice that timed out is replaced once, nearer to the mid."""
    max_orders_per_min: Annotated[int, Field(ge=1, le=1000)] = 30
    """Orders a minute at most; a slice beyond it is skipped and audited. Default 30: two minutes' worth of five
    coins and three slices."""
    max_cancels_per_min: Annotated[int, Field(ge=1, le=1000)] = 30
    """Cancels a minute at most; none is held back by it in a HALT. Default 30."""
    min_rebalance_weight: Fraction = 0.005
    """The no-trade band: a smaller change of weight waits (a close of the whole position does not)."""
    flatten_guard_bps: Annotated[float, Field(gt=0, le=1000)] = 100
    """How far from the mid a flatten order may fill. Default 100: out is worth more than the price."""
    order_ttl_ms: Annotated[int, Field(ge=1000, le=60_000)] = 5000
    """An order that the venue has not admitted within this time is refused by the venue (expiresAfter)."""
    max_start_delay_s: Annotated[float, Field(gt=0, le=600)] = 30
    """risk.approved handled later than this after its cycle's start is stale."""


class AiParams(Model):
    """How the decision is made steady."""

    smooth_alpha: Annotated[float, Field(gt=0, le=1)] = 0.3
    """EWMA: w = alpha·target + (1 − alpha)·previous."""
    min_confidence: Fraction = 0.4
    """Below this confidence gross is scaled down. Default 0.4."""
    low_conf_scale: Fraction = 0.5
    """Gross is multiplied by this when confidence is below min_confidence."""


class Params(Model):
    """All of them, as ``ctl.params`` holds them."""

    risk: RiskParams = RiskParams()
    execution: ExecutionParams = ExecutionParams()
    ai: AiParams = AiParams()


class VersionedParams(Model):
    """The parameters in force and the versions that every message of a cycle names."""

    version: int
    """Rises with each write of ctl.params."""
    generation: int
    """The spec's generation (locally: rises when ``.env`` changes)."""
    person_version: int = 0
    """The version of the person's overrides in force; 0 when none are."""
    params: Params = Params()

    @property
    def label(self) -> str:
        """Both versions in one word, as decision messages carry them."""
        return f"{self.generation}.{self.version}+{self.person_version}"


def merge_override(params: Params, values: dict[str, object]) -> Params:
    """Apply dotted overrides such as ``{"risk.max_gross": 0.3}`` and validate the whole.

    Raises:
        ValueError: a name is unknown or a value out of range (a pydantic.ValidationError is a ValueError).
    """
    tree = params.model_dump(mode="json")
    for name, value in values.items():
        group, _, field = name.partition(".")
        branch = tree.get(group)
        head, _, leaf = field.partition(".")
        if not isinstance(branch, dict) or head not in branch:
            raise ValueError(f"{name}: unknown parameter; one of {', '.join(sorted(parameter_names()))}")
        if leaf and isinstance(branch[head], dict):
            branch[head][leaf] = value
        elif leaf:
            raise ValueError(f"{name}: {group}.{head} has no parts")
        else:
            branch[head] = value
    return Params.model_validate(tree)


def parameter_names() -> set[str]:
    """Every dotted name that ``ctl set`` knows."""
    groups: dict[str, type[Model]] = {"risk": RiskParams, "execution": ExecutionParams, "ai": AiParams}
    return {f"{group}.{field}" for group, model in groups.items() for field in model.model_fields}
