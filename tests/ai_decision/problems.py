"""Optimizer's problems, drawn at random, and an independent solver to compare with."""

from __future__ import annotations

import cvxpy as cp
import hypothesis.strategies as st
import numpy as np

from tradingbot.ai_decision.allocation import holdings_of
from tradingbot.ai_decision.correlation import shrink
from tradingbot.ai_decision.optimizer import Problem, Rule
from tradingbot.domain.params import RiskParams

COINS = ("BTC", "ETH", "SOL", "ADA", "DOGE", "XRP", "LINK", "AVAX")
HORIZON = (1440 / 525_600) ** 0.5


@st.composite
def accounts(draw: st.DrawFn, count: int | None = None) -> tuple[tuple[str, ...], dict[str, float], RiskParams]:
    """Coins to weigh, present weights (held coins and coins beyond every limit among them), and limits."""
    symbols = COINS[: count or draw(st.integers(1, 6))]
    weight = st.one_of(st.just(0.0), st.floats(-0.5, 0.5), st.floats(-0.06, 0.06), st.floats(-1e-9, 1e-9))
    present = draw(st.dictionaries(st.sampled_from(COINS), weight, max_size=8))
    risk = RiskParams(
        max_gross=draw(st.sampled_from((0.4, 0.05, 1.5))),
        max_net=draw(st.sampled_from((0.2, 0.02, 1.0))),
        default_cap=draw(st.sampled_from((0.1, 0.0, 0.3))),
        turnover_cap=draw(st.sampled_from((0.1, 0.01, 1.0))),
        allow_short=draw(st.booleans()),
        external_positions=draw(st.sampled_from(("Hold", "Reduce"))),
    )
    return symbols, present, risk


@st.composite
def problems(draw: st.DrawFn, count: int | None = None) -> Problem:
    """Accounts in markets."""
    symbols, present, risk = draw(accounts(count))
    return problem(symbols, present=present, risk=risk, seed=draw(st.integers(0, 2**32 - 1)))


def problem(symbols: tuple[str, ...], *, present: dict[str, float], risk: RiskParams, seed: int) -> Problem:
    """A market drawn from the seed around an account."""
    draw, n = np.random.default_rng(seed), len(symbols)
    vols = draw.uniform(0.2, 2.0, n) * HORIZON
    common = draw.normal(size=(1, 200)) * draw.uniform(0, 2)
    raw = np.atleast_2d(np.corrcoef(draw.normal(size=(n, 200)) + common))
    holdings = holdings_of(symbols, present=present, universe=symbols, risk=risk)
    return Problem(
        mu=draw.uniform(0, 0.2) * draw.uniform(-1, 1, n) * vols,
        sigma=shrink(raw, 150.0) * vols[:, None] * vols,
        risk_aversion=float(draw.choice([1.0, 10.0, 100.0])),
        cost=np.full(n, draw.choice([0.0, 0.00055, 0.002])),
        now=np.array(holdings.now),
        lows=np.array(holdings.lows),
        highs=np.array(holdings.highs),
        room=holdings.room,
    )


def oracle(problem: Problem, rule: Rule) -> float:
    """The best objective under one of the two rules, by cvxpy; −∞ where nothing keeps it."""
    room, w = problem.room, cp.Variable(len(problem.mu))
    up, down = room.max_net - room.held_net, room.max_net + room.held_net
    keeps = [
        w <= problem.highs,
        w >= problem.lows,
        cp.norm1(w) <= max(0.0, room.max_gross - room.held_gross),
        cp.sum(w) <= up if up > 0 else w <= 0,
        cp.sum(w) >= -down if down > 0 else w >= 0,
    ]
    if rule is Rule.CAP:
        keeps.append(cp.norm1(w - problem.now) <= room.turnover_cap)
    else:
        keeps += [w >= np.minimum(problem.now, 0), w <= np.maximum(problem.now, 0)]
    risk = cp.quad_form(w, cp.psd_wrap(problem.sigma))
    worth = problem.mu @ w - problem.risk_aversion / 2 * risk - problem.cost @ cp.abs(w - problem.now)
    program = cp.Problem(cp.Maximize(worth), keeps)
    program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(program.value) if program.status in {"optimal", "optimal_inaccurate"} else -np.inf
