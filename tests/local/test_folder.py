"""A data folder belongs to one bot and one price source, and to one `up` at a time."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tradingbot.domain.static import Network, PriceLabel
from tradingbot.local.folder import ClockNote, DataFolder, FolderError, Identity, Running

IDENTITY = Identity(
    bot_id="a", network=Network.PAPER, account="0xa", agent="0xb", prices="synthetic:1", label=PriceLabel.SYNTHETIC
)


def test_a_folder_keeps_whose_it_is(tmp_path: Path) -> None:
    folder = DataFolder.make(tmp_path)
    folder.claim(IDENTITY)

    assert folder.claim(IDENTITY.model_copy(update={"bot_id": "other"})).bot_id == "a"


@pytest.mark.parametrize(("field", "value"), [("prices", "synthetic:2"), ("network", Network.MAINNET)])
def test_a_folder_refuses_another_price_source_or_network(tmp_path: Path, field: str, value: str) -> None:
    folder = DataFolder.make(tmp_path)
    folder.claim(IDENTITY)

    with pytest.raises(FolderError, match="give --data-dir another folder"):
        folder.claim(IDENTITY.model_copy(update={field: value}))


def test_two_ups_on_one_folder_are_refused(tmp_path: Path) -> None:
    first, second = DataFolder.make(tmp_path), DataFolder.make(tmp_path)

    with first.locked(), pytest.raises(FolderError, match="already runs"), second.locked():
        pass
    with second.locked():
        pass


def test_time_goes_on_beyond_anything_that_was_done(tmp_path: Path) -> None:
    folder = DataFolder.make(tmp_path)
    assert folder.resume_ms() is None

    folder.note_clock(ClockNote(anchor="0:0:30.0", virtual_ms=1000, speed=30))

    assert folder.resume_ms() == 61_000


def test_what_holds_a_password_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = DataFolder.make(tmp_path)
    running = Running(
        pid=1, redis_url="r", operator_url="o", monitor_url="m", paper_url=None, account="0xa", anchor="0:0:1.0"
    )
    folder.note_running(running)

    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.keys.stat().st_mode) == 0o700
    assert folder.running() == running
    folder.note_running(None)
    assert folder.running() is None


def test_a_bot_that_died_does_not_count_as_running(tmp_path: Path) -> None:
    folder = DataFolder.make(tmp_path)
    folder.note_running(
        Running(
            pid=2**22 - 1,
            redis_url="r",
            operator_url="o",
            monitor_url="m",
            paper_url=None,
            account="0xa",
            anchor="0:0:1",
        )
    )

    assert folder.running() is None


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = DataFolder.make(tmp_path)
    (tmp_path / "folder.json").write_text("{")

    with pytest.raises(FolderError, match=r"folder\.json: cannot be read"):
        folder.identity()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(FolderError, match="cannot be used as a data folder"):
        DataFolder.make(tmp_path / "file" / "below")
