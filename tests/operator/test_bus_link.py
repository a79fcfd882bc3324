"""The operator's Redis side of a bot, on real servers and under the real access rules."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from support.operator_bus import (
    MASTER,
    UID,
    Secrets,
    Woken,
    add_users,
    applied_of,
    bot_of,
    breaker_says,
    execution_says,
    links_to,
)
from support.servers import Server, free_port
from tradingbot.bus.control import issue, read_modes
from tradingbot.bus.library import library_digest, load_library, read_keys
from tradingbot.bus.names import Key, Stream
from tradingbot.bus.params import read_params, write_person_params
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import Command, ControlCommand
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.domain.params import HaltAction
from tradingbot.runtime.clock import ManualClock
from tradingbot_operator.bus_link import IDLE_S, LOOK_AT_MOST_S, MAX_IDLE, BusUnreachable, Links
from tradingbot_operator.modes import desired_of
from tradingbot_operator.names import CLEAR_BREAKER

NOW_MS = 1_771_430_400_000


async def commands(redis: Redis) -> list[ControlCommand]:
    entries = await redis.xrange(Stream.COMMANDS)
    return [Message[ControlCommand].read(fields["p"]).data for _, fields in entries]


async def until(condition: Callable[[], bool | Awaitable[bool]], *, deadline_s: float = 60.0) -> bool:
    for _ in range(int(deadline_s / 0.01)):
        found = condition()
        if found if isinstance(found, bool) else await found:
            return True
        await asyncio.sleep(0.01)
    return False


async def following(redis: Redis) -> bool:
    """Whether a link waits for the next command, so that whatever was to be told before has been told."""
    found = {each["name"]: each for each in await redis.client_list()}
    return "b" in found.get("operator-follow", {"flags": ""})["flags"]


@pytest.fixture
async def bare(any_server: Server) -> AsyncIterator[Redis]:
    """A Redis with the bot's users and nothing else: no library, no key."""
    redis = Redis(port=any_server.port, decode_responses=True)
    await add_users(redis, bot_of())
    yield redis
    await redis.aclose()


# a new Redis, and one that lost everything


async def test_an_empty_redis_gets_library_identity_and_mode(bare: Redis, any_server: Server) -> None:
    bot = bot_of()
    async with links_to(any_server) as links:
        found = await links.of(bot).apply_mode(bot)
    assert found.issued
    assert found.view.spec is not None
    assert (found.view.spec.mode, found.view.spec.uid, found.view.spec.generation) == (Mode.NORMAL, UID, 1)
    assert (await read_keys(bare, Key.MODE_SPEC)).digest == library_digest()
    assert json.loads(await bare.get(Key.IDENTITY)) == {
        "bot_id": UID,
        "network": "paper",
        "account": MASTER.paper_account("trading", UID),
    }
    assert await bare.hget(Key.SERVER, "appendfsync")
    [command] = await commands(bare)
    assert (command.command, command.source, command.generation) == ("RESUME", ModeSource.SPEC, 1)


async def test_a_redis_that_came_back_empty_gets_everything_again(bare: Redis, any_server: Server) -> None:
    bot = bot_of({"mode": "HALT"})
    async with links_to(any_server) as links:
        link = links.of(bot)
        await link.apply_mode(bot)
        await link.apply_params(bot)
        await bare.flushall()
        await bare.function_flush()
        assert (await link.apply_mode(bot)).issued
        assert await link.apply_params(bot) == 1
        assert (await link.view()).identity is not None
    assert [command.command for command in await commands(bare)] == ["HALT", "SET"]


async def test_an_older_library_is_replaced_and_the_same_one_is_not_written_again(
    bare: Redis, any_server: Server
) -> None:
    bot = bot_of()
    async with links_to(any_server) as links:
        await links.of(bot).ensure_library()
    text = (await bare.function_list(library="tradingbot_v1", withcode=True))[0]
    source = dict(zip(text[::2], text[1::2], strict=True)) if isinstance(text, list) else text
    await bare.function_load(source["library_code"].replace(library_digest(), "older"), replace=True)
    async with links_to(any_server) as links:
        await links.of(bot).ensure_library()
        assert (await links.of(bot).view()).digest == library_digest()
    written = await dirty(bare)
    async with links_to(any_server) as links:
        await links.of(bot).ensure_library()
    assert await dirty(bare) == written


