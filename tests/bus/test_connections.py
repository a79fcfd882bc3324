"""One outage is one loss: what the pool keeps from before it is not used again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from support.servers import Server
from tradingbot.bus.client import connect

AT_ONCE = 5


async def asked_at_once(redis: Redis) -> None:
    """Questions side by side, each on a connection of its own."""
    await asyncio.gather(*(redis.ping() for _ in range(AT_ONCE)))


@contextmanager
def broken() -> Iterator[None]:
    with pytest.raises(RedisConnectionError):
        yield


async def test_a_killed_redis_that_is_back_breaks_nothing_a_second_time(durable_server: Server) -> None:
    async with connect(durable_server.url, client_name="test") as redis:
        await asked_at_once(redis)
        durable_server.kill()
        with broken():
            await redis.ping()
        durable_server.start()

        await asked_at_once(redis)


async def test_a_restart_between_two_questions_is_not_even_noticed(durable_server: Server) -> None:
    async with connect(durable_server.url, client_name="test") as redis:
        await asked_at_once(redis)
        durable_server.kill()
        durable_server.start()
        async with connect(durable_server.url, client_name="other") as other:
            await other.ping()  # so that the loop has heard of what was closed

        await asked_at_once(redis)


async def test_connections_that_the_network_resets_are_one_loss_together(valkey_server: Server) -> None:
    way = Way(valkey_server.port)
    async with way.open() as url, connect(url, client_name="test") as redis:
        await asked_at_once(redis)
        way.reset()
        with broken():
            await redis.ping()

        await asked_at_once(redis)


async def test_only_a_loss_makes_connections_anew(valkey_server: Server) -> None:
    async with connect(valkey_server.url, client_name="test") as redis:
        before = set(await ids_at_once(redis))
        with pytest.raises(Exception, match="unknown command"):
            await redis.execute_command("NONSENSE")  # type: ignore[no-untyped-call]

        assert set(await ids_at_once(redis)) <= before
    assert len(before) == AT_ONCE


async def ids_at_once(redis: Redis) -> list[int]:
    return await asyncio.gather(*(redis.client_id() for _ in range(AT_ONCE)))


class Way:
    """A way to a server on which every connection so far can be reset, as by a network that has forgotten them."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._ends: list[asyncio.StreamWriter] = []
        self._passing: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SecretStr]:
        async with await asyncio.start_server(self._pass_on, "127.0.0.1", 0) as listening:
            yield SecretStr(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0")
        await asyncio.gather(*self._passing)

    def reset(self) -> None:
        for end in self._ends:
            assert not end.is_closing()
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort()
        self._ends.clear()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._passing.append(asyncio.current_task())  # type: ignore[arg-type]
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        self._ends += [writer, far_writer]
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
    writer.close()
