"""A backtest decides what the live loop decided: every cycle of a recorded half hour, by the compiled kernel.

The record is of the whole bot on the paper exchange, with a REDUCE_ONLY, a HALT and changes of parameters on the way.
Each step gets the prices, the account and the parameters that its cycle had; nothing of the record's own results.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tradingbot.domain.cycles import to_ms
from tradingbot.domain.messages import Side
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import Params
from tradingbot.domain.portfolio import weight_of
from tradingbot.execution.liquidity import depth_share
from tradingbot.market_data.features import HOUR
from tradingbot.market_data.told import Told
from tradingbot.replay.archive.archive import Archive
from tradingbot.replay.backtest.compiled import compiled
from tradingbot.replay.backtest.engine import WEIGH, compiled_kernels
from tradingbot.replay.backtest.loops import decide, gate, gather, plan, propose
from tradingbot.replay.backtest.options import BacktestOptions
from tradingbot.replay.backtest.rules import Calendar, coins_of, rules_of
from tradingbot.replay.backtest.seen import Sums
from tradingbot.replay.backtest.shapes import (
    APPROVED,
    EQUITY,
    GROW,
    GROW_SLICES,
    INDEX,
    MODE,
    PREVIOUS,
    PX,
    REDUCE,
    REDUCE_SLICES,
    TARGET,
    TARGETS,
    WEIGHT,
    WEIGHTS,
    Facts,
    Market,
    Run,
    new_account,
    new_out,
    new_work,
)
from tradingbot.replay.rerun.steps import decision_ground, view_of
from tradingbot.replay.rerun.tape import Tape, load

pytestmark = pytest.mark.xdist_group("compiled")

RECORDED = Path(__file__).parent / "recorded"


def make_target(run, wanted, confidence):
    count, held = gather(wanted, run.out.many[WEIGHTS, 0], run)
    decide(count, held, confidence, run.rules, run.work)
    for k in range(count):
        run.out.many[TARGETS, 0, run.work.ints[INDEX, k]] = run.work.floats[TARGET, k]


def make_approval(run, target, reduces):
    count, held = gather(target, run.out.many[WEIGHTS, 0], run)
    for k in range(count):
        run.work.floats[TARGET, k] = run.work.floats[WEIGHT, k]
    gate(count, held, run.rules.limit, run.work, reduces=reduces)
    for k in range(count):
        run.out.many[APPROVED, 0, run.work.ints[INDEX, k]] = run.work.floats[WEIGHT, k]


def make_plan(run, approved, change):
    count, _ = gather(approved, run.out.many[WEIGHTS, 0], run)
    plan(0, count, run)
    for k in range(count):
        n = run.work.ints[INDEX, k]
        if run.work.ints[REDUCE_SLICES, k] > 0:
            change[n] += run.work.ints[REDUCE, k]
        if run.work.ints[GROW_SLICES, k] > 0:
            change[n] += run.work.ints[GROW, k]


@pytest.fixture(scope="module")
def tape() -> Tape:
    return load(Archive(RECORDED))


def a_run(symbols: tuple[str, ...], params: Params, **sz_decimals: int) -> Run:
    """One decision's worth of arrays, empty but for the rules."""
    coins, options = len(symbols), BacktestOptions(**({"sz_decimals": sz_decimals} if sz_decimals else {}))
    nothing = np.zeros((HOUR + 1, coins))
    run = Run(
        market=Market(*([nothing] * 6), np.zeros((1, coins))),
        coins=coins_of(symbols, params, options),
        rules=rules_of(params, options, Calendar(0, HOUR, 1)),
        account=new_account(coins, start_equity_usd=1.0),
        work=new_work(coins),
        out=new_out(1, coins),
    )
    run.out.many[TARGETS] = run.out.many[APPROVED] = math.nan
    return run


def row(values: Any, symbols: tuple[str, ...]) -> Any:
    """A mapping as an array, NaN where it has none."""
    return np.array([float(values.get(symbol, math.nan)) for symbol in symbols])


def holding(snapshot: Any, symbols: tuple[str, ...]) -> Any:
    positions, equity = snapshot.positions, float(snapshot.equity_usd)
    return np.array(
        [
            weight_of(qty=float(positions[s].qty), px=float(positions[s].mark_px), equity_usd=equity)
            if s in positions
            else 0.0
            for s in symbols
        ]
    )


def same(one: Any, other: Any) -> bool:
    return bool(np.all((one.view(np.int64) == other.view(np.int64)) | (np.isnan(one) & np.isnan(other))))


def told_facts(windows: Any) -> Facts:
    """The features that the compiled kernel makes of the hour before a minute; prices by coin."""
    facts = Facts(*np.empty((3, len(windows), 1)))
    count = windows.shape[1]
    sums = Sums(np.empty(count), np.empty(count, np.int64), np.full(count, np.nan))
    compiled_kernels().tell(windows, HOUR, 1, sums, facts)
    return facts


