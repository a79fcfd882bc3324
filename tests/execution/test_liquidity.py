"""A thin book makes increases smaller and guards wider; it never slows a way out, and nothing else changes."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from execution.test_plan import EQUITY, plan_for
from support.execution_bench import Bench
from support.execution_parts import MIDS, SPECS
from support.stage import BOT_ID
from tradingbot.bus.names import PAYLOAD_FIELD, Stream
from tradingbot.domain.cycles import from_ms, start_ms_of
from tradingbot.domain.envelope import message
from tradingbot.domain.messages import ExecutionPlan, FeatureSnapshot1m, PlanBook
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import ExecutionParams
from tradingbot.execution.liquidity import LEAST_SHARE, depth_share, guard_bps, increase_lots
from tradingbot.execution.plan import INCREASES, Market, request_of
from tradingbot.execution.sizing import MIN_SLICE_USD
from tradingbot.venue.precision import lots_to_size

books = st.dictionaries(
    st.sampled_from(sorted(SPECS)),
    st.builds(
        PlanBook,
        liquidity_score=st.none() | st.floats(0, 1),
        spread_bps=st.none() | st.floats(0, 1000),
        depth_usd=st.none() | st.floats(0, 1e6),
    ),
)
targets = st.dictionaries(st.sampled_from(sorted(SPECS)), st.floats(-0.5, 0.5) | st.just(0.0), min_size=1)
held = st.dictionaries(st.sampled_from(sorted(SPECS)), st.integers(-30_000, 30_000))


def planned(
    weights: dict[str, float], lots: dict[str, int], known: dict[str, PlanBook], **params: float
) -> ExecutionPlan:
    positions = {s: lots_to_size(n, sz_decimals=SPECS[s].sz_decimals) for s, n in lots.items()}
    market = Market(specs=SPECS, mids=MIDS, equity_usd=EQUITY, books=known)
    return plan_for(weights, positions, market=market, params=params)


def sizes(plan: ExecutionPlan) -> dict[tuple[str, int], Decimal]:
    total: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    for each in plan.slices:
        total[each.symbol, each.phase] += each.qty
    return total


@given(weights=targets, lots=held, known=books)
def test_a_book_only_ever_makes_increases_smaller(
    weights: dict[str, float], lots: dict[str, int], known: dict[str, PlanBook]
) -> None:
    thin, deep = sizes(planned(weights, lots, known)), sizes(planned(weights, lots, {}))
    assert thin.keys() == deep.keys()
    for (symbol, phase), qty in thin.items():
        if phase == INCREASES:
            assert qty <= deep[symbol, phase]
            assert qty * MIDS[symbol] >= Decimal(MIN_SLICE_USD) * Decimal("0.999999")
        else:
            assert qty == deep[symbol, phase], "getting out is never slowed down"


@given(weights=targets, lots=held, known=books)
def test_a_guard_stays_between_its_two_parameters(
    weights: dict[str, float], lots: dict[str, int], known: dict[str, PlanBook]
) -> None:
    for each in planned(weights, lots, known).slices:
        assert 20 <= each.px_guard_bps <= 50


@given(weights=targets, lots=held)
def test_a_deep_narrow_book_changes_nothing(weights: dict[str, float], lots: dict[str, int]) -> None:
    deep = dict.fromkeys(SPECS, PlanBook(liquidity_score=0.5, spread_bps=20.0))
    assert planned(weights, lots, deep).slices == planned(weights, lots, {}).slices


@given(weights=targets, lots=held, known=books)
def test_the_effect_can_be_turned_off(
    weights: dict[str, float], lots: dict[str, int], known: dict[str, PlanBook]
) -> None:
    off = {"thin_book_score": 0, "max_guard_bps": 0}
    assert planned(weights, lots, known, **off).slices == planned(weights, lots, {}, **off).slices


@given(weights=targets, lots=held, known=books)
def test_a_plan_is_made_again_from_its_own_record(
    weights: dict[str, float], lots: dict[str, int], known: dict[str, PlanBook]
) -> None:
    plan = planned(weights, lots, known)
    assert plan.basis is not None
    request = request_of(plan, plan.basis, targets=weights, params=ExecutionParams())
    again = plan_for(
        weights,
        dict(request.positions),
        market=request.market,
        unplannable=dict(request.unplannable),
        mode=Mode.NORMAL,
    )
    assert again.slices == plan.slices


def test_a_target_is_reached_over_the_cycles_however_thin_the_book() -> None:
    empty = {"BTC": PlanBook(liquidity_score=0.0, spread_bps=400.0)}
    lots, cycles = 0, 0
    while slices := planned({"BTC": 0.1}, {"BTC": lots}, empty).slices:
        lots += sum(int(each.qty * 10 ** SPECS["BTC"].sz_decimals) for each in slices)
        cycles += 1
        assert cycles < 20
    assert cycles > 3
    reached = lots * float(MIDS["BTC"]) / 10 ** SPECS["BTC"].sz_decimals / float(EQUITY)
    assert 0.1 - ExecutionParams().min_rebalance_weight <= reached <= 0.1


def test_half_of_the_wanted_depth_halves_an_increase_and_doubles_the_guard() -> None:
    book = PlanBook(liquidity_score=0.25, spread_bps=1.0)
    assert depth_share(book, thin_book_score=0.5, order_usd=100) == 0.5
    assert increase_lots(1001, share=0.5, lot_usd=1.0) == 500
    assert guard_bps(book, ExecutionParams(), share=0.5) == 40.0


def test_a_deep_book_that_flickers_is_not_thin_for_a_small_order() -> None:
    book = PlanBook(liquidity_score=0.1, spread_bps=1.0, depth_usd=2_000_000)
    assert depth_share(book, thin_book_score=0.5, order_usd=20_000) == 1.0
    assert depth_share(book, thin_book_score=0.5, order_usd=20_001) == LEAST_SHARE
    assert planned({"BTC": 0.1}, {}, {"BTC": book}).slices == planned({"BTC": 0.1}, {}, {}).slices


def test_no_score_is_no_reason() -> None:
    assert depth_share(None, thin_book_score=0.5, order_usd=100) == 1.0
    assert depth_share(PlanBook(spread_bps=3.0), thin_book_score=0.5, order_usd=100) == 1.0
    assert guard_bps(None, ExecutionParams(), share=1.0) == 20.0


def test_an_empty_book_still_leaves_the_least_share_and_one_slice() -> None:
    assert depth_share(PlanBook(liquidity_score=0.0), thin_book_score=0.5, order_usd=100) == LEAST_SHARE
    assert increase_lots(13, share=LEAST_SHARE, lot_usd=1.0) == 12
    assert increase_lots(5, share=LEAST_SHARE, lot_usd=1.0) == 5


def test_a_wide_spread_widens_the_guard_up_to_its_bound() -> None:
    assert guard_bps(PlanBook(spread_bps=33.0), ExecutionParams(), share=1.0) == 33.0
    assert guard_bps(PlanBook(spread_bps=300.0), ExecutionParams(), share=1.0) == 50.0
    assert guard_bps(PlanBook(spread_bps=300.0), ExecutionParams(px_guard_bps=80), share=1.0) == 80.0


async def told(bench: Bench, *, minute_ms: int, score: float) -> None:
    """Features of a minute, as market_data tells them."""
    features = FeatureSnapshot1m(
        asof_minute=from_ms(minute_ms),
        universe=("BTC",),
        mid_px={"BTC": Decimal(bench.prices.mids["BTC"])},
        ret_1m={},
        ret_5m={},
        ret_1h={},
        vol_1h={},
        liquidity_score={"BTC": score},
    )
    wrapped = message(
        features,
        bot_id=BOT_ID,
        stream=Stream.FEATURES,
        source="market_data",
        cycle_id=bench.cycle_id,
        key=str(minute_ms),
        now_ms=minute_ms,
    )
    await bench.redis.xadd(Stream.FEATURES, {PAYLOAD_FIELD: wrapped.model_dump_json()})


async def test_the_planner_heeds_the_books_of_its_own_cycle_alone(bench: Bench) -> None:
    await bench.ready()
    async with bench.trading():
        await bench.begun()
        sums = []
        for late_ms, score in ((0, 0.25), (60_000, 0.25)):
            await bench.next_cycle()
            await told(bench, minute_ms=start_ms_of(bench.cycle_id) - late_ms, score=score)
            await bench.approve(BTC=0.12)
            plan = await bench.plan_of(bench.cycle_id)
            sums.append((sum(each.qty for each in plan.slices), plan.slices[0].px_guard_bps, len(plan.basis.books)))
            await bench.tick(50)
    whole = Decimal("0.12") * EQUITY / Decimal(bench.prices.mids["BTC"])
    assert abs(sums[0][0] - whole / 2) < Decimal("0.001")
    assert sums[0][1:] == (40.0, 1)
    assert abs(sums[1][0] - whole / 2) < Decimal("0.001"), "the rest of the target, all of it"
    assert sums[1][1:] == (20.0, 0), "an older minute's books are not heeded"