async def dirty(redis: Redis) -> int:
    """How many changes the server has made; it only rises while nothing is saved."""
    return int((await redis.info("persistence"))["rdb_changes_since_last_save"])


async def test_a_healthy_bot_is_not_written_to_after_a_restart_of_the_operator(bare: Redis, any_server: Server) -> None:
    bot = bot_of()
    async with links_to(any_server) as links:
        await apply_all(links)
        await execution_says(bare, applied_of(bot, Mode.NORMAL))
    written = await dirty(bare)
    async with links_to(any_server) as links:
        assert not (await links.of(bot).apply_mode(bot)).issued
        await apply_all(links)
    assert await dirty(bare) == written


async def apply_all(links: Links) -> None:
    bot = bot_of()
    link = links.of(bot)
    await link.apply_mode(bot)
    await link.apply_params(bot)
    await link.apply_share(500)


# modes


async def test_the_same_command_is_sent_until_it_is_acknowledged_and_is_one(bare: Redis, any_server: Server) -> None:
    bot = bot_of({"mode": "HALT"})
    async with links_to(any_server) as links:
        link = links.of(bot)
        assert [(await link.apply_mode(bot)).issued for _ in range(3)] == [True, True, True]
        await execution_says(bare, applied_of(bot, Mode.HALT, acked_at=None))
        assert (await link.apply_mode(bot)).issued
        await execution_says(bare, applied_of(bot, Mode.HALT))
        assert not (await link.apply_mode(bot)).issued
    assert [command.command for command in await commands(bare)] == ["HALT"]


async def test_every_generation_is_said_so_that_a_persons_mode_ends_by_it(bare: Redis, any_server: Server) -> None:
    await breaker_says(bare, Mode.NORMAL)
    async with links_to(any_server) as links:
        bot = bot_of(generation=1)
        link = links.of(bot)
        await link.apply_mode(bot)
        halt = ControlCommand(
            command=Command.HALT, command_id="p", source=ModeSource.PERSON, until_generation=2, issued_by="ann"
        )
        await issue(bare, halt, now_ms=NOW_MS, bot_id=UID)
        seen = await link.view()
        assert seen.effective.mode is Mode.HALT
        assert seen.person is not None
        assert (seen.person.by, seen.person.until_generation, seen.person.counts) == ("ann", 2, True)
        await execution_says(bare, applied_of(bot, Mode.NORMAL))
        later = bot_of(generation=2)  # the mode stays NORMAL; something else of the spec has changed
        after = (await link.apply_mode(later)).view
    assert (after.effective.mode, after.spec_generation) == (Mode.NORMAL, 2)
    assert after.person is not None
    assert not after.person.counts


async def test_resume_lifts_the_specs_restriction_and_no_other(bare: Redis, any_server: Server) -> None:
    await breaker_says(bare, Mode.REDUCE_ONLY)
    async with links_to(any_server) as links:
        halted = bot_of({"mode": "HALT"})
        await links.of(halted).apply_mode(halted)
        assert (await read_modes(bare)).source is ModeSource.SPEC
        normal = bot_of({"mode": "NORMAL"}, generation=2)
        view = (await links.of(normal).apply_mode(normal)).view
    assert (view.effective.mode, view.effective.source) == (Mode.REDUCE_ONLY, ModeSource.BREAKER)


async def test_an_operator_that_looks_at_an_old_generation_changes_nothing(bare: Redis, any_server: Server) -> None:
    new, old = bot_of({"mode": "HALT"}, generation=7), bot_of({"mode": "NORMAL"}, generation=6)
    async with links_to(any_server) as links, links_to(any_server) as others:
        await links.of(new).apply_mode(new)
        await links.of(new).apply_params(new)
        found = await others.of(old).apply_mode(old)
        assert await others.of(old).apply_params(old) is None
    assert not found.issued
    assert (await read_modes(bare)).mode is Mode.HALT
    assert len(await commands(bare)) == 2


