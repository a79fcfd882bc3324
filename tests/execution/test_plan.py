"""From weights to slices, for any weights, positions and prices."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.execution_parts import CYCLE, MIDS, SPECS, START_MS
from tradingbot.domain.messages import ExecutionPlan, Inputs
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import ExecutionParams
from tradingbot.execution.plan import Market, PlanRequest, make_plan
from tradingbot.execution.sizing import MIN_SLICE_USD, slice_lots, target_lots
from tradingbot.venue.precision import is_legal_size, lots_to_size

EQUITY = Decimal(10_000)


def plan_for(
    targets: dict[str, float], positions: dict[str, str | Decimal] | None = None, **fields: object
) -> ExecutionPlan:
    params = ExecutionParams(**fields.pop("params", {}))  # type: ignore[arg-type]
    equity = Decimal(str(fields.pop("equity", EQUITY)))
    request = {
        "cycle_id": CYCLE,
        "start_ms": START_MS,
        "targets": targets,
        "positions": {symbol: Decimal(qty) for symbol, qty in (positions or {}).items()},
        "unplannable": {},
        "market": Market(specs=SPECS, mids=fields.pop("mids", MIDS), equity_usd=equity),  # type: ignore[arg-type]
        "mode": Mode.NORMAL,
        "params": params,
        "inputs": Inputs(),
        **fields,
    }
    return make_plan(PlanRequest(**request))  # type: ignore[arg-type]


def reason(plan: ExecutionPlan, symbol: str) -> str | None:
    return next((each.reason for each in plan.skipped if each.symbol == symbol), None)


symbols = st.sampled_from(sorted(SPECS))
weights = st.dictionaries(symbols, st.floats(-0.5, 0.5) | st.just(0.0), min_size=1)
lots = st.dictionaries(symbols, st.integers(-30_000, 30_000))


@given(targets=weights, held=lots, slices=st.integers(1, 10), equity=st.sampled_from([100, 1_000, 10_000, 1_000_000]))
def test_a_filled_plan_never_passes_its_target(
    targets: dict[str, float], held: dict[str, int], slices: int, equity: int
) -> None:
    positions = {s: lots_to_size(n, sz_decimals=SPECS[s].sz_decimals) for s, n in held.items()}
    plan = plan_for(targets, positions, params={"twap_slices": slices}, equity=equity)
    change: dict[str, Decimal] = defaultdict(Decimal)
    for each in plan.slices:
        assert each.symbol in targets, "a symbol without a target is held"
        assert is_legal_size(each.qty, sz_decimals=SPECS[each.symbol].sz_decimals)
        if not each.closes:
            assert each.qty * MIDS[each.symbol] >= Decimal(MIN_SLICE_USD) * Decimal("0.999999")
        change[each.symbol] += each.side.sign * each.qty

    for symbol, weight in targets.items():
        before = positions.get(symbol, Decimal(0))
        after = before + change[symbol]
        target = Decimal(str(weight)) * equity / MIDS[symbol]
        low, high = min(before, target), max(before, target)
        lot = lots_to_size(1, sz_decimals=SPECS[symbol].sz_decimals)
        assert low - lot <= after <= high + lot
        if change[symbol] and weight == 0:
            assert after == 0
        assert symbol in {each.symbol for each in plan.slices} | {each.symbol for each in plan.skipped}


@given(targets=weights, held=lots)
def test_reduce_only_never_grows_a_position(targets: dict[str, float], held: dict[str, int]) -> None:
    positions = {s: lots_to_size(n, sz_decimals=SPECS[s].sz_decimals) for s, n in held.items()}

    plan = plan_for(targets, positions, mode=Mode.REDUCE_ONLY)

    totals: dict[str, Decimal] = defaultdict(Decimal)
    for each in plan.slices:
        assert each.reduce_only
        assert each.side.sign * positions[each.symbol] < 0
        totals[each.symbol] += each.qty
    for symbol, total in totals.items():
        assert total <= abs(positions[symbol])


@given(targets=weights, held=lots)
def test_the_same_inputs_make_the_same_plan_under_the_same_key(targets: dict[str, float], held: dict[str, int]) -> None:
    positions = {s: lots_to_size(n, sz_decimals=SPECS[s].sz_decimals) for s, n in held.items()}

    assert plan_for(targets, positions) == plan_for(targets, positions)


@given(lots=st.integers(1, 10**9), lot_usd=st.floats(1e-6, 100), most=st.integers(1, 20))
def test_slices_add_up_and_are_as_many_as_the_minimum_allows(lots: int, lot_usd: float, most: int) -> None:
    parts = slice_lots(lots, lot_usd=lot_usd, most_slices=most)

    if not parts:
        assert lots * lot_usd < MIN_SLICE_USD
        return
    assert sum(parts) == lots
    assert len(parts) <= most
    assert min(parts) * lot_usd >= MIN_SLICE_USD
    assert len(parts) == most or (lots // (len(parts) + 1)) * lot_usd < MIN_SLICE_USD


@given(weight=st.floats(-2, 2), mid=st.floats(1e-4, 1e6), equity=st.floats(-10, 1e7))
def test_a_target_is_rounded_towards_zero(weight: float, mid: float, equity: float) -> None:
    count = target_lots(weight, equity_usd=equity, mid=mid, lots_per_coin=100)

    assert abs(count) * mid / 100 <= abs(weight) * max(equity, 0) * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize(
    ("targets", "positions", "why"),
    [
        ({"BTC": 0.0}, {}, "at_target"),
        ({"BTC": 0.1}, {"BTC": "0.01667"}, "inside_band"),
        ({"BTC": 0.101}, {"BTC": "0.0166"}, "inside_band"),
        ({"XMR": 0.1}, {}, "not_listed"),
    ],
)
def test_what_is_not_planned_says_why(targets: dict[str, float], positions: dict[str, str], why: str) -> None:
    plan = plan_for(targets, positions)

    assert plan.slices == ()
    assert reason(plan, next(iter(targets))) == why


def test_a_symbol_without_a_fresh_mid_or_settlement_is_skipped() -> None:
    plan = plan_for({"BTC": 0.1, "ETH": 0.1}, mids={"ETH": MIDS["ETH"]}, unplannable={"ETH": "unsettled"})

    assert (reason(plan, "BTC"), reason(plan, "ETH")) == ("stale_mid", "unsettled")


def test_the_close_of_a_whole_position_is_exempt_from_band_and_minimum() -> None:
    (close,) = plan_for({"BTC": 0.0}, {"BTC": "0.00007"}).slices  # 4.20 USD

    assert (close.qty, close.closes, close.reduce_only) == (Decimal("0.00007"), True, True)


def test_an_increase_below_the_minimum_waits() -> None:
    plan = plan_for({"BTC": 0.01}, equity=1_000, params={"min_rebalance_weight": 0.0})  # 10 USD

    assert reason(plan, "BTC") == "below_minimum"


def test_a_flip_is_a_close_and_then_an_opening() -> None:
    plan = plan_for({"BTC": -0.1}, {"BTC": "0.02"}, params={"twap_slices": 2})

    assert [(e.slice_idx, e.phase, e.reduce_only, e.closes) for e in plan.slices] == [
        (0, 0, True, True),
        (1, 1, False, False),
        (2, 1, False, False),
    ]


def test_slices_are_an_interval_apart_and_reductions_come_first() -> None:
    plan = plan_for({"BTC": 0.12, "ETH": 0.05}, {"ETH": "0.5"})

    assert [(e.symbol, e.slice_idx, (e.start_ms - START_MS) // 1000) for e in plan.slices] == [
        ("ETH", 0, 0),
        ("BTC", 0, 0),
        ("ETH", 1, 20),
        ("BTC", 1, 20),
        ("ETH", 2, 40),
        ("BTC", 2, 40),
    ]
