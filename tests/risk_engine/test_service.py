"""The risk engine on a real Valkey: it halts by itself, lifts by itself or by a person, and survives restarts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
import pytest_asyncio

from risk_engine.bench import T0, snapshot
from support.stage import BOT_ID, JumpClock, Stage
from tradingbot.bus.control import issue, read_modes
from tradingbot.bus.names import Group, Key, Stream
from tradingbot.bus.params import write_params
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.messages import (
    ApprovedTargetPortfolio,
    AuditRecord,
    Command,
    ConstraintsHint,
    ControlCommand,
    FeatureSnapshot1m,
    Inputs,
    ModelName,
    TargetPortfolio,
    TargetWeight,
)
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.domain.params import Params
from tradingbot.risk_engine.service import run


def target(**weights: float) -> TargetPortfolio:
    return TargetPortfolio(
        targets=tuple(TargetWeight(symbol=symbol, weight=weight) for symbol, weight in weights.items()),
        cash_weight=1 - sum(weights.values()),
        confidence=0.8,
        rationale="because",
        model=ModelName(name="test", version="1"),
        constraints_hint=ConstraintsHint(max_gross=0.4, max_net=0.2, turnover_cap=0.1),
        inputs=Inputs(features_id="1-1"),
    )


class Scene(Stage):
    """The bus around the risk engine."""

    @asynccontextmanager
    async def engine(self):
        async with self.running("risk_engine", run) as process:
            yield process

    async def features(self, *, priced: bool = True) -> None:
        minute_ms = self.clock.now_ms() - self.clock.now_ms() % 60_000
        bare = FeatureSnapshot1m(
            asof_minute=from_ms(minute_ms),
            universe=("BTC",),
            mid_px={"BTC": Decimal(50_000)} if priced else {},
            ret_1m={},
            ret_5m={},
            ret_1h={},
            vol_1h={},
            stale=() if priced else ("BTC",),
        )
        await self.say(Stream.FEATURES, bare)

    async def account(self, equity: object = 10_000, *, after_s: float = 10, priced: bool = True, **health) -> None:
        """Time passes, and the account is reconciled."""
        self.clock.jump(after_s)
        await self.features(priced=priced)
        await self.say(Stream.SNAPSHOT, snapshot(at_ms=self.clock.now_ms(), equity=equity, **health))
        await self.until_read(Stream.SNAPSHOT, Group.RISK_STATE)

    async def mode(self) -> Mode:
        return (await read_modes(self.redis)).mode

    async def breaker(self) -> dict[str, str]:
        return await self.redis.hgetall(Key.MODE_BREAKER)

    async def commands(self) -> list[ControlCommand]:
        return await self.read(Stream.COMMANDS, ControlCommand)

    async def approval(self, asked: TargetPortfolio) -> ApprovedTargetPortfolio:
        """Ask, and wait for the answer."""
        before = await self.redis.xlen(Stream.APPROVED)
        await self.say(Stream.TARGET, asked, key="cycle")

        async def answered() -> list[ApprovedTargetPortfolio]:
            return (await self.read(Stream.APPROVED, ApprovedTargetPortfolio))[before:]

        return (await self.until(answered))[0]

    async def audits(self, kind: str) -> list[AuditRecord]:
        return [record for record in await self.read(Stream.AUDIT, AuditRecord) if record.kind == kind]

    async def clear(self, breaker_id: str, *, command_id: str = "c1") -> None:
        command = ControlCommand(
            command=Command.CLEAR_BREAKER, command_id=command_id, source=ModeSource.PERSON, breaker_id=breaker_id
        )
        await issue(self.redis, command, now_ms=self.clock.now_ms(), bot_id=BOT_ID)
        await self.until_read(Stream.COMMANDS, Group.RISK_CTL)


@pytest_asyncio.fixture
async def scene(valkey, valkey_server):
    await write_params(valkey, Params(), generation=1)
    return Scene(redis=valkey, server=valkey_server, clock=JumpClock(T0))


async def test_nobody_trades_until_the_risk_engine_has_judged_a_snapshot(scene):
    async with scene.engine():
        assert await scene.mode() is Mode.HALT
        assert await scene.breaker() == {}

        await scene.account()

        assert await scene.mode() is Mode.NORMAL


async def test_a_target_within_the_limits_is_approved_whole(scene):
    async with scene.engine():
        await scene.account()

        approved = await scene.approval(target(BTC=0.05, ETH=0.02))

        assert approved.mode is Mode.NORMAL
        assert {each.symbol: each.weight for each in approved.approved_targets} == {"BTC": 0.05, "ETH": 0.02}
        assert approved.inputs.features_id == "1-1"
        assert approved.inputs.target_id
        assert approved.inputs.snapshot_digest
        assert approved.inputs.params == "1.1+0"


async def test_a_target_beyond_the_limits_is_cut_and_the_cuts_are_audited(scene):
    async with scene.engine():
        await scene.account()

        approved = await scene.approval(target(BTC=0.5, PEPE=0.1))
        record = (await scene.audits("risk.approved"))[-1]

        assert [each.weight for each in approved.approved_targets] == [0.10]
        assert {clamp["symbol"]: clamp["reason"] for clamp in record.details["clamps"]} == {
            "BTC": "cap, turnover",
            "PEPE": "not in the universe",
        }
        assert record.details["mode"] == "NORMAL"
        assert {"gross", "net", "turnover"} <= set(record.details)


async def test_a_drawdown_beyond_three_percent_halts_by_itself_and_a_person_clears_it_by_its_id(scene):
    async with scene.engine():
        await scene.account(10_000)
        await scene.account(9_690)
        assert await scene.mode() is Mode.REDUCE_ONLY
        await scene.account(9_690)
        latch_id = (await scene.breaker())["latch_id"]

        assert await scene.mode() is Mode.HALT
        assert (await scene.commands())[-1].command is Command.HALT
        assert (await scene.commands())[-1].breaker_id == latch_id
        assert (await scene.approval(target(BTC=0.05))).approved_targets == ()

        await scene.clear("another", command_id="c1")
        assert await scene.mode() is Mode.HALT
        await scene.clear(latch_id, command_id="c2")
        assert await scene.mode() is Mode.NORMAL
        assert len(await scene.audits("breaker_clear_refused")) == 1
        assert len(await scene.audits("breaker_cleared")) == 1

        await scene.account(9_690)
        assert await scene.mode() is Mode.NORMAL


async def test_a_drawdown_that_does_not_restrict_is_not_accepted(scene):
    async with scene.engine():
        await scene.account(10_000)
        await scene.account(9_900)
        await scene.clear("drawdown")
        await scene.account(9_790)

        assert len(await scene.audits("breaker_clear_refused")) == 1
        assert await scene.mode() is Mode.REDUCE_ONLY


async def test_a_drawdown_beyond_two_percent_only_reduces_while_it_lasts(scene):
    async with scene.engine():
        await scene.account(10_000)
        await scene.account(9_790, positions={"BTC": 0.05})

        approved = await scene.approval(target(BTC=0.10, ETH=0.05))
        await scene.account(9_900)

        assert approved.mode is Mode.REDUCE_ONLY
        assert {each.symbol: each.weight for each in approved.approved_targets} == pytest.approx(
            {"BTC": 0.05, "ETH": 0.0}
        )
        assert await scene.mode() is Mode.NORMAL


async def test_the_peak_and_the_latch_survive_a_restart(scene):
    async with scene.engine():
        await scene.account(10_000)
    async with scene.engine():
        await scene.account(9_690)
    async with scene.engine():
        await scene.account(9_690)
        latch_id = (await scene.breaker())["latch_id"]
    async with scene.engine():
        await scene.account(10_500)

        assert await scene.mode() is Mode.HALT
        assert (await scene.breaker())["latch_id"] == latch_id


async def test_a_silent_mirror_halts_on_the_timer_and_clears_after_three_good_reconciliations(scene):
    async with scene.engine():
        await scene.account()
        scene.clock.jump(31)

        async def halted() -> bool:
            return await scene.mode() is Mode.HALT

        await scene.until(halted)
        await scene.account()
        await scene.account()
        assert await scene.mode() is Mode.HALT
        await scene.account()
        assert await scene.mode() is Mode.NORMAL
        assert [each.command for each in await scene.commands()] == [Command.RESUME, Command.HALT, Command.RESUME]


async def test_the_key_and_the_log_are_written_only_when_something_changed(scene):
    async with scene.engine():
        for equity in (10_000, 10_010, 9_990, 10_005):
            await scene.account(equity)

        assert len(await scene.commands()) == 1
        assert len(await scene.audits("breaker")) == 1


async def test_a_persons_halt_counts_without_the_breaker_saying_anything(scene):
    async with scene.engine():
        await scene.account()
        halt = ControlCommand(command=Command.HALT, command_id="h1", source=ModeSource.PERSON, reason="lunch")
        await issue(scene.redis, halt, now_ms=scene.clock.now_ms(), bot_id=BOT_ID)

        approved = await scene.approval(target(BTC=0.05))

        assert approved.mode is Mode.HALT
        assert approved.mode_source is ModeSource.PERSON
        assert approved.approved_targets == ()
        assert approved.rejections[0].reason == "halt"


async def test_a_target_of_an_earlier_cycle_is_acked_as_stale_without_an_output(scene):
    async with scene.engine():
        await scene.account()
        await scene.say(Stream.TARGET, target(BTC=0.05), at_ms=scene.clock.now_ms() - 60_000)
        await scene.until_read(Stream.TARGET, Group.RISK)

        assert await scene.redis.xlen(Stream.APPROVED) == 0
        assert len(await scene.audits("stale_cycle")) == 1


async def test_changed_parameters_count_from_the_next_target_on(scene):
    async with scene.engine():
        await scene.account()
        tight = Params().model_copy(update={"risk": Params().risk.model_copy(update={"caps": {"BTC": 0.01}})})
        await write_params(scene.redis, tight, generation=2)

        approved = await scene.approval(target(BTC=0.05))

        assert [each.weight for each in approved.approved_targets] == [0.01]
        assert approved.inputs.params == "2.2+0"


async def test_without_parameters_nothing_is_judged_or_approved(scene):
    await scene.redis.delete(Key.PARAMS)
    async with scene.engine():
        await scene.account()
        await scene.say(Stream.TARGET, target(BTC=0.05))
        await scene.until_read(Stream.TARGET, Group.RISK)

        assert await scene.mode() is Mode.HALT
        assert await scene.redis.xlen(Stream.APPROVED) == 0
        assert (await scene.audits("risk.approved"))[0].details == {"skipped": "no parameters yet"}


async def test_it_comes_back_by_itself_when_redis_does(scene):
    async with scene.engine():
        await scene.account()
        await scene.redis.client_kill_filter(_type="normal", skipme=True)
        await scene.account(9_000)
        await scene.account(9_000)

        assert await scene.mode() is Mode.HALT


async def test_minutes_that_tell_no_price_halt_as_missing_ones_do_until_prices_are_back(scene):
    async with scene.engine():
        await scene.account()
        assert await scene.mode() is Mode.NORMAL

        for _ in range(13):
            await scene.account(priced=False)
        assert await scene.mode() is Mode.HALT
        assert (await scene.breaker())["causes"] == "features_stale"

        for _ in range(3):
            await scene.account()
        assert await scene.mode() is Mode.NORMAL


async def test_after_the_clock_stepped_back_the_account_is_still_watched(scene):
    async with scene.engine():
        await scene.account()
        scene.clock.jump(-3_600)

        await scene.account(9_600)
        await scene.account(9_600)

        assert (await scene.breaker())["latch_id"].startswith("drawdown-")