async def test_a_race_of_two_generations_is_won_by_the_newer(bare: Redis, any_server: Server) -> None:
    """Between the look and the write another operator may speak: the function refuses the older one."""
    async with links_to(any_server) as links:
        bots = [
            bot_of({"mode": mode}, generation=at) for at, mode in enumerate(("NORMAL", "HALT", "NORMAL", "HALT"), 1)
        ]
        await asyncio.gather(*(links.of(bot).apply_mode(bot) for bot in reversed(bots)))
        view = await links.of(bots[-1]).view()
    assert (view.spec_generation, view.effective.mode) == (4, Mode.HALT)


async def test_what_is_wanted_twice_of_one_generation_is_said_twice(bare: Redis, any_server: Server) -> None:
    """So it is with a bot that loses its account, gets it back and loses it again."""
    await breaker_says(bare, Mode.NORMAL)
    has_account, has_none = bot_of(), bot_of({"suspend": True})
    async with links_to(any_server) as links, links_to(any_server) as others:
        for bot in (has_account, has_none, has_account, has_none):
            for link in (links.of(bot), others.of(bot), links.of(bot)):
                view = (await link.apply_mode(bot)).view
                assert view.effective.mode is desired_of(bot).mode
    assert [command.command for command in await commands(bare)] == ["RESUME", "HALT", "RESUME", "HALT"]


async def test_a_halt_is_written_before_a_latch_is_cleared(bare: Redis, any_server: Server) -> None:
    await breaker_says(bare, Mode.HALT, latch_id="l-1", command_id="b-1")
    bot = bot_of({"mode": "HALT"}, annotations={CLEAR_BREAKER: "l-1"})
    async with links_to(any_server) as links:
        await links.of(bot).apply_mode(bot)
    assert [command.command for command in await commands(bare)] == ["HALT", "CLEAR_BREAKER"]


async def test_the_annotation_clears_the_latch_that_it_names_once(bare: Redis, any_server: Server) -> None:
    await breaker_says(bare, Mode.HALT, latch_id="l-1", latch_ids="l-1,l-2", command_id="b-1")
    async with links_to(any_server) as links:
        for name in ("l-0", "l-2", "l-2"):
            bot = bot_of(annotations={CLEAR_BREAKER: name})
            await links.of(bot).apply_mode(bot)
        await breaker_says(bare, Mode.HALT, latch_id="l-2", command_id="b-2")  # latched again under the same id
        await links.of(bot).apply_mode(bot)
    cleared = [command for command in await commands(bare) if command.command is Command.CLEAR_BREAKER]
    assert [command.breaker_id for command in cleared] == ["l-2", "l-2"]


async def test_an_adopting_bot_is_not_fooled_by_what_its_predecessor_had_acknowledged(
    bare: Redis, any_server: Server
) -> None:
    before = bot_of({"mode": "HALT"}, generation=9)
    heir = bot_of({"mode": "HALT", "redis": {"adopt": UID}}, uid="99999999-2222-4333-8444-555555555555")
    async with links_to(any_server) as links:
        await links.of(before).apply_mode(before)
        await execution_says(bare, applied_of(before, Mode.HALT))
        found = await links.of(heir).apply_mode(heir)
    assert found.issued
    assert found.view.spec is not None
    assert (found.view.spec.uid, found.view.spec.generation) == (heir.uid, 1)


# parameters and shares


async def test_parameters_are_written_and_announced_when_they_change_only(bare: Redis, any_server: Server) -> None:
    async with links_to(any_server) as links:
        bot = bot_of({"risk": {"maxGross": 0.3, "caps": {}, "maxNet": 0.2}})
        link = links.of(bot)
        assert [await link.apply_params(bot) for _ in range(3)] == [1, 1, 1]
        await write_person_params(bare, {"risk.max_gross": 0.25})
        assert (await link.view()).overrides == {"risk.max_gross": 0.25}
        changed = bot_of({"risk": {"maxGross": 0.35, "caps": {}, "maxNet": 0.2}}, generation=2)
        assert await link.apply_params(changed) == 2
        assert (await link.view()).overrides == {}
    found = await read_params(bare)
    assert found is not None
    assert (found.generation, found.params.risk.max_gross) == (2, 0.35)
    announced = await commands(bare)
    assert [(each.command, each.source, each.generation) for each in announced] == [
        ("SET", ModeSource.SPEC, 1),
        ("SET", ModeSource.SPEC, 2),
    ]


