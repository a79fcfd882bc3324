"""Execution's settings: the key is needed, is one, and is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.paper import ACCOUNT
from tradingbot.domain.modes import Mode
from tradingbot.execution.mode_reader import ModeReader
from tradingbot.execution.settings import ExecutionSettings, KeyUnreadable
from tradingbot.runtime.settings import SettingsError

KEY = "0x" + "42" * 32
BASE = {"REDIS_URL": "redis://127.0.0.1:1/0", "BOT_ID": "b", "HL_ACCOUNT_ADDRESS": ACCOUNT}


def test_a_key_is_needed_unless_nothing_is_sent() -> None:
    with pytest.raises(SettingsError, match="HL_PRIVATE_KEY"):
        ExecutionSettings.load(BASE)
    assert ExecutionSettings.load({**BASE, "DRY_RUN": "true"}).key() is None


def test_an_account_is_needed_unless_nothing_is_sent() -> None:
    with pytest.raises(SettingsError, match="HL_ACCOUNT_ADDRESS"):
        ExecutionSettings.load({**BASE, "HL_ACCOUNT_ADDRESS": "", "HL_PRIVATE_KEY": KEY})


def test_the_key_is_given_once(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    with pytest.raises(SettingsError, match="not both"):
        ExecutionSettings.load({**BASE, "HL_PRIVATE_KEY": KEY, "HL_PRIVATE_KEY_FILE": str(file)})


def test_the_keys_file_is_read_anew_and_must_not_be_open_to_all(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    file.chmod(0o600)
    settings = ExecutionSettings.load({**BASE, "HL_PRIVATE_KEY_FILE": str(file)})
    key = settings.key()
    assert key is not None
    assert key.get_secret_value() == KEY

    file.chmod(0o644)
    with pytest.raises(KeyUnreadable, match="chmod 600"):
        settings.key()
    file.unlink()
    with pytest.raises(KeyUnreadable) as caught:
        settings.key()
    assert KEY not in str(caught.value)


def test_a_missing_keys_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="HL_PRIVATE_KEY_FILE"):
        ExecutionSettings.load({**BASE, "HL_PRIVATE_KEY_FILE": str(tmp_path / "none")})


def test_no_text_of_the_settings_shows_the_key() -> None:
    settings = ExecutionSettings.load({**BASE, "HL_PRIVATE_KEY": KEY})

    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "42" * 32 not in text


@pytest.mark.parametrize(
    ("content", "mode"), [("HALT", Mode.HALT), ("NORMAL\n", Mode.NORMAL), ("", Mode.HALT), ("stop", Mode.HALT)]
)
def test_the_mode_file_says_what_counts_and_an_unreadable_one_is_a_halt(
    tmp_path: Path, content: str, mode: Mode
) -> None:
    file = tmp_path / "mode"
    file.write_text(content)

    assert ModeReader(None, mode_file=str(file)).file_mode is mode  # type: ignore[arg-type]
    assert ModeReader(None, mode_file=str(tmp_path / "none")).file_mode is Mode.HALT  # type: ignore[arg-type]
    assert ModeReader(None, mode_file=None).file_mode is Mode.NORMAL  # type: ignore[arg-type]
