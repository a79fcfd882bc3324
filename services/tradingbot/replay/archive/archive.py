"""A bot's record on disk: each stream's entries once, in their order, whole files only.

One recorder writes at a time. Whatever it has written lies in files that are complete and synced, so a reader may read
meanwhile, and the next recorder goes on behind the last of them: a kill loses and doubles nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, takewhile
from pathlib import Path

from pydantic import ValidationError

from tradingbot.bus.trim import entry_id
from tradingbot.domain.errors import Permanent
from tradingbot.domain.model import Model
from tradingbot.replay.archive import tables
from tradingbot.replay.archive.parts import BEGINNING, SUFFIX, Part, day_of, in_order, name_of, part_of
from tradingbot.replay.archive.tables import RawEntry

NOTE = "archive.json"
FORMAT = 1
_LOCK = ".lock"
MERGE_FROM = 24
"""So many small files of a day are merged into one."""
SMALL_BYTES = 4_000_000


class ArchiveError(Permanent):
    """An archive that is not there, is another bot's, or has a recorder already."""


class Gap(Model):
    """Entries of a stream that went before anybody recorded them."""

    stream: str
    after: str
    """The last id before them."""
    before: str
    """The first id behind them."""


class Note(Model):
    """Whose record this is."""

    format: int = FORMAT
    bot_id: str
    network: str
    account: str
    gaps: tuple[Gap, ...] = ()


