"""The limits' arithmetic that the risk gate, execution and the checkers share.

Weights are fractions of equity, signed. A comparison with a limit allows ``TOLERANCE`` (1e-9 of equity, a hundredth of
a cent for 10,000 USD): it is far above the rounding of a sum of float64 weights (about 1e-14) and far below the
smallest order, so that a portfolio cut exactly to a limit counts as within it, here and in every other process.

Plain float loops without numpy: the result is the same to the last bit wherever it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tradingbot.domain.params import RiskParams

TOLERANCE = 1e-9
"""How far beyond a limit still counts as at it, as a fraction of equity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One limit that a portfolio does not keep."""

    limit: str
    """``cap``, ``short``, ``gross`` or ``net``."""
    symbol: str | None
    value: float
    allowed: float

    def __str__(self) -> str:
        where = f" of {self.symbol}" if self.symbol else ""
        return f"{self.limit}{where} {self.value:.6f} is beyond {self.allowed:.6f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What one coin may become: the position and everything that could still fill, in coins."""

    px: float
    """The present mark, USD."""
    qty: float = 0.0
    """The position, signed."""
    buys: float = 0.0
    """What is left of open, in-flight and unknown BUY orders without the venue's reduce-only flag, ≥ 0."""
    sells: float = 0.0
    """The same for SELL orders."""
    reducing_buys: float = 0.0
    """The same of BUY orders with the flag: they bring a short no further than to zero, but a short that they close
    no longer carries the net of the others."""
    reducing_sells: float = 0.0
    """The same for SELL orders."""

    @property
    def counts(self) -> bool:
        """True when there is a position or an order."""
        return self.qty != 0 or self.buys > 0 or self.sells > 0

    @property
    def most(self) -> float:
        """The highest position that any subset of fills can lead to."""
        return self.qty + self.buys + min(self.reducing_buys, max(-self.qty, 0.0))

    @property
    def least(self) -> float:
        """The lowest position that any subset of fills can lead to."""
        return self.qty - self.sells - min(self.reducing_sells, max(self.qty, 0.0))

    def with_order(self, order: ProposedOrder) -> Exposure:
        """The exposure once this order is open too."""
        name = ("reducing_" if order.reduce_only else "") + ("buys" if order.sign > 0 else "sells")
        return replace(self, **{name: getattr(self, name) + order.qty})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedOrder:
    """An order that is about to become an intent."""

    symbol: str
    sign: int
    """+1 BUY, −1 SELL (``Side.sign``)."""
    qty: float
    """In coins, > 0."""
    reduce_only: bool = False
    """Bears the venue's reduce-only flag: the venue itself keeps it from growing or flipping the position."""


def intent_allowed(
    order: ProposedOrder, exposures: Mapping[str, Exposure], *, equity_usd: float, risk: RiskParams
) -> str | None:
    """None when the order may become an intent, else the reason in words (invariant I6).

    It may when it strictly reduces; or when, with it open, every coin's position plus all of its open and unknown
    orders on the worse side, at present marks, is within the order's own cap, within gross and within net, and no
    short can come of it unless shorts are allowed. Several orders of one action are judged one after the other, each
    with the earlier ones in ``exposures`` (``Exposure.with_order``).

    Args:
        order: the order in question.
        exposures: every coin with a position or an order, coins outside the universe too, and the order's own coin;
            each with its mark, for an increase is not judged while one is not known.
        equity_usd: present equity; at 0 or below only reductions pass.
        risk: the limits in force.
    """
    own = exposures.get(order.symbol)
    if own is None or not own.px > 0:
        return f"no mark for {order.symbol}"
    if strictly_reduces(order, own):
        return None
    if order.reduce_only:
        return f"reduce-only {order.symbol}: there is nothing to reduce"
    if not equity_usd > 0:
        return "no equity"
    if blind := sorted(symbol for symbol, each in exposures.items() if each.counts and not each.px > 0):
        return f"no mark for {', '.join(blind)}: gross and net are not known"
    after = {**exposures, order.symbol: own.with_order(order)}
    for breach in worst_case_breaches(after, equity_usd=equity_usd, risk=risk, symbols=(order.symbol,)):
        return str(breach)
    return None


def strictly_reduces(order: ProposedOrder, own: Exposure) -> bool:
    """True when no outcome of the order can leave the position larger than, or on the other side of, what it is now.

    Without the venue's flag the other open orders of its side count too: together they must not cross zero.
    """
    if order.qty <= 0 or own.qty * order.sign >= 0:
        return False
    if order.reduce_only:
        return True
    same_side = own.buys + own.reducing_buys if order.sign > 0 else own.sells + own.reducing_sells
    size = own.qty if own.qty > 0 else -own.qty
    return (order.qty + same_side - size) * own.px <= TOLERANCE


def worst_case_breaches(
    exposures: Mapping[str, Exposure], *, equity_usd: float, risk: RiskParams, symbols: tuple[str, ...]
) -> list[Breach]:
    """The limits that some subset of fills would break: the caps of ``symbols``, gross and net of everything.

    Gross takes each coin's larger side; net takes all buys filled, then all sells filled.
    """
    gross, high, low = 0.0, 0.0, 0.0
    breaches: list[Breach] = []
    for symbol, exposure in exposures.items():
        most = exposure.most * exposure.px / equity_usd
        least = exposure.least * exposure.px / equity_usd
        worst = max(most, -least)  # most ≥ least, so one of these is the larger side
        gross += worst
        high += most
        low += least
        if symbol not in symbols:
            continue
        if worst > risk.cap(symbol) + TOLERANCE:
            breaches.append(Breach(limit="cap", symbol=symbol, value=worst, allowed=risk.cap(symbol)))
        if least < -TOLERANCE and not risk.allow_short:
            breaches.append(Breach(limit="short", symbol=symbol, value=least, allowed=0.0))
    if gross > risk.max_gross + TOLERANCE:
        breaches.append(Breach(limit="gross", symbol=None, value=gross, allowed=risk.max_gross))
    net = max(high, -low)
    if net > risk.max_net + TOLERANCE:
        breaches.append(Breach(limit="net", symbol=None, value=net, allowed=risk.max_net))
    return breaches


def within_limits(weights: Mapping[str, float], risk: RiskParams) -> list[Breach]:
    """The limits that a whole portfolio of weights does not keep; empty when it keeps them all."""
    exposures = {symbol: Exposure(px=1.0, qty=weight) for symbol, weight in weights.items()}
    return worst_case_breaches(exposures, equity_usd=1.0, risk=risk, symbols=tuple(weights))
