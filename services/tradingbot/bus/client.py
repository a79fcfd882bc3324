"""The connection to Redis.

redis-py repeats failed commands by itself, up to ten times; a lost reply to a write would then write twice. Here
it never does: a repeated write is our decision, made only where a commit id makes it harmless.

It also writes through ``asyncio.wait_for``, which on Python 3.11 loses a cancellation that comes just after the write:
the task then goes on as if nobody had asked it to end, and a service that should stop or fail hangs. Here a lost
cancellation is raised again.

And what it keeps from before an outage it uses again without a look: each idle connection would be one more loss, long
after Redis is back. Here one loss makes all of them anew.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import SecretStr
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

BLOCK_MS = 2000
"""How long a blocking read waits. Must stay below SOCKET_TIMEOUT_S, else an idle stream looks like a dead server."""

SOCKET_TIMEOUT_S = 5.0


class _Pool(ConnectionPool):
    """A pool that hands out no connection from before a loss."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._losses = 0
        self._losses_at: WeakKeyDictionary[AbstractConnection, int] = WeakKeyDictionary()
        """How many losses there had been when a connection was last found usable."""

    def doubt(self) -> None:
        """A connection was lost, so each of the others is made anew before its next use."""
        self._losses += 1

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        losses = self._losses
        if self._losses_at.get(connection, losses) != losses:
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)
        self._losses_at[connection] = losses


class _Client(Redis):
    """Redis' client, except that a cancellation during a command always gets through."""

    connection_pool: _Pool

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except (RedisConnectionError, RedisTimeoutError):
            self.connection_pool.doubt()
            raise
        finally:
            if task and task.cancelling() > before:
                raise asyncio.CancelledError


def connect(url: SecretStr, *, client_name: str, timeout_s: float = SOCKET_TIMEOUT_S) -> Redis:
    """A client that decodes answers to text and never repeats a command. Connects at its first command.

    ``timeout_s`` is real seconds, for connecting and for each command; a blocking read must stay below it.
    """
    pool = _Pool.from_url(
        url.get_secret_value(),
        client_name=client_name,
        decode_responses=True,
        encoding_errors="replace",  # a payload that is not UTF-8 must become a dead letter, not break the reader
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,  # CLIENT SETINFO is unknown to Redis 7.0, so no access rule could name it for both
        maint_notifications_config=MaintNotificationsConfig(enabled=False),  # with them, closed ones are handed out
    )
    return _Client.from_pool(pool)
