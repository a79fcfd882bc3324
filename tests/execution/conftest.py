"""Execution on its real surroundings; see support.execution_bench."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from support.execution_bench import Bench, execution_bench
from support.servers import Server
from tradingbot.bus import lease


@pytest.fixture
async def bench(valkey: Redis, valkey_server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    # A machine that stands still for some seconds must not cost execution its lease: what is decided then is held.
    monkeypatch.setattr(lease, "LEASE_MS", 30_000)
    async with execution_bench(valkey, valkey_server) as bench:
        yield bench
