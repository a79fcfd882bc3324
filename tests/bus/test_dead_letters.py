"""A person looks at dead letters, retries them while their cycle lasts, or drops them; each act is audited."""

from __future__ import annotations

import json

import pytest
from redis.asyncio import Redis

from support.servers import Server
from support.sessions import BOT_ID, process_for, settings_for
from tradingbot.bus.dead_letters import (
    DeadLetterMissing,
    Kept,
    RetryRefused,
    drop_dead_letter,
    list_dead_letters,
    retry_dead_letter,
    show_dead_letter,
)
from tradingbot.bus.names import Group, Stream, dead_letter_stream
from tradingbot.bus.session import open_session
from tradingbot.domain.cycles import minute_id
from tradingbot.domain.envelope import Message, message
from tradingbot.domain.messages import AuditRecord
from tradingbot.domain.model import Model

NOW_MS = 1_771_430_400_000
CYCLE_S = 300
GROUPS = {Stream.TARGET: Group.RISK, Stream.COMMANDS: Group.RISK_CTL, Stream.SNAPSHOT: Group.RISK_STATE}


class Number(Model):
    """A message of the tests."""

    n: float


async def put_aside(
    server: Server, redis: Redis, *, stream: Stream = Stream.TARGET, raw: str | None = None, at_ms: int = NOW_MS
) -> Kept:
    made = message(
        Number(n=0.1), bot_id=BOT_ID, stream=stream, source="s", cycle_id=minute_id(at_ms), key="k", now_ms=at_ms
    )
    async with open_session(process_for("risk_engine"), settings_for(server)) as bus:
        await redis.xadd(stream, {"p": raw or made.model_dump_json(exclude={"event"})})
        [entry] = await bus.reader(stream=stream, group=GROUPS[stream], model=Number).new(block_ms=None)
        assert (await bus.dead_letter(entry, reason="why", error_type="Permanent")).done
    [kept] = await list_dead_letters(redis, stream=stream)
    return kept


async def retry(redis: Redis, kept: Kept, *, now_ms: int = NOW_MS) -> str:
    return await retry_dead_letter(
        redis,
        stream=Stream(kept.letter.stream),
        letter_id=kept.id,
        now_ms=now_ms,
        cycle_seconds=CYCLE_S,
        bot_id=BOT_ID,
    )


async def audit_kinds(redis: Redis) -> list[str]:
    return [Message[AuditRecord].read(fields["p"]).data.kind for _, fields in await redis.xrange(Stream.AUDIT)]


async def test_within_its_cycle_it_comes_back_as_it_was_with_its_count(any_redis: Redis, any_server: Server) -> None:
    kept = await put_aside(any_server, any_redis)
    before = json.loads(kept.letter.payload)
    new_id = await retry(any_redis, kept, now_ms=NOW_MS + CYCLE_S * 1000 - 1)
    [(_, fields)] = await any_redis.xrange(Stream.TARGET, new_id, new_id)
    after = json.loads(fields["p"])
    assert after["data"] == before["data"]
    assert after["env"] == {**before["env"], "retry_count": kept.letter.retry_count}
    assert await list_dead_letters(any_redis) == []
    assert await audit_kinds(any_redis) == ["dlq", "dlq_retry"]


@pytest.mark.parametrize("stream", [Stream.TARGET, Stream.SNAPSHOT])
async def test_after_its_cycle_it_is_refused_and_says_why(valkey: Redis, valkey_server: Server, stream: Stream) -> None:
    kept = await put_aside(valkey_server, valkey, stream=stream)
    with pytest.raises(RetryRefused, match=r"20260218T1600Z.*20260218T1605Z"):
        await retry(valkey, kept, now_ms=NOW_MS + CYCLE_S * 1000)
    assert await valkey.xlen(stream) == 1
    assert await list_dead_letters(valkey) == [kept]


async def test_what_always_counts_comes_back_however_old(valkey: Redis, valkey_server: Server) -> None:
    kept = await put_aside(valkey_server, valkey, stream=Stream.COMMANDS)
    await retry(valkey, kept, now_ms=NOW_MS + 86_400_000)
    assert await valkey.xlen(Stream.COMMANDS) == 2


@pytest.mark.parametrize("raw", ["no json", "[]", '{"env":{"cycle_id":"then"}}', '{"env":{}}'])
async def test_what_is_no_message_is_not_retried(valkey: Redis, valkey_server: Server, raw: str) -> None:
    kept = await put_aside(valkey_server, valkey, raw=raw)
    with pytest.raises(RetryRefused, match="no valid message"):
        await retry(valkey, kept)
    assert await valkey.xlen(dead_letter_stream(Stream.TARGET)) == 1


async def test_a_dropped_one_is_gone_and_audited(any_redis: Redis, any_server: Server) -> None:
    kept = await put_aside(any_server, any_redis)
    assert await show_dead_letter(any_redis, stream=Stream.TARGET, letter_id=kept.id) == kept
    await drop_dead_letter(any_redis, stream=Stream.TARGET, letter_id=kept.id, now_ms=NOW_MS, bot_id=BOT_ID)
    assert await audit_kinds(any_redis) == ["dlq", "dlq_drop"]
    assert await any_redis.xlen(Stream.TARGET) == 1
    for act in (retry(any_redis, kept), show_dead_letter(any_redis, stream=Stream.TARGET, letter_id=kept.id)):
        with pytest.raises(DeadLetterMissing):
            await act
