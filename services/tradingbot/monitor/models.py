"""What the monitor shows, as ``GET /api/state`` returns it.

Money and sizes are exact (strings in JSON); weights, rates and latencies are numbers. Times are Unix milliseconds of
the bot's own clock, which runs faster than real time in a simulation.
"""

from __future__ import annotations

from decimal import Decimal

from tradingbot.domain.messages import Health, OpenOrder, Rejection, Side, SkippedSymbol
from tradingbot.domain.model import Model
from tradingbot.domain.modes import Mode, ModeSource


class ModeView(Model):
    """The effective mode, whose it is, and why."""

    mode: Mode
    source: ModeSource
    reason: str


class AppliedView(Model):
    """How far execution has carried the mode out; all stamps are Unix milliseconds, None: not yet."""

    mode: Mode | None = None
    source: str = ""
    reason: str = ""
    command_id: str = ""
    received_at: int | None = None
    cancelled_at: int | None = None
    acked_at: int | None = None
    open_orders: int | None = None
    flatten: str = ""


class RegimeView(Model):
    """What the two-stage strategy's model made of the market."""

    name: str
    risk_multiplier: float
    """Of the risk that the limits allow, 0 to 1."""


class CircuitView(Model):
    """Whether a model that failed again and again is left alone."""

    open: bool
    failures: int
    """Failed decisions in a row."""
    wait_s: float
    """Real seconds from that decision on for which nobody asks it; 0 while it is tried."""


class LlmView(Model):
    """The language model: today's money, and the newest decision's calls."""

    name: str
    spend_usd: Decimal | None = None
    """Of the day of the bot's clock, with what is set aside for calls under way; None: not read yet."""
    cap_usd: Decimal | None = None
    """What such a day may cost."""
    calls: int | None = None
    """Requests of that decision, failed ones included; None: nobody was asked."""
    tokens_in: int | None = None
    """None: the server did not tell, or nobody was asked."""
    tokens_out: int | None = None
    latency_s: float | None = None
    """Real seconds from its first request to its last answer."""
    circuit: CircuitView | None = None


class PositionRow(Model):
    """A coin: what is held, what was asked for, what the risk gate allowed, and how its book looks."""

    symbol: str
    qty: Decimal
    mark_px: Decimal | None
    entry_px: Decimal | None
    value_usd: Decimal
    unreal_pnl: Decimal
    weight: float
    target: float | None
    approved: float | None
    external: bool = False
    spread_bps: float | None = None
    """This and the two below of the newest minute; None: no fresh book. Formulas: docs/features.md."""
    book_imbalance: float | None = None
    liquidity_score: float | None = None


class OrderRow(Model):
    """An intent and what became of it."""

    client_order_id: str
    attempt: int
    symbol: str
    side: Side
    qty: Decimal
    limit_px: Decimal
    reason: str
    status: str = "INTENT"
    filled_qty: Decimal = Decimal(0)
    avg_px: Decimal | None = None
    fee: Decimal = Decimal(0)
    slippage_bps: float | None = None
    latency_ms: float | None = None
    error: str | None = None
    at_ms: int = 0
    dry_run: bool = False


class CycleRow(Model):
    """A trading cycle from its targets to its fills."""

    cycle_id: str
    started_ms: int
    targets: dict[str, float] = {}
    used: str = ""
    """Which strategy decided."""
    fallback: str = ""
    """Why the baseline decided in another strategy's place; empty when it did not."""
    confidence: float | None = None
    regime: RegimeView | None = None
    """What the regime strategy's weights rest on; None: another strategy, or the baseline stood in."""
    mode: Mode | None = None
    mode_reason: str = ""
    approved: dict[str, float] = {}
    rejections: tuple[Rejection, ...] = ()
    flags: tuple[str, ...] = ()
    gross: float | None = None
    net: float | None = None
    turnover: float | None = None
    planned: int | None = None
    """Slices in the plan; None: no plan (yet)."""
    skipped: tuple[SkippedSymbol, ...] = ()
    orders: tuple[OrderRow, ...] = ()
    cancels: int = 0
    filled_orders: int = 0
    filled_usd: Decimal = Decimal(0)
    fees_usd: Decimal = Decimal(0)


class Alert(Model):
    """A warning or an error from the audit log."""

    at_ms: int
    source: str
    cycle_id: str
    kind: str
    level: str
    text: str


class Figures(Model):
    """Trading in figures, over the last minute or the last 500 reports."""

    orders_per_min: int = 0
    cancels_per_min: int = 0
    rejects_per_min: int = 0
    reject_ratio: float = 0.0
    """Refused / all final answers, of the last 500 reports."""
    fill_latency_p50_ms: float | None = None
    fill_latency_p99_ms: float | None = None
    slippage_mean_bps: float | None = None
    cycle_lag_s: float | None = None
    """From the newest cycle's start to its approval."""
    fallback_ratio: float | None = None
    """Of the cycles shown that have a decision, the part that the baseline decided in another strategy's place."""


class GroupRow(Model):
    """A consumer group's backlog."""

    stream: str
    group: str
    pending: int
    lag: int | None
    """Entries not yet delivered; None: the server cannot tell."""
    oldest_pending_s: float | None


class BusView(Model):
    """How the monitor's own source of knowledge is."""

    connected: bool
    why: str = ""
    groups: tuple[GroupRow, ...] = ()
    dead_letters: dict[str, int] = {}
    unreadable: int = 0
    """Entries that were not valid and are not shown."""


class Page(Model):
    """Everything that the page shows."""

    bot_id: str
    network: str
    account: str | None
    dry_run: bool
    prices: str
    price_label: str
    """SYNTHETIC, RECORDED, LIVE or UNKNOWN: shown wherever a price is shown."""
    now_ms: int
    speed: float
    mode: ModeView | None
    applied: AppliedView
    snapshot_age_s: float | None
    equity_usd: Decimal | None
    cash_usd: Decimal | None
    gross: float | None
    net: float | None
    health: Health | None
    positions: tuple[PositionRow, ...]
    open_orders: tuple[OpenOrder, ...]
    equity_curve: tuple[tuple[int, float], ...]
    cycles: tuple[CycleRow, ...]
    alerts: tuple[Alert, ...]
    figures: Figures
    regime: RegimeView | None = None
    """The one that the coins' targets rest on."""
    llm: LlmView | None = None
    """None: no model is asked."""
    bus: BusView
    may_command: bool
    """Whether POST /api/mode can be used here at all."""
    needs_token: bool
