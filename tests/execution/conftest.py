"""Execution on its real surroundings; see support.execution_bench."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from support.execution_bench import Bench, execution_bench
from support.servers import Server


@pytest.fixture
async def bench(valkey: Redis, valkey_server: Server) -> AsyncIterator[Bench]:
    async with execution_bench(valkey, valkey_server) as bench:
        yield bench
