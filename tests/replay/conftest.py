"""Fixtures of this part's tests."""

from support.model_server import _model_process, model_server  # noqa: F401 - fixtures
