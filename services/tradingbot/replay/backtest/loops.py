"""A run, minute by minute: value the account, judge, decide, plan, fill.

These loops only bring together what decides live (``weigh``, ``steady``, ``cut``, ``target_lots`` and the rest are the
very functions) and add what the venue does: the price's path within a minute, fees, funding, slippage. Interpreted or
compiled they give the same bits.

Nothing after a decision's minute is read before it is made: ``settle`` and ``act`` see ``market.seen[i]``; the bars
from minute i on are read by ``fill`` alone.
"""

from __future__ import annotations

import math

from tradingbot.ai_decision.baseline import weigh
from tradingbot.ai_decision.budgets import Moves, Terms, deployable
from tradingbot.ai_decision.stabilize import Ground, steady
from tradingbot.domain.portfolio import gross, net, weight_of
from tradingbot.domain.weights import Limits, Room, Scratch, low_of
from tradingbot.execution.sizing import change_lots, inside_band, slice_count, slice_share, target_lots
from tradingbot.paper.prices.path import path_px
from tradingbot.replay.backtest.shapes import (
    APPROVED,
    BEFORE,
    CAP,
    CASH,
    DAY,
    EQUITY,
    FAST,
    FEE_DAY,
    FEES,
    FEES_USD,
    FUNDING_USD,
    GROW,
    GROW_SLICES,
    HALTED,
    HELD,
    HOUR,
    INDEX,
    LAST,
    LOW,
    MODE,
    NOW,
    ORDERS,
    PAID,
    PEAK,
    PNL_USD,
    PREVIOUS,
    PX,
    QTY,
    REDUCE,
    REDUCE_SLICES,
    SIGNAL,
    SINCE,
    SLIPPAGE_USD,
    SLOW,
    STEP,
    TARGET,
    TARGETS,
    TRADED_USD,
    TURNOVER,
    VOL,
    WEIGHT,
    WEIGHTS,
    WHY,
    WORTH,
    Account,
    Facts,
    FloatArray,
    Limit,
    Market,
    Order,
    Rules,
    Run,
    Work,
)
from tradingbot.risk_engine.limits import cut

NORMAL, REDUCE_ONLY, HALT = 0, 1, 2
DAY_MINUTES = 1_440
LAST_START_S = 5.0
"""A slice that would start in the last seconds of its cycle is not placed (``execution.schedule``)."""
MIN_VOLUME_USD = 1_000.0
"""A minute's volume counts as this at least, as the paper exchange's book does."""


def propose(run: Run, facts: Facts, wanted: FloatArray, confidence: FloatArray) -> None:
    """The strategy's answer at every decision, (D, N): NaN where a coin has no whole features and is held."""
    market, coins, rules, floats, ints = run.market, run.coins, run.rules, run.work.floats, run.work.ints
    limit = rules.limit
    total = deployable(limit.max_gross, limit.max_net)
    for d in range(wanted.shape[0]):
        i = rules.first_minute + d * rules.step
        count = 0
        for n in range(wanted.shape[1]):
            wanted[d, n] = math.nan
            fast, slow, vol = facts.ret_5m[n, d], facts.ret_1h[n, d], facts.vol_1h[n, d]
            if market.seen[i, n] > 0.0 and not (math.isnan(fast) or math.isnan(slow) or math.isnan(vol)):
                ints[INDEX, count] = n
                floats[FAST, count], floats[SLOW, count], floats[VOL, count] = fast, slow, vol
                floats[CAP, count] = coins.caps[n]
                count += 1
        moves = Moves(floats[FAST, :count], floats[SLOW, :count], floats[VOL, :count])
        terms = Terms(floats[CAP, :count], total, limit.allow_short)
        confidence[d] = weigh(moves, terms, floats[WEIGHT, :count], floats[SIGNAL, :count])
        for k in range(count):
            wanted[d, ints[INDEX, k]] = floats[WEIGHT, k]


def simulate(run: Run, wanted: FloatArray, confidence: FloatArray) -> None:
    """Every decision in turn."""
    for d in range(wanted.shape[0]):
        settle(d, run)
        act(d, run, wanted[d], confidence[d])


# ---------------------------------------------------------------- the account