def test_features_and_proposals_of_every_minute_are_the_live_ones(tape):
    told, seen = Told(), 0
    for entry in tape.features:
        minute_ms = to_ms(entry.data.asof_minute)
        told = told.after(entry.data, minute_ms=minute_ms)
        symbols = tuple(s for s in entry.data.mid_px if told.window(s, minute_ms) is not None)
        if not symbols:
            continue
        facts = told_facts(np.array([told.window(s, minute_ms) for s in symbols]))
        for values, recorded in zip(facts, (entry.data.ret_5m, entry.data.ret_1h, entry.data.vol_1h), strict=True):
            assert same(values[:, 0].copy(), row(recorded, symbols)), entry.cycle_id
        seen += 1
    assert seen >= 30


def test_every_target_is_the_live_one(tape):
    kernel, checked = compiled(make_target), 0
    for cycle_id, target in tape.targets.items():
        ground = decision_ground(tape, target)
        view = view_of(ground)
        symbols = view.universe
        run = a_run(symbols, ground.meaning.params)
        run.out.many[WEIGHTS, 0] = holding(view.snapshot, symbols)
        run.account.by_coin[PREVIOUS] = row(view.previous, symbols)
        run.market.seen[HOUR] = np.nan_to_num(row(view.features.mid_px, symbols))
        features = view.features
        facts = Facts(
            *(row(each, symbols)[:, None].copy() for each in (features.ret_5m, features.ret_1h, features.vol_1h))
        )
        wanted, confidence = np.empty((1, len(symbols))), np.empty(1)
        compiled_kernels().propose["baseline"](run, facts, wanted, confidence)

        kernel(run, wanted[0], confidence[0])

        assert confidence[0] == target.data.confidence
        recorded = {each.symbol: each.weight for each in target.data.targets}
        assert same(run.out.many[TARGETS, 0], row(recorded, symbols)), cycle_id
        checked += 1
    assert checked >= 30


def test_every_approval_is_the_live_one(tape):
    kernel, modes = compiled(make_approval), Counter()
    for cycle_id, approved in tape.approved.items():
        data, meaning = approved.data, tape.params[approved.data.inputs.params]
        modes[data.mode] += 1
        if data.mode is Mode.HALT:
            assert not data.approved_targets
            continue
        run = a_run(meaning.universe, meaning.params)
        run.out.many[WEIGHTS, 0] = holding(tape.snapshots[data.inputs.snapshot_id].data, meaning.universe)
        target = {each.symbol: each.weight for each in tape.targets[cycle_id].data.targets}

        kernel(run, row(target, meaning.universe), data.mode is Mode.REDUCE_ONLY)

        recorded = {each.symbol: each.weight for each in data.approved_targets}
        assert same(run.out.many[APPROVED, 0], row(recorded, meaning.universe)), cycle_id
    assert set(modes) == set(Mode)


def test_every_plan_moves_the_lots_that_the_live_one_moved(tape):
    kernel, moved = compiled(make_plan), 0
    for cycle_id, entry in tape.plans.items():
        basis, meaning = entry.data.basis, tape.params[entry.data.inputs.params]
        score = meaning.params.execution.thin_book_score
        symbols = tuple(
            s
            for s in meaning.universe
            if s in basis.mids
            and s not in basis.unplannable
            and depth_share(basis.books.get(s), thin_book_score=score, order_usd=math.inf)
            == 1  # candles hold no thin book
        )
        run = a_run(symbols, meaning.params, **basis.sz_decimals)
        lots_per_coin = run.coins.lots_per_coin
        run.account.lots[:] = [
            int(basis.positions.get(s, 0) * int(per)) for s, per in zip(symbols, lots_per_coin, strict=True)
        ]
        run.account.by_coin[PX] = row(basis.mids, symbols)
        run.out.one[EQUITY, 0] = float(basis.equity_usd)
        run.out.count[MODE, 0] = [Mode.NORMAL, Mode.REDUCE_ONLY, Mode.HALT].index(basis.mode)
        approved = {each.symbol: each.weight for each in tape.approved[cycle_id].data.approved_targets}
        change = np.zeros(len(symbols), np.int64)

        kernel(run, row(approved, symbols), change)

        recorded: Counter[str] = Counter()
        for each in (slice_ for slice_ in entry.data.slices if slice_.symbol in symbols):
            recorded[each.symbol] += each.qty if each.side is Side.BUY else -each.qty
        expected = [int(recorded[s] * int(per)) for s, per in zip(symbols, lots_per_coin, strict=True)]
        assert change.tolist() == expected, cycle_id
        moved += any(expected)
    assert moved >= 10


def test_the_strategies_of_backtests_are_those_that_run_live():
    from tradingbot.ai_decision import baseline, equal, inverse_vol

    assert {"baseline": baseline.weigh, "equal": equal.weigh, "inverse_vol": inverse_vol.weigh} == WEIGH
    assert propose.__globals__["weigh"] is baseline.weigh
