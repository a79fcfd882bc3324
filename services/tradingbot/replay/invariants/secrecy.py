"""I9: the private key exists in execution alone.

The checker never holds the key: what was made with it is kept beside it is the SHA-256 of its text, and every run of
64 hex digits that is found anywhere is hashed and compared.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tradingbot.replay.evidence import Evidence
from tradingbot.replay.verdict import Verdict, not_judged, verdict

FINGERPRINT = "agent.sha256"
_HEX_RUN = re.compile(rb"[0-9a-fA-F]{64,1024}")
_KEY_DIGITS = 64
_KEY_HOLDER = "execution"


def fingerprint(key: str) -> str:
    """What is kept of a key for this check."""
    return hashlib.sha256(key.removeprefix("0x").lower().encode()).hexdigest()


def key_exists_in_execution_alone(evidence: Evidence) -> Verdict:
    """I9: no process's environment or command line, no log, no file of the bus or of the venue holds the key."""
    title = "the key exists in execution alone"
    if evidence.folder is None:
        return not_judged("I9", title, "only a local bot's processes and files can be searched")
    kept = evidence.folder / "keys" / FINGERPRINT
    if not kept.exists():
        return not_judged("I9", title, "no key was made here")
    wanted = kept.read_text().strip()
    places = [*_process_places(evidence), *_file_places(evidence.folder)]
    against = [str(place) for place in places if holds(_read(place), wanted)]
    return verdict("I9", title, checked=len(places), against=against)


def holds(data: bytes, wanted: str) -> bool:
    """True when the data contain the key whose fingerprint is wanted."""
    for run in _HEX_RUN.findall(data):
        text = run.lower()
        for start in range(len(text) - _KEY_DIGITS + 1):
            if hashlib.sha256(text[start : start + _KEY_DIGITS]).hexdigest() == wanted:
                return True
    return False


def _process_places(evidence: Evidence) -> Iterator[Path]:
    pids = {name: pid for name, pid in evidence.pids.items() if name != _KEY_HOLDER} | {"this": os.getpid()}
    for pid in pids.values():
        yield Path(f"/proc/{pid}/environ")
        yield Path(f"/proc/{pid}/cmdline")
    if _KEY_HOLDER in evidence.pids:
        yield Path(f"/proc/{evidence.pids[_KEY_HOLDER]}/cmdline")


def _file_places(folder: Path) -> Iterator[Path]:
    keys = folder / "keys"
    for path in sorted(folder.rglob("*")):
        if path.is_file() and keys not in path.parents:
            yield path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
