"""Whoever hangs up on a request, at whatever moment, leaves its connection to the next one."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from support.scripted import HANG, http, ok, scripted_venue
from tradingbot.runtime.hangup import or_hang_up

MOMENTS = 80
"""More steps of the loop than a request takes that is answered at once."""
ONE = httpx.Limits(max_connections=1)


def closing(body: str) -> bytes:
    """An answer after which the next request needs a connection of its own."""
    return http(200, body).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)


async def ask(client: httpx.AsyncClient) -> int:
    answer = await or_hang_up(lambda seen: client.post("/info", content=b'{"type": "x"}', extensions=dict(seen)))
    return answer.status_code


@pytest.mark.parametrize("answer", [ok({}), closing("{}")], ids=["kept", "closed"])
async def test_a_request_cancelled_at_any_moment_leaves_the_pool_whole(answer):
    async with (
        scripted_venue(answer) as venue,
        httpx.AsyncClient(base_url=venue.http_url, limits=ONE, timeout=10) as client,
    ):
        for moment in range(MOMENTS):
            asking = asyncio.create_task(ask(client))
            for _ in range(moment):
                await asyncio.sleep(0)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

            assert await ask(client) == 200, f"lost when it was cancelled after {moment} steps of the loop"


async def test_what_had_not_left_when_it_was_cancelled_never_leaves():
    async with scripted_venue(ok({})) as venue, httpx.AsyncClient(base_url=venue.http_url, limits=ONE) as client:
        asking = asyncio.create_task(ask(client))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        assert await ask(client) == 200
        assert len(venue.requests) == 1


async def test_a_request_that_waits_for_its_answer_ends_at_once():
    async with (
        scripted_venue(HANG) as venue,
        httpx.AsyncClient(base_url=venue.http_url, limits=ONE, timeout=10) as client,
    ):
        for count in range(1, 4):
            asking = asyncio.create_task(ask(client))
            async with asyncio.timeout(10):
                while len(venue.requests) < count:
                    await asyncio.sleep(0.001)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking


async def test_what_may_not_leave_any_more_leaves_nothing_and_gives_its_connection_back():
    def forbidden() -> None:
        raise ValueError("forbidden")

    async with scripted_venue(ok({})) as venue, httpx.AsyncClient(base_url=venue.http_url, limits=ONE) as client:
        for _ in range(3):
            with pytest.raises(ValueError, match="forbidden"):
                await or_hang_up(
                    lambda seen: client.post("/info", content=b"{}", extensions=dict(seen)), before_leaving=forbidden
                )
        assert venue.requests == []

        assert await ask(client) == 200