async def test_a_deletion_that_flattens_says_so_before_it_halts(bare: Redis, any_server: Server) -> None:
    async with links_to(any_server) as links:
        bot = bot_of({"deletionPolicy": "Flatten"})
        await links.of(bot).apply_mode(bot)
        going = bot_of({"deletionPolicy": "Flatten"}, generation=2, deleting=True)
        await links.of(going).apply_mode(going)
    assert [each.command for each in await commands(bare)] == ["RESUME", "SET", "HALT"]
    found = await read_params(bare)
    assert found is not None
    assert found.params.risk.halt_action is HaltAction.FLATTEN


async def test_a_halt_gets_through_where_the_parameters_cannot_be_written(bare: Redis, any_server: Server) -> None:
    await bare.set(Key.PARAMS, "not a hash")
    async with links_to(any_server) as links:
        going = bot_of({"deletionPolicy": "Flatten"}, generation=2, deleting=True)
        with pytest.raises(BusUnreachable):
            await links.of(going).apply_mode(going)
    assert [each.command for each in await commands(bare)] == ["HALT"]


async def test_a_share_is_written_when_it_changes(bare: Redis, any_server: Server) -> None:
    bot = bot_of()
    async with links_to(any_server) as links:
        link = links.of(bot)
        await link.apply_share(550)
        assert (await link.view()).share_per_min == 550
        written = await dirty(bare)
        await link.apply_share(550)
        assert await dirty(bare) == written
        await link.apply_share(275)
    assert await bare.hgetall(Key.LIMITS) == {"ip_weight": "275"}


# what cannot be reached, and whose it is


async def test_a_redis_that_is_not_there_is_said_with_what_to_look_at(any_server: Server) -> None:
    bot = bot_of()
    async with links_to(replace(any_server, port=free_port())) as links:
        with pytest.raises(BusUnreachable, match="kubectl -n trading describe pod majors-redis-0") as caught:
            await links.of(bot).view()
    assert caught.value.reason == "RedisUnreachable"


async def test_a_redis_that_swallows_everything_is_given_up_after_two_seconds(any_server: Server) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        bot = bot_of()
        async with links_to(replace(any_server, port=deaf.getsockname()[1])) as links:
            begun_s = asyncio.get_running_loop().time()
            with pytest.raises(BusUnreachable):
                await links.of(bot).view()
            assert asyncio.get_running_loop().time() - begun_s < 30, "on a machine however slow"


async def test_another_bots_redis_is_not_touched(bare: Redis, any_server: Server) -> None:
    theirs = json.dumps({"account": "0x1", "bot_id": "other", "network": "paper"}, sort_keys=True)
    await bare.set(Key.IDENTITY, theirs)
    bot = bot_of()
    async with links_to(any_server) as links:
        with pytest.raises(BusUnreachable, match="belongs to") as caught:
            await links.of(bot).apply_mode(bot)
    assert caught.value.reason == "RedisOfAnotherBot"
    assert await bare.exists(Key.MODE_SPEC, Stream.COMMANDS) == 0


async def test_a_wrong_password_is_told_apart_from_an_outage_and_never_shown(bare: Redis, any_server: Server) -> None:
    await bare.execute_command("ACL", "SETUSER", "operator", "resetpass", ">another")
    bot = bot_of()
    async with links_to(any_server) as links:
        with pytest.raises(BusUnreachable, match="master key") as caught:
            await links.of(bot).view()
    assert caught.value.reason == "RedisRefused"
    assert MASTER.password("trading", UID, "operator") not in str(caught.value)


async def test_a_user_without_the_operators_rights_is_told_so(bare: Redis, any_server: Server) -> None:
    await bare.execute_command(
        "ACL", "SETUSER", "operator", "reset", "on", "+ping", f">{MASTER.password('trading', UID, 'operator')}"
    )
    bot = bot_of()
    async with links_to(any_server) as links:
        with pytest.raises(BusUnreachable) as caught:
            await links.of(bot).view()
    assert caught.value.reason == "RedisRefused"


