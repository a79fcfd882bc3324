"""A plan names everything that it was made from: read back from its message, it is made again exactly."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tradingbot.domain.ids import Symbol
from tradingbot.domain.messages import ExecutionPlan, Inputs, PlanBook
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import ExecutionParams
from tradingbot.execution.plan import Market, PlanRequest, make_plan, request_of
from tradingbot.venue.precision import AssetSpec

COINS = ("BTC", "ETH", "DOGE", "GONE")
WEIGHTS = st.dictionaries(st.sampled_from(COINS), st.one_of(st.just(0.0), st.floats(-0.3, 0.3)), min_size=1)
LOTS = st.dictionaries(st.sampled_from(COINS), st.integers(-(10**7), 10**7))
PRICES = st.dictionaries(st.sampled_from(COINS), st.integers(1, 10**8).map(lambda n: Decimal(n).scaleb(-3)))
SCORES = st.none() | st.floats(0, 1)
BOOKS = st.dictionaries(st.sampled_from(COINS), st.tuples(SCORES, st.none() | st.floats(0, 200)))


@given(
    targets=WEIGHTS,
    lots=LOTS,
    mids=PRICES,
    books=BOOKS,
    blocked=st.dictionaries(st.sampled_from(COINS), st.just("unsettled"), max_size=1),
    mode=st.sampled_from([Mode.NORMAL, Mode.REDUCE_ONLY]),
    equity=st.integers(-1, 10**9),
    decimals=st.integers(0, 5),
)
def test_a_plan_read_back_is_made_again_exactly(targets, lots, mids, books, blocked, mode, equity, decimals) -> None:
    params = ExecutionParams(min_rebalance_weight=0.001, twap_slices=4)
    specs = {
        name: AssetSpec(symbol=Symbol(name), asset_id=7, sz_decimals=decimals, max_leverage=20, delisted=name == "GONE")
        for name in COINS
    }
    request = PlanRequest(
        cycle_id="20260218T1600Z",
        start_ms=1_771_430_400_123,
        targets=targets,
        positions={name: Decimal(count).scaleb(-decimals) for name, count in lots.items()},
        unplannable=blocked,
        market=Market(
            specs=specs,
            mids=mids,
            equity_usd=Decimal(equity).scaleb(-2),
            books={name: PlanBook(liquidity_score=score, spread_bps=bps) for name, (score, bps) in books.items()},
        ),
        mode=mode,
        params=params,
        inputs=Inputs(approved_id="1-1"),
    )
    made = make_plan(request)
    read = ExecutionPlan.read(made.model_dump_json())
    assert read.basis is not None
    again = make_plan(request_of(read, read.basis, targets=targets, params=params))
    assert again.model_dump_json() == made.model_dump_json()
