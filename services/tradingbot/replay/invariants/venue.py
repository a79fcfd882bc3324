"""Invariants between the record and the venue: I1, I2, I3, I8, I11, I14."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

from tradingbot.bus.names import Stream
from tradingbot.domain.ids import is_own
from tradingbot.domain.messages import Command, OrderAction, OrderIntent
from tradingbot.domain.modes import Mode
from tradingbot.replay.evidence import Evidence, Venue
from tradingbot.replay.invariants.record import FLATTEN
from tradingbot.replay.verdict import Verdict, not_judged, verdict

_ZERO = Decimal(0)
_NO_VENUE = "the venue did not answer"
_NO_LOG = "only the paper exchange keeps a log of everything it admitted"


def at_most_one_order_per_attempt(evidence: Evidence) -> Verdict:
    """I1: at most one venue order per intent attempt."""
    title = "at most one venue order per intent attempt"
    against: list[str] = []
    seen: set[tuple[str, int]] = set()
    for intent in _places(evidence):
        key = (intent.client_order_id, intent.attempt)
        if key in seen:
            against.append(f"{intent.client_order_id} attempt {intent.attempt}: two intents")
        seen.add(key)
    oids = _oids_by_cloid(evidence)
    against += [
        f"{cloid}: {len(found)} orders at the venue: {', '.join(found)}"
        for cloid, found in oids.items()
        if len(found) > 1
    ]
    return verdict("I1", title, checked=max(len(seen), len(oids)), against=against)


def _oids_by_cloid(evidence: Evidence) -> dict[str, list[str]]:
    """The venue's order ids under each own cloid: by its log, else by what was reported."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    if evidence.venue is not None and evidence.venue.log is not None:
        for each in evidence.venue.entries("order"):
            if is_own(each["cloid"], bot_id=evidence.bot_id):
                found[each["cloid"]][str(each["oid"])] = None
    else:
        for record in evidence.valid(Stream.REPORTS):
            if record.data.exchange_order_id is not None:
                found[record.data.cloid][record.data.exchange_order_id] = None
    return {cloid: list(oids) for cloid, oids in found.items()}


def nothing_after_halt(evidence: Evidence) -> Verdict:
    """I2: after HALT is acknowledged nothing but FLATTEN orders reaches the venue."""
    title = "nothing but FLATTEN reaches the venue after HALT is acknowledged"
    if evidence.venue is None or evidence.venue.log is None:
        return not_judged("I2", title, _NO_LOG if evidence.venue else _NO_VENUE)
    spans = list(_halted_spans(evidence))
    flatten = {each.cloid for each in _places(evidence) if each.reason == FLATTEN}
    against = [
        f"{cloid} reached the venue at {each['at_ms']}, HALT was acknowledged at {start}"
        for start, end in spans
        for each in evidence.venue.entries("action")
        if each["type"] == "order" and start < each["at_ms"] < end
        for cloid in each["cloids"]
        if is_own(cloid, bot_id=evidence.bot_id) and cloid not in flatten
    ]
    note = "" if spans else "no HALT was acknowledged"
    return verdict("I2", title, checked=len(spans), against=against, note=note)


def _halted_spans(evidence: Evidence) -> Iterator[tuple[int, float]]:
    """From each acknowledgement of a HALT (virtual ms) until execution said that it goes on.

    The keys change a moment before execution says so: the last command before that counts as the end. A command alone
    does not: it lifts its own source, and another may still hold the HALT.
    """
    lifted, commands = sorted(_lifted(evidence)), sorted(_loosening(evidence))
    acks = {
        int(each.data.details["acked_at"])
        for each in evidence.valid(Stream.AUDIT)
        if each.source == "execution" and each.data.kind == "halt" and each.data.details.get("acked_at")
    }
    if evidence.applied.get("mode") == Mode.HALT and evidence.applied.get("acked_at"):
        acks.add(int(evidence.applied["acked_at"]))
    for acked_at in sorted(acks):
        end = next((at for at in lifted if at >= acked_at), float("inf"))
        yield acked_at, max((at for at in commands if acked_at <= at <= end < float("inf")), default=end)


def _loosening(evidence: Evidence) -> Iterator[int]:
    """When a person, the spec or the breaker let go."""
    for record in evidence.valid(Stream.COMMANDS):
        if record.data.command in {Command.RESUME, Command.REDUCE_ONLY, Command.CLEAR_BREAKER}:
            yield record.ts_ms


def _lifted(evidence: Evidence) -> Iterator[int]:
    """When execution said that it goes on; a HALT that only changes hands goes on."""
    for record in evidence.valid(Stream.AUDIT):
        details = record.data.details
        if record.data.kind == "mode" and details.get("before") == Mode.HALT and details.get("after") != Mode.HALT:
            yield record.ts_ms


