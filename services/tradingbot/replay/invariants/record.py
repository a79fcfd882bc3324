"""Invariants of the record alone: I4, I5, I7, I10, I13."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

from tradingbot.bus.names import Stream
from tradingbot.domain.cycles import is_boundary, to_ms
from tradingbot.domain.messages import OrderAction
from tradingbot.domain.modes import Mode
from tradingbot.replay.evidence import Evidence, Record, entry_order
from tradingbot.replay.verdict import Verdict, verdict

FLATTEN = "FLATTEN"
_ZERO = Decimal(0)


def every_entry_has_an_end(evidence: Evidence) -> Verdict:
    """I4: every entry ends acked with its outputs, acked as stale, or in a dead-letter stream."""
    inputs = list(_inputs_with_outputs(evidence))
    explained, ranges = _explained(evidence), _stale_ranges(evidence)
    against = [
        f"{stream} {record.id} ({record.cycle_id}): no output, no reason in the audit log, no dead letter"
        for stream, record, has_output in inputs
        if not has_output and not _said(stream, record, explained) and not _stale(stream, record, ranges)
    ]
    return verdict("I4", "every entry has an end", checked=len(inputs), against=against)


def _inputs_with_outputs(evidence: Evidence) -> Iterator[tuple[Stream, Record, bool]]:
    targets, approvals, plans = (
        {each.cycle_id for each in evidence.valid(stream)} for stream in (Stream.TARGET, Stream.APPROVED, Stream.PLAN)
    )
    for record in evidence.valid(Stream.FEATURES):
        if is_boundary(to_ms(record.data.asof_minute), cycle_seconds=evidence.static.cycle_seconds):
            yield Stream.FEATURES, record, record.cycle_id in targets
    for record in evidence.valid(Stream.TARGET):
        yield Stream.TARGET, record, record.cycle_id in approvals
    for record in evidence.valid(Stream.APPROVED):
        yield Stream.APPROVED, record, record.data.mode is Mode.HALT or record.cycle_id in plans
    reported = {(each.data.client_order_id, each.data.attempt) for each in evidence.valid(Stream.REPORTS)}
    for record in evidence.valid(Stream.ORDERS):
        if record.data.action is not OrderAction.CANCEL:
            yield Stream.ORDERS, record, (record.data.client_order_id, record.data.attempt) in reported


_CONSUMER = {
    Stream.FEATURES: "ai_decision",
    Stream.TARGET: "risk_engine",
    Stream.APPROVED: "execution",
    Stream.ORDERS: "execution",
}


def _explained(evidence: Evidence) -> set[tuple[str, str]]:
    """Who said what about which cause; the dead letters are everybody's."""
    said = {(record.source, record.data.cause) for record in evidence.valid(Stream.AUDIT)}
    dead = {("dlq", each.entry_id) for letters in evidence.dead_letters.values() for each in letters}
    return said | dead


def _said(stream: Stream, record: Record, explained: set[tuple[str, str]]) -> bool:
    """True when its consumer says why there is no output: of this entry, or of its cycle where it has one a cycle."""
    causes = {record.id, record.event_id} | ({record.cycle_id} if stream is not Stream.ORDERS else set())
    return any((_CONSUMER[stream], cause) in explained for cause in causes) or ("dlq", record.id) in explained


_Range = tuple[str, tuple[int, int], tuple[int, int]]


def _stale_ranges(evidence: Evidence) -> list[_Range]:
    """What was acknowledged as stale: stream, first and last entry."""
    return [
        (
            each.data.details["stream"],
            entry_order(each.data.details["first_id"]),
            entry_order(each.data.details["last_id"]),
        )
        for each in evidence.valid(Stream.AUDIT)
        if each.data.kind == "stale_cycle" and "first_id" in each.data.details
    ]


def _stale(stream: Stream, record: Record, ranges: list[_Range]) -> bool:
    return any(name == stream and first <= record.order <= last for name, first, last in ranges)


