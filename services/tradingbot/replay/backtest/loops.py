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
    DAY,
    FEE_DAY,
    FEES,
    HALTED,
    HOUR,
    PEAK,
    SINCE,
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
    market, coins, rules, work = run.market, run.coins, run.rules, run.work
    limit = rules.limit
    total = deployable(limit.max_gross, limit.max_net)
    for d in range(wanted.shape[0]):
        i = rules.first_minute + d * rules.step
        count = 0
        for n in range(wanted.shape[1]):
            wanted[d, n] = math.nan
            fast, slow, vol = facts.ret_5m[n, d], facts.ret_1h[n, d], facts.vol_1h[n, d]
            if market.seen[i, n] > 0.0 and not (math.isnan(fast) or math.isnan(slow) or math.isnan(vol)):
                work.index[count] = n
                work.moves[0, count], work.moves[1, count], work.moves[2, count] = fast, slow, vol
                work.caps[count] = coins.caps[n]
                count += 1
        moves = Moves(work.moves[0, :count], work.moves[1, :count], work.moves[2, :count])
        terms = Terms(work.caps[:count], total, limit.allow_short)
        confidence[d] = weigh(moves, terms, work.weights[:count], work.signals[:count])
        for k in range(count):
            wanted[d, work.index[k]] = work.weights[k]


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
    out.funding_usd[d] = pay_funding(i, market, rules.epoch_minute, account)
    equity, invested = rules.start_equity_usd, 0.0
    for n in range(len(account.lots)):
        if market.seen[i, n] > 0.0:
            account.px[n] = market.seen[i, n]
        value = account.qty[n] * account.px[n]
        worth = account.paid[n] + value
        out.pnl_usd[d, n] = worth - account.worth[n]
        account.worth[n] = worth
        equity += worth
        invested += value
    for n in range(len(account.lots)):
        out.weights[d, n] = weight_of(qty=account.qty[n], px=account.px[n], equity_usd=equity)
    out.equity[d] = equity
    out.cash[d] = equity - invested
    out.mode[d] = judge(i, equity, rules.epoch_minute, rules.limit, account.memory)


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
            px = market.seen[minute, n] if market.seen[minute, n] > 0.0 else account.px[n]
            amount = account.qty[n] * px * market.funding[hour, n]
            account.paid[n] -= amount
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
    out.target[d, :] = math.nan
    out.approved[d, :] = math.nan
    equity, mode = out.equity[d], out.mode[d]
    if equity <= 0.0:
        return
    count, held = gather(wanted, out.weights[d], run)
    decide(count, held, confidence, rules, work)
    account.previous[:] = math.nan
    for k in range(count):
        n = work.index[k]
        account.previous[n] = work.rows[4, k]
        out.target[d, n] = work.rows[4, k]
    if mode == HALT:
        if rules.limit.flattens:
            flatten(d, run)
        return
    gate(count, held, rules.limit, work, reduces=mode == REDUCE_ONLY)
    for k in range(count):
        out.approved[d, work.index[k]] = work.weights[k]
    trade(d, count, plan(d, count, run), run)


def gather(wanted: FloatArray, present: FloatArray, run: Run) -> tuple[int, int]:
    """Bring the coins that have a proposal together, in order; returns their number and that of the held ones."""
    coins, account, work = run.coins, run.account, run.work
    count, held = 0, 0
    for n in range(len(wanted)):
        if math.isnan(wanted[n]):
            if present[n] != 0.0:
                work.held[held] = present[n]
                held += 1
            continue
        work.index[count] = n
        work.weights[count] = wanted[n]
        work.now[count] = present[n]
        work.previous[count] = present[n] if math.isnan(account.previous[n]) else account.previous[n]
        work.caps[count] = coins.caps[n]
        work.lows[count] = low_of(coins.caps[n], run.rules.limit.allow_short)
        count += 1
    return count, held


def decide(count: int, held: int, confidence: float, rules: Rules, work: Work) -> None:
    """Make the proposal in ``work.weights`` steady: the target is then ``work.rows[4]``."""
    limits = limits_from(count, held, rules.limit, work)
    ground = Ground(work.now[:count], work.previous[:count], limits, rules.smoothing)
    scratch = Scratch(work.before[:count], work.why[:count])
    steady(work.weights[:count], ground, confidence, work.rows[:, :count], scratch)


def gate(count: int, held: int, limit: Limit, work: Work, *, reduces: bool) -> None:
    """Cut the target to the limits in force: the approval is then ``work.weights``."""
    for k in range(count):
        work.weights[k] = work.rows[4, k]
        work.why[k] = 0
    limits = limits_from(count, held, limit, work)
    scratch = Scratch(work.before[:count], work.why[:count])
    cut(work.weights[:count], work.now[:count], limits, scratch, reduces=reduces)