def settle(d: int, run: Run) -> None:
    """Value the account as decision d sees it: funding, equity, what each coin earned, weights, the mode."""
    market, rules, account, out = run.market, run.rules, run.account, run.out
    i = rules.first_minute + d * rules.step
    out.one[FUNDING_USD, d] = pay_funding(i, market, rules.epoch_minute, account)
    equity, invested = rules.start_equity_usd, 0.0
    for n in range(len(account.lots)):
        if market.seen[i, n] > 0.0:
            account.by_coin[PX, n] = market.seen[i, n]
        value = account.by_coin[QTY, n] * account.by_coin[PX, n]
        worth = account.by_coin[PAID, n] + value
        out.many[PNL_USD, d, n] = worth - account.by_coin[WORTH, n]
        account.by_coin[WORTH, n] = worth
        equity += worth
        invested += value
    for n in range(len(account.lots)):
        out.many[WEIGHTS, d, n] = weight_of(qty=account.by_coin[QTY, n], px=account.by_coin[PX, n], equity_usd=equity)
    out.one[EQUITY, d] = equity
    out.one[CASH, d] = equity - invested
    out.count[MODE, d] = judge(i, equity, rules.epoch_minute, rules.limit, account.memory)


def pay_funding(i: int, market: Market, epoch_minute: int, account: Account) -> float:
    """What the positions paid (−: received) at the full hours since the last decision, USD."""
    first_hour = epoch_minute // 60
    this_hour = (epoch_minute + i) // 60 - first_hour
    if account.memory[HOUR] < 0.0:
        account.memory[HOUR] = this_hour
    paid = 0.0
    for hour in range(int(account.memory[HOUR]) + 1, this_hour + 1):
        minute = (first_hour + hour) * 60 - epoch_minute
        for n in range(len(account.lots)):
            px = market.seen[minute, n] if market.seen[minute, n] > 0.0 else account.by_coin[PX, n]
            amount = account.by_coin[QTY, n] * px * market.funding[hour, n]
            account.by_coin[PAID, n] -= amount
            paid += amount
    account.memory[HOUR] = this_hour
    return paid


def judge(i: int, equity: float, epoch_minute: int, limit: Limit, memory: FloatArray) -> int:
    """The breaker's loss class on one reading a decision: the mode, with peak, latch and the day's fees remembered."""
    day = (epoch_minute + i) // DAY_MINUTES
    if memory[DAY] != day:
        memory[DAY], memory[FEES] = day, 0.0
    memory[PEAK] = max(memory[PEAK], equity)
    fall = (memory[PEAK] - equity) / memory[PEAK]
    if fall >= limit.drawdown_halt:
        memory[HALTED] = 1.0
    restricts = memory[HALTED] > 0.0 or fall >= limit.drawdown_reduce_only
    if not restricts:
        memory[SINCE] = -1.0
    elif memory[SINCE] < 0.0:
        memory[SINCE] = i
    elif 0 <= limit.clear_after <= i - memory[SINCE]:
        memory[PEAK], memory[HALTED], memory[SINCE] = equity, 0.0, -1.0
        restricts = False
    if equity <= 0.0 or memory[HALTED] > 0.0:
        return HALT
    if memory[FEES] / equity * 10_000.0 > limit.max_daily_fee_bps:
        memory[FEE_DAY] = day
    return REDUCE_ONLY if restricts or memory[FEE_DAY] == day else NORMAL


# ---------------------------------------------------------------- the decision


def act(d: int, run: Run, wanted: FloatArray, confidence: float) -> None:
    """Target, approval, plan and fills of decision d; ``wanted``: the strategy's weights, NaN holds a coin."""
    rules, account, work, out = run.rules, run.account, run.work, run.out
    out.many[TARGETS, d, :] = math.nan
    out.many[APPROVED, d, :] = math.nan
    equity, mode = out.one[EQUITY, d], out.count[MODE, d]
    if equity <= 0.0:
        return
    count, held = gather(wanted, out.many[WEIGHTS, d], run)
    decide(count, held, confidence, rules, work)
    account.by_coin[PREVIOUS, :] = math.nan
    for k in range(count):
        n = work.ints[INDEX, k]
        account.by_coin[PREVIOUS, n] = work.floats[TARGET, k]
        out.many[TARGETS, d, n] = work.floats[TARGET, k]
    if mode == HALT:
        if rules.limit.flattens:
            flatten(d, run)
            out.one[TURNOVER, d] /= equity
        return
    gate(count, held, rules.limit, work, reduces=mode == REDUCE_ONLY)
    for k in range(count):
        out.many[APPROVED, d, work.ints[INDEX, k]] = work.floats[WEIGHT, k]
    trade(d, count, plan(d, count, run), run)
    out.one[TURNOVER, d] /= equity


