"""A message that is not valid: a dead letter with the validation error, an audit record; and the stream goes on.

One service at a time, each with the rights of its own role, on every stream that any service consumes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from redis.asyncio import Redis

from ai_decision.market import features
from failing_well.ensemble import AGENT, KEY, START_MS
from risk_engine.bench import snapshot
from support.paper import ACCOUNT, paper_exchange
from support.servers import Server
from support.stage import BOT_ID, JumpClock, Stage
from tradingbot.bus.names import PAYLOAD_FIELD, Group, Stream, dead_letter_stream
from tradingbot.bus.params import write_params
from tradingbot.domain.cycles import cycle_id_at
from tradingbot.domain.envelope import message
from tradingbot.domain.messages import (
    ApprovedTargetPortfolio,
    AuditLevel,
    AuditRecord,
    Command,
    ConstraintsHint,
    ControlCommand,
    DeadLetter,
    ExecutionReport,
    ModelName,
    OrderAction,
    OrderIntent,
    ReportStatus,
    RiskSummary,
    Side,
    TargetPortfolio,
    TargetWeight,
)
from tradingbot.domain.model import Model
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.domain.params import Params
from tradingbot.runtime.process import load_service


@dataclass(frozen=True)
class Consumer:
    """Who reads a stream, a message that it takes, and what breaks that message."""

    service: str
    stream: Stream
    group: Group
    good: Callable[[], Model]
    field: str
    wrong: Any

    def __str__(self) -> str:
        return f"{self.stream}-{self.group}"


def a_target() -> TargetPortfolio:
    return TargetPortfolio(
        targets=(TargetWeight(symbol="BTC", weight=0.05),),
        cash_weight=0.95,
        confidence=0.8,
        rationale="because",
        model=ModelName(name="test", version="1"),
        constraints_hint=ConstraintsHint(max_gross=0.4, max_net=0.2, turnover_cap=0.1),
    )


def an_approval() -> ApprovedTargetPortfolio:
    return ApprovedTargetPortfolio(
        mode=Mode.NORMAL,
        approved_targets=(TargetWeight(symbol="BTC", weight=0.05),),
        rejections=(),
        risk_summary=RiskSummary(gross=0.05, net=0.05, turnover=0.05, flags=()),
    )


def an_intent() -> OrderIntent:
    return OrderIntent(
        action=OrderAction.PLACE,
        client_order_id=f"{cycle_id_at(START_MS, cycle_seconds=60)}:BTC:0:BUY",
        symbol="BTC",
        side=Side.BUY,
        qty=Decimal("0.01"),
        limit_px=Decimal(60_000),
        tif="Gtc",
        slice_ref="plan:0",
        reason="slice",
        cloid="0x" + "1" * 32,
    )


def a_report() -> ExecutionReport:
    return ExecutionReport(
        client_order_id=f"{cycle_id_at(START_MS, cycle_seconds=60)}:BTC:0:BUY",
        exchange_order_id=None,
        status=ReportStatus.REJECTED,
        filled_qty=Decimal(0),
        avg_px=None,
        fee=Decimal(0),
        latency_ms=1,
        raw="",
        cloid="0x" + "1" * 32,
        symbol="BTC",
    )


def a_command() -> ControlCommand:
    return ControlCommand(command=Command.SET, command_id="c1", source=ModeSource.PERSON)


CONSUMERS = [
    Consumer("ai_decision", Stream.FEATURES, Group.AI, lambda: features(at_ms=START_MS), "asof_minute", "noon"),
    Consumer("risk_engine", Stream.TARGET, Group.RISK, a_target, "confidence", 1.5),
    Consumer("risk_engine", Stream.SNAPSHOT, Group.RISK_STATE, lambda: snapshot(at_ms=START_MS), "equity_usd", "lots"),
    Consumer("risk_engine", Stream.COMMANDS, Group.RISK_CTL, a_command, "command", "PANIC"),
    Consumer("execution", Stream.APPROVED, Group.EXEC, an_approval, "mode", "MAYBE"),
    Consumer("execution", Stream.ORDERS, Group.EXEC_ORDERS, an_intent, "side", "HOLD"),
    Consumer("execution", Stream.COMMANDS, Group.EXEC_CTL, a_command, "command", "PANIC"),
    Consumer("portfolio_state", Stream.REPORTS, Group.STATE_REPORTS, a_report, "status", "LOST"),
]


def test_every_group_of_every_stream_is_here() -> None:
    assert {each.group for each in CONSUMERS} == set(Group)


@pytest.fixture
async def stage(valkey: Redis, valkey_server: Server) -> AsyncIterator[Stage]:
    """The surroundings that any service needs, the paper exchange included."""
    await write_params(valkey, Params(), generation=1)
    clock = JumpClock(START_MS)
    async with paper_exchange(clock=clock, agents=(AGENT,)) as paper:
        environ = {
            "HL_NETWORK": "paper",
            "HL_HTTP_URL": paper.http_url,
            "HL_WS_URL": paper.ws_url,
            "HL_ACCOUNT_ADDRESS": ACCOUNT,
            "DECISION_WAIT_S": "0",
        }
        yield Stage(redis=valkey, server=valkey_server, clock=clock, environ=environ)


@contextlib.asynccontextmanager
async def running(stage: Stage, service: str) -> AsyncIterator[None]:
    if service == "execution":
        stage.environ["HL_PRIVATE_KEY"] = KEY
    async with stage.running(service, load_service(service)):
        yield


def wrapped(consumer: Consumer) -> dict[str, Any]:
    """A good message as it goes over the wire."""
    made = message(
        consumer.good(),
        bot_id=BOT_ID,
        stream=consumer.stream,
        source="test",
        cycle_id=cycle_id_at(START_MS, cycle_seconds=60),
        key="k",
        now_ms=START_MS,
    )
    found: dict[str, Any] = json.loads(made.model_dump_json())
    return found


@pytest.mark.parametrize("consumer", CONSUMERS, ids=str)
async def test_an_invalid_message_becomes_a_dead_letter_and_the_next_one_is_handled(
    consumer: Consumer, stage: Stage
) -> None:
    good = wrapped(consumer)
    bad = json.dumps({**good, "data": {**good["data"], consumer.field: consumer.wrong}})
    bad_id: Any = await stage.redis.xadd(consumer.stream, {PAYLOAD_FIELD: bad})
    async with running(stage, consumer.service):
        await stage.until(lambda: letters(stage, consumer))
        good_id: Any = await stage.redis.xadd(consumer.stream, {PAYLOAD_FIELD: json.dumps(good)})
        await stage.until_read(consumer.stream, consumer.group)

    (letter,) = await letters(stage, consumer)
    assert good_id != letter.entry_id
    assert (letter.stream, letter.entry_id, letter.payload) == (consumer.stream, bad_id, bad)
    assert letter.error_type == "InvalidMessage"
    assert consumer.field in letter.reason, "the validation error names the field"
    (record,) = await dead_letter_records(stage, consumer)
    assert (record["entry_id"], record["reason"]) == (bad_id, letter.reason)
    pending: Any = await stage.redis.xpending(consumer.stream, consumer.group)
    assert pending["pending"] == 0


BROKEN = {
    "no JSON": {PAYLOAD_FIELD: "{"},
    "not UTF-8": {PAYLOAD_FIELD: b"\xff\xfe"},
    "no payload": {"other": "1"},
    "no envelope": {PAYLOAD_FIELD: '{"data": {}}'},
    "a bare number": {PAYLOAD_FIELD: "7"},
    "deeper than any parser": {PAYLOAD_FIELD: "[" * 100_000},
}


async def test_whatever_is_written_to_a_stream_the_next_target_is_approved(stage: Stage) -> None:
    consumer = CONSUMERS[1]
    for fields in BROKEN.values():
        await stage.redis.xadd(consumer.stream, fields)
    await stage.say(Stream.SNAPSHOT, snapshot(at_ms=START_MS))
    await stage.say(Stream.FEATURES, features(at_ms=START_MS))
    async with running(stage, "risk_engine"):
        await stage.redis.xadd(consumer.stream, {PAYLOAD_FIELD: json.dumps(wrapped(consumer))})
        (approved,) = await stage.until(lambda: stage.read(Stream.APPROVED, ApprovedTargetPortfolio))
        await stage.until_read(consumer.stream, consumer.group)

    assert {each.symbol for each in approved.approved_targets} == {"BTC"}
    assert len(await letters(stage, consumer)) == len(BROKEN)
    assert len(await dead_letter_records(stage, consumer)) == len(BROKEN)


async def letters(stage: Stage, consumer: Consumer) -> list[DeadLetter]:
    found = await stage.read(dead_letter_stream(consumer.stream), DeadLetter)
    return [each for each in found if each.group == consumer.group and each.error_type == "InvalidMessage"]


async def dead_letter_records(stage: Stage, consumer: Consumer) -> list[dict[str, Any]]:
    """Their audit records' details."""
    found = await stage.read(Stream.AUDIT, AuditRecord)
    dead = [each.details for each in found if each.kind == "dlq" and each.level is AuditLevel.ERROR]
    return [each for each in dead if each["group"] == consumer.group and each["error_type"] == "InvalidMessage"]
