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


async def ask(strategy: Strategy, view: View, *, within_s: float, stop: asyncio.Event) -> Proposal:
    """A strategy's valid answer, within real seconds.

    Raises:
        StrategyFailed: there is none, for whatever reason; its cause is the strategy's own error.
        Stopped: the process was told to stop meanwhile; the next one may still decide this cycle.
    """
    limit = asyncio.timeout(within_s)
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
