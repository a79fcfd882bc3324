"""Every message on the bus, as the mission names its fields; our own fields are optional with defaults.

Prices, sizes and dollars are ``Decimal`` (strings on the wire, exact); returns, volatilities and weights are floats.
Symbols are the venue's coin names. All times are UTC.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from tradingbot.domain.envelope import CycleIdField
from tradingbot.domain.model import Model
from tradingbot.domain.modes import Mode, ModeSource

Positive = Annotated[Decimal, Field(gt=0)]
NonNegative = Annotated[Decimal, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Side(StrEnum):
    """The side of an order."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """+1 for BUY, −1 for SELL."""
        return 1 if self is Side.BUY else -1


class Inputs(Model):
    """What a decision saw: stream ids and digests (domain.ids.digest of the payload), so that replay knows it all."""

    features_id: str | None = None
    features_digest: str | None = None
    snapshot_id: str | None = None
    snapshot_digest: str | None = None
    target_id: str | None = None
    target_digest: str | None = None
    approved_id: str | None = None
    approved_digest: str | None = None
    params: str | None = None
    """VersionedParams.label."""
    model_answer_digest: str | None = None


# ------------------------------------------------------------------ md.features.1m


class BookFacts(Model):
    """What a coin's book was at a minute: enough to make its features again."""

    bid_px: Positive
    ask_px: Positive
    bid_usd: Annotated[float, Field(ge=0)]
    """USD that rest within 25 bps below the mid."""
    ask_usd: Annotated[float, Field(ge=0)]
    """USD that rest within 25 bps above the mid."""
    typical_usd: Annotated[float, Field(ge=0)] | None = None
    """The last hour's median of the thinner side's depth; None while too little was seen."""
    churn_usd: Annotated[float, Field(ge=0)] | None = None
    """USD that came into the band or left it during the last minute; None without a whole minute of books."""
    at_ms: int = 0
    """When the book was received, virtual time."""


class FeatureSnapshot1m(Model):
    """The market at a minute; the heartbeat that starts every decision."""

    asof_minute: AwareDatetime
    """The minute's start; features use nothing later."""
    universe: tuple[str, ...]
    mid_px: dict[str, Positive]
    """Mid price in USD; a coin without a fresh mid is absent, never invented."""
    ret_1m: dict[str, Finite]
    ret_5m: dict[str, Finite]
    ret_1h: dict[str, Finite]
    vol_1h: dict[str, Annotated[float, Field(ge=0)]]
    """Realised volatility of one-minute log returns over the last hour, annualised by √525,600."""
    spread_bps: dict[str, Finite] | None = None
    book_imbalance: dict[str, Finite] | None = None
    liq_intensity: dict[str, Finite] | None = None
    liquidity_score: dict[str, Finite] | None = None
    books: dict[str, BookFacts] = {}
    """What the four features above were made from; a coin without a fresh book is absent."""
    missing: tuple[str, ...] = ()
    """Coins of the universe without any usable mid."""
    stale: tuple[str, ...] = ()
    """Coins whose mid is too old or whose book was crossed."""
    prices: str = "unknown"
    """Where prices come from: live, recorded, synthetic, unknown."""
    history: dict[str, dict[int, Positive | None]] = {}
    """By coin, then by a minute's start in Unix milliseconds: prices of earlier minutes of the features' window that no
    snapshot before told like this (back-filled ones; a process' first snapshot tells all). null: no price. Together
    with the ``mid_px`` of the snapshots before, the whole window."""


# ------------------------------------------------------------------ state.snapshot


class PositionSide(StrEnum):
    """The sign of a position in words."""

    LONG = "LONG"
    SHORT = "SHORT"
    FLAT = "FLAT"


class Position(Model):
    """A position as the venue holds it."""

    qty: Decimal
    """Signed, in coins: negative is short."""
    entry_px: Decimal
    mark_px: NonNegative
    unreal_pnl: Decimal
    side: PositionSide
    external: bool = False
    """In a coin outside the universe."""
    liquidation_px: Decimal | None = None
    leverage: int | None = None


class OpenOrder(Model):
    """An order that rests at the venue."""

    client_order_id: str | None
    """Ours, when the log knows it."""
    exchange_order_id: str
    symbol: str
    side: Side
    px: Positive
    qty: NonNegative
    """What is left of it, in coins."""
    status: str
    cloid: str | None = None
    foreign: bool = False
    """Not placed by this bot: left alone, alerted, sets REDUCE_ONLY."""
    reduce_only: bool = False


class Health(Model):
    """How far the mirror can be trusted; the breaker's inputs."""

    last_reconcile_ts: AwareDatetime | None
    reconcile_ok: bool
    clock_skew_ms: int = 0
    """The venue's clock minus ours."""
    refusals_in_row: int = 0
    post_only: bool = False
    """The venue is in its post-only period after an upgrade."""
    foreign_orders: int = 0
    fills_beyond_intent: int = 0
    """Own fills that no intent covers, so far."""
    fees_today_usd: Decimal = Decimal(0)
    deposits_net_usd: Decimal = Decimal(0)
    """Deposits minus withdrawals since the bot began."""
    liquidations: int = 0
    """Liquidation fills of this account since the bot began."""
    detail: str = ""
    """Why a reconciliation failed, for a person."""


