"""Fixtures of the risk engine's tests."""

from __future__ import annotations

import pytest

from risk_engine.bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
