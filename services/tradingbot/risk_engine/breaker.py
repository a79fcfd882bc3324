"""The breaker: what stops or restricts the bot by itself, and what lifts that again.

Three kinds of restriction, the strictest counts:

* *health* (stale features, no good reconciliation, clock skew, refusals in a row, the venue's post-only period) is
  HALT. It trips, and clears after three good reconciliations without any of them. Within the first moments of a
  process nothing is stale yet, only awaited: HALT too, but it lifts with the first good look.
* *loss* (drawdown, liquidation, own fills beyond an intent) is HALT, latched under an id that a person names to clear
  it.
* *while it lasts*: a smaller drawdown, a foreign order, the day's fees: REDUCE_ONLY.

Drawdown is (peak − equity) / peak, where equity is corrected for deposits and withdrawals: a payment moves equity and
peak alike, so that only trading makes or loses. The corrected peak is kept in the state. A payment may show in equity a
reading before or after it shows in the ledger, so nothing that lasts rests on one reading: the peak rises, and a
drawdown latches, when two good reconciliations in a row agree. Until then one reading alone restricts to REDUCE_ONLY.

Pure: the state and what is seen come in, the state and the judgement go out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from tradingbot.domain.cycles import from_ms
from tradingbot.domain.messages import StateSnapshot
from tradingbot.domain.model import Model
from tradingbot.domain.modes import Mode, strictest
from tradingbot.domain.params import RiskParams
from tradingbot.domain.portfolio import reconciled_ms
from tradingbot.runtime.clock import guard_against_real_slowness

GOOD_TO_CLEAR = 3
RECONCILE_MAX_AGE_MS, RECONCILE_REAL_AGE_MS = 30_000, 6_000
FEATURES_MAX_CYCLES, FEATURES_REAL_AGE_MS = 2, 6_000
SKEW_MAX_MS, SKEW_REAL_MS = 1_000, 250
REFUSALS_MAX = 5
_DRAWDOWN = "drawdown"
DRAWDOWN_ID = _DRAWDOWN
"""What a person names to accept a drawdown that has not halted yet; a latched one has an id of its own."""


class Latch(Model):
    """A loss that stays until a person clears it by its id."""

    id: str
    kind: str
    reason: str
    at_ms: int


class BreakerState(Model):
    """What the breaker remembers through a restart."""

    peak_usd: Decimal | None = None
    """The highest equity that two reconciliations in a row agreed on, less the deposits of its time."""
    equity_usd: Decimal | None = None
    """Equity of the last good reconciliation, less the deposits."""
    latches: tuple[Latch, ...] = ()
    tripped: dict[str, str] = {}
    """Health causes that have tripped and not cleared: code -> reason."""
    good_in_row: int = 0
    reconciled_ms: int | None = None
    """The last good reconciliation."""
    liquidations_seen: int = 0
    fills_beyond_seen: int = 0
    fee_day: str | None = None
    """The UTC day on which fees passed their limit."""
    written: str | None = None
    """The signature of the judgement that ``ctl.mode.breaker`` holds."""
    params_told: str | None = None
    """Which parameters audit.logs has been told of, and on which day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the breaker sees."""

    now_ms: int
    started_ms: int
    """When this process began to look: before that nothing was late."""
    speed: float
    cycle_seconds: int
    snapshot: StateSnapshot | None
    """The newest one."""
    features_ms: int | None
    """The newest feature snapshot's minute, of those with a price."""
    risk: RiskParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One reason for a restriction."""

    code: str
    mode: Mode
    reason: str
    latch_id: str = ""
    """What a person names to clear it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The breaker's mode and all of its causes, the strictest first."""

    mode: Mode
    causes: tuple[Cause, ...]

    @property
    def reason(self) -> str:
        """All causes in words."""
        return "; ".join(cause.reason for cause in self.causes)

    @property
    def latch_ids(self) -> tuple[str, ...]:
        """What a person can clear."""
        return tuple(cause.latch_id for cause in self.causes if cause.latch_id)

    @property
    def signature(self) -> str:
        """Equal when nothing changed that anybody needs to hear of; figures inside the reasons do not count."""
        return " ".join((self.mode, *(cause.latch_id or cause.code for cause in self.causes)))


def judge(state: BreakerState, facts: Facts, *, fresh: bool) -> tuple[BreakerState, Judgement]:
    """Look at everything once; ``fresh`` when the snapshot has not been judged before (not on a timer)."""
    snapshot = facts.snapshot
    if snapshot is not None and fresh:
        state = _note_losses(state, snapshot, facts)
    awaited, tripping = _health(state, facts)
    state = _trip_or_clear(state, facts, awaited=awaited, tripping=tripping, fresh=fresh)
    causes = [
        *(Cause(code=latch.kind, mode=Mode.HALT, reason=latch.reason, latch_id=latch.id) for latch in state.latches),
        *(Cause(code=code, mode=Mode.HALT, reason=reason) for code, reason in state.tripped.items()),
        *(Cause(code=f"await_{code}", mode=Mode.HALT, reason=reason) for code, reason in awaited.items()),
        *_while_it_lasts(state, facts),
    ]
    return state, Judgement(mode=strictest(*(cause.mode for cause in causes)), causes=tuple(causes))


