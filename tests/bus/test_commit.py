"""The commit function, branch by branch, on a real Valkey and on redis-server 7.0."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from support.servers import Server
from tradingbot.bus.client import connect
from tradingbot.bus.commit import (
    Ack,
    ActionStamp,
    Add,
    Commit,
    HashPut,
    KeyDelete,
    ModeGuard,
    SetAdd,
    SetRemove,
    StateWrite,
    TokenTake,
    ValuePut,
    Verdict,
    commit,
)
from tradingbot.bus.errors import BusFull, BusUnavailable, LibraryMissing, StepTooLarge, WrongKeyType
from tradingbot.bus.library import load_library
from tradingbot.bus.names import Key, Stream, action_key, bucket_key, lease_key, state_key
from tradingbot.domain.modes import Mode

NOW_MS = 1_771_430_400_000
SERVICE = "risk_engine"
GROUP = "risk_grp"


@pytest.fixture
async def redis(any_redis: Redis) -> Redis:
    await any_redis.set(lease_key(SERVICE), "7")
    await any_redis.xgroup_create(Stream.TARGET, GROUP, id="0", mkstream=True)
    return any_redis


def step(commit_id: str = "step-1", **parts: Any) -> Commit:
    return Commit(**{"commit_id": commit_id, "service": SERVICE, "lease_token": 7, "now_ms": NOW_MS, **parts})


async def delivered(redis: Redis, *, consumer: str = SERVICE, payload: str = "{}") -> Ack:
    entry_id = await redis.xadd(Stream.TARGET, {"p": payload})
    await redis.xreadgroup(GROUP, consumer, {Stream.TARGET: ">"})
    return Ack(Stream.TARGET, GROUP, entry_id)


async def pending(redis: Redis) -> int:
    return int((await redis.xpending(Stream.TARGET, GROUP))["pending"])


async def test_state_outputs_and_acknowledgement_are_one(redis: Redis) -> None:
    ack = await delivered(redis)
    result = await commit(
        redis,
        step(
            state=StateWrite(state_key(SERVICE), 0, '{"peak":1}'),
            acks=[ack],
            adds=[Add(Stream.APPROVED, "first"), Add(Stream.AUDIT, "second")],
            writes=[
                HashPut("h", {"a": "1", "b": "é"}),
                ValuePut("v", "text", ttl_ms=60_000),
                SetAdd("s", ["x", "y"]),
                SetRemove("s", ["y"]),
            ],
        ),
    )
    assert result.verdict is Verdict.DONE
    assert result.version == 1
    assert await pending(redis) == 0
    state = await redis.hgetall(state_key(SERVICE))
    assert (state["version"], state["commit_id"], state["value"]) == ("1", "step-1", '{"peak":1}')
    assert await redis.xrange(Stream.APPROVED) == [(result.entry_ids[0], {"p": "first"})]
    assert await redis.xrange(Stream.AUDIT) == [(result.entry_ids[1], {"p": "second"})]
    assert await redis.hgetall("h") == {"a": "1", "b": "é"}
    assert await redis.get("v") == "text"
    assert 0 < await redis.pttl("v") <= 60_000
    assert await redis.smembers("s") == {"x"}


async def test_the_same_commit_again_is_done_with_the_first_answer(redis: Redis) -> None:
    ack = await delivered(redis)
    again = step(
        state=StateWrite(state_key(SERVICE), 0, "{}"),
        acks=[ack],
        adds=[Add(Stream.APPROVED, "once")],
        action=ActionStamp("a1", 5000),
    )
    first, second = await commit(redis, again), await commit(redis, again)
    assert second.detail == "again"
    assert (second.verdict, second.entry_ids, second.version) == (Verdict.DONE, first.entry_ids, first.version)
    assert (second.nonce, second.expires_after_ms) == (first.nonce, first.expires_after_ms)
    assert await redis.xlen(Stream.APPROVED) == 1


async def test_a_step_without_state_is_recognised_too(redis: Redis) -> None:
    ack = await delivered(redis)
    again = step(acks=[ack], adds=[Add(Stream.APPROVED, "once")])
    first, second = await commit(redis, again), await commit(redis, again)
    assert second.verdict is Verdict.DONE
    assert second.entry_ids == first.entry_ids
    assert await redis.xlen(Stream.APPROVED) == 1
    assert 0 < await redis.pttl(f"commit:{SERVICE}:step-1") <= 600_000


async def test_the_same_commit_id_of_an_earlier_holder_is_not_ours(redis: Redis) -> None:
    cell = StateWrite(state_key(SERVICE), 0, "{}")
    assert (await commit(redis, step(state=cell))).done
    await redis.set(lease_key(SERVICE), "8")
    successor = await commit(redis, step(state=cell, lease_token=8))
    assert successor.verdict is Verdict.SUPERSEDED
    assert (await commit(redis, step(state=cell))).detail == "again"


@pytest.mark.parametrize(("kept", "shown"), [("8", 7), ("6", 7), (None, 7)])
async def test_another_lease_token_writes_nothing(redis: Redis, kept: str | None, shown: int) -> None:
    await (redis.set(lease_key(SERVICE), kept) if kept else redis.delete(lease_key(SERVICE)))
    ack = await delivered(redis)
    before = await redis.keys("*")
    result = await commit(redis, step(lease_token=shown, acks=[ack], adds=[Add(Stream.APPROVED, "no")]))
    assert result.verdict is Verdict.SUPERSEDED
    assert "lease" in result.detail
    assert await redis.keys("*") == before
    assert await pending(redis) == 1


async def test_another_state_version_writes_nothing(redis: Redis) -> None:
    await commit(redis, step("other", state=StateWrite(state_key(SERVICE), 0, "theirs")))
    late = step(state=StateWrite(state_key(SERVICE), 0, "mine"), adds=[Add(Stream.APPROVED, "no")])
    result = await commit(redis, late)
    assert result.verdict is Verdict.SUPERSEDED
    assert "version 1, not 0" in result.detail
    assert await redis.hget(state_key(SERVICE), "value") == "theirs"
    assert await redis.exists(Stream.APPROVED) == 0


@pytest.mark.parametrize("owner", ["another", None])
async def test_an_entry_that_is_not_ours_writes_nothing(redis: Redis, owner: str | None) -> None:
    ack = await delivered(redis, consumer=owner or SERVICE)
    if owner is None:
        await redis.xack(Stream.TARGET, GROUP, ack.entry_id)
    result = await commit(redis, step(acks=[ack], adds=[Add(Stream.APPROVED, "no")]))
    assert result.verdict is Verdict.SUPERSEDED
    assert (owner or "nobody") in result.detail
    assert await redis.exists(Stream.APPROVED) == 0
    assert await pending(redis) == (1 if owner else 0)


async def test_an_entry_of_a_group_that_is_gone_writes_nothing(redis: Redis) -> None:
    ack = await delivered(redis)
    await redis.xgroup_destroy(Stream.TARGET, GROUP)
    result = await commit(redis, step(acks=[ack], adds=[Add(Stream.APPROVED, "no")]))
    assert result.verdict is Verdict.SUPERSEDED
    assert await redis.exists(Stream.APPROVED) == 0


async def test_one_foreign_entry_among_many_holds_back_all(redis: Redis) -> None:
    mine, theirs = await delivered(redis), await delivered(redis, consumer="another")
    result = await commit(redis, step(acks=[mine, theirs]))
    assert result.verdict is Verdict.SUPERSEDED
    assert await pending(redis) == 2


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        (Stream.APPROVED, {"adds": [Add(Stream.APPROVED, "x")]}),
        ("h", {"writes": [HashPut("h", {"a": "1"})]}),
        ("s", {"writes": [SetAdd("s", ["1"])]}),
        ("s", {"writes": [SetRemove("s", ["1"])]}),
        (state_key(SERVICE), {"state": StateWrite(state_key(SERVICE), 0, "{}")}),
        (bucket_key("b"), {"takes": [TokenTake("b", 1, 10, 1)]}),
        (action_key("a"), {"action": ActionStamp("a", None)}),
        (Key.NONCE, {"action": ActionStamp("a", None)}),
        (f"commit:{SERVICE}:step-1", {}),
        ("other.stream", {"acks": [Ack("other.stream", "g", "1-0")]}),
    ],
)
async def test_a_key_of_another_type_is_found_before_the_first_write(
    redis: Redis, key: str, parts: dict[str, Any]
) -> None:
    await redis.rpush(key, "a list")
    before = {name: await redis.type(name) for name in await redis.keys("*")}
    first_writes = [ValuePut("would.be.first", "x"), *parts.get("writes", [])]
    with pytest.raises(WrongKeyType, match=key.replace(".", r"\.")):
        await commit(redis, step(**{**parts, "writes": first_writes}))
    assert {name: await redis.type(name) for name in await redis.keys("*")} == before


async def test_a_value_replaces_only_text(redis: Redis) -> None:
    await redis.rpush("v", "a list")
    with pytest.raises(WrongKeyType):
        await commit(redis, step(writes=[ValuePut("v", "x")]))


async def test_a_nonce_that_is_no_number_is_refused(redis: Redis) -> None:
    await redis.set(Key.NONCE, "soon")
    with pytest.raises(WrongKeyType):
        await commit(redis, step(action=ActionStamp("a", None)))
    assert await redis.exists(action_key("a")) == 0


async def test_a_key_is_deleted(redis: Redis) -> None:
    await redis.set("gone", "1")
    assert (await commit(redis, step(writes=[KeyDelete("gone")]))).done
    assert await redis.exists("gone") == 0


async def test_empty_sets_change_nothing(redis: Redis) -> None:
    assert (await commit(redis, step(writes=[SetAdd("s", []), SetRemove("s", [])]))).done
    assert await redis.exists("s") == 0


async def test_a_hash_without_fields_is_refused_before_the_first_write(redis: Redis) -> None:
    with pytest.raises(ResponseError, match="no fields"):
        await commit(redis, step(state=StateWrite(state_key(SERVICE), 0, "{}"), writes=[HashPut("h", {})]))
    assert not await redis.exists(state_key(SERVICE))


async def test_payloads_pass_untouched(redis: Redis) -> None:
    payload = '{"n":9007199254740993,"d":"0.1000","e":[],"t":"é\\u0000 \\" \n"}'
    await commit(redis, step(adds=[Add(Stream.AUDIT, payload)]))
    assert (await redis.xrange(Stream.AUDIT))[0][1]["p"] == payload


async def test_a_stream_has_a_hard_bound(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradingbot.bus.commit.max_len_of", lambda stream: 100)
    for batch in range(6):
        await commit(redis, step(f"step-{batch}", adds=[Add(Stream.AUDIT, "x")] * 100))
    # "~" lets whole nodes of the stream go: at most one node of 100 entries stays beyond the bound.
    assert await redis.xlen(Stream.AUDIT) <= 200


async def test_a_missing_library_is_temporary(redis: Redis) -> None:
    await redis.function_flush()
    with pytest.raises(LibraryMissing):
        await commit(redis, step())
    await load_library(redis)
    assert (await commit(redis, step())).done


async def test_a_full_server_refuses_at_the_door(redis: Redis) -> None:
    ack = await delivered(redis)
    await redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(BusFull):
            await commit(redis, step(acks=[ack], adds=[Add(Stream.APPROVED, "no")]))
    finally:
        await redis.config_set("maxmemory", "0")
    assert await pending(redis) == 1
    assert await redis.exists(Stream.APPROVED) == 0


# ------------------------------------------------------------------ modes


async def set_modes(redis: Redis, modes: dict[str, dict[str, str]]) -> None:
    for source, fields in modes.items():
        await redis.hset(f"ctl.mode.{source}", mapping=fields)


BREAKER_NORMAL = {"breaker": {"mode": "NORMAL"}}


@pytest.mark.parametrize(
    ("modes", "at_most", "file_mode", "verdict"),
    [
        (BREAKER_NORMAL, Mode.NORMAL, Mode.NORMAL, Verdict.DONE),
        ({}, Mode.NORMAL, Mode.NORMAL, Verdict.MODE),
        ({}, Mode.REDUCE_ONLY, Mode.NORMAL, Verdict.MODE),
        ({}, Mode.HALT, Mode.NORMAL, Verdict.DONE),
        ({"breaker": {"mode": "REDUCE_ONLY"}}, Mode.NORMAL, Mode.NORMAL, Verdict.MODE),
        ({"breaker": {"mode": "REDUCE_ONLY"}}, Mode.REDUCE_ONLY, Mode.NORMAL, Verdict.DONE),
        (BREAKER_NORMAL, Mode.NORMAL, Mode.HALT, Verdict.MODE),
        ({**BREAKER_NORMAL, "spec": {"mode": "NORMAL", "generation": "3"}}, Mode.NORMAL, Mode.HALT, Verdict.DONE),
        ({**BREAKER_NORMAL, "spec": {"mode": "HALT"}}, Mode.REDUCE_ONLY, Mode.NORMAL, Verdict.MODE),
        ({**BREAKER_NORMAL, "person": {"mode": "HALT"}}, Mode.REDUCE_ONLY, Mode.NORMAL, Verdict.MODE),
        (
            {**BREAKER_NORMAL, "person": {"mode": "HALT", "until_generation": "3"}, "spec": {"mode": "NORMAL"}},
            Mode.NORMAL,
            Mode.NORMAL,
            Verdict.MODE,
        ),
        (
            {
                **BREAKER_NORMAL,
                "person": {"mode": "HALT", "until_generation": "3"},
                "spec": {"mode": "NORMAL", "generation": "3"},
            },
            Mode.NORMAL,
            Mode.NORMAL,
            Verdict.DONE,
        ),
        ({"breaker": {"mode": "WHAT"}}, Mode.REDUCE_ONLY, Mode.NORMAL, Verdict.MODE),
    ],
)
async def test_a_stricter_mode_writes_nothing(
    redis: Redis, modes: dict[str, dict[str, str]], at_most: Mode, file_mode: Mode, verdict: Verdict
) -> None:
    await set_modes(redis, modes)
    guarded = step(mode_guard=ModeGuard(at_most, file_mode), adds=[Add(Stream.ORDERS, "x")])
    assert (await commit(redis, guarded)).verdict is verdict
    assert await redis.xlen(Stream.ORDERS) == (1 if verdict is Verdict.DONE else 0)


# ------------------------------------------------------------------ buckets


async def test_all_tokens_are_taken_or_none(redis: Redis) -> None:
    rich, poor = TokenTake("rich", 1, 10, 1), TokenTake("poor", 3, 2, 0.5)
    result = await commit(redis, step(takes=[rich, poor], adds=[Add(Stream.ORDERS, "no")]))
    assert result.verdict is Verdict.RATE_LIMITED
    assert result.detail == "bucket:poor in 2000 ms"
    assert not await redis.exists(bucket_key("rich"), bucket_key("poor"), Stream.ORDERS)


async def test_a_bucket_empties_and_refills_with_virtual_time(redis: Redis) -> None:
    take = [TokenTake("orders", 1, 2, 0.5)]
    verdicts = [
        (await commit(redis, step(f"{index}", takes=take, now_ms=NOW_MS + at_ms))).verdict
        for index, at_ms in enumerate([0, 0, 0, 1999, 2000, 2000])
    ]
    done, limited = Verdict.DONE, Verdict.RATE_LIMITED
    assert verdicts == [done, done, limited, limited, done, limited]


async def test_a_reserve_is_left_for_others(redis: Redis) -> None:
    assert (await commit(redis, step("a", takes=[TokenTake("b", 7, 10, 1, reserve=3)]))).done
    assert not (await commit(redis, step("b", takes=[TokenTake("b", 1, 10, 1, reserve=3)]))).done
    assert (await commit(redis, step("c", takes=[TokenTake("b", 3, 10, 1)]))).done


async def test_takes_of_one_bucket_add_up(redis: Redis) -> None:
    twice = [TokenTake("b", 6, 10, 1), TokenTake("b", 6, 10, 1)]
    assert (await commit(redis, step("a", takes=twice))).verdict is Verdict.RATE_LIMITED
    assert (await commit(redis, step("b", takes=[TokenTake("b", 5, 10, 1), TokenTake("b", 5, 10, 1)]))).done
    assert float(await redis.hget(bucket_key("b"), "tokens")) == 0


async def test_time_that_runs_backwards_fills_no_bucket(redis: Redis) -> None:
    await commit(redis, step("a", takes=[TokenTake("b", 10, 10, 1)]))
    back = step("b", takes=[TokenTake("b", 1, 10, 1)], now_ms=NOW_MS - 60_000)
    assert (await commit(redis, back)).verdict is Verdict.RATE_LIMITED


# ------------------------------------------------------------------ actions


async def test_an_action_gets_its_nonce_and_expiry_inside_the_commit(redis: Redis) -> None:
    result = await commit(redis, step(action=ActionStamp("a1", 5000, {"cloids": "x,y"})))
    assert (result.nonce, result.expires_after_ms) == (NOW_MS, NOW_MS + 5000)
    assert await redis.hgetall(action_key("a1")) == {
        "nonce": str(NOW_MS),
        "expires_after": str(NOW_MS + 5000),
        "lease_token": "7",
        "cloids": "x,y",
    }
    assert 0 < await redis.pttl(action_key("a1")) <= 3 * 86_400_000


async def test_nonces_only_rise(redis: Redis) -> None:
    nonces = [
        (await commit(redis, step("a", action=ActionStamp("a", None)))).nonce,
        (await commit(redis, step("b", action=ActionStamp("b", None)))).nonce,
        (await commit(redis, step("c", action=ActionStamp("c", None), now_ms=NOW_MS - 5000))).nonce,
        (await commit(redis, step("d", action=ActionStamp("d", None, min_nonce=NOW_MS + 100)))).nonce,
        (await commit(redis, step("e", action=ActionStamp("e", None)))).nonce,
    ]
    assert nonces == [NOW_MS, NOW_MS + 1, NOW_MS + 2, NOW_MS + 100, NOW_MS + 101]


async def test_a_cancel_has_no_expiry(redis: Redis) -> None:
    result = await commit(redis, step(action=ActionStamp("c1", None)))
    assert result.expires_after_ms is None
    assert await redis.hget(action_key("c1"), "expires_after") == ""


async def test_a_refused_step_uses_up_no_nonce(redis: Redis) -> None:
    guarded = step(mode_guard=ModeGuard(Mode.NORMAL), action=ActionStamp("a", 5000))
    assert (await commit(redis, guarded)).verdict is Verdict.MODE
    assert not await redis.exists(Key.NONCE, action_key("a"))


async def test_a_commit_survives_a_kill_of_the_server(durable_server: Server) -> None:
    redis = connect(durable_server.url, client_name="test")
    await load_library(redis)
    await redis.set(lease_key(SERVICE), "7")
    made = step(state=StateWrite(state_key(SERVICE), 0, "{}"), adds=[Add(Stream.APPROVED, "kept")])
    first = await commit(redis, made)
    durable_server.kill()
    durable_server.start()
    with pytest.raises(BusUnavailable):  # the old connection; nothing below repeats a write by itself
        await commit(redis, made)
    second = await commit(redis, made)
    assert second.entry_ids == first.entry_ids
    assert await redis.xlen(Stream.APPROVED) == 1
    await redis.aclose()


MOST = 7_900
"""Values of one key in one step."""


@pytest.mark.parametrize(
    "too_large",
    [
        HashPut("large", {str(n): "1" for n in range(MOST // 2)}),
        SetAdd("large", [str(n) for n in range(MOST + 1)]),
        SetRemove("large", [str(n) for n in range(MOST + 1)]),
    ],
    ids=["hash", "sadd", "srem"],
)
async def test_a_part_too_large_for_one_call_is_refused_before_anything_is_written(
    redis: Redis, too_large: HashPut | SetAdd | SetRemove
) -> None:
    ack = await delivered(redis)
    state = StateWrite(state_key(SERVICE), 0, "{}")
    with pytest.raises(StepTooLarge):
        await commit(redis, step(state=state, acks=[ack], writes=[ValuePut("v", "text"), too_large]))
    with pytest.raises(StepTooLarge):
        await commit(redis, step(action=ActionStamp("a", ttl_ms=None, fields={str(n): "1" for n in range(MOST // 2)})))

    assert await redis.exists("v", "large", state_key(SERVICE), action_key("a"), Key.NONCE) == 0
    assert await pending(redis) == 1


async def test_the_largest_part_is_written_whole(redis: Redis) -> None:
    fields = {str(n): "1" for n in range((MOST - 4) // 2)}
    writes = [HashPut("h", fields), SetAdd("s", [str(n) for n in range(MOST)]), SetRemove("s", ["0"])]
    result = await commit(redis, step(writes=writes, action=ActionStamp("a", ttl_ms=None, fields=fields)))

    assert result.done
    assert await redis.hlen("h") == len(fields)
    assert await redis.scard("s") == MOST - 1
