"""A whole range made again, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from tradingbot.bus.names import Stream
from tradingbot.domain.model import Model
from tradingbot.replay.rerun.reading import Unread
from tradingbot.replay.rerun.steps import approval_again, decision_again, features_again, plan_again
from tradingbot.replay.rerun.tape import Tape
from tradingbot.replay.rerun.verdicts import CannotCheck, CannotRead, Contradiction, Found, Step, Verdict, compared

_OF_A_CYCLE: dict[Step, Callable[[Tape, str], Verdict]] = {
    Step.DECISION: decision_again,
    Step.APPROVAL: approval_again,
    Step.PLAN: plan_again,
}
_WIDTHS = {found: max(10, len(found.value) + 3) for found in Found}
SHOWN = 10
"""Verdicts of a kind that a person is shown."""


class UnreadOfStream(Model):
    """The entries of a stream that this version cannot read."""

    stream: Stream
    entries: int
    to_compare: int
    """Those that belong to the cycles that were to be compared, or may: they name no cycle."""
    first_id: str
    why: str
    """Of the first."""


class Report(Model):
    """What a re-run found."""

    first: str
    last: str
    cycles: int
    verdicts: tuple[Verdict, ...]
    """Of every step of every cycle, in order."""
    unread: tuple[UnreadOfStream, ...] = ()

    def of(self, found: Found) -> tuple[Verdict, ...]:
        """The verdicts of a kind."""
        return tuple(each for each in self.verdicts if each.found is found)

    @property
    def equal(self) -> bool:
        """Whether something was checked, nothing differs, and nothing that was to be compared could not be read."""
        passed_over = self.of(Found.UNREAD) or any(each.to_compare for each in self.unread)
        return bool(self.of(Found.EQUAL)) and not self.of(Found.DIFFERS) and not passed_over

    def counts(self) -> dict[Step, Counter[Found]]:
        """How often each verdict was given, by step."""
        return {step: Counter(each.found for each in self.verdicts if each.step is step) for step in Step}

    def lines(self) -> Iterator[str]:
        """The report for a person."""
        yield f"{self.cycles} cycles, {self.first} to {self.last}"
        yield f"{'step':<10}" + "".join(f"{found.value:>{_WIDTHS[found]}}" for found in Found)
        for step, counts in self.counts().items():
            yield f"{step.value:<10}" + "".join(f"{counts[found]:>{_WIDTHS[found]}}" for found in Found)
        yield from unread_lines(self.unread)
        for each in self.of(Found.DIFFERS)[:SHOWN]:
            yield f"differs: {each.step.value} {each.cycle_id} {each.path}"
            yield f"    recorded   {_shown(each.recorded)}"
            yield f"    recomputed {_shown(each.recomputed)}"
        for found in (Found.UNREAD, Found.UNCHECKED, Found.NOT_TAKEN):
            reasons = Counter(f"{each.step.value}: {each.why}" for each in self.of(found))
            yield from (f"{found.value}: {reason}  ({count})" for reason, count in reasons.most_common(SHOWN))


def rerun(tape: Tape) -> Report:
    """Make every step of the tape's range again."""
    verdicts = [*features_again(tape)]
    for cycle_id in tape.cycles:
        verdicts += [_checked(step, again, tape, cycle_id) for step, again in _OF_A_CYCLE.items()]
    ends = tape.cycles[:1] + tape.cycles[-1:]
    return Report(
        first=ends[0] if ends else tape.first,
        last=ends[-1] if ends else tape.last,
        cycles=len(tape.cycles),
        verdicts=tuple(verdicts),
        unread=unread_of(tape),
    )


def unread_of(tape: Tape, *further: Unread) -> tuple[UnreadOfStream, ...]:
    """What a tape could not be made of, and what else was not read, by stream."""
    found: dict[Stream, list[Unread]] = {}
    for each in (*tape.unread, *further):
        found.setdefault(each.stream, []).append(each)
    return tuple(
        UnreadOfStream(
            stream=stream,
            entries=len(entries),
            to_compare=sum(map(tape.concerned, entries)),
            first_id=entries[0].id,
            why=entries[0].why,
        )
        for stream, entries in found.items()
    )


def unread_lines(unread: Iterable[UnreadOfStream]) -> Iterator[str]:
    """A line for each stream."""
    for each in unread:
        yield f"cannot be read by this version: {each.entries} of {each.stream}, first {each.first_id}: {each.why}"


def _checked(step: Step, again: Callable[[Tape, str], Verdict], tape: Tape, cycle_id: str) -> Verdict:
    try:
        return again(tape, cycle_id)
    except Contradiction as found:
        return compared(step, cycle_id, found.difference)
    except CannotRead as why:
        return Verdict(step=step, cycle_id=cycle_id, found=Found.UNREAD, why=str(why))
    except CannotCheck as why:
        return Verdict(step=step, cycle_id=cycle_id, found=Found.UNCHECKED, why=str(why))


def _shown(value: object) -> str:
    """A float with its bits, because two that print alike may differ."""
    return f"{value!r} ({value.hex()})" if isinstance(value, float) else repr(value)
