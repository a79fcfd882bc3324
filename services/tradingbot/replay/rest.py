"""Waiting until nothing moves: no entry pending, no own order open, and the mirror newer than the last report."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tradingbot.bus.errors import BusError, bus_errors
from tradingbot.bus.names import PAYLOAD_FIELD, Key, Stream
from tradingbot.domain.cycles import to_ms
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import ExecutionReport, OrderIntent, StateSnapshot
from tradingbot.replay.evidence import read_groups
from tradingbot.runtime.clock import Clock

_POLL_S = 0.1
_REAL_S = 30.0
_VIRTUAL_S = 60.0
"""At most one cycle of slices has to run out."""


async def wait_for_rest(redis: Redis, *, clock: Clock) -> str:
    """Wait until the bot is at rest; returns what still moved when patience ran out, empty when nothing did."""
    deadline_s = clock.real_s() + _REAL_S + _VIRTUAL_S / clock.speed
    while True:
        moving = await what_moves(redis)
        if not moving or clock.real_s() > deadline_s:
            return moving
        await clock.sleep_real(_POLL_S)


async def what_moves(redis: Redis) -> str:
    """What is not at rest, in words; empty when all is."""
    try:
        for group in await read_groups(redis):
            if group.behind:
                return f"{group.stream} {group.name}: {group.pending} pending, lag {group.lag}"
        return await _orders_move(redis)
    except (BusError, RedisError) as error:
        return f"the bus does not answer: {error}"


async def _orders_move(redis: Redis) -> str:
    with bus_errors():
        raw = await redis.get(Key.LATEST_SNAPSHOT)
    if raw is None:
        return "there is no fresh snapshot"
    snapshot = Message[StateSnapshot].read(raw).data
    if own := [each for each in snapshot.open_orders if not each.foreign]:
        return f"{len(own)} orders are open"
    if not snapshot.health.reconcile_ok:
        return "the last reconciliation failed"
    newest_ms = await _newest_ms(redis, Stream.REPORTS, ExecutionReport)
    if snapshot.asof_ms < newest_ms:
        return "the mirror is older than the last report"
    if await _unreported(redis):
        return "an intent has no end yet"
    return ""


async def _newest_ms(redis: Redis, stream: Stream, model: type[ExecutionReport]) -> int:
    with bus_errors():
        rows: Any = await redis.xrevrange(stream, count=1)
    return to_ms(Message[model].read(rows[0][1][PAYLOAD_FIELD]).env.ts) if rows else 0  # type: ignore[valid-type]


async def _unreported(redis: Redis, *, count: int = 500) -> Collection[str]:
    """The newest intents of which no terminal report is there."""
    with bus_errors():
        intents: Any = await redis.xrevrange(Stream.ORDERS, count=count)
        reports: Any = await redis.xrevrange(Stream.REPORTS, count=4 * count)
    ended = {
        each.cloid
        for each in (Message[ExecutionReport].read(fields[PAYLOAD_FIELD]).data for _, fields in reports)
        if each.status.terminal
    }
    placed = [Message[OrderIntent].read(fields[PAYLOAD_FIELD]).data for _, fields in intents]
    return [each.cloid for each in placed if each.action != "CANCEL" and not each.dry_run and each.cloid not in ended]
