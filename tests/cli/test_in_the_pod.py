"""What `kubectl tradingbot` runs in the monitor's pod, with the rights that the monitor's user has on a real bus."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.servers import Server
from tradingbot.bus.acl import acl_rules
from tradingbot.bus.client import connect
from tradingbot.bus.control import Applied, issue
from tradingbot.bus.library import load_library
from tradingbot.bus.names import Key, Stream
from tradingbot.cli import app
from tradingbot.domain.cycles import from_ms, minute_id
from tradingbot.domain.envelope import message
from tradingbot.domain.messages import Command, ControlCommand, Health, OpenOrder, Side, StateSnapshot
from tradingbot.domain.modes import Mode, ModeSource

NOW_MS = 1_771_430_400_000


@pytest.fixture(autouse=True)
def pod(valkey_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus with the monitor's user alone known to the command, and BOT_ID as in the pod's environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", f"redis://monitor:secret@127.0.0.1:{valkey_server.port}/0")
    monkeypatch.setenv("BOT_ID", "uid-1")

    async def prepare() -> None:
        async with connect(valkey_server.url, client_name="test") as redis:
            await redis.execute_command("ACL", "SETUSER", "monitor", *acl_rules("monitor"), ">secret")
            await load_library(redis)
            await redis.hset(Key.MODE_BREAKER, mapping={"mode": "NORMAL", "reason": "", "latch_id": ""})

    asyncio.run(prepare())


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def person(server: Server) -> dict[str, str]:
    with server.admin() as admin:
        return admin.hgetall(Key.MODE_PERSON)


def spec_says(server: Server, command: Command, generation: int) -> None:
    async def say() -> None:
        said = ControlCommand(
            command=command, command_id=f"spec-{generation}", source=ModeSource.SPEC, generation=generation, uid="uid-1"
        )
        async with connect(server.url, client_name="operator") as redis:
            await issue(redis, said, now_ms=NOW_MS, bot_id="uid-1")

    asyncio.run(say())


def test_a_halt_counts_until_the_spec_has_reached_its_generation(valkey_server: Server) -> None:
    """The operator is down: the person's HALT counts; it comes back and writes the spec: the spec's counts alone."""
    spec_says(valkey_server, Command.RESUME, 3)

    halted = run("ctl", "halt", "--timeout", "0.2", "--until-generation", "4", "--by", "ann", "odd fills")

    assert halted.output.startswith("mode HALT by person: odd fills\n")
    assert (person(valkey_server)["until_generation"], person(valkey_server)["issued_by"]) == ("4", "ann")
    spec_says(valkey_server, Command.HALT, 4)
    assert json.loads(run("ctl", "status", "--json").output)["source"] == "spec"
    spec_says(valkey_server, Command.RESUME, 5)
    assert json.loads(run("ctl", "status", "--json").output)["mode"] == "NORMAL"


def test_a_halt_of_before_the_bot_first_started_is_written_all_the_same(valkey_server: Server) -> None:
    """Nobody has used the bus yet; the pod's environment names the bot."""
    run("ctl", "halt", "--timeout", "0.2", "--until-generation", "1")

    assert person(valkey_server)["mode"] == "HALT"


def test_a_halt_that_the_spec_has_overtaken_is_acknowledged_by_the_specs_own(valkey_server: Server) -> None:
    """Both ways of one HALT reach the bus; whichever execution answers, a person is told that it is done."""
    stamps = {"received_at": 1, "cancelled_at": 2, "acked_at": 3}
    applied = Applied(mode=Mode.HALT, command_id="spec-4", spec_generation=4, **stamps).put()
    with valkey_server.admin() as admin:
        admin.hset(applied.key, mapping=dict(applied.fields))

    assert "acknowledged after" in run("ctl", "halt", "--timeout", "0.2", "--until-generation", "4").output
    later = run("ctl", "halt", "--timeout", "0.2", "--until-generation", "5")
    assert "execution has not acknowledged it" in str(later.exception)


