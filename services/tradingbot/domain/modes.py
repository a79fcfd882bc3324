"""Modes: NORMAL < REDUCE_ONLY < HALT. The effective mode is the strictest of three sources.

Each source holds a key that only it may write: the spec (the operator), the breaker (the risk engine), a person
(the command line, the monitor). Lifting a restriction therefore lifts its own source only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """How much the bot may do."""

    NORMAL = "NORMAL"
    REDUCE_ONLY = "REDUCE_ONLY"
    HALT = "HALT"

    @property
    def rank(self) -> int:
        """0, 1, 2: greater is stricter."""
        return _RANK[self]


_RANK = {Mode.NORMAL: 0, Mode.REDUCE_ONLY: 1, Mode.HALT: 2}


class ModeSource(StrEnum):
    """Who asked for a mode."""

    SPEC = "spec"
    BREAKER = "breaker"
    PERSON = "person"
    LOCAL = "local"
    """Execution's own stop (stale snapshot, skew, no Redis); writes no key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveMode:
    """The strictest mode and whose it is."""

    mode: Mode
    source: ModeSource
    reason: str


def strictest(*modes: Mode) -> Mode:
    """The strictest of the modes; NORMAL of none."""
    return max(modes, key=lambda mode: mode.rank, default=Mode.NORMAL)


def effective_mode(
    *,
    spec: Mapping[str, str],
    breaker: Mapping[str, str],
    person: Mapping[str, str],
    file_mode: Mode | None = None,
) -> EffectiveMode:
    """Combine the hashes ``ctl.mode.spec``, ``ctl.mode.breaker``, ``ctl.mode.person`` (mode, reason, generation, …).

    An absent breaker key counts as HALT until the risk engine has written it; an absent spec key as the mode file
    says, without one as NORMAL; an absent person key as NORMAL. A person's mode with ``until_generation`` counts only
    while the spec key's generation is lower. The mode file is the least restriction that execution starts with while
    no spec key is there.
    """
    candidates = [
        EffectiveMode(
            mode=_said(breaker, absent=Mode.HALT),
            source=ModeSource.BREAKER,
            reason=breaker.get("reason", "") if breaker else "the risk engine has not reported yet",
        ),
        EffectiveMode(
            mode=_said(spec, absent=file_mode or Mode.NORMAL), source=ModeSource.SPEC, reason=spec.get("reason", "")
        ),
    ]
    if person and _counts(person, spec):
        candidates.append(
            EffectiveMode(
                mode=_said(person, absent=Mode.NORMAL), source=ModeSource.PERSON, reason=person.get("reason", "")
            )
        )
    # The first of equals wins: listed so that a NORMAL bot is said to be NORMAL by its spec.
    order = {ModeSource.SPEC: 0, ModeSource.PERSON: 1, ModeSource.BREAKER: 2}
    return max(candidates, key=lambda each: (each.mode.rank, -order[each.source]))


def _said(source: Mapping[str, str], *, absent: Mode) -> Mode:
    """The mode that a source's hash names; a word that is no mode is a HALT, as in the commit function."""
    word = source.get("mode")
    if word is None:
        return absent
    return Mode(word) if word in Mode.__members__ else Mode.HALT


def _counts(person: Mapping[str, str], spec: Mapping[str, str]) -> bool:
    """Whether a person's mode still counts: without an end, or while the spec's generation is below it."""
    until, generation = person.get("until_generation", ""), spec.get("generation", "")
    return not until.isdecimal() or int(generation if generation.isdecimal() else 0) < int(until)
