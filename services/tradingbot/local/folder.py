"""The data folder: everything that a local bot keeps, in one place that belongs to one price source.

::

    folder.json     whose it is: bot id, network, account, price source; written once
    clock.json      the anchor of the present run and how far virtual time has come
    run.json        0600: where the running bot can be reached; absent when it does not run
    up.lock         held by the one ``up`` that runs on it, and by its children until the last has gone
    keys/           0700: the API wallet's key, read by execution alone
    passwords.json  0600: of the bus's users
    valkey/  paper/  logs/
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

from pydantic import ValidationError

from tradingbot.domain.errors import Permanent
from tradingbot.domain.model import Model
from tradingbot.domain.static import Network, PriceLabel

PRIVATE = 0o600
_PRIVATE_FOLDER = 0o700
_SLACK_REAL_S = 2
"""A killed supervisor has noted virtual time at most this long ago."""

ModelT = TypeVar("ModelT", bound=Model)


class FolderError(Permanent):
    """The data folder cannot be used as asked; the text says why and what to do."""


class Identity(Model):
    """Whose the folder is. Written once."""

    bot_id: str
    network: Network
    account: str
    agent: str | None
    """The API wallet's address on the paper exchange; None on a real venue."""
    prices: str
    """The price source as it was asked for: live, synthetic:7, or a recording's path."""
    label: PriceLabel


class ClockNote(Model):
    """How virtual time stood when it was last noted."""

    anchor: str
    virtual_ms: int
    speed: float


class Running(Model):
    """Where the running bot can be reached. Holds a password: 0600."""

    pid: int
    redis_url: str
    """As a person: reads, commands."""
    operator_url: str
    """With the supervisor's rights: retries of dead letters."""
    monitor_url: str
    paper_url: str | None
    account: str
    anchor: str
    static: dict[str, str] = {}
    """The static settings in force, as environment variables."""
    metrics_ports: dict[str, int] = {}
    pids: dict[str, int] = {}


class DataFolder:
    """A bot's folder; made when it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_fds: tuple[int, ...] = ()
        """The lock's descriptor while it is held: a child that inherits it holds the folder too."""

    @classmethod
    def make(cls, path: Path) -> Self:
        """The folder, with its rooms.

        Raises:
            FolderError: it cannot be written.
        """
        folder = cls(path.resolve())
        try:
            for room in (folder.path, folder.valkey, folder.paper, folder.logs):
                room.mkdir(parents=True, exist_ok=True)
            folder.keys.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
        except OSError as error:
            raise FolderError(f"{path}: cannot be used as a data folder: {error.strerror}") from None
        return folder

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def paper(self) -> Path:
        return self.path / "paper"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def agent_key(self) -> Path:
        return self.keys / "agent.key"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder alone.

        A supervisor that is killed leaves children that still close their files; they inherit ``lock_fds``, so that
        nobody else begins on the folder before the last of them has gone.

        Raises:
            FolderError: another ``up`` runs on it, or it cannot be written.
        """
        path = self.path / "up.lock"
        with _told(path):
            lock = path.open("a")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderError(
                    f"{self.path}: a bot already runs on this data folder; stop it, or give --data-dir another folder"
                ) from None
            self.lock_fds = (lock.fileno(),)
            try:
                yield
            finally:
                self.lock_fds = ()

    def abandoned(self) -> bool:
        """True while children of a supervisor that was killed still hold the folder."""
        if self._read("run.json", Running) is None or self.running() is not None:
            return False
        with (self.path / "up.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def claim(self, wanted: Identity) -> Identity:
        """Make the folder this bot's, or find that it already is.

        The bot id, account and agent of an existing folder stand; network and price source must be the same.

        Raises:
            FolderError: the folder belongs to another price source or network.
        """
        present = self.identity()
        if present is None:
            write_private(self.path / "folder.json", wanted.model_dump_json(indent=2))
            return wanted
        for field, name in (("network", "network"), ("prices", "price source")):
            if getattr(present, field) != getattr(wanted, field):
                raise FolderError(
                    f"{self.path}: belongs to the {name} {getattr(present, field)}, not {getattr(wanted, field)}; "
                    "give --data-dir another folder"
                )
        return present

    def identity(self) -> Identity | None:
        """Whose the folder is; None when it is new."""
        return self._read("folder.json", Identity)

    def clock_note(self) -> ClockNote | None:
        """How far virtual time had come; None when the folder is new."""
        return self._read("clock.json", ClockNote)

    def note_clock(self, note: ClockNote) -> None:
        """Note how far virtual time has come."""
        write_private(self.path / "clock.json", note.model_dump_json())

    def resume_ms(self) -> int | None:
        """Virtual time to go on from: never before anything that was done; None when the folder is new."""
        note = self.clock_note()
        return None if note is None else note.virtual_ms + int(_SLACK_REAL_S * 1000 * note.speed)

    def running(self) -> Running | None:
        """Where the bot can be reached; None when none runs here."""
        found = self._read("run.json", Running)
        return found if found is not None and _alive(found.pid) else None

    def note_running(self, running: Running | None) -> None:
        """Say where the bot can be reached; None when it has stopped."""
        if running is None:
            with _told(self.path / "run.json"):
                (self.path / "run.json").unlink(missing_ok=True)
        else:
            write_private(self.path / "run.json", running.model_dump_json(indent=2))

    def _read(self, name: str, model: type[ModelT]) -> ModelT | None:
        path = self.path / name
        try:
            return model.read(path.read_text())
        except FileNotFoundError:
            return None
        except (ValidationError, UnicodeDecodeError, OSError) as error:
            raise FolderError(f"{path}: cannot be read ({type(error).__name__}); move it away to start anew") from None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all.

    Raises:
        FolderError: the disk does not take it.
    """
    draft = path.with_name(f".{path.name}.new")
    with _told(path):
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say what a disk that is full or read-only means, in one line."""
    try:
        yield
    except OSError as error:
        raise FolderError(f"{path}: cannot be written: {error.strerror}") from None


def read_passwords(path: Path) -> dict[str, str]:
    """User -> password; empty when there are none yet."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