def gather(wanted: FloatArray, present: FloatArray, run: Run) -> tuple[int, int]:
    """Bring the coins that have a proposal together, in order; returns their number and that of the held ones."""
    coins, account, work = run.coins, run.account, run.work
    count, held = 0, 0
    for n in range(len(wanted)):
        if math.isnan(wanted[n]):
            if present[n] != 0.0:
                work.floats[HELD, held] = present[n]
                held += 1
            continue
        work.ints[INDEX, count] = n
        work.floats[WEIGHT, count] = wanted[n]
        work.floats[NOW, count] = present[n]
        previous = account.by_coin[PREVIOUS, n]
        work.floats[LAST, count] = present[n] if math.isnan(previous) else previous
        work.floats[CAP, count] = coins.caps[n]
        work.floats[LOW, count] = low_of(coins.caps[n], run.rules.limit.allow_short)
        count += 1
    return count, held


def decide(count: int, held: int, confidence: float, rules: Rules, work: Work) -> None:
    """Make the proposal in the row WEIGHT of ``work`` steady: the target is then the row TARGET."""
    limits = limits_from(count, held, rules.limit, work)
    ground = Ground(work.floats[NOW, :count], work.floats[LAST, :count], limits, rules.smoothing)
    scratch = Scratch(work.floats[BEFORE, :count], work.ints[WHY, :count])
    steady(work.floats[WEIGHT, :count], ground, confidence, work.floats[STEP:, :count], scratch)


def gate(count: int, held: int, limit: Limit, work: Work, *, reduces: bool) -> None:
    """Cut the target to the limits in force: the approval is then the row WEIGHT of ``work``."""
    for k in range(count):
        work.floats[WEIGHT, k] = work.floats[TARGET, k]
        work.ints[WHY, k] = 0
    limits = limits_from(count, held, limit, work)
    scratch = Scratch(work.floats[BEFORE, :count], work.ints[WHY, :count])
    cut(work.floats[WEIGHT, :count], work.floats[NOW, :count], limits, scratch, reduces=reduces)


def limits_from(count: int, held: int, limit: Limit, work: Work) -> Limits:
    """The limits of the gathered coins; the first ``held`` of the row HELD have no target."""
    rest = work.floats[HELD, :held]
    room = Room(gross(rest), net(rest), limit.max_gross, limit.max_net, limit.turnover_cap)
    return Limits(work.floats[LOW, :count], work.floats[CAP, :count], limit.allow_short, room)


# ---------------------------------------------------------------- plan and fills


def plan(d: int, count: int, run: Run) -> int:
    """Whole lots to reduce and to grow by, and into how many slices; returns the most slices of any coin."""
    coins, account, work = run.coins, run.account, run.work
    trading, equity, normal = run.rules.trading, run.out.one[EQUITY, d], run.out.count[MODE, d] == NORMAL
    band_usd = trading.min_rebalance_weight * equity
    most = 0
    for k in range(count):
        work.ints[REDUCE_SLICES, k] = 0
        work.ints[GROW_SLICES, k] = 0
        n = work.ints[INDEX, k]
        lots, mid = account.lots[n], account.by_coin[PX, n]
        lot_usd = mid / coins.lots_per_coin[n]
        target = target_lots(work.floats[WEIGHT, k], equity_usd=equity, mid=mid, lots_per_coin=coins.lots_per_coin[n])
        reduction, growth = change_lots(lots, target, close=work.floats[WEIGHT, k] == 0.0)
        closes = 0 < reduction == max(lots, -lots)
        if not closes and inside_band(target - lots, lot_usd=lot_usd, band_usd=band_usd):
            continue
        if reduction > 0:
            work.ints[REDUCE, k] = -reduction if lots > 0 else reduction
            work.ints[REDUCE_SLICES, k] = (
                1 if closes else slice_count(reduction, lot_usd=lot_usd, most_slices=trading.twap_slices)
            )
        if growth > 0 and normal:
            work.ints[GROW, k] = growth if target > 0 else -growth
            work.ints[GROW_SLICES, k] = slice_count(growth, lot_usd=lot_usd, most_slices=trading.twap_slices)
        most = max(most, work.ints[REDUCE_SLICES, k], work.ints[GROW_SLICES, k])
    return most


