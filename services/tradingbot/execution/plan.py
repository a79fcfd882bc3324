"""From approved weights to the slices of a cycle.

Pure. A symbol that is missing from the targets is held; only an explicit weight of 0 closes. Reductions are phase 0
and increases phase 1; a flip is the close of the whole position and then, once that has filled, an order of the other
side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tradingbot.domain.ids import Symbol, client_order_id, digest
from tradingbot.domain.messages import (
    ExecutionPlan,
    Inputs,
    PlanBasis,
    PlanBook,
    PlanLimits,
    PlanSlice,
    Side,
    SkippedSymbol,
)
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import ExecutionParams
from tradingbot.execution.liquidity import depth_share, guard_bps, increase_lots
from tradingbot.execution.sizing import change_lots, inside_band, slice_lots, target_lots
from tradingbot.venue.precision import AssetSpec, lots_to_size, size_to_lots

REDUCTIONS, INCREASES = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What sizes are computed from."""

    specs: Mapping[str, AssetSpec]
    mids: Mapping[str, Decimal]
    """Fresh ones only: a symbol without one is not planned."""
    equity_usd: Decimal
    books: Mapping[str, PlanBook] = field(default_factory=dict)
    """Of the cycle's features; a symbol without one is planned as if its book were deep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """Everything that a plan is made from."""

    cycle_id: str
    start_ms: int
    targets: Mapping[str, float]
    positions: Mapping[str, Decimal]
    """Settled ones; a symbol that is missing is flat."""
    unplannable: Mapping[str, str]
    """Symbols that must not be planned now, and why."""
    market: Market
    mode: Mode
    params: ExecutionParams
    inputs: Inputs
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One direction of a symbol's change, in lots."""

    lots: int
    side: Side
    phase: int
    closes: bool = False
    guard_bps: float = 0.0


def make_plan(request: PlanRequest) -> ExecutionPlan:
    """The cycle's plan; slices in the order of their phase, index and symbol."""
    slices: list[PlanSlice] = []
    skipped: list[SkippedSymbol] = []
    for symbol, weight in sorted(request.targets.items()):
        planned = _plan_symbol(symbol, weight, request)
        if isinstance(planned, str):
            skipped.append(SkippedSymbol(symbol=symbol, reason=planned))
        else:
            slices.extend(planned)
    slices.sort(key=lambda each: (each.start_ms, each.phase, each.symbol))
    body = "|".join(f"{each.symbol}:{each.slice_idx}:{each.side}:{each.qty}" for each in slices)
    return ExecutionPlan(
        cycle_id=request.cycle_id,
        slices=tuple(slices),
        limits=PlanLimits(
            max_orders_per_min=request.params.max_orders_per_min,
            max_cancels_per_min=request.params.max_cancels_per_min,
        ),
        idempotency_key=f"{request.cycle_id}:{digest(body)}",
        skipped=tuple(skipped),
        inputs=request.inputs,
        dry_run=request.dry_run,
        basis=basis_of(request),
    )


def basis_of(request: PlanRequest) -> PlanBasis:
    """What the plan names of its request, so that it can be made again from the record alone."""
    market, named = request.market, sorted(request.targets)
    return PlanBasis(
        start_ms=request.start_ms,
        mode=request.mode,
        equity_usd=market.equity_usd,
        positions={each: request.positions[each] for each in named if each in request.positions},
        mids={each: market.mids[each] for each in named if each in market.mids},
        sz_decimals={
            each: spec.sz_decimals
            for each in named
            if (spec := market.specs.get(each)) is not None and not spec.delisted
        },
        unplannable={each: request.unplannable[each] for each in named if each in request.unplannable},
        books={each: market.books[each] for each in named if each in market.books},
    )


def request_of(
    plan: ExecutionPlan, basis: PlanBasis, *, targets: Mapping[str, float], params: ExecutionParams
) -> PlanRequest:
    """The request that a recorded plan was made from: the inverse of ``basis_of``."""
    specs = {
        symbol: AssetSpec(symbol=Symbol(symbol), asset_id=0, sz_decimals=decimals, max_leverage=1)
        for symbol, decimals in basis.sz_decimals.items()
    }
    return PlanRequest(
        cycle_id=plan.cycle_id,
        start_ms=basis.start_ms,
        targets=targets,
        positions=basis.positions,
        unplannable=basis.unplannable,
        market=Market(specs=specs, mids=basis.mids, equity_usd=basis.equity_usd, books=basis.books),
        mode=basis.mode,
        params=params,
        inputs=plan.inputs,
        dry_run=plan.dry_run,
    )


