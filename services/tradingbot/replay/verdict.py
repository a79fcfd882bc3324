"""A judgement on one invariant."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tradingbot.domain.model import Model
from tradingbot.replay.evidence import Evidence

_SHOWN = 5


class Verdict(Model):
    """Whether an invariant holds, on how much evidence, and what speaks against it."""

    name: str
    """I1 to I14."""
    title: str
    holds: bool | None
    """None: there was nothing to judge it on; ``note`` says why."""
    checked: int
    """How many things were looked at."""
    against: tuple[str, ...] = ()
    """The first things that break it."""
    breaches: int = 0
    note: str = ""

    @property
    def word(self) -> str:
        """holds, broken, or not judged."""
        return "not judged" if self.holds is None else "holds" if self.holds else "BROKEN"


Check = Callable[[Evidence], Verdict]


def verdict(name: str, title: str, *, checked: int, against: Iterable[str], note: str = "") -> Verdict:
    """It holds when nothing speaks against it."""
    found = list(against)
    return Verdict(
        name=name,
        title=title,
        holds=not found,
        checked=checked,
        against=tuple(found[:_SHOWN]),
        breaches=len(found),
        note=note,
    )


def not_judged(name: str, title: str, why: str) -> Verdict:
    """There is nothing to judge it on."""
    return Verdict(name=name, title=title, holds=None, checked=0, note=why)