def test_reduce_only_waits_for_its_acknowledgement_when_asked_to(valkey_server: Server) -> None:
    """A stricter mode that is acknowledged already holds it too."""
    applied = Applied(mode=Mode.HALT, spec_generation=4, received_at=1, cancelled_at=2, acked_at=3).put()
    with valkey_server.admin() as admin:
        admin.hset(applied.key, mapping=dict(applied.fields))

    done = run("ctl", "reduce-only", "--timeout", "0.2", "--wait", "--until-generation", "4")
    assert "acknowledged after" in done.output
    assert "no order that could grow a position" in done.output
    assert "has not acknowledged it" in str(run("ctl", "reduce-only", "--timeout", "0.2", "--wait").exception)


def test_resume_lifts_the_persons_halt(valkey_server: Server) -> None:
    """The other half of `kubectl tradingbot resume`."""
    run("ctl", "halt", "--timeout", "0.2", "--until-generation", "9")
    run("ctl", "resume", "--by", "ann")

    assert person(valkey_server)["mode"] == "NORMAL"
    assert "until_generation" not in person(valkey_server)


def test_open_orders_are_those_of_the_last_reconciliation(valkey_server: Server) -> None:
    """With whose they are, and when that was; without a snapshot they are said to be unknown."""
    unknown = run("ctl", "orders")
    assert unknown.exit_code != 0
    assert "open orders are not known" in str(unknown.exception)

    orders = (
        OpenOrder(client_order_id="20260218T1600Z:BTC:0:BUY", exchange_order_id="77", symbol="BTC", side=Side.BUY,
                  px=Decimal("50000.5"), qty=Decimal("0.001"), status="open", reduce_only=True),
        OpenOrder(client_order_id=None, exchange_order_id="78", symbol="ETH", side=Side.SELL, px=Decimal(3000),
                  qty=Decimal(2), status="open", cloid="0x99", foreign=True),
    )  # fmt: skip
    snapshot = StateSnapshot(
        equity_usd=Decimal(10_000),
        cash_usd=Decimal(10_000),
        positions={},
        open_orders=orders,
        health=Health(last_reconcile_ts=from_ms(NOW_MS), reconcile_ok=True),
        asof_ms=NOW_MS,
    )
    wrapped = message(
        snapshot, bot_id="uid-1", stream=Stream.SNAPSHOT, source="portfolio_state", cycle_id=minute_id(NOW_MS),
        key="1", now_ms=NOW_MS,
    )  # fmt: skip
    with valkey_server.admin() as admin:
        admin.set(Key.LATEST_SNAPSHOT, wrapped.model_dump_json())

    shown = run("ctl", "orders").output.splitlines()
    assert shown[0].split()[:5] == ["BTC", "BUY", "0.001", "@", "50000.5"]
    assert shown[0].endswith("20260218T1600Z:BTC:0:BUY reduce-only")
    assert shown[1].endswith("0x99 foreign")
    assert shown[2] == "2 open orders at 2026-02-18 16:00:00Z"
    assert len(json.loads(run("ctl", "orders", "--json").output)["open_orders"]) == 2


def test_the_monitors_user_may_not_speak_for_the_spec(valkey_server: Server) -> None:
    """What runs in the pod can restrict and lift a person's restriction, and nothing else."""

    async def attempt() -> None:
        said = ControlCommand(command=Command.RESUME, command_id="x", source=ModeSource.SPEC, generation=99)
        url = f"redis://monitor:secret@127.0.0.1:{valkey_server.port}/0"
        async with connect(type(valkey_server.url)(url), client_name="monitor") as redis:
            await issue(redis, said, now_ms=NOW_MS, bot_id="uid-1")

    with pytest.raises(Exception, match=r"(?i)permission|no permissions"):
        asyncio.run(attempt())