async def test_it_comes_back_by_itself_when_redis_does(durable_server: Server) -> None:
    bot = bot_of()
    async with Redis(port=durable_server.port, decode_responses=True) as admin:
        await add_users(admin, bot)
    woken = Woken()
    async with links_to(durable_server, woken=woken) as links:
        link = links.of(bot)
        await link.apply_mode(bot)
        assert await until(lambda: bool(woken.keys))
        async with Redis(port=durable_server.port, decode_responses=True) as admin:
            assert await until(lambda: following(admin))
        woken.keys.clear()
        durable_server.kill()
        with pytest.raises(BusUnreachable):
            await link.view()
        assert await until(lambda: woken.keys == [bot.key]), "its going is told"
        durable_server.start()
        async with Redis(port=durable_server.port, decode_responses=True) as admin:
            await add_users(admin, bot)  # the pod reads its users from the ConfigMap at each start
        assert await until(lambda: len(woken.keys) > 1), "its coming back is told"
        assert (await link.view()).spec_generation == 1


# a Redis of one's own


def own_redis(**spec: object) -> dict[str, object]:
    return {"redis": {"urlSecretRef": {"name": "mine"}}, **spec}


async def test_a_url_comes_from_its_secret_and_is_read_once(bare: Redis, any_server: Server) -> None:
    await bare.execute_command("ACL", "SETUSER", "me", "on", "~*", "+@all", ">first")
    secrets = Secrets(f"redis://me:first@127.0.0.1:{any_server.port}/3")
    bot = bot_of(own_redis())
    async with links_to(any_server, secrets=secrets) as links:
        link = links.of(bot)
        await link.apply_mode(bot)
        await link.view()
        assert secrets.reads == 1
        await link.close()
        await bare.execute_command("ACL", "SETUSER", "me", "resetpass", ">second")
        secrets.url = f"redis://me:second@127.0.0.1:{any_server.port}/3"
        assert (await link.view()).spec_generation == 1
        assert secrets.reads == 2
    async with Redis(port=any_server.port, db=3, decode_responses=True) as third:
        assert await third.hget(Key.MODE_SPEC, "mode") == "NORMAL"


@pytest.mark.parametrize(
    ("url", "reason"),
    [(None, "SecretMissing"), ("http://example.org", "SecretUnusable"), ("nonsense", "SecretUnusable")],
)
async def test_a_secret_that_cannot_be_used_is_said_without_its_content(
    any_server: Server, url: str | None, reason: str
) -> None:
    bot = bot_of(own_redis())
    async with links_to(any_server, secrets=Secrets(url)) as links:
        with pytest.raises(BusUnreachable, match=r"Secret mine of spec\.redis\.urlSecretRef") as caught:
            await links.of(bot).view()
    assert caught.value.reason == reason
    assert "example" not in str(caught.value)


# following


async def test_a_change_of_the_breaker_wakes_a_running_bot(bare: Redis, any_server: Server) -> None:
    bot, woken = bot_of(), Woken()
    async with links_to(any_server, woken=woken) as links:
        await links.of(bot).apply_mode(bot)
        await execution_says(bare, applied_of(bot, Mode.NORMAL))
        await links.of(bot).apply_mode(bot)
        assert await until(lambda: bool(woken.keys))
        assert await until(lambda: following(bare))
        woken.keys.clear()
        await bare.xadd(Stream.COMMANDS, {"p": "{}"})
        assert await until(lambda: woken.keys == [bot.key])


async def test_an_acknowledgement_wakes_the_bot_and_then_the_looking_ends(bare: Redis, any_server: Server) -> None:
    bot, woken = bot_of({"mode": "HALT"}), Woken()
    async with links_to(any_server, woken=woken) as links:
        link = links.of(bot)
        await link.apply_mode(bot)
        assert await until(lambda: bool(woken.keys))
        assert await until(lambda: following(bare))
        woken.keys.clear()
        await execution_says(bare, applied_of(bot, Mode.HALT))
        assert await until(lambda: woken.keys == [bot.key])
        await link.apply_mode(bot)
        assert link._looker is None


