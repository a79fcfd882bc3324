"""`ctl`, `dlq` and `audit` on a real bus."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.servers import Server
from tradingbot.bus.acl import acl_rules
from tradingbot.bus.client import connect
from tradingbot.bus.control import Applied
from tradingbot.bus.library import load_library
from tradingbot.bus.names import Key, Stream, dead_letter_stream
from tradingbot.bus.params import write_params
from tradingbot.cli import app
from tradingbot.domain.cycles import from_ms, minute_id
from tradingbot.domain.envelope import message
from tradingbot.domain.messages import AuditRecord, DeadLetter
from tradingbot.domain.modes import Mode
from tradingbot.domain.params import Params
from tradingbot.runtime.clock import SystemClock

IDENTITY = {"bot_id": "bot", "network": "paper", "account": "0xa"}


@pytest.fixture(autouse=True)
def bot(valkey_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus that belongs to a bot and has parameters."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", valkey_server.url.get_secret_value())

    async def prepare() -> None:
        async with connect(valkey_server.url, client_name="test") as redis:
            await load_library(redis)
            await redis.set(Key.IDENTITY, json.dumps(IDENTITY))
            await redis.hset(Key.MODE_BREAKER, mapping={"mode": "NORMAL", "reason": "", "latch_id": ""})
            await write_params(redis, Params(), generation=1)

    asyncio.run(prepare())


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def commands(server: Server) -> list[dict]:
    with server.admin() as admin:
        return [json.loads(fields["p"])["data"] for _, fields in admin.xrange(Stream.COMMANDS)]


def test_reduce_only_and_resume_write_the_persons_mode_and_the_log(valkey_server: Server) -> None:
    assert run("ctl", "reduce-only", "careful").output == "mode REDUCE_ONLY by person: careful\n"
    assert run("ctl", "resume").output == "mode NORMAL by spec\n"

    assert [each["command"] for each in commands(valkey_server)] == ["REDUCE_ONLY", "RESUME"]
    assert {each["source"] for each in commands(valkey_server)} == {"person"}


def test_a_halt_that_nobody_acknowledges_is_written_and_said_to_be_open(
    valkey_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("ctl", "halt", "--timeout", "0.2", "now")

    assert done.output.startswith("mode HALT by person: now\n")
    assert "execution has not acknowledged it" in str(done.exception)
    assert [each["command"] for each in commands(valkey_server)] == ["HALT"]


def test_the_acknowledgement_of_an_earlier_halt_is_not_taken_for_this_one(
    valkey_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = Applied(mode=Mode.HALT, command_id="earlier", received_at=1, cancelled_at=2, acked_at=3).put()
    with valkey_server.admin() as admin:
        admin.hset(earlier.key, mapping=dict(earlier.fields))

    done = run("ctl", "halt", "--timeout", "0.2", "now")

    assert "execution has not acknowledged it" in str(done.exception)


def test_a_parameter_is_overridden_and_taken_back(valkey_server: Server) -> None:
    assert run("ctl", "set", "risk.max_gross", "0.3").exit_code == 0
    assert json.loads(run("ctl", "status", "--json").output)["parameters"] == "1.1+1"
    assert run("ctl", "set", "risk.max_gross", "default").exit_code == 0

    assert [each["values"] for each in commands(valkey_server)] == [
        {"risk.max_gross": "0.3"},
        {"risk.max_gross": "default"},
    ]


@pytest.mark.parametrize(
    ("name", "value", "why"), [("risk.max_gross", "99", "less than"), ("risk.gros", "1", "unknown")]
)
def test_a_parameter_that_cannot_be_is_refused_and_nothing_is_written(
    valkey_server: Server, name: str, value: str, why: str
) -> None:
    done = run("ctl", "set", name, value)

    assert why in str(done.exception)
    assert commands(valkey_server) == []


def test_beside_the_monitor_a_parameter_is_refused_in_words(
    valkey_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with valkey_server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "monitor", *acl_rules("monitor"), ">secret")
        monkeypatch.setenv("REDIS_URL", f"redis://monitor:secret@127.0.0.1:{valkey_server.port}/0")
        done = run("ctl", "set", "risk.max_gross", "0.3")
        admin.execute_command("ACL", "DELUSER", "monitor")

    assert "change the resource" in str(done.exception)
    assert commands(valkey_server) == []


def test_only_the_latch_that_is_there_can_be_cleared(valkey_server: Server) -> None:
    assert "none is latched" in str(run("ctl", "clear-breaker", "x").exception)
    with valkey_server.admin() as admin:
        admin.hset(Key.MODE_BREAKER, mapping={"mode": "HALT", "reason": "drawdown", "latch_id": "dd-1"})

    assert "the latched one is dd-1" in str(run("ctl", "clear-breaker", "x").exception)
    assert run("ctl", "clear-breaker", "dd-1", "looked at it").exit_code == 0
    (command,) = commands(valkey_server)
    assert (command["command"], command["breaker_id"]) == ("CLEAR_BREAKER", "dd-1")


def dead_letter(server: Server, *, age_ms: int) -> str:
    """A dead letter of alpha.target whose cycle began ``age_ms`` ago."""
    now_ms = SystemClock().now_ms()
    cycle_id = minute_id(now_ms - age_ms)
    payload = json.dumps({"env": {"cycle_id": cycle_id}, "data": {}})
    letter = DeadLetter(
        stream="alpha.target",
        group="risk_grp",
        entry_id="1-0",
        payload=payload,
        reason="it broke",
        error_type="Permanent",
        retry_count=0,
        failed_at=from_ms(now_ms),
    )
    wrapped = message(
        letter, bot_id="bot", stream="dlq", source="risk_engine", cycle_id=cycle_id, key="1-0", now_ms=now_ms
    )
    with server.admin() as admin:
        return str(admin.xadd(dead_letter_stream(Stream.TARGET), {"p": wrapped.model_dump_json()}))


def test_a_dead_letter_is_listed_shown_and_dropped(valkey_server: Server) -> None:
    letter_id = dead_letter(valkey_server, age_ms=0)

    assert "Permanent: it broke" in run("dlq", "list").output
    assert json.loads(run("dlq", "list", "--json").output)[0]["id"] == letter_id
    assert json.loads(run("dlq", "show", "alpha.target", letter_id).output)["reason"] == "it broke"
    assert run("dlq", "drop", "alpha.target", letter_id).output == "dropped\n"
    assert run("dlq", "list").output == "0 dead letters\n"


def test_a_dead_letter_is_not_retried_once_its_cycle_is_over(valkey_server: Server) -> None:
    letter_id = dead_letter(valkey_server, age_ms=120_000)

    done = run("dlq", "retry", "alpha.target", letter_id)

    assert "counts for its own cycle only" in str(done.exception)
    with valkey_server.admin() as admin:
        assert admin.xlen(Stream.TARGET) == 0


def test_a_stream_that_does_not_exist_is_refused() -> None:
    assert run("dlq", "show", "no.such.stream", "1-0").exit_code == 2


def test_the_audit_log_is_searched_oldest_first(valkey_server: Server) -> None:
    with valkey_server.admin() as admin:
        for number in range(5):
            record = AuditRecord(kind="rate_limited" if number % 2 else "exec.plan", details={"number": number})
            wrapped = message(
                record,
                bot_id="bot",
                stream=Stream.AUDIT,
                source="execution",
                cycle_id="20260218T1600Z",
                key=str(number),
                now_ms=0,
            )
            admin.xadd(Stream.AUDIT, {"p": wrapped.model_dump_json()})

    found = run("audit", "rate_limited").output.splitlines()

    assert [line.split()[4:] for line in found] == [["rate_limited", "number", "1"], ["rate_limited", "number", "3"]]
    assert len(run("audit", "--kind", "exec.plan").output.splitlines()) == 3
    assert len(run("audit", "-n", "2").output.splitlines()) == 2
    assert json.loads(run("audit", "-n", "1", "--json").output)["data"]["details"] == {"number": 4}
