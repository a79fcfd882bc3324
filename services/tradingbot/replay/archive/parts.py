"""The names of an archive's files, which say what is in them.

A stream's entries of a UTC day (of their ids, the server's real time) lie in ``STREAM/DAY/FIRST_LAST.parquet``, named
by the first and the last id. So the position of a stream is the last id of its last file: it cannot disagree with what
was written, whenever a recorder dies. Files that were merged into one are deleted after it is there; until then it
covers them, and a reader leaves them out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tradingbot.bus.trim import EntryId, entry_id
from tradingbot.domain.cycles import from_ms

SUFFIX = ".parquet"
BEGINNING = "0-0"
_NAME = re.compile(r"(\d+-\d+)_(\d+-\d+)\.parquet")


@dataclass(frozen=True, slots=True)
class Part:
    """A file of one stream and one day."""

    path: Path
    first: str
    last: str

    @property
    def span(self) -> tuple[EntryId, EntryId]:
        """Its first and last id, as numbers."""
        return entry_id(self.first), entry_id(self.last)

    def covers(self, other: Part) -> bool:
        """Whether all of the other's entries are in this one."""
        (first, last), (others_first, others_last) = self.span, other.span
        return first <= others_first and others_last <= last


def part_of(path: Path) -> Part | None:
    """The part that a file is; None for any other file."""
    named = _NAME.fullmatch(path.name)
    return None if named is None else Part(path, named[1], named[2])


def name_of(first: str, last: str) -> str:
    """The file name of the entries from one id to another."""
    return f"{first}_{last}{SUFFIX}"


def day_of(id_text: str) -> str:
    """The UTC day of an entry's id, like ``2026-02-18``."""
    return f"{from_ms(entry_id(id_text)[0]):%Y-%m-%d}"


def in_order(parts: Iterable[Part]) -> tuple[list[Part], list[Part]]:
    """The parts that count, oldest first, and those that another one covers."""
    kept: list[Part] = []
    covered: list[Part] = []
    for part in sorted(parts, key=lambda each: (each.span[0], tuple(-n for n in each.span[1]))):
        (covered if kept and kept[-1].covers(part) else kept).append(part)
    return kept, covered