async def test_looking_ends_by_itself_when_nothing_comes(bare: Redis, any_server: Server) -> None:
    bot, clock = bot_of({"mode": "HALT"}), ManualClock(NOW_MS)
    async with links_to(any_server, clock=clock) as links:
        link = links.of(bot)
        await link.apply_mode(bot)
        for _ in range(int(LOOK_AT_MOST_S) + 2):
            await clock.advance(1.0)
            await asyncio.sleep(0.002)
        assert link._looker is not None
        for _ in range(200):
            await clock.advance(1.0)
            await asyncio.sleep(0.002)
            if link._looker.done():
                break
        assert link._looker.done()


async def test_a_suspended_bot_has_no_task_and_its_connection_is_closed_when_idle(
    bare: Redis, any_server: Server
) -> None:
    bot, clock = bot_of({"suspend": True}), ManualClock(NOW_MS)
    async with links_to(any_server, clock=clock) as links:
        link = links.of(bot)
        await link.apply_mode(bot, execution_present=False)
        assert (link.busy, link.connected) == (False, True)
        await asyncio.sleep(0)
        await clock.advance(IDLE_S * 0.9)
        assert link.connected
        await clock.advance(IDLE_S * 1.2)
        assert await until(lambda: not link.connected)
        later = bot_of({"suspend": True}, generation=2)
        assert (await link.apply_mode(later)).view.spec_generation == 2


async def test_a_bot_that_is_suspended_stops_being_followed(bare: Redis, any_server: Server) -> None:
    running, suspended = bot_of(), bot_of({"suspend": True}, generation=2)
    async with links_to(any_server) as links:
        link = links.of(running)
        await link.apply_mode(running)
        await execution_says(bare, applied_of(running, Mode.NORMAL))
        assert link.busy
        await link.apply_mode(suspended)
        await execution_says(bare, applied_of(suspended, Mode.HALT))
        await link.apply_mode(suspended)

        async def idle() -> None:
            while link.busy:  # the task that looked ends in its own time
                await asyncio.sleep(0.01)

        await asyncio.wait_for(idle(), timeout=60)


async def test_many_suspended_bots_hold_few_connections(any_server: Server) -> None:
    async with Redis(port=any_server.port, decode_responses=True) as admin:
        await load_library(admin)
        bots = [
            bot_of(own_redis(suspend=True), uid=f"00000000-0000-4000-8000-{at:012d}", name=f"b{at}") for at in range(60)
        ]

        class Indexed(Secrets):
            async def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, object] | None:
                self.url = f"redis://127.0.0.1:{any_server.port}/{self.reads % 16}"
                return await super().get(api_version, kind, namespace, name)

        async with links_to(any_server, secrets=Indexed()) as links:
            for bot in bots[:16]:
                await links.of(bot).apply_mode(bot, execution_present=False)
            for bot in bots[16:]:
                with pytest.raises(BusUnreachable, match="belongs to"):  # only 16 indexes here
                    await links.of(bot).apply_mode(bot, execution_present=False)

            async def few() -> bool:  # the server notices an end in its own time
                return len([each for each in await admin.client_list() if each["name"] == "operator"]) <= MAX_IDLE

            async def none() -> bool:
                return not [each for each in await admin.client_list() if each["name"].startswith("operator")]

            assert await until(few)
        assert await until(none)


async def test_a_link_that_is_given_up_while_it_is_asked_leaves_no_connection_behind(
    bare: Redis, any_server: Server
) -> None:
    async with links_to(any_server) as links:
        bot = bot_of()
        link, begun, given_up = links.of(bot), asyncio.Event(), asyncio.Event()

        async def question(redis: Redis) -> None:
            await redis.ping()
            begun.set()
            await given_up.wait()
            await redis.ping()  # opens the closed connection again

        asked = asyncio.create_task(link._ask(question))
        await begun.wait()
        await links.forget(bot.uid)
        given_up.set()
        await asked
        assert not link.connected
        async with asyncio.timeout(60):
            while "operator" in [each["name"] for each in await bare.client_list()]:
                await asyncio.sleep(0.01)  # the server notices an end in its own time
