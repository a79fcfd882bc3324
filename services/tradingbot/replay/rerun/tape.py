"""A record as replay wants it: each cycle's messages, and whatever they name as their inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from pydantic import ValidationError

from tradingbot.bus.names import Stream
from tradingbot.bus.trim import EntryId, entry_id
from tradingbot.domain.cycles import MINUTE_MS, minute_id, start_ms_of, to_ms
from tradingbot.domain.envelope import Message
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
from tradingbot.replay.archive.tables import RawEntry

FIRST, LAST = "00000000T0000Z", "99999999T9999Z"
LOOK_BACK_MS = 65 * MINUTE_MS
"""Features look back an hour, and a decision upon the target of a cycle before."""

DataT = TypeVar("DataT", bound=Model)


class Source(Protocol):
    """Where entries come from: an archive."""

    def read(
        self, stream: str, *, cycles: tuple[str, str] | None = None, ids: Collection[str] | None = None
    ) -> Iterator[RawEntry]:
        """A stream's entries, oldest first: of the cycles from one to another, or with these ids."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(Generic[DataT]):
    """A message and its place on the record."""

    id: str
    raw: str
    cycle_id: str
    data: DataT

    @property
    def order(self) -> EntryId:
        """Its place in its stream."""
        return entry_id(self.id)


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
        return tuple(sorted(filter(self.within, found)))

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
    back = _earlier(first, LOOK_BACK_MS)
    features = tuple(messages(source, Stream.FEATURES, FeatureSnapshot1m, cycles=(back, last)))
    targets = {each.cycle_id: each for each in messages(source, Stream.TARGET, TargetPortfolio, cycles=(back, last))}
    approved = {
        each.cycle_id: each for each in messages(source, Stream.APPROVED, ApprovedTargetPortfolio, cycles=(first, last))
    }
    plans = {each.cycle_id: each for each in messages(source, Stream.PLAN, ExecutionPlan, cycles=(first, last))}
    inputs = [*(each.data.inputs for each in targets.values()), *(each.data.inputs for each in approved.values())]
    named = {each.snapshot_id for each in inputs if each.snapshot_id is not None}
    audits, params = _audits(source, first=first, last=last)
    return Tape(
        first=first,
        last=last,
        features=features,
        targets=targets,
        approved=approved,
        plans=plans,
        snapshots={each.id: each for each in messages(source, Stream.SNAPSHOT, StateSnapshot, ids=named)},
        audits=audits,
        params=params,
    )


def _audits(source: Source, *, first: str, last: str) -> tuple[dict[str, tuple[AuditRecord, ...]], dict[str, Meaning]]:
    """The range's records, and the parameters: they are told anew each day."""
    day = first[:8] + "T0000Z" if first != FIRST else FIRST
    found: dict[str, tuple[AuditRecord, ...]] = {}
    params: dict[str, Meaning] = {}
    for each in messages(source, Stream.AUDIT, AuditRecord, cycles=(day, last)):
        if each.data.kind == PARAMS_KIND:
            params[each.data.details["label"]] = _meaning(each.data.details)
        elif each.cycle_id >= first:
            found[each.cycle_id] = (*found.get(each.cycle_id, ()), each.data)
    return found, params


def _meaning(details: Mapping[str, Any]) -> Meaning:
    return Meaning(
        params=Params.model_validate(details["values"], extra="ignore"),
        cycle_seconds=details["cycle_seconds"],
        universe=tuple(details["universe"]),
    )


def messages(
    source: Source,
    stream: Stream,
    model: type[DataT],
    *,
    cycles: tuple[str, str] | None = None,
    ids: Collection[str] | None = None,
) -> Iterator[Recorded[DataT]]:
    """The entries that are messages; others were dead letters and decided nothing."""
    reader = Message[model]  # type: ignore[valid-type]
    for entry in source.read(stream, cycles=cycles, ids=ids):
        try:
            message = reader.read(entry.payload or "")
        except ValidationError:
            continue
        yield Recorded(id=entry.id, raw=entry.payload or "", cycle_id=message.env.cycle_id, data=message.data)


def _earlier(cycle_id: str, by_ms: int) -> str:
    return FIRST if cycle_id == FIRST else minute_id(start_ms_of(cycle_id) - by_ms)
