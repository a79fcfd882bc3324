"""A record as replay wants it: each cycle's messages, and whatever they name as their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from tradingbot.bus.names import Stream
from tradingbot.domain.cycles import MINUTE_MS, minute_id, start_ms_of, to_ms
from tradingbot.domain.in_force import PARAMS_KIND
from tradingbot.domain.messages import (
    ApprovedTargetPortfolio,
    AuditRecord,
    ExecutionPlan,
    FeatureSnapshot1m,
    StateSnapshot,
    TargetPortfolio,
)
from tradingbot.domain.model import Model
from tradingbot.domain.params import Params
from tradingbot.replay.rerun.reading import Reader, Recorded, Source, Unread

FIRST, LAST = "00000000T0000Z", "99999999T9999Z"
_STEPS = (Stream.FEATURES, Stream.TARGET, Stream.APPROVED, Stream.PLAN)
LOOK_BACK_MS = 65 * MINUTE_MS
"""Features look back an hour, and a decision upon the target of a cycle before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a label of parameters means, and the static settings beside them."""

    params: Params
    cycle_seconds: int
    universe: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Tape:
    """What was recorded of a range of cycles, and before it what its steps look back on."""

    first: str
    last: str
    features: tuple[Recorded[FeatureSnapshot1m], ...]
    """Oldest first; from before the range too."""
    targets: Mapping[str, Recorded[TargetPortfolio]]
    """By cycle, as the following two."""
    approved: Mapping[str, Recorded[ApprovedTargetPortfolio]]
    plans: Mapping[str, Recorded[ExecutionPlan]]
    snapshots: Mapping[str, Recorded[StateSnapshot]]
    """By id: those that something in the range names."""
    audits: Mapping[str, tuple[AuditRecord, ...]]
    """By cycle."""
    params: Mapping[str, Meaning]
    """By label."""
    unread: tuple[Unread, ...] = ()
    """What this version cannot read."""

    @cached_property
    def features_by_id(self) -> Mapping[str, Recorded[FeatureSnapshot1m]]:
        """The features by their id."""
        return {each.id: each for each in self.features}

    def within(self, cycle_id: str) -> bool:
        """Whether a cycle is one that was asked for."""
        return self.first <= cycle_id <= self.last

    @cached_property
    def cycles(self) -> tuple[str, ...]:
        """The cycles that were asked for and of which anything is on the record, oldest first."""
        found = {each.cycle_id for each in self.features} | set(self.targets) | set(self.approved) | set(self.plans)
        found |= {each.cycle_id for each in self.unread if each.stream in _STEPS}
        return tuple(sorted(filter(self.within, found)))

    def concerned(self, unread: Unread) -> bool:
        """Whether an entry that cannot be read may belong to a cycle that was asked for."""
        return not unread.cycle_id or self.within(unread.cycle_id)

    def unread_of(self, stream: Stream, *, cycle_id: str | None = None, id_text: str | None = None) -> Unread | None:
        """The first entry of a stream that cannot be read: of all, of a cycle, or the one with this id."""
        return self._unread.get((stream, cycle_id or id_text))

    @cached_property
    def _unread(self) -> Mapping[tuple[Stream, str | None], Unread]:
        """By stream alone, with the cycle, and with the id: these look different."""
        found: dict[tuple[Stream, str | None], Unread] = {}
        for each in self.unread:
            for key in (None, each.cycle_id, each.id):
                found.setdefault((each.stream, key), each)
        return found

    @cached_property
    def _begun(self) -> frozenset[str]:
        """The cycles at whose first minute there were features."""
        return frozenset(minute_id(to_ms(each.data.asof_minute)) for each in self.features)

    def has(self, stream: Stream, cycle_id: str) -> bool:
        """Whether a cycle has its entry on a stream that decisions are made from."""
        held = {Stream.FEATURES: self._begun, Stream.TARGET: self.targets, Stream.APPROVED: self.approved}
        return cycle_id in held[stream]

    def audit(self, cycle_id: str, kind: str) -> AuditRecord | None:
        """The cycle's last audit record of a kind."""
        return next((each for each in reversed(self.audits.get(cycle_id, ())) if each.kind == kind), None)

    def stale(self, cycle_id: str, stream: Stream) -> str | None:
        """Why an entry of the cycle was put aside unread, when it was."""
        for each in self.audits.get(cycle_id, ()):
            if each.kind == "stale_cycle" and each.details.get("stream") == stream:
                return f"stale_cycle: {each.details.get('reason')}"
        return None


def load(source: Source, *, first: str = FIRST, last: str = LAST) -> Tape:
    """Read what replay needs of the cycles from one to another."""
    reader, back = Reader(source), _earlier(first, LOOK_BACK_MS)
    features = tuple(reader.messages(Stream.FEATURES, FeatureSnapshot1m, cycles=(back, last)))
    targets = {each.cycle_id: each for each in reader.messages(Stream.TARGET, TargetPortfolio, cycles=(back, last))}
    approved = {
        each.cycle_id: each for each in reader.messages(Stream.APPROVED, ApprovedTargetPortfolio, cycles=(first, last))
    }
    plans = {each.cycle_id: each for each in reader.messages(Stream.PLAN, ExecutionPlan, cycles=(first, last))}
    inputs = [*(each.data.inputs for each in targets.values()), *(each.data.inputs for each in approved.values())]
    named = {each.snapshot_id for each in inputs if each.snapshot_id is not None}
    snapshots = {each.id: each for each in reader.messages(Stream.SNAPSHOT, StateSnapshot, ids=named)}
    audits, params = _audits(reader, first=first, last=last)
    return Tape(
        first=first,
        last=last,
        features=features,
        targets=targets,
        approved=approved,
        plans=plans,
        snapshots=snapshots,
        audits=audits,
        params=params,
        unread=reader.unread(),
    )


def _audits(reader: Reader, *, first: str, last: str) -> tuple[dict[str, tuple[AuditRecord, ...]], dict[str, Meaning]]:
    """The range's records, and the parameters: they are told anew each day."""
    day = first[:8] + "T0000Z" if first != FIRST else FIRST
    found: dict[str, tuple[AuditRecord, ...]] = {}
    params: dict[str, Meaning] = {}
    for each in reader.messages(Stream.AUDIT, AuditRecord, cycles=(day, last)):
        if each.data.kind == PARAMS_KIND:
            try:
                told = _ToldParams.model_validate(each.data.details, extra="ignore")
            except ValidationError as error:
                reader.pass_over(error, stream=Stream.AUDIT, id_text=each.id, cycle_id=each.cycle_id)
                continue
            params[told.label] = Meaning(
                params=told.values, cycle_seconds=told.cycle_seconds, universe=tuple(told.universe)
            )
        elif each.cycle_id >= first:
            found[each.cycle_id] = (*found.get(each.cycle_id, ()), each.data)
    return found, params


class _ToldParams(Model):
    """The details of an audit record that tells what a label means."""

    label: str
    values: Params
    cycle_seconds: int
    universe: list[str]


def _earlier(cycle_id: str, by_ms: int) -> str:
    return FIRST if cycle_id == FIRST else minute_id(start_ms_of(cycle_id) - by_ms)