def trade(d: int, count: int, most: int, run: Run) -> None:
    """The slices in the order of their time, reductions first; each fills at once at its price or is skipped."""
    rules, work = run.rules, run.work
    trading = rules.trading
    i = rules.first_minute + d * rules.step
    minute, left = i - 1, 0
    for j in range(most):
        offset_s = j * trading.slice_interval_s
        at = i + int(offset_s // 60.0)
        if offset_s > rules.step * 60.0 - LAST_START_S:
            return
        if at != minute:
            minute, left = at, trading.max_orders_per_min
        fraction = offset_s % 60.0 / 60.0
        for grows in (False, True):
            for k in range(count):
                slices = work.ints[GROW_SLICES, k] if grows else work.ints[REDUCE_SLICES, k]
                if j >= slices or left <= 0:
                    continue
                left -= 1
                lots = work.ints[GROW, k] if grows else work.ints[REDUCE, k]
                share = slice_share(max(lots, -lots), count=slices, index=j)
                signed = share if lots > 0 else -share
                fill(d, Order(work.ints[INDEX, k], signed, minute, fraction, trading.px_guard_bps), run)


def flatten(d: int, run: Run) -> None:
    """Close every position at once, as after an acknowledged HALT."""
    lots, rules = run.account.lots, run.rules
    for n in range(len(lots)):
        if lots[n] != 0:
            minute = rules.first_minute + d * rules.step
            fill(d, Order(n, -lots[n], minute, 0.0, rules.trading.flatten_guard_bps), run)


def fill(d: int, order: Order, run: Run) -> None:
    """Trade signed lots at a fraction of a minute; what would fill beyond the guard, or without a bar, stays undone."""
    market, coins, trading, account, out = run.market, run.coins, run.rules.trading, run.account, run.out
    n, lots, minute = order.coin, order.lots, order.minute
    out.count[ORDERS, d] += 1
    opening = market.open[minute, n]
    if math.isnan(opening):
        return
    mid = path_px(opening, market.high[minute, n], market.low[minute, n], market.close[minute, n], order.fraction)
    deep_usd = max(market.volume[minute, n] * mid, MIN_VOLUME_USD)
    size = max(lots, -lots)
    worse_bps = slippage_bps(
        size / coins.lots_per_coin[n] * mid / deep_usd, trading.half_spread_bps, trading.impact_bps
    )
    if worse_bps > order.guard_bps:
        impact_bps, room_bps = worse_bps - trading.half_spread_bps, order.guard_bps - trading.half_spread_bps
        room = max(room_bps, 0.0) / impact_bps if impact_bps > 0.0 else 0.0
        size = int(size * room * room)
        worse_bps = slippage_bps(
            size / coins.lots_per_coin[n] * mid / deep_usd, trading.half_spread_bps, trading.impact_bps
        )
    qty = size / coins.lots_per_coin[n]
    signed = qty if lots > 0 else -qty
    worse = worse_bps / 10_000.0
    px = mid * (1.0 + worse) if lots > 0 else mid * (1.0 - worse)
    fee = qty * px * trading.fee_rate
    account.lots[n] += size if lots > 0 else -size
    account.by_coin[QTY, n] = account.lots[n] / coins.lots_per_coin[n]
    account.by_coin[PAID, n] -= signed * px + fee
    account.memory[FEES] += fee
    out.one[FEES_USD, d] += fee
    out.one[SLIPPAGE_USD, d] += signed * (px - mid)
    out.many[TRADED_USD, d, n] += qty * px
    out.one[TURNOVER, d] += qty * px


def slippage_bps(participation: float, half_spread_bps: float, impact_bps: float) -> float:
    """Half the spread, and the square-root law: impact · √(order / the minute's volume)."""
    return half_spread_bps + impact_bps * math.sqrt(participation)
