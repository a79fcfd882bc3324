"""The files that are made from the code are the ones in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradingbot.local.environment import known_names
from tradingbot.local.generated import files
from tradingbot.local.reference import reference

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("name", "text"), list(files()), ids=lambda value: value if "\n" not in value else "text")
def test_a_generated_file_is_up_to_date(name: str, text: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == text, "run `make schemas`"


def test_every_setting_is_described() -> None:
    assert [each.name for each in reference() if not each.text] == []


def test_every_setting_that_is_known_is_on_the_page() -> None:
    assert {each.name for each in reference()} == known_names()


def test_no_file_but_those_is_among_the_schemas() -> None:
    made = {name for name, _ in files()}

    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/schemas").iterdir()} <= made