def clear(state: BreakerState, facts: Facts, breaker_id: str) -> BreakerState | None:
    """The state after a person cleared a latch; that of a drawdown makes present equity the peak. None: not in force.

    ``DRAWDOWN_ID`` accepts a drawdown that restricts and has not latched; without it a flat account could never leave
    REDUCE_ONLY.
    """
    gone = [latch for latch in state.latches if latch.id == breaker_id]
    accepts = breaker_id == DRAWDOWN_ID and _restricts(state, facts)
    if not gone and not accepts:
        return None
    update: dict[str, object] = {"latches": tuple(latch for latch in state.latches if latch not in gone)}
    if accepts or any(latch.kind == _DRAWDOWN for latch in gone):
        update["peak_usd"] = state.equity_usd
    return state.model_copy(update=update)


def drawdown(state: BreakerState, snapshot: StateSnapshot) -> float:
    """The fraction below the peak, 0 at it; the peak in today's terms includes today's deposits."""
    return _below_peak(state, state.equity_usd, snapshot)


def _below_peak(state: BreakerState, equity_usd: Decimal | None, snapshot: StateSnapshot) -> float:
    if state.peak_usd is None or equity_usd is None:
        return 0.0
    lost = state.peak_usd - equity_usd
    peak = state.peak_usd + snapshot.health.deposits_net_usd
    if lost <= 0:
        return 0.0
    return float(lost / peak) if peak > lost else 1.0


def _note_losses(state: BreakerState, snapshot: StateSnapshot, facts: Facts) -> BreakerState:
    """Peak, equity, the day's fees and new latches, of a snapshot that is seen for the first time."""
    health = snapshot.health
    update: dict[str, object] = {}
    if _newly_good(state, snapshot):
        equity = snapshot.equity_usd - health.deposits_net_usd
        update["equity_usd"] = equity
        update["peak_usd"] = _peak(state, equity)
        if _fees_bps(snapshot) > facts.risk.max_daily_fee_bps:
            update["fee_day"] = _day(reconciled_ms(snapshot) or facts.now_ms)
    update["liquidations_seen"] = max(state.liquidations_seen, health.liquidations)
    update["fills_beyond_seen"] = max(state.fills_beyond_seen, health.fills_beyond_intent)
    after = state.model_copy(update=update)
    return after.model_copy(update={"latches": (*state.latches, *_new_latches(state, after, snapshot, facts))})


def _peak(state: BreakerState, equity_usd: Decimal) -> Decimal:
    """The highest equity that two readings in a row reached; the very first stands until others have come."""
    if state.peak_usd is None or state.equity_usd is None:
        return equity_usd
    return max(state.peak_usd, min(state.equity_usd, equity_usd))


def _new_latches(before: BreakerState, after: BreakerState, snapshot: StateSnapshot, facts: Facts) -> Iterator[Latch]:
    def latch(kind: str, reason: str) -> Latch:
        return Latch(id=f"{kind}-{facts.now_ms}", kind=kind, reason=reason, at_ms=facts.now_ms)

    # The smaller of the last two falls: both readings have to show it.
    if _newly_good(before, snapshot) and before.equity_usd is not None and after.equity_usd is not None:
        fall = _below_peak(after, max(before.equity_usd, after.equity_usd), snapshot)
        if fall >= facts.risk.drawdown_halt and not _latched(before):
            yield latch(_DRAWDOWN, f"{_fall(after, snapshot)}, at or beyond {facts.risk.drawdown_halt:.2%}")
    if (new := after.liquidations_seen - before.liquidations_seen) > 0:
        yield latch("liquidation", f"the venue liquidated: {new} fills")
    if (new := after.fills_beyond_seen - before.fills_beyond_seen) > 0:
        yield latch("fills_beyond_intent", f"{new} own fills that no intent covers")


def _health(state: BreakerState, facts: Facts) -> tuple[dict[str, str], dict[str, str]]:
    """What is awaited and what trips, each code -> reason."""
    awaited: dict[str, str] = {}
    tripping = dict(_flags(facts))
    for code, name, at_ms, limit_ms in _ages(state, facts):
        # What lies ahead of the clock is from before it stepped back: as old as what lies behind it.
        if at_ms is not None and abs(facts.now_ms - at_ms) <= limit_ms:
            continue
        late = facts.now_ms - max(at_ms or 0, facts.started_ms) > limit_ms
        age = "none yet" if at_ms is None else f"{(facts.now_ms - at_ms) / 1000:.0f} s ago"
        (tripping if late else awaited)[code] = f"{name} ({age}, at most {limit_ms / 1000:.0f} s)"
    return awaited, tripping


