"""The monitor as a running service: its API, its page, its one command, and what it does when Redis goes away."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import uuid

import httpx
import pytest

from monitor.builders import (
    ACCOUNT,
    BOT,
    MODEL_EVIDENCE,
    T0,
    a_decision,
    a_report,
    a_snapshot,
    a_target,
    an_alert,
    an_approval,
    an_intent,
    an_open_order,
    wrapped,
)
from support.servers import Server, free_port
from support.sessions import process_for, until
from support.stage import JumpClock
from tradingbot.bus.errors import IdentityMismatch
from tradingbot.bus.library import load_library
from tradingbot.bus.names import Group, Key, Stream, dead_letter_stream, spend_key
from tradingbot.monitor.service import run
from tradingbot.runtime.clock import Clock
from tradingbot.runtime.settings import SettingsError

TOKEN = "a-token-of-some-length"


@contextlib.asynccontextmanager
async def monitor(server: Server, *, clock: Clock | None = None, **environ: str):
    """A running monitor and a client for it."""
    port = free_port()
    given = {
        "REDIS_URL": server.url.get_secret_value(),
        "BOT_ID": BOT,
        "UNIVERSE": "BTC,ETH",
        "HL_ACCOUNT_ADDRESS": ACCOUNT,
        "PRICE_SOURCE": "synthetic",
        "MONITOR_PORT": str(port),
        **environ,
    }
    process = dataclasses.replace(process_for("monitor", clock=clock), environ=given)
    task = asyncio.create_task(run(process))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await until(lambda: task.done() or process.health.readiness[0])
            yield client
    finally:
        process.stop.set()
        await asyncio.wait_for(task, 60)


async def add(valkey, stream: Stream, data, **more) -> None:
    await valkey.xadd(stream.value, {"p": wrapped(stream, data, **more)})


async def page_when(client: httpx.AsyncClient, condition):
    async def ready():
        page = (await client.get("/api/state")).json()
        return page if condition(page) else None

    return await until(ready)


async def test_the_page_and_its_parts_come_from_here_alone(valkey, valkey_server):
    async with monitor(valkey_server) as client:
        page = await client.get("/")
        style, script = await client.get("/style.css"), await client.get("/app.js")

    assert page.status_code == style.status_code == script.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page.text


async def test_the_state_is_what_the_streams_say(valkey, valkey_server):
    await add(valkey, Stream.TARGET, a_target({"BTC": 0.2}))
    await add(valkey, Stream.APPROVED, an_approval({"BTC": 0.15}, clamps=[("BTC", "symbol_cap", 0.2, 0.15)]))
    await add(valkey, Stream.ORDERS, an_intent("a"))
    await add(valkey, Stream.REPORTS, a_report("a"))
    await add(valkey, Stream.SNAPSHOT, a_snapshot(positions={"BTC": "0.02"}, orders=(an_open_order(),)))
    async with monitor(valkey_server) as client:
        page = await page_when(client, lambda page: page["cycles"] and page["mode"])

        assert page["equity_usd"] == "10000"
        assert page["price_label"] == "SYNTHETIC"
        assert page["positions"][0]["approved"] == 0.15
        assert page["cycles"][0]["orders"][0]["status"] == "FILLED"
        assert page["open_orders"][0]["client_order_id"] == "20260218T1600Z:BTC:0:BUY"
        assert page["mode"] == {"mode": "HALT", "source": "breaker", "reason": "the risk engine has not reported yet"}

        await add(valkey, Stream.SNAPSHOT, a_snapshot(equity="10100", asof_ms=T0 + 10_000))
        await page_when(client, lambda page: page["equity_usd"] == "10100")


async def test_applied_stamps_and_modes_follow_their_keys(valkey, valkey_server):
    await valkey.hset(Key.MODE_BREAKER, mapping={"mode": "NORMAL", "reason": "", "at_ms": "1"})
    applied = {"mode": "HALT", "source": "person", "reason": "test", "received_at": "5", "acked_at": ""}
    await valkey.hset(Key.APPLIED, mapping={**applied, "open_orders": "2"})
    async with monitor(valkey_server) as client:
        page = await page_when(client, lambda page: page["mode"])

    assert page["mode"]["mode"] == "NORMAL"
    assert page["applied"]["received_at"] == 5
    assert page["applied"]["acked_at"] is None
    assert page["applied"]["open_orders"] == 2


async def test_a_halt_from_this_machine_is_a_persons_command(valkey, valkey_server):
    async with monitor(valkey_server) as client:
        answer = await client.post("/api/mode", json={"command": "HALT", "reason": "lunch"})
        page = (await client.get("/api/state")).json()

    assert answer.status_code == 202
    assert (await valkey.hgetall(Key.MODE_PERSON))["mode"] == "HALT"
    assert await valkey.xlen(Stream.COMMANDS.value) == 1
    assert page["mode"]["source"] in {"person", "breaker"}


async def test_one_click_sent_twice_is_one_command(valkey, valkey_server):
    body = {"command": "REDUCE_ONLY", "command_id": str(uuid.uuid4())}
    async with monitor(valkey_server) as client:
        answers = [await client.post("/api/mode", json=body) for _ in range(2)]

    assert [answer.json()["command_id"] for answer in answers] == [body["command_id"]] * 2
    assert await valkey.xlen(Stream.COMMANDS.value) == 1


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://elsewhere.example"}, {"Origin": "null"}, {"Host": "rebound.example"}],
)
async def test_a_web_page_elsewhere_cannot_command(valkey, valkey_server, headers):
    async with monitor(valkey_server) as client:
        answer = await client.post("/api/mode", json={"command": "HALT"}, headers=headers)

    assert answer.status_code == 403
    assert await valkey.exists(Key.MODE_PERSON) == 0


@pytest.mark.parametrize("path", ["/api/state", "/api/audit", "/api/openapi.json"])
async def test_a_web_page_elsewhere_cannot_read_the_account_by_a_rebound_name(valkey, valkey_server, path):
    async with monitor(valkey_server) as client:
        rebound = await client.get(path, headers={"Host": "rebound.example"})
        own = await client.get(path)

    assert rebound.status_code == 403
    assert own.status_code == 200


async def test_a_form_of_a_web_page_elsewhere_is_not_read(valkey, valkey_server):
    """Without a JSON content type a browser asks nobody before it sends."""
    async with monitor(valkey_server) as client:
        answer = await client.post("/api/mode", content='{"command":"HALT"}', headers={"Content-Type": "text/plain"})

    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("authorization", "status"), [(None, 401), ("Bearer wrong", 401), ("Bearer ä", 401), (f"Bearer {TOKEN}", 202)]
)
async def test_with_a_token_only_its_bearer_commands(valkey, valkey_server, authorization, status):
    headers = {"Authorization": authorization.encode()} if authorization else {}
    async with monitor(valkey_server, MONITOR_TOKEN=TOKEN, MONITOR_HOST="0.0.0.0") as client:
        answer = await client.post("/api/mode", json={"command": "HALT"}, headers=headers)
        page = (await client.get("/api/state")).json()

    assert answer.status_code == status
    assert page["needs_token"]
    assert TOKEN not in str(page)


async def test_without_a_token_a_monitor_on_the_network_takes_no_commands(valkey, valkey_server):
    async with monitor(valkey_server, MONITOR_HOST="0.0.0.0") as client:
        answer = await client.post("/api/mode", json={"command": "HALT"})
        page = (await client.get("/api/state")).json()

    assert answer.status_code == 403
    assert not page["may_command"]


@pytest.mark.parametrize("body", [{"command": "SET"}, {"command": "halt"}, {}, {"command": "HALT", "until": 1}])
async def test_only_the_three_modes_can_be_asked_for(valkey, valkey_server, body):
    async with monitor(valkey_server) as client:
        assert (await client.post("/api/mode", json=body)).status_code == 422

    assert await valkey.xlen(Stream.COMMANDS.value) == 0


async def test_the_audit_log_is_newest_first_and_bounded(valkey, valkey_server):
    for text in ("first", "second", "x" * 5000):
        await add(valkey, Stream.AUDIT, an_alert(text))
    await valkey.xadd(Stream.AUDIT.value, {"p": "not json"})
    async with monitor(valkey_server) as client:
        records = (await client.get("/api/audit", params={"limit": 3})).json()
        refused = await client.get("/api/audit", params={"limit": 501})

    assert records[0]["unreadable"] == "not json"
    assert len(records[1]["data"]["details"]["error"]) == 2001
    assert records[2]["data"]["details"]["error"] == "second"
    assert refused.status_code == 422


async def test_an_unreadable_entry_is_counted_and_the_next_one_shown(valkey, valkey_server):
    await valkey.xadd(Stream.SNAPSHOT.value, {"p": "{"})
    await valkey.xadd(Stream.SNAPSHOT.value, {"other": "field"})
    await add(valkey, Stream.SNAPSHOT, a_snapshot())
    async with monitor(valkey_server) as client:
        page = await page_when(client, lambda page: page["equity_usd"] and page["bus"]["unreadable"])

    assert page["bus"]["unreadable"] == 2


async def test_backlogs_and_dead_letters_are_gauges(valkey, valkey_server):
    await add(valkey, Stream.APPROVED, an_approval({}))
    await add(valkey, Stream.APPROVED, an_approval({}))
    await add(valkey, Stream.SNAPSHOT, a_snapshot())
    await valkey.xgroup_create(Stream.APPROVED.value, Group.EXEC.value, id="0")
    await valkey.xreadgroup(Group.EXEC.value, "execution", {Stream.APPROVED.value: ">"}, count=1)
    await valkey.xadd(dead_letter_stream(Stream.ORDERS.value), {"p": "{}"})
    async with monitor(valkey_server) as client:
        await page_when(client, lambda page: page["bus"]["groups"] and page["equity_usd"] and page["mode"])
        text = (await client.get("/metrics")).text

    labels = '{group="exec_grp",stream="risk.approved"}'
    assert f"tradingbot_bus_lag{labels} 1.0" in text.replace('{stream="risk.approved",group="exec_grp"}', labels)
    assert f"bus_pending{labels} 1.0" in text.replace('{stream="risk.approved",group="exec_grp"}', labels)
    assert 'tradingbot_dead_letters_held{stream="exec.orders"} 1.0' in text
    assert "tradingbot_equity_usd 10000.0" in text
    assert "tradingbot_mode 2.0" in text


async def test_the_models_money_is_read_while_a_model_is_asked_and_its_figures_are_gauges(valkey, valkey_server):
    await valkey.set(spend_key("2026-02-18"), 7_250)
    async with monitor(valkey_server, clock=JumpClock(T0)) as client:
        await add(valkey, Stream.AUDIT, a_decision(strategy="baseline"))
        await add(valkey, Stream.SNAPSHOT, a_snapshot())
        page = await page_when(client, lambda page: page["equity_usd"])
        assert page["llm"] is None
        assert "tradingbot_llm" not in (await client.get("/metrics")).text

        await add(valkey, Stream.AUDIT, a_decision(strategy="llm", evidence=MODEL_EVIDENCE))
        page = await page_when(client, lambda page: page["llm"] and page["llm"]["spend_usd"])
        text = (await client.get("/metrics")).text

    assert page["llm"]["spend_usd"] == "0.00725"
    for line in ("spend_usd 0.00725", "cap_usd 5.0", "circuit_open 0.0", "calls 2.0", "tokens_in 1800.0"):
        assert f"\ntradingbot_llm_{line}\n" in text
    assert "\ntradingbot_llm_tokens_out 120.0\n" in text
    assert "\ntradingbot_llm_latency_seconds 1.25\n" in text


async def test_it_outlives_redis_keeps_its_figures_and_comes_back(durable_server):
    with durable_server.admin() as admin:
        admin.xadd(Stream.SNAPSHOT.value, {"p": wrapped(Stream.SNAPSHOT, a_snapshot())})
    async with monitor(durable_server) as client:
        await page_when(client, lambda page: page["equity_usd"] == "10000")
        assert (await client.get("/readyz")).status_code == 200

        durable_server.kill()
        page = await page_when(client, lambda page: not page["bus"]["connected"])
        assert page["equity_usd"] == "10000"
        assert page["bus"]["why"]
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/api/audit")).status_code == 503
        assert (await client.post("/api/mode", json={"command": "HALT"})).status_code == 503

        durable_server.start()
        with durable_server.admin() as admin:
            admin.xadd(
                Stream.SNAPSHOT.value, {"p": wrapped(Stream.SNAPSHOT, a_snapshot(equity="9000", asof_ms=T0 + 1))}
            )
        await page_when(client, lambda page: page["bus"]["connected"] and page["equity_usd"] == "9000")


async def test_it_refuses_the_redis_of_another_bot(valkey, valkey_server):
    await valkey.set(Key.IDENTITY, '{"bot_id": "someone else"}')
    environ = {"REDIS_URL": valkey_server.url.get_secret_value(), "BOT_ID": BOT, "MONITOR_PORT": "0"}
    process = dataclasses.replace(process_for("monitor"), environ=environ)

    with pytest.raises(BaseExceptionGroup) as caught:
        await asyncio.wait_for(run(process), 60)

    assert caught.group_contains(IdentityMismatch)


async def test_a_port_in_use_is_a_clear_error(valkey_server):
    environ = {"REDIS_URL": valkey_server.url.get_secret_value(), "BOT_ID": BOT}
    in_use = {**environ, "MONITOR_PORT": str(valkey_server.port)}
    process = dataclasses.replace(process_for("monitor"), environ=in_use)

    with pytest.raises(SettingsError, match="cannot be listened on"):
        await run(process)


async def test_it_stops_while_a_browser_keeps_its_connection(valkey, valkey_server):
    async with monitor(valkey_server) as client:
        await client.get("/api/state")
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 30


async def test_the_function_library_is_needed_for_commands_only(valkey, valkey_server):
    await valkey.function_flush()
    async with monitor(valkey_server) as client:
        assert (await client.get("/api/state")).status_code == 200
        assert (await client.post("/api/mode", json={"command": "HALT"})).status_code == 503
        await load_library(valkey)
        assert (await client.post("/api/mode", json={"command": "HALT"})).status_code == 202