def positions_agree(evidence: Evidence) -> Verdict:
    """I3: at rest, position here equals position there."""
    title = "at rest, positions here and at the venue are the same"
    if evidence.venue is None or evidence.snapshot is None:
        return not_judged("I3", title, _NO_VENUE if evidence.venue is None else "there is no snapshot")
    here = {symbol: each.qty for symbol, each in evidence.snapshot.positions.items() if each.qty}
    there = {symbol: qty for symbol, qty in evidence.venue.positions.items() if qty}
    symbols = sorted(set(here) | set(there))
    against = [
        f"{symbol}: {here.get(symbol, _ZERO)} here, {there.get(symbol, _ZERO)} at the venue"
        for symbol in symbols
        if here.get(symbol, _ZERO) != there.get(symbol, _ZERO)
    ]
    return verdict("I3", title, checked=max(len(symbols), 1), against=against)


def order_is_kept(evidence: Evidence) -> Verdict:
    """I8: the venue saw the intents of a symbol in the order in which they were written."""
    title = "order is kept per symbol"
    if evidence.venue is None or evidence.venue.log is None:
        return not_judged("I8", title, _NO_LOG if evidence.venue else _NO_VENUE)
    place = {intent.cloid: (intent.symbol, index) for index, intent in enumerate(_places(evidence))}
    latest: dict[str, int] = defaultdict(lambda: -1)
    against: list[str] = []
    seen: set[str] = set()
    for cloid in _admitted(evidence.venue):
        if cloid in seen or cloid not in place:
            continue
        seen.add(cloid)
        symbol, index = place[cloid]
        if index < latest[symbol]:
            against.append(f"{symbol}: {cloid} came after a later intent")
        latest[symbol] = max(latest[symbol], index)
    return verdict("I8", title, checked=len(seen), against=against)


def _admitted(venue: Venue) -> Iterator[str]:
    for each in venue.entries("action"):
        if each["type"] == "order" and each["admitted"]:
            yield from each["cloids"]


def unknown_stays_unknown(evidence: Evidence) -> Verdict:
    """I11: no outcome was made up: an intent that has ended ended as the venue says, one that has not is still open."""
    title = "an unknown outcome stays unknown until the venue answers"
    if evidence.venue is None:
        return not_judged("I11", title, _NO_VENUE)
    ends = {
        each.data.cloid: each.data
        for each in evidence.valid(Stream.REPORTS)
        if each.data.status.terminal and not each.data.dry_run
    }
    there = _placed_at_venue(evidence.venue)
    against = []
    for cloid, report in ends.items():
        was_placed = report.exchange_order_id is not None or report.filled_qty > 0
        if not was_placed and cloid in there:
            against.append(f"{report.client_order_id}: said never to have been, the venue had it as {there[cloid]}")
        if was_placed and evidence.venue.log is not None and cloid not in there:
            against.append(f"{report.client_order_id}: said to be {report.status}, the venue never had it")
    open_there = {each.get("cloid") for each in evidence.venue.open_orders}
    against += [f"{cloid}: said to have ended, open at the venue" for cloid in ends if cloid in open_there]
    return verdict("I11", title, checked=len(ends), against=against)


def _placed_at_venue(venue: Venue) -> dict[str, str]:
    """The last status of every order that the venue took, by cloid."""
    last = {each["cloid"]: str(each["status"]) for each in venue.entries("order") if each["cloid"]}
    return {cloid: status for cloid, status in last.items() if not status.lower().endswith("rejected")}


def fills_stay_within_the_plan(evidence: Evidence) -> Verdict:
    """I14: fills of a plan never exceed the plan."""
    title = "fills of a plan never exceed the plan"
    planned: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for record in evidence.valid(Stream.PLAN):
        for each in record.data.slices:
            planned[record.data.cycle_id, each.symbol, each.side.value] += each.qty
    filled: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for intent, qty in _fills(evidence):
        if intent.reason != FLATTEN:
            filled[intent.client_order_id.partition(":")[0], intent.symbol, intent.side.value] += qty
    against = [
        f"{' '.join(key)}: planned {planned.get(key, _ZERO)}, filled {qty}"
        for key, qty in filled.items()
        if qty > planned.get(key, _ZERO)
    ]
    return verdict("I14", title, checked=len(planned), against=against)


def _fills(evidence: Evidence) -> Iterator[tuple[OrderIntent, Decimal]]:
    """What each intent was filled: by the venue's log, else by the last report."""
    intents = {each.cloid: each for each in _places(evidence)}
    if evidence.venue is not None and evidence.venue.log is not None:
        for each in evidence.venue.entries("fill"):
            if (intent := intents.get(each.get("cloid", ""))) is not None:
                yield intent, Decimal(each["sz"])
        return
    last = {each.data.cloid: each.data for each in evidence.valid(Stream.REPORTS) if not each.data.dry_run}
    for cloid, report in last.items():
        if cloid in intents:
            yield intents[cloid], report.filled_qty


def _places(evidence: Evidence) -> Iterator[OrderIntent]:
    """The orders that were meant to be sent, in the order in which they were written."""
    for record in evidence.valid(Stream.ORDERS):
        if record.data.action is not OrderAction.CANCEL and not record.data.dry_run:
            yield record.data