class StateSnapshot(Model):
    """The venue's account, mirrored."""

    equity_usd: Decimal
    cash_usd: Decimal
    """equity − Σ szi·mark."""
    positions: dict[str, Position]
    open_orders: tuple[OpenOrder, ...]
    health: Health
    asof_ms: int = 0
    """Virtual time of the reconciliation."""
    mids: dict[str, Positive] = {}
    prices: str = "unknown"


# ------------------------------------------------------------------ alpha.target


class TargetWeight(Model):
    """A weight, as a fraction of equity; negative is short."""

    symbol: str
    weight: Finite


class ModelName(Model):
    """Which strategy or language model made a target."""

    name: str
    version: str


class ConstraintsHint(Model):
    """The limits that the target already respects."""

    max_gross: float
    max_net: float
    turnover_cap: float


class TargetPortfolio(Model):
    """Proposed weights. A symbol that is missing is held; only an explicit 0 closes."""

    targets: tuple[TargetWeight, ...]
    cash_weight: Finite
    confidence: Annotated[float, Field(ge=0, le=1)]
    rationale: Annotated[str, Field(max_length=800)]
    model: ModelName
    constraints_hint: ConstraintsHint
    used: str = "baseline"
    inputs: Inputs = Inputs()


# ------------------------------------------------------------------ risk.approved


class Rejection(Model):
    """A weight that the gate changed, and why."""

    symbol: str
    reason: str
    original_weight: float
    approved_weight: float


class RiskSummary(Model):
    """The approved portfolio in figures: held and approved weights together."""

    gross: float
    net: float
    turnover: float
    flags: tuple[str, ...]


class ApprovedTargetPortfolio(Model):
    """What execution may work towards. A symbol that is missing is held."""

    mode: Mode
    approved_targets: tuple[TargetWeight, ...]
    rejections: tuple[Rejection, ...]
    risk_summary: RiskSummary
    mode_source: ModeSource = ModeSource.SPEC
    mode_reason: str = ""
    equity_usd: Decimal | None = None
    inputs: Inputs = Inputs()


# ------------------------------------------------------------------ exec.plan


class PlanSlice(Model):
    """One slice of a symbol's change."""

    symbol: str
    side: Side
    qty: Positive
    """In coins."""
    order_type: Literal["LIMIT"] = "LIMIT"
    px_guard_bps: float
    timeout_s: float
    slice_idx: int
    start_ms: int = 0
    """Virtual time at which it is due."""
    reduce_only: bool = False
    closes: bool = False
    """Closes the whole position: exempt from the venue's minimum."""
    phase: int = 0
    """0 reductions, 1 increases: a phase starts when the one before is terminal."""


class PlanLimits(Model):
    """The rate limits in force."""

    max_orders_per_min: int
    max_cancels_per_min: int


class SkippedSymbol(Model):
    """A symbol that was not planned, and why (unsettled, below_minimum, inside_band, stale_mid, …)."""

    symbol: str
    reason: str


class PlanBook(Model):
    """What a plan knew of a symbol's book."""

    liquidity_score: float | None = None
    spread_bps: float | None = None
    depth_usd: float | None = None
    """What rests within 25 bps of the mid on the thinner side."""


class PlanBasis(Model):
    """What a plan was made from beside the approved weights, for the symbols that they name."""

    start_ms: int
    """Virtual time at which planning began."""
    mode: Mode
    """The strictest of all that restricted the cycle."""
    equity_usd: Decimal
    positions: dict[str, Decimal]
    """Settled ones, signed, in coins; a symbol that is missing is flat."""
    mids: dict[str, Positive]
    """Fresh ones; a symbol that is missing had none."""
    sz_decimals: dict[str, int]
    """A symbol that is missing is not listed."""
    unplannable: dict[str, str] = {}
    """Symbols that must not be planned, and why."""
    books: dict[str, PlanBook] = {}
    """From the features of the cycle; a symbol that is missing had no usable book."""


class ExecutionPlan(Model):
    """The TWAP slices of a cycle; empty when there is nothing to do."""

    cycle_id: CycleIdField
    plan_type: Literal["TWAP_REBALANCE"] = "TWAP_REBALANCE"
    slices: tuple[PlanSlice, ...]
    limits: PlanLimits
    idempotency_key: str
    skipped: tuple[SkippedSymbol, ...] = ()
    inputs: Inputs = Inputs()
    dry_run: bool = False
    basis: PlanBasis | None = None


# ------------------------------------------------------------------ exec.orders


class OrderAction(StrEnum):
    """What an intent asks of the venue."""

    PLACE = "PLACE"
    CANCEL = "CANCEL"
    REPLACE = "REPLACE"
    """The mission's third action: written as CANCEL, confirmed, then PLACE with attempt + 1."""


