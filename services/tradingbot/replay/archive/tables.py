"""Entries as Parquet: one row an entry, zstd, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tradingbot.bus.names import PAYLOAD_FIELD
from tradingbot.domain.errors import Permanent

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("cycle_id", pa.string()),
        pa.field(PAYLOAD_FIELD, pa.string()),
        pa.field("odd", pa.string()),
    ]
)
"""``odd``: the fields, as JSON, of an entry that is no message (it has another field than ``p``)."""
TEMPORARY = ".writing"
_COMPRESSION_LEVEL = 9
_CYCLE = re.compile(r'"cycle_id":\s*"(\d{8}T\d{4}Z)"')


class DamagedPart(Permanent):
    """A file of the record that the disk or somebody has spoilt."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry as the bus held it."""

    id: str
    fields: Mapping[str, str]

    @property
    def payload(self) -> str | None:
        """The message's JSON; None when it has none."""
        return self.fields.get(PAYLOAD_FIELD)

    @property
    def cycle_id(self) -> str | None:
        """The cycle that its envelope names: the envelope comes first in a payload."""
        found = _CYCLE.search(self.payload or "")
        return found[1] if found else None


def write(path: Path, entries: Sequence[RawEntry]) -> None:
    """Write a part: under another name first, so that no reader ever sees half of one."""
    write_table(path, pa.table(_columns(entries), schema=SCHEMA))


def write_table(path: Path, table: pa.Table) -> None:
    """The same for rows that are a table already; on return they are on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("wb") as file:
        pq.write_table(
            table,
            file,
            compression="zstd",
            compression_level=_COMPRESSION_LEVEL,
            row_group_size=4096,
            write_page_checksum=True,
        )
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_table(paths: Sequence[Path]) -> pa.Table:
    """All rows of parts, in the order given.

    Raises:
        DamagedPart: one cannot be read.
    """
    return pa.concat_tables([_whole(path) for path in paths])


def read(
    path: Path, *, cycles: tuple[str, str] | None = None, ids: Collection[str] | None = None
) -> Iterator[RawEntry]:
    """The entries of a part: of the cycles from one to another and of none, or with these ids.

    Raises:
        DamagedPart: it cannot be read.
        FileNotFoundError: it has gone.
    """
    import pyarrow.compute as pc  # noqa: PLC0415 - a recorder never reads, and goes without the memory
    import pyarrow.dataset as ds  # noqa: PLC0415

    chosen = None
    if cycles is not None:
        named_cycle = ds.field("cycle_id")
        chosen = named_cycle.is_null() | ((named_cycle >= cycles[0]) & (named_cycle <= cycles[1]))
    if ids is not None:
        named = pc.is_in(ds.field("id"), pa.array(sorted(ids), pa.string()))
        chosen = named if chosen is None else chosen & named
    checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    parquet = ds.ParquetFileFormat(default_fragment_scan_options=checked)
    with _damage_told(path):
        for batch in ds.dataset(path, schema=SCHEMA, format=parquet).to_batches(filter=chosen):
            for row in batch.to_pylist():
                if row["id"] is None:  # its footer names other columns
                    raise pa.ArrowInvalid("an entry without an id")
                yield _entry(row)


def cycles_in(path: Path) -> tuple[str, str] | None:
    """The first and the last cycle that a part's entries name, from its footer alone; None when they name none.

    Raises:
        DamagedPart: it cannot be read.
        FileNotFoundError: it has gone.
    """
    with _damage_told(path), pq.ParquetFile(path) as file:
        column = file.schema_arrow.get_field_index("cycle_id")
        groups = (file.metadata.row_group(n).column(column).statistics for n in range(file.num_row_groups))
        found = [(each.min, each.max) for each in groups if each is not None and each.has_min_max]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Say which file it is: Arrow tells what it stumbles over."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's own: Arrow's bear no number
            raise DamagedPart(path, f"cannot be read: {error.strerror}") from None
        raise DamagedPart(path, "damaged, no whole Parquet file; move it away to go on without it") from None


def _whole(path: Path) -> pa.Table:
    with _damage_told(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read()


def _entry(row: Mapping[str, Any]) -> RawEntry:
    odd, payload = row["odd"], row[PAYLOAD_FIELD]
    return RawEntry(row["id"], json.loads(odd) if odd is not None else {PAYLOAD_FIELD: payload})


def _columns(entries: Sequence[RawEntry]) -> dict[str, list[str | None]]:
    plain = [set(each.fields) == {PAYLOAD_FIELD} for each in entries]
    pairs = list(zip(entries, plain, strict=True))
    return {
        "id": [each.id for each in entries],
        "cycle_id": [each.cycle_id for each in entries],
        PAYLOAD_FIELD: [each.payload if is_plain else None for each, is_plain in pairs],
        "odd": [None if is_plain else json.dumps(dict(each.fields)) for each, is_plain in pairs],
    }