def slice_id(plan: ExecutionPlan, each: PlanSlice) -> str:
    """The client_order_id of a slice."""
    return client_order_id(cycle_id=plan.cycle_id, symbol=each.symbol, slice_idx=each.slice_idx, side=each.side)


def _plan_symbol(symbol: str, weight: float, request: PlanRequest) -> list[PlanSlice] | str:
    spec, mid = request.market.specs.get(symbol), request.market.mids.get(symbol)
    if symbol in request.unplannable:
        return request.unplannable[symbol]
    if spec is None or spec.delisted:
        return "not_listed"
    if mid is None:
        return "stale_mid"
    position = size_to_lots(request.positions.get(symbol, Decimal(0)), sz_decimals=spec.sz_decimals)
    lots_per_coin = 10**spec.sz_decimals
    target = target_lots(
        weight, equity_usd=float(request.market.equity_usd), mid=float(mid), lots_per_coin=lots_per_coin
    )
    lot_usd = float(mid) / lots_per_coin
    legs = change_legs(position=position, target=target, close=weight == 0)
    if not legs:
        return "at_target"
    if not any(leg.closes for leg in legs) and inside_band(
        target - position,
        lot_usd=lot_usd,
        band_usd=request.params.min_rebalance_weight * float(request.market.equity_usd),
    ):
        return "inside_band"
    if request.mode is not Mode.NORMAL:
        legs = [leg for leg in legs if leg.phase == REDUCTIONS]
    legs = [
        _as_deep_as_the_book(leg, request.market.books.get(symbol), lot_usd=lot_usd, request=request) for leg in legs
    ]
    slices = _slices(symbol, legs, lot_usd=lot_usd, request=request)
    return slices or ("below_minimum" if legs else "reduce_only")


def change_legs(*, position: int, target: int, close: bool) -> list[Leg]:
    """The orders' directions that lead from a position to a target, in lots; ``close``: the target is exactly flat."""
    reduction, increase = change_lots(position, target, close=close)
    legs = []
    if reduction:
        # A target of a few dollars may round to no lot at all: what is left is then the whole position.
        away = Side.SELL if position > 0 else Side.BUY
        legs.append(Leg(lots=reduction, side=away, phase=REDUCTIONS, closes=reduction == abs(position)))
    if increase:
        legs.append(Leg(lots=increase, side=Side.BUY if target > 0 else Side.SELL, phase=INCREASES))
    return legs


def _as_deep_as_the_book(leg: Leg, book: PlanBook | None, *, lot_usd: float, request: PlanRequest) -> Leg:
    params = request.params
    share = depth_share(book, thin_book_score=params.thin_book_score, order_usd=leg.lots * lot_usd)
    lots = leg.lots if leg.phase == REDUCTIONS else increase_lots(leg.lots, share=share, lot_usd=lot_usd)
    return replace(leg, lots=lots, guard_bps=guard_bps(book, params, share=share))


def _slices(symbol: str, legs: list[Leg], *, lot_usd: float, request: PlanRequest) -> list[PlanSlice]:
    slices: list[PlanSlice] = []
    for leg in legs:
        parts = (
            (leg.lots,) if leg.closes else slice_lots(leg.lots, lot_usd=lot_usd, most_slices=request.params.twap_slices)
        )
        for number, lots in enumerate(parts):
            slices.append(_slice(symbol, leg, lots, number=number, index=len(slices), request=request))
    return slices


def _slice(symbol: str, leg: Leg, lots: int, *, number: int, index: int, request: PlanRequest) -> PlanSlice:
    params = request.params
    return PlanSlice(
        symbol=symbol,
        side=leg.side,
        qty=lots_to_size(lots, sz_decimals=request.market.specs[symbol].sz_decimals),
        px_guard_bps=leg.guard_bps,
        timeout_s=params.slice_timeout_s,
        slice_idx=index,
        start_ms=request.start_ms + round(number * params.slice_interval_s * 1000),
        reduce_only=leg.phase == REDUCTIONS,
        closes=leg.closes,
        phase=leg.phase,
    )