class OrderIntent(Model):
    """An intent: written before anything is sent, and sent at most once."""

    action: OrderAction
    client_order_id: str
    symbol: str
    side: Side
    qty: NonNegative
    order_type: Literal["LIMIT"] = "LIMIT"
    limit_px: NonNegative
    tif: str
    slice_ref: str
    """idempotency_key of the plan and the slice's index."""
    reason: str
    """slice, replace, timeout, superseded, halt, flatten, unknown_to_log, …"""
    attempt: int = 0
    cloid: str = ""
    reduce_only: bool = False
    reference_mid: Decimal | None = None
    """The mid at the intent: slippage is measured against it."""
    action_id: str = ""
    action_index: int = 0
    action_size: int = 1
    """An action is sent once, with all of its entries."""
    lease_token: int = 0
    exchange_order_id: str | None = None
    """For a CANCEL whose order is known by its oid."""
    dry_run: bool = False


# ------------------------------------------------------------------ exec.reports


class ReportStatus(StrEnum):
    """How an order stands."""

    ACK = "ACK"
    PARTIAL = "PARTIAL"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"

    @property
    def terminal(self) -> bool:
        """True when the order can no longer change."""
        return self in {ReportStatus.FILLED, ReportStatus.CANCELED, ReportStatus.REJECTED}


class ExecutionReport(Model):
    """What became of an order."""

    client_order_id: str
    exchange_order_id: str | None
    status: ReportStatus
    filled_qty: NonNegative
    """Cumulative, in coins."""
    avg_px: Decimal | None
    fee: Decimal
    """Cumulative, USD; negative is a rebate."""
    latency_ms: float | None
    """Intent to this status."""
    raw: str
    """The venue's answer or error, cut to a bound."""
    truncated: bool = False
    attempt: int = 0
    cloid: str = ""
    symbol: str = ""
    side: Side | None = None
    qty: Decimal | None = None
    tid: str | None = None
    reduce_only: bool = False
    reference_mid: Decimal | None = None
    slippage_bps: float | None = None
    """Against reference_mid; positive is worse."""
    error: str | None = None
    """The name of the typed error for a refusal."""
    reason: str = ""
    at_ms: int = 0
    dry_run: bool = False


# ------------------------------------------------------------------ ctl.commands


class Command(StrEnum):
    """What ctl.commands may say."""

    HALT = "HALT"
    REDUCE_ONLY = "REDUCE_ONLY"
    RESUME = "RESUME"
    SET = "SET"
    CLEAR_BREAKER = "CLEAR_BREAKER"


class ControlCommand(Model):
    """A command in the log; its source's key is written in the same function call."""

    command: Command
    command_id: str
    """Idempotent: the same id twice is one command."""
    source: ModeSource
    reason: str = ""
    issued_by: str = ""
    uid: str | None = None
    generation: int | None = None
    until_generation: int | None = None
    breaker_id: str | None = None
    values: dict[str, Any] = {}
    """For SET: dotted parameter names and their values."""


# ------------------------------------------------------------------ state.events


class StateEventKind(StrEnum):
    """What state.events tells."""

    ORDER_STATUS = "ORDER_STATUS"
    FILL = "FILL"
    POSITION_DIFF = "POSITION_DIFF"
    FOREIGN_ORDER = "FOREIGN_ORDER"
    FILL_BEYOND_INTENT = "FILL_BEYOND_INTENT"
    LIQUIDATION = "LIQUIDATION"
    FUNDING = "FUNDING"
    LEDGER = "LEDGER"
    RECONCILE_FAILED = "RECONCILE_FAILED"
    RECONCILE_RECOVERED = "RECONCILE_RECOVERED"


class StateEvent(Model):
    """A difference, a fill or a terminal state that the mirror saw."""

    kind: StateEventKind
    symbol: str | None = None
    exchange_order_id: str | None = None
    client_order_id: str | None = None
    cloid: str | None = None
    status: str | None = None
    terminal: bool = False
    qty: Decimal | None = None
    px: Decimal | None = None
    fee: Decimal | None = None
    tid: str | None = None
    at_ms: int = 0
    detail: str = ""


# ------------------------------------------------------------------ audit.logs, dlq.*


class AuditLevel(StrEnum):
    """How loud."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class AuditRecord(Model):
    """A fact for the record: inputs, outputs, clamps, executions, errors."""

    kind: str
    """The stream or the event it is about: md.features.1m, alpha.target, …, dlq, mode, rate_limited, stale_cycle, …"""
    level: AuditLevel = AuditLevel.INFO
    cause: str = ""
    """The event_id or stream id that caused it."""
    details: dict[str, Any] = {}


class DeadLetter(Model):
    """An entry that could not be handled, whole, with the reason."""

    stream: str
    group: str
    entry_id: str
    payload: str
    """The original field ``p``, untouched."""
    reason: str
    error_type: str
    retry_count: int
    failed_at: AwareDatetime