class Archive:
    """The folder of a record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._spoilt: set[Path] = set()
        """Files that could not be merged; what comes after them is."""

    @classmethod
    def existing(cls, folder: Path) -> Archive:
        """A record that is there.

        Raises:
            ArchiveError: nothing was recorded there, or it cannot be read.
        """
        found = cls(folder)
        if found.note() is None:
            raise ArchiveError(f"{folder}: {_why_none(folder)}")
        return found

    # ---------------------------------------------------------------- whose

    def note(self) -> Note | None:
        """Whose record it is; None while nobody has recorded.

        Raises:
            ArchiveError: it does not say so, or it is of a format of tomorrow.
        """
        path = self.folder / NOTE
        try:
            note = Note.read(path.read_bytes()) if path.is_file() else None
        except (ValidationError, OSError):
            raise ArchiveError(f"{path}: cannot be read, so nobody knows whose record this is") from None
        if note is not None and note.format != FORMAT:
            raise ArchiveError(f"{path}: format {note.format}; this version reads {FORMAT}")
        return note

    def claim(self, wanted: Note) -> None:
        """Make the archive this bot's.

        Raises:
            ArchiveError: it is another's.
        """
        present = self.note()
        if present is None:
            self._keep(wanted)
        elif (present.bot_id, present.network, present.account) != (wanted.bot_id, wanted.network, wanted.account):
            raise ArchiveError(
                f"{self.folder}: the record of bot {present.bot_id} on {present.network}, not of {wanted.bot_id} on "
                f"{wanted.network}; record to another folder"
            )

    def add_gaps(self, gaps: Sequence[Gap]) -> None:
        """Keep in mind that entries are missing."""
        if gaps and (note := self.note()) is not None:
            self._keep(note.model_copy(update={"gaps": (*note.gaps, *gaps)}))

    def _keep(self, note: Note) -> None:
        path = self.folder / NOTE
        temporary = path.with_name(path.name + tables.TEMPORARY)
        with temporary.open("w") as file:
            file.write(note.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        tables.sync_folder(self.folder)

    # ---------------------------------------------------------------- writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only recorder, and clear away what a killed one left half done.

        Raises:
            ArchiveError: another one writes.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArchiveError(f"{self.folder}: another `tradingbot record` writes here") from None
            self._clear_away()
            yield

    def append(self, stream: str, entries: Sequence[RawEntry]) -> None:
        """Write entries that follow the stream's position; on return they are on the disk."""
        for day, group in groupby(entries, key=lambda each: day_of(each.id)):
            rows = list(group)
            folder = self.folder / stream / day
            tables.write(folder / name_of(rows[0].id, rows[-1].id), rows)
            self._merge(folder)

    def position(self, stream: str) -> str:
        """The id of the last entry that is written."""
        parts, _ = self._parts(stream)
        return parts[-1].last if parts else BEGINNING

    def _merge(self, folder: Path) -> None:
        """Make one of a day's latest small files when they have become many."""
        parts, _ = in_order(_parts_in(folder))
        small = list(takewhile(self._is_small, reversed(parts)))[::-1]
        if len(small) < MERGE_FROM:
            return
        try:
            rows = tables.read_table([each.path for each in small])
        except tables.DamagedPart as damaged:
            self._spoilt.add(damaged.path)  # a reader will tell; recording goes on
            return
        tables.write_table(folder / name_of(small[0].first, small[-1].last), rows)
        for each in small:
            each.path.unlink()

    def _is_small(self, part: Part) -> bool:
        return part.path not in self._spoilt and part.path.stat().st_size < SMALL_BYTES

    def _clear_away(self) -> None:
        for path in self.folder.glob(f"*/*/*{SUFFIX}{tables.TEMPORARY}"):
            path.unlink()
        for stream in self.streams():
            for covered in self._parts(stream)[1]:
                covered.path.unlink()

    # ---------------------------------------------------------------- reading

    def streams(self) -> list[str]:
        """The streams of which something is kept."""
        return sorted(each.name for each in self.folder.iterdir() if each.is_dir()) if self.folder.is_dir() else []

    def read(
        self, stream: str, *, cycles: tuple[str, str] | None = None, ids: Collection[str] | None = None
    ) -> Iterator[RawEntry]:
        """A stream's entries, oldest first: all, those with these ids, or of the cycles from one to another and none.

        A recorder may merge files meanwhile: what was to be read next is then found anew in the merged one.

        Raises:
            DamagedPart: a file cannot be read.
        """
        days = None if ids is None else {day_of(each) for each in ids}
        read_to, parts = entry_id(BEGINNING), self._parts(stream)[0]
        while parts:
            part, *parts = parts
            if part.span[1] <= read_to or (days is not None and part.path.parent.name not in days):
                continue
            try:
                for entry in tables.read(part.path, cycles=cycles, ids=ids):
                    if entry_id(entry.id) > read_to:
                        read_to = entry_id(entry.id)
                        yield entry
                read_to = part.span[1]
            except FileNotFoundError:
                parts = self._parts(stream)[0]
                if part in parts:
                    raise

    def cycles(self, stream: str) -> tuple[str, str] | None:
        """The first and the last cycle that a stream's entries name; None when there are none."""
        found = [each for part in self._parts(stream)[0] if (each := tables.cycles_in(part.path)) is not None]
        return (min(low for low, _ in found), max(high for _, high in found)) if found else None

    def size(self) -> dict[str, int]:
        """Bytes on the disk, by stream."""
        return {stream: sum(each.path.stat().st_size for each in self._parts(stream)[0]) for stream in self.streams()}

    def _parts(self, stream: str) -> tuple[list[Part], list[Part]]:
        return in_order(_parts_in(self.folder / stream, depth="*/*"))


def _why_none(folder: Path) -> str:
    """What a person may have meant by a folder that is no record."""
    if not folder.exists():
        return "no such folder"
    above = next((each for each in folder.resolve().parents if (each / NOTE).is_file()), None)
    if above is not None:
        return f"a part of the record {above}; name that"
    if (folder / "folder.json").is_file():
        return "a bot's data folder, no record; its own streams are read with --data-dir while it runs"
    return "no record here; `tradingbot record --to DIR` makes one"


def _parts_in(folder: Path, *, depth: str = "*") -> list[Part]:
    found = (part_of(path) for path in folder.glob(depth + SUFFIX))
    return [part for part in found if part is not None]


def note_of(identity: str) -> Note:
    """From what ``bot.identity`` holds."""
    return Note.model_validate(json.loads(identity), extra="ignore")
