"""When a symbol may be planned: its position at the venue is the last known one plus the account's fills.

Pure. Fills are counted once, by tid, whatever way they came (stream, answer, page). A position that differs is
doubted, and the symbol stays unsettled; one that keeps differing in the same way for ``ADOPT_AFTER_MS`` is taken over,
loudly, because the venue is the authority.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from tradingbot.domain.messages import ExecutionReport
from tradingbot.execution.ledger import ZERO, Ledger, Mark, SeenFill
from tradingbot.execution.orders import Filled, apply
from tradingbot.venue.models import Fill

OVERLAP_MS = 10_000
"""Fills older than a settlement by this are in its position; newer ones are told apart by tid. Far above clock skew."""
ADOPT_AFTER_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """The account as the venue showed it."""

    positions: Mapping[str, Decimal]
    """Signed; a symbol that is missing is flat."""
    equity_usd: Decimal
    asked_ms: int
    """When the question left us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The ledger after a sighting, and what does not fit."""

    ledger: Ledger
    unsettled: Mapping[str, str]
    """Symbol -> open_orders, asked_too_early, doubted."""
    adopted: tuple[str, ...] = ()
    """Symbols whose position was taken over although fills do not explain it."""

    @property
    def doubted(self) -> bool:
        """True when reading the account's fills could settle more."""
        return "doubted" in self.unsettled.values()


def settle(ledger: Ledger, sighting: Sighting, *, universe: Iterable[str]) -> Settlement:
    """Compare what the venue shows with the last known positions plus the fills since."""
    marks, unsettled, adopted = dict(ledger.marks), {}, []
    for symbol in sorted({*universe, *sighting.positions, *ledger.marks}):
        if reason := _not_comparable(ledger, symbol, asked_ms=sighting.asked_ms):
            unsettled[symbol] = reason
            continue
        mark = _compare(ledger, symbol, sighting)
        marks[symbol] = mark
        if mark.doubt_ms is None:
            continue
        if sighting.asked_ms - mark.doubt_ms >= ADOPT_AFTER_MS:
            marks[symbol] = _agreed(ledger, symbol, sighting)
            adopted.append(symbol)
        else:
            unsettled[symbol] = "doubted"
    settled = {symbol for symbol, mark in marks.items() if symbol not in unsettled and mark.doubt_ms is None}
    after = ledger.model_copy(
        update={
            "marks": marks,
            "fills": tuple(each for each in ledger.fills if each.symbol not in settled),
            "equity_usd": sighting.equity_usd,
            "settled_ms": sighting.asked_ms,
        }
    )
    return Settlement(ledger=after.pruned(), unsettled=unsettled, adopted=tuple(adopted))


def unplannable(ledger: Ledger, symbol: str, *, now_ms: int, oldest_ms: int) -> str | None:
    """Why a symbol must not be planned now; None when it is settled by a sighting at most ``oldest_ms`` old."""
    mark = ledger.marks.get(symbol)
    if mark is None or mark.doubt_ms is not None or _not_comparable(ledger, symbol, asked_ms=mark.asked_ms):
        return "unsettled"
    if any(each.symbol == symbol for each in ledger.fills) or now_ms - mark.asked_ms > oldest_ms:
        return "unsettled"
    return None


def absorb(ledger: Ledger, fills: Iterable[Fill]) -> tuple[Ledger, list[ExecutionReport]]:
    """Count fills of the account: each once, for its position and for its order."""
    reports: list[ExecutionReport] = []
    for fill in sorted(fills, key=lambda each: each.key):
        tid = f"{fill.time_ms}:{fill.tid}"
        seen = SeenFill(symbol=fill.symbol, tid=tid, qty=fill.signed_size, at_ms=fill.time_ms)
        if not _counted(ledger, seen):
            ledger = ledger.model_copy(update={"fills": (*ledger.fills, seen)})
        order = ledger.find(cloid=fill.cloid, oid=str(fill.oid))
        if order is None:
            continue
        event = Filled(
            tid=tid,
            qty=fill.size,
            px=fill.px,
            fee=fill.fee,
            at_ms=max(fill.time_ms, order.intent_ms),
            oid=str(fill.oid),
        )
        step = apply(order, event)
        reports.extend(step.reports)
        ledger = ledger.with_orders([step.order])
    return ledger, reports


def _not_comparable(ledger: Ledger, symbol: str, *, asked_ms: int) -> str | None:
    for order in ledger.orders.values():
        if order.symbol != symbol:
            continue
        if order.live:
            return "open_orders"
        if order.ended_ms is not None and order.ended_ms > asked_ms:
            return "asked_too_early"
    return None


def _compare(ledger: Ledger, symbol: str, sighting: Sighting) -> Mark:
    mark, shown = ledger.marks.get(symbol), sighting.positions.get(symbol, ZERO)
    if mark is None or shown == ledger.position(symbol):
        return _agreed(ledger, symbol, sighting)
    since_ms = mark.doubt_ms if mark.doubt_ms is not None and mark.doubted == shown else sighting.asked_ms
    return mark.model_copy(update={"doubt_ms": since_ms, "doubted": shown})


def _agreed(ledger: Ledger, symbol: str, sighting: Sighting) -> Mark:
    mark = ledger.marks.get(symbol)
    counted = (*(mark.counted if mark else ()), *(each for each in ledger.fills if each.symbol == symbol))
    return Mark(
        position=sighting.positions.get(symbol, ZERO),
        asked_ms=sighting.asked_ms,
        counted=tuple(each for each in counted if each.at_ms >= sighting.asked_ms - 2 * OVERLAP_MS),
    )


def _counted(ledger: Ledger, fill: SeenFill) -> bool:
    mark = ledger.marks.get(fill.symbol)
    if any(each.symbol == fill.symbol and each.tid == fill.tid for each in ledger.fills):
        return True
    if mark is None:
        return False
    return fill.at_ms < mark.asked_ms - OVERLAP_MS or any(each.tid == fill.tid for each in mark.counted)