def _ages(state: BreakerState, facts: Facts) -> Iterator[tuple[str, str, int | None, int]]:
    features_ms = FEATURES_MAX_CYCLES * facts.cycle_seconds * 1000
    yield (
        "features_stale",
        "no fresh features",
        facts.features_ms,
        guard_against_real_slowness(value_ms=features_ms, real_ms=FEATURES_REAL_AGE_MS, speed=facts.speed),
    )
    good_ms = state.reconciled_ms if facts.snapshot is not None else None
    if facts.snapshot is not None and facts.snapshot.health.reconcile_ok:
        good_ms = reconciled_ms(facts.snapshot) or good_ms
    limit_ms = guard_against_real_slowness(
        value_ms=RECONCILE_MAX_AGE_MS, real_ms=RECONCILE_REAL_AGE_MS, speed=facts.speed
    )
    yield "not_reconciled", "no good reconciliation", good_ms, limit_ms


def _flags(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.snapshot is None:
        return
    health = facts.snapshot.health
    limit_ms = guard_against_real_slowness(value_ms=SKEW_MAX_MS, real_ms=SKEW_REAL_MS, speed=facts.speed)
    if abs(health.clock_skew_ms) > limit_ms:
        yield "clock_skew", f"the venue's clock differs by {health.clock_skew_ms} ms, at most {limit_ms}"
    # In HALT nothing is sent that could end the row: portfolio_state ends it when nothing was refused for a while.
    if health.refusals_in_row >= REFUSALS_MAX:
        yield "refusals", f"the venue refused {health.refusals_in_row} orders in a row"
    if health.post_only:
        yield "post_only", "the venue is in its post-only period"


def _trip_or_clear(
    state: BreakerState, facts: Facts, *, awaited: dict[str, str], tripping: dict[str, str], fresh: bool
) -> BreakerState:
    update: dict[str, object] = {}
    newly_good = fresh and _newly_good(state, facts.snapshot)
    if newly_good and facts.snapshot is not None:
        update["reconciled_ms"] = reconciled_ms(facts.snapshot)
    if tripping:
        update |= {"tripped": {**state.tripped, **tripping}, "good_in_row": 0}
    elif awaited:
        update["good_in_row"] = 0
    elif newly_good and state.tripped:
        good = state.good_in_row + 1
        update |= {"good_in_row": good} if good < GOOD_TO_CLEAR else {"good_in_row": 0, "tripped": {}}
    return state.model_copy(update=update)


def _newly_good(state: BreakerState, snapshot: StateSnapshot | None) -> bool:
    """Whether the snapshot is a good reconciliation other than the last good one."""
    if snapshot is None or not snapshot.health.reconcile_ok:
        return False
    good_ms = reconciled_ms(snapshot)
    return good_ms is not None and good_ms != state.reconciled_ms


def _latched(state: BreakerState) -> bool:
    return any(latch.kind == _DRAWDOWN for latch in state.latches)


def _restricts(state: BreakerState, facts: Facts) -> bool:
    """Whether a drawdown that has not latched holds the bot to REDUCE_ONLY."""
    if facts.snapshot is None or _latched(state):
        return False
    return drawdown(state, facts.snapshot) >= facts.risk.drawdown_reduce_only


def _while_it_lasts(state: BreakerState, facts: Facts) -> Iterator[Cause]:
    snapshot = facts.snapshot
    if snapshot is None:
        return
    if _restricts(state, facts):
        reason = f"{_fall(state, snapshot)}, at or beyond {facts.risk.drawdown_reduce_only:.2%}"
        yield Cause(code=_DRAWDOWN, mode=Mode.REDUCE_ONLY, reason=reason, latch_id=DRAWDOWN_ID)
    if snapshot.health.foreign_orders > 0:
        reason = f"{snapshot.health.foreign_orders} open orders that this bot did not place"
        yield Cause(code="foreign_orders", mode=Mode.REDUCE_ONLY, reason=reason)
    if state.fee_day == _day(facts.now_ms):
        reason = f"fees of {state.fee_day} passed {facts.risk.max_daily_fee_bps:g} bps of equity"
        yield Cause(code="daily_fees", mode=Mode.REDUCE_ONLY, reason=reason)


def _fall(state: BreakerState, snapshot: StateSnapshot) -> str:
    peak = (state.peak_usd or Decimal(0)) + snapshot.health.deposits_net_usd
    return f"equity is {drawdown(state, snapshot):.2%} below its peak of {peak:.2f} USD"


def _fees_bps(snapshot: StateSnapshot) -> float:
    fees = snapshot.health.fees_today_usd
    if fees <= 0:
        return 0.0
    return float(fees / snapshot.equity_usd) * 10_000 if snapshot.equity_usd > 0 else float("inf")


def _day(now_ms: int) -> str:
    return from_ms(now_ms).date().isoformat()
