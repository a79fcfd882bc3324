"""What a re-run says of each step: the same to the last bit, different, or not to be told, and why."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from tradingbot.domain.model import Model
from tradingbot.replay.rerun.compare import Difference


class Step(StrEnum):
    """The pure steps of a cycle, in their order."""

    FEATURES = "features"
    DECISION = "decision"
    APPROVAL = "approval"
    PLAN = "plan"


class Found(StrEnum):
    """What became of a step."""

    EQUAL = "equal"
    DIFFERS = "differs"
    UNCHECKED = "cannot be checked"
    """Something that it was made from is not on the record."""
    UNREAD = "cannot be read"
    """It, or something that it was made from, is on the record and no message of this version."""
    NOT_TAKEN = "not taken"
    """The bot did not take it, and said why."""


class Verdict(Model):
    """On one step of one cycle."""

    step: Step
    cycle_id: str
    """The minute, for features."""
    found: Found
    why: str = ""
    path: str = ""
    """The first field that differs."""
    recorded: Any = None
    recomputed: Any = None


class CannotCheck(Exception):  # noqa: N818 - not an error
    """An input is not on the record; the text names it."""


class CannotRead(CannotCheck):
    """An input is on the record, and this version cannot read it; the text names it and says why."""


class Contradiction(CannotCheck):
    """The record contradicts itself: an input is there, and is not the one that the step names by its digest."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(f"{difference.path}: {difference.recorded} is named, {difference.recomputed} is on the record")
        self.difference = difference


def compared(step: Step, cycle_id: str, difference: Difference | None) -> Verdict:
    """The verdict of a comparison."""
    if difference is None:
        return Verdict(step=step, cycle_id=cycle_id, found=Found.EQUAL)
    return Verdict(
        step=step,
        cycle_id=cycle_id,
        found=Found.DIFFERS,
        path=difference.path,
        recorded=difference.recorded,
        recomputed=difference.recomputed,
    )
