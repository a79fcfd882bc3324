"""A task that is told to end does end, whatever it was doing with Redis at that moment."""

from __future__ import annotations

import asyncio

from tradingbot.bus.client import connect


async def test_no_cancellation_is_lost_at_any_moment_of_a_first_command(valkey_server):
    """Python 3.11's wait_for, through which redis-py writes, loses one that comes just after a write."""
    for moment in range(40):
        redis = connect(valkey_server.url, client_name="test")

        async def command_and_go_on(redis=redis):
            await redis.get("key")
            await asyncio.Event().wait()

        task = asyncio.create_task(command_and_go_on())
        for _ in range(moment):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=60)
        await redis.aclose()

        assert done, f"cancelled after {moment} steps of the loop, it went on"
