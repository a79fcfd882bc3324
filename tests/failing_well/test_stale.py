"""Stale prices or snapshots, a failed reconciliation: HALT of class health, with the reason; it lifts by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from ai_decision.market import VOLS, features
from failing_well.ensemble import Ensemble, ensemble
from risk_engine.bench import T0, snapshot
from support.servers import Server
from support.stage import JumpClock, Stage
from tradingbot.bus.control import read_modes
from tradingbot.bus.names import Group, Key, Stream
from tradingbot.bus.params import write_params
from tradingbot.domain.messages import AuditRecord
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.domain.params import Params
from tradingbot.risk_engine.service import run

pytestmark = pytest.mark.timeout(300)


class Scene(Stage):
    """The risk engine, and what it hears of the others."""

    async def hear(self, *, prices: bool = True, account: bool = True, look: bool = True, **health: Any) -> None:
        """Ten seconds pass; a minute's features and a snapshot come, or do not."""
        self.clock.jump(10)
        now_ms = self.clock.now_ms()
        if look:
            vols = VOLS if prices else {}
            await self.say(Stream.FEATURES, features(at_ms=now_ms - now_ms % 60_000, vols=vols))
        if account:
            await self.say(Stream.SNAPSHOT, snapshot(at_ms=now_ms, **health))
            await self.until_read(Stream.SNAPSHOT, Group.RISK_STATE)

    async def halted(self, **silence: Any) -> dict[str, str]:
        """What the breaker says once it halts; at most five minutes of the trouble."""
        for _ in range(30):
            await self.hear(**silence)
            if (await self.breaker())["mode"] == Mode.HALT:
                return await self.breaker()
        # Without snapshots nothing but the timer looks.
        return await self.until(lambda: self.breaker_in(Mode.HALT))

    async def breaker(self) -> dict[str, str]:
        found: Any = await self.redis.hgetall(Key.MODE_BREAKER)
        return dict(found)

    async def breaker_in(self, mode: Mode) -> dict[str, str] | None:
        found = await self.breaker()
        return found if found.get("mode") == mode else None


@pytest.fixture
async def scene(valkey: Redis, valkey_server: Server) -> Scene:
    await write_params(valkey, Params(), generation=1)
    return Scene(redis=valkey, server=valkey_server, clock=JumpClock(T0))


TROUBLES: dict[str, tuple[dict[str, Any], str]] = {
    "no features any more": ({"look": False}, "no fresh features"),
    "features without a single price": ({"prices": False}, "no fresh features"),
    "no snapshot any more": ({"account": False}, "no good reconciliation"),
    "reconciliations that fail": ({"reconcile_ok": False, "last_reconcile_ts": None}, "no good reconciliation"),
    "clocks that differ": ({"clock_skew_ms": 1_500}, "clock differs by 1500 ms"),
}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.replace(" ", "-"))
async def test_it_halts_with_the_reason_and_lifts_after_three_good_looks(scene: Scene, trouble: str) -> None:
    silence, reason = TROUBLES[trouble]
    async with scene.running("risk_engine", run):
        for _ in range(7):  # what is missing in a process's first moments is only awaited, and lifts at once
            await scene.hear()
        await scene.until(lambda: scene.breaker_in(Mode.NORMAL))

        halted = await scene.halted(**silence)
        mode = await read_modes(scene.redis)

        for _ in range(2):
            await scene.hear()
            assert (await scene.breaker())["mode"] == Mode.HALT, "two good looks are not three"
        await scene.hear()
        await scene.until(lambda: scene.breaker_in(Mode.NORMAL))
        told = [each for each in await scene.read(Stream.AUDIT, AuditRecord) if each.details.get("mode") == "HALT"]

    assert (mode.mode, mode.source) == (Mode.HALT, ModeSource.BREAKER)
    assert reason in halted["reason"]
    assert not halted.get("latch_id"), "of class health: nobody has to clear it"
    assert any(reason in str(each.details) for each in told), "and it is in the audit log"


@pytest.fixture
async def bot(valkey: Redis, valkey_server: Server) -> AsyncIterator[Ensemble]:
    async with ensemble(valkey, valkey_server) as bot:
        await bot.params()
        yield bot


async def test_a_venue_that_does_not_show_the_account_halts_the_bot_until_it_does(bot: Ensemble) -> None:
    """The same through the services that are in it: from the venue's answer to the breaker's key and back."""
    async with bot.running("market_data", "portfolio_state", "risk_engine"):
        await bot.until(lambda: breaker_in(bot, "NORMAL"), "a bot that may trade")
        bot.paper.faults({"kind": "server_error", "path": "/info", "type": "clearinghouseState"})
        halted = await bot.until(lambda: breaker_in(bot, "HALT"), "the HALT")
        bot.paper.clear_faults()
        await bot.until(lambda: breaker_in(bot, "NORMAL"), "the end of it")
        (record, *_) = await bot.audits("reconcile_failed")

    assert "no good reconciliation" in halted["reason"]
    assert not halted.get("latch_id")
    assert "502" in record.details["error"]


async def breaker_in(bot: Ensemble, mode: str) -> dict[str, str] | None:
    found = await bot.breaker()
    return found if found.get("mode") == mode else None
