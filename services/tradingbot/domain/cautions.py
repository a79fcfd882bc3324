"""Parameters that are allowed one by one and yet keep the bot from trading together: said plainly, never refused.

Each cycle may add TURNOVER_CAP of equity to the whole, and all coins together never exceed MAX_GROSS (MAX_NET without
shorts). A coin's even part of either must pass the no-trade band and be worth the venue's smallest order; what it is
short of does not add up from cycle to cycle, so that a coin which waits once waits forever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tradingbot.domain.params import Params

LEAST_ORDER_USD = 12.0
"""What a slice is worth at least: 1.2 × the venue's minimum of 10 USD."""


def cautions(params: Params, *, coins: Sequence[str], equity_usd: float | None = None) -> tuple[str, ...]:
    """What somebody who set these parameters probably did not mean, a sentence or two each; none when all is well.

    Args:
        params: the parameters in force.
        coins: the universe.
        equity_usd: None: not known; the venue's smallest order is not looked at.
    """
    traded = tuple(coin for coin in coins if params.risk.cap(coin) > 0)
    if not traded:
        return ("No coin has a cap above 0: nothing is ever bought.",)
    return (*_band(params, traded), *_orders(params, traded, equity_usd))


def _band(params: Params, coins: Sequence[str]) -> Iterator[str]:
    band, count = params.execution.min_rebalance_weight, len(coins)
    for name, room in _rooms(params):
        if band >= room / count:
            yield (
                f"MIN_REBALANCE_WEIGHT {band:g} is not below {name} / coins = {room:g} / {count} = {room / count:.4g}: "
                "coins that grow evenly are never bought, others only where one increase outweighs the rest."
            )
    for coin in coins:
        if band >= (cap := params.risk.cap(coin)):
            yield f"MIN_REBALANCE_WEIGHT {band:g} is not below {coin}'s cap of {cap:g}: it is never bought."


def _orders(params: Params, coins: Sequence[str], equity_usd: float | None) -> Iterator[str]:
    name, room = min(_rooms(params), key=lambda each: each[1])
    part_usd = None if equity_usd is None else equity_usd * room / len(coins)
    if part_usd is not None and part_usd < LEAST_ORDER_USD:
        yield (
            f"{equity_usd:,.2f} USD are too little for {len(coins)} coins: {name} / coins is {part_usd:,.2f} USD, "
            f"and nothing below {LEAST_ORDER_USD:g} USD is ordered."
        )


def _rooms(params: Params) -> tuple[tuple[str, float], ...]:
    """What all coins share: by how much they may grow in a cycle, and what they may have in all."""
    risk = params.risk
    gross, net = ("MAX_GROSS", risk.max_gross), ("MAX_NET", risk.max_net)
    whole = gross if risk.allow_short or risk.max_gross <= risk.max_net else net
    return ("TURNOVER_CAP", risk.turnover_cap), whole
