"""Fixtures that every part's tests may use."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from support.servers import (  # noqa: F401 - fixtures
    _any_process,
    _valkey_process,
    any_redis,
    any_server,
    durable_server,
    valkey,
    valkey_server,
)

settings.register_profile(
    "ci", derandomize=True, print_blob=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