def limits_from(count: int, held: int, limit: Limit, work: Work) -> Limits:
    """The limits of the gathered coins; the first ``held`` of ``work.held`` have no target."""
    room = Room(gross(work.held[:held]), net(work.held[:held]), limit.max_gross, limit.max_net, limit.turnover_cap)
    return Limits(work.lows[:count], work.caps[:count], limit.allow_short, room)


# ---------------------------------------------------------------- plan and fills


def plan(d: int, count: int, run: Run) -> int:
    """Whole lots to reduce and to grow by, and into how many slices; returns the most slices of any coin."""
    coins, account, work = run.coins, run.account, run.work
    trading, equity, normal = run.rules.trading, run.out.equity[d], run.out.mode[d] == NORMAL
    band_usd = trading.min_rebalance_weight * equity
    most = 0
    for k in range(count):
        work.reduce_slices[k] = 0
        work.grow_slices[k] = 0
        n = work.index[k]
        lots, mid = account.lots[n], account.px[n]
        lot_usd = mid / coins.lots_per_coin[n]
        target = target_lots(work.weights[k], equity_usd=equity, mid=mid, lots_per_coin=coins.lots_per_coin[n])
        reduction, growth = change_lots(lots, target, close=work.weights[k] == 0.0)
        closes = 0 < reduction == max(lots, -lots)
        if not closes and inside_band(target - lots, lot_usd=lot_usd, band_usd=band_usd):
            continue
        if reduction > 0:
            work.reduce[k] = -reduction if lots > 0 else reduction
            work.reduce_slices[k] = (
                1 if closes else slice_count(reduction, lot_usd=lot_usd, most_slices=trading.twap_slices)
            )
        if growth > 0 and normal:
            work.grow[k] = growth if target > 0 else -growth
            work.grow_slices[k] = slice_count(growth, lot_usd=lot_usd, most_slices=trading.twap_slices)
        most = max(most, work.reduce_slices[k], work.grow_slices[k])
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
                slices = work.grow_slices[k] if grows else work.reduce_slices[k]
                if j >= slices or left <= 0:
                    continue
                left -= 1
                lots = work.grow[k] if grows else work.reduce[k]
                share = slice_share(max(lots, -lots), count=slices, index=j)
                order = Order(work.index[k], share if lots > 0 else -share, minute, fraction, trading.px_guard_bps)
                fill(d, order, run)


def flatten(d: int, run: Run) -> None:
    """Close every position at once, as after an acknowledged HALT."""
    lots, rules = run.account.lots, run.rules
    for n in range(len(lots)):
        if lots[n] != 0:
            minute = rules.first_minute + d * rules.step
            fill(d, Order(n, -lots[n], minute, 0.0, rules.trading.flatten_guard_bps), run)


def fill(d: int, order: Order, run: Run) -> None:
    """Trade signed lots at a fraction of a minute; what would fill beyond the guard stays undone."""
    market, coins, trading, account, out = run.market, run.coins, run.rules.trading, run.account, run.out
    n, lots, minute = order.coin, order.lots, order.minute
    opening = market.open[minute, n]
    mid, volume = account.px[n], 0.0
    if not math.isnan(opening):
        mid = path_px(opening, market.high[minute, n], market.low[minute, n], market.close[minute, n], order.fraction)
        volume = market.volume[minute, n]
    deep_usd = max(volume * mid, MIN_VOLUME_USD)
    size = max(lots, -lots)
    worse_bps = slippage_bps(
        size / coins.lots_per_coin[n] * mid / deep_usd, trading.half_spread_bps, trading.impact_bps
    )
    if worse_bps > order.guard_bps:
        room = max(order.guard_bps - trading.half_spread_bps, 0.0) / (worse_bps - trading.half_spread_bps)
        size = int(size * room * room)
        worse_bps = slippage_bps(
            size / coins.lots_per_coin[n] * mid / deep_usd, trading.half_spread_bps, trading.impact_bps
        )
    out.orders[d] += 1
    qty = size / coins.lots_per_coin[n]
    signed = qty if lots > 0 else -qty
    px = mid * (1.0 + worse_bps / 10_000.0) if lots > 0 else mid * (1.0 - worse_bps / 10_000.0)
    fee = qty * px * trading.fee_bps / 10_000.0
    account.lots[n] += size if lots > 0 else -size
    account.qty[n] = account.lots[n] / coins.lots_per_coin[n]
    account.paid[n] -= signed * px + fee
    account.memory[FEES] += fee
    out.fees_usd[d] += fee
    out.slippage_usd[d] += signed * (px - mid)
    out.traded_usd[d, n] += qty * px
    out.turnover[d] += qty * px / out.equity[d]


def slippage_bps(participation: float, half_spread_bps: float, impact_bps: float) -> float:
    """Half the spread, and the square-root law: impact · √(order / the minute's volume)."""
    return half_spread_bps + impact_bps * math.sqrt(participation)
