"""Waiting for a condition, with a deadline and a message that says what was seen last."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = float(os.environ.get("E2E_PATIENCE", "1"))
"""Every deadline is multiplied by this: more for a slow machine."""

Found = TypeVar("Found")


def eventually(
    check: Callable[[], Found | None],
    *,
    what: str,
    within_s: float = 60.0,
    every_s: float = 0.5,
    seen: Callable[[], object] | None = None,
) -> Found:
    """The first true answer of ``check``. ``seen`` is asked only when there is none in time.

    Raises:
        AssertionError: none in time.
    """
    end_s = time.monotonic() + within_s * PATIENCE
    while True:
        if found := check():
            return found
        if time.monotonic() > end_s:
            last = f"; seen last: {seen()}" if seen else ""
            raise AssertionError(f"not within {within_s * PATIENCE:g} s: {what}{last}")
        time.sleep(every_s)


def throughout(check: Callable[[], object], *, what: str, for_s: float, every_s: float = 0.5) -> None:
    """Assert that something stays true for a while: the promise is that nothing happens.

    Raises:
        AssertionError: it became false.
    """
    end_s = time.monotonic() + for_s
    while time.monotonic() < end_s:
        assert check(), f"no longer true: {what}"
        time.sleep(every_s)
