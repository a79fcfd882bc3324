"""Fixtures of the operator's tests."""

from __future__ import annotations

from support.operator_kubectl import kubectl  # noqa: F401 - a fixture
