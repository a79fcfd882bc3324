"""What execution remembers: its orders, the plan it works on, and the positions it last found settled.

One frozen value, kept in Redis and replaced as a whole with each step. It is a mirror: the venue is the authority on
orders and positions, and every field here is either an intent of ours or something that the venue has said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum

from tradingbot.domain.messages import ExecutionPlan, PlanSlice, ReportStatus, Side
from tradingbot.domain.model import Model
from tradingbot.domain.params import ExecutionParams, RiskParams

ZERO = Decimal(0)


class Stage(StrEnum):
    """How far an order has come."""

    INTENT = "INTENT"
    """Committed; the venue has said nothing yet."""
    OPEN = "OPEN"
    """The venue knows it."""
    UNKNOWN = "UNKNOWN"
    """Its bytes may have left and no answer came: only the venue can end this."""
    ENDED = "ENDED"
    """Nothing about it can change any more, and all of its fills are counted."""


class Order(Model):
    """One attempt of one intent, from the intent to its end. Times are virtual Unix milliseconds."""

    client_order_id: str
    attempt: int
    cloid: str
    symbol: str
    side: Side
    qty: Decimal
    """In coins."""
    limit_px: Decimal
    tif: str
    reduce_only: bool
    closes: bool
    reference_mid: Decimal
    slice_idx: int
    plan_key: str
    reason: str
    action_id: str
    lease_token: int
    intent_ms: int
    end_ms: int
    """When it is timed out."""
    dry_run: bool = False

    stage: Stage = Stage.INTENT
    outcome: ReportStatus | None = None
    """The final status once the venue has named one; the order has ended when its fills are complete too."""
    executed: Decimal | None = None
    """What the venue says was executed; None while only fills can tell."""
    final_ms: int | None = None
    """When the venue named it."""
    oid: str | None = None
    filled_qty: Decimal = ZERO
    notional: Decimal = ZERO
    """Σ px·qty of its fills, USD."""
    fee: Decimal = ZERO
    tids: tuple[str, ...] = ()
    expires_after_ms: int | None = None
    """When the venue refuses it, known once the sender has held its action."""
    cancel_asked_ms: int | None = None
    cancel_tries: int = 0
    ended_ms: int | None = None
    error: str | None = None

    @property
    def live(self) -> bool:
        """True while anything about it can still change."""
        return self.stage is not Stage.ENDED

    @property
    def rest(self) -> Decimal:
        """What is not filled, in coins."""
        return max(self.qty - self.filled_qty, ZERO)

    @property
    def avg_px(self) -> Decimal | None:
        """The mean price of its fills."""
        return self.notional / self.filled_qty if self.filled_qty else None


class SliceWork(Model):
    """A slice and whether it was given up."""

    slice: PlanSlice
    client_order_id: str
    skipped: str | None = None
    """Why it is not placed: late_slice, stale_mid, rate_limited, …"""


class CurrentPlan(Model):
    """The plan that is being worked on, with everything that was fixed at its cycle's start."""

    cycle_id: str
    key: str
    start_ms: int
    cycle_end_ms: int
    equity_usd: Decimal
    slices: tuple[SliceWork, ...]
    execution: ExecutionParams
    risk: RiskParams
    params_label: str
    plan_event_id: str = ""
    summarised: bool = False
    """Its audit summary is written."""


class SeenFill(Model):
    """A fill of the account that no settlement has counted yet."""

    symbol: str
    tid: str
    qty: Decimal
    """Signed: what it added to the position."""
    at_ms: int


class Mark(Model):
    """A symbol's position when it was last found settled."""

    position: Decimal
    asked_ms: int
    """The question for it left us at this time, after every order had ended."""
    counted: tuple[SeenFill, ...] = ()
    """The newest fills that it contains, so that a page read again counts nothing twice."""
    doubt_ms: int | None = None
    """Since when the venue's position differs from this one plus the fills; None: it does not."""
    doubted: Decimal | None = None
    """The position that the venue has shown since then."""


class Ledger(Model):
    """Execution's whole state."""

    orders: Mapping[str, Order] = {}
    """By cloid: every order that has not ended, and the ended ones of the current plan."""
    plan: CurrentPlan | None = None
    marks: Mapping[str, Mark] = {}
    fills: tuple[SeenFill, ...] = ()
    equity_usd: Decimal | None = None
    """The account's value at the last settlement."""
    settled_ms: int | None = None
    """When the last good settlement was asked for."""
    clean_token: int = 0
    """The lease token for which all orders of earlier tokens were found at an end."""

    def live(self, symbol: str | None = None) -> list[Order]:
        """The orders that have not ended, oldest first."""
        return [each for each in self.orders.values() if each.live and symbol in (None, each.symbol)]

    def unknown(self, symbol: str) -> bool:
        """True while an order of this symbol has an unknown outcome."""
        return any(each.stage is Stage.UNKNOWN for each in self.live(symbol))

    def attempts(self, client_order_id: str) -> list[Order]:
        """All attempts of an intent, first to last."""
        return [each for each in self.orders.values() if each.client_order_id == client_order_id]

    def find(self, *, cloid: str | None, oid: str | None) -> Order | None:
        """The order with this cloid, else with this exchange order id."""
        if cloid is not None and cloid.lower() in self.orders:
            return self.orders[cloid.lower()]
        return next((each for each in self.orders.values() if oid is not None and each.oid == oid), None)

    def with_orders(self, orders: Iterable[Order]) -> Ledger:
        """This ledger with these orders in place of their earlier selves."""
        return self.model_copy(update={"orders": {**self.orders, **{each.cloid: each for each in orders}}})

    def position(self, symbol: str) -> Decimal:
        """The position as far as it is known: the settled one and the fills since."""
        mark = self.marks.get(symbol)
        settled = mark.position if mark else ZERO
        return settled + sum((each.qty for each in self.fills if each.symbol == symbol), ZERO)

    def pruned(self) -> Ledger:
        """Without the ended orders of earlier plans that a settlement has counted."""
        keep = {cloid: each for cloid, each in self.orders.items() if each.live or self._needed(each)}
        return self if len(keep) == len(self.orders) else self.model_copy(update={"orders": keep})

    def _needed(self, order: Order) -> bool:
        mark = self.marks.get(order.symbol)
        counted = mark is not None and order.ended_ms is not None and mark.asked_ms >= order.ended_ms
        return not counted or (self.plan is not None and order.plan_key == self.plan.key)


def current_plan(
    plan: ExecutionPlan,
    *,
    start_ms: int,
    cycle_end_ms: int,
    equity_usd: Decimal,
    client_order_ids: Iterable[str],
    execution: ExecutionParams,
    risk: RiskParams,
) -> CurrentPlan:
    """The work that an announced plan means."""
    return CurrentPlan(
        cycle_id=plan.cycle_id,
        key=plan.idempotency_key,
        start_ms=start_ms,
        cycle_end_ms=cycle_end_ms,
        equity_usd=equity_usd,
        slices=tuple(
            SliceWork(slice=each, client_order_id=name)
            for each, name in zip(plan.slices, client_order_ids, strict=True)
        ),
        execution=execution,
        risk=risk,
        params_label=plan.inputs.params or "",
    )
