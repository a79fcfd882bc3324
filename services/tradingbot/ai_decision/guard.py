"""Asking a strategy: whatever it does, there is an answer that can be meant, or one error, and in time.

A strategy may raise, hang or answer with nonsense; none of it may stop trading. All of it ends as ``StrategyFailed``,
after which the baseline decides.
"""

from __future__ import annotations

import asyncio

from tradingbot.ai_decision.strategy import Proposal, Strategy, StrategyFailed, View, validate
from tradingbot.runtime.stopping import Stopped, unless_stopped

ERROR_MAX = 500
"""Characters of a strategy's error that are told."""
_PART_OF_FAST_CYCLE = 1 / 3
"""Of a cycle's real length, where the clock runs faster: orders of a later decision would start too late."""
_LEAST_S = 0.1
"""Real seconds that a strategy gets however late it is: one that waits for nobody answers within them."""


def budget_s(*, given_s: float, cycle_seconds: int, speed: float) -> float:
    """Real seconds that a decision may take: as given, but never so long that a faster clock ends its cycle first."""
    return given_s if speed <= 1 else min(given_s, cycle_seconds / speed * _PART_OF_FAST_CYCLE)


async def ask(strategy: Strategy, view: View, *, within_s: float, stop: asyncio.Event) -> Proposal:
    """A strategy's valid answer, within real seconds.

    Raises:
        StrategyFailed: there is none, for whatever reason; its cause is the strategy's own error.
        Stopped: the process was told to stop meanwhile; the next one may still decide this cycle.
    """
    limit = asyncio.timeout(max(within_s, _LEAST_S))
    try:
        async with limit:
            proposal = await unless_stopped(stop, strategy.propose(view))
        validate(proposal, view)
    except (StrategyFailed, Stopped):
        raise
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            raise StrategyFailed(f"no answer within {within_s:.1f} s") from None
        raise StrategyFailed(f"{type(error).__name__}: {error}"[:ERROR_MAX]) from error
    return proposal