def no_order_without_a_decision(evidence: Evidence) -> Verdict:
    """I5: no order without a target, a risk decision and a lease that was live at the intent.

    A commit with a dead lease writes nothing, so what is left to see is that tokens never fall.
    """
    title = "no order without a decision and a lease"
    first = {stream: _first_by_cycle(evidence, stream) for stream in (Stream.TARGET, Stream.APPROVED, Stream.PLAN)}
    against: list[str] = []
    checked, highest = 0, 0
    for record in evidence.valid(Stream.ORDERS):
        intent = record.data
        checked += 1
        if intent.lease_token < max(highest, 1):
            against.append(f"{record.id}: lease token {intent.lease_token} after {highest}")
        highest = max(highest, intent.lease_token)
        if intent.action is OrderAction.CANCEL or intent.reason == FLATTEN:
            continue
        cycle_id = intent.client_order_id.partition(":")[0]
        for stream, records in first.items():
            decided = records.get(cycle_id)
            if decided is None or decided.at_ms > record.at_ms:
                against.append(f"{intent.client_order_id}: no {stream} of its cycle before it")
    return verdict("I5", title, checked=checked, against=against)


def _first_by_cycle(evidence: Evidence, stream: Stream) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in evidence.valid(stream):
        found.setdefault(record.cycle_id, record)
    return found


def nothing_pending(evidence: Evidence) -> Verdict:
    """I7: at rest nothing is pending and no group lags."""
    against = [
        f"{group.stream} {group.name}: {group.pending} pending, lag {group.lag}"
        for group in evidence.groups
        if group.behind
    ]
    return verdict("I7", "at rest nothing pending, no lag", checked=len(evidence.groups), against=against)


def state_follows_from_the_log(evidence: Evidence) -> Verdict:
    """I10: the idempotency records and the positions, rebuilt from the log, equal those that are kept."""
    title = "state rebuilt from the log equals state kept"
    last: dict[tuple[str, int], str] = {}
    for record in evidence.valid(Stream.ORDERS):
        if record.data.action is not OrderAction.CANCEL:
            last[record.data.client_order_id, record.data.attempt] = "INTENT"
    for record in evidence.valid(Stream.REPORTS):
        last[record.data.client_order_id, record.data.attempt] = record.data.status.value
    against = []
    for (name, attempt), status in last.items():
        kept = evidence.dedup.get(name, {}).get(str(attempt))
        if kept is None or json.loads(kept)["status"] != status:
            against.append(f"dedup:{name} attempt {attempt}: the log says {status}, kept is {kept}")
    against += _position_differences(evidence)
    return verdict("I10", title, checked=len(last) + len(positions_from_log(evidence)), against=against)


def positions_from_log(evidence: Evidence) -> dict[str, Decimal]:
    """Positions as the first snapshot had them, and every reported fill since."""
    snapshots = evidence.valid(Stream.SNAPSHOT)
    orders = evidence.valid(Stream.ORDERS)
    before = [each for each in snapshots if not orders or each.at_ms < orders[0].at_ms]
    base = before[-1].data.positions if before else {}
    positions: dict[str, Decimal] = defaultdict(Decimal, {symbol: each.qty for symbol, each in base.items()})
    filled: dict[tuple[str, int], Decimal] = {}
    for record in evidence.valid(Stream.REPORTS):
        report = record.data
        if report.dry_run or report.side is None:
            continue
        key = (report.client_order_id, report.attempt)
        positions[report.symbol] += report.side.sign * (report.filled_qty - filled.get(key, _ZERO))
        filled[key] = report.filled_qty
    return dict(positions)


def _position_differences(evidence: Evidence) -> Iterator[str]:
    if evidence.snapshot is None:
        return
    rebuilt = positions_from_log(evidence)
    for symbol in sorted(set(rebuilt) | set(evidence.snapshot.positions)):
        kept = evidence.snapshot.positions.get(symbol)
        if kept is not None and kept.external:
            continue
        qty = kept.qty if kept else _ZERO
        if rebuilt.get(symbol, _ZERO) != qty:
            yield f"{symbol}: the log's fills make {rebuilt.get(symbol, _ZERO)}, the mirror holds {qty}"


def every_message_validates(evidence: Evidence) -> Verdict:
    """I13: every message validates, or is a dead letter."""
    dead = {(letters_of, each.entry_id) for letters_of, found in evidence.dead_letters.items() for each in found}
    records = [(stream, record) for stream, found in evidence.streams.items() for record in found]
    against = [
        f"{stream} {record.id}: {record.error}"
        for stream, record in records
        if record.message is None and (stream, record.id) not in dead
    ]
    return verdict("I13", "every message validates", checked=len(records), against=against)
