"""A coin that was delisted, a position that a person opened: shown, counted in gross, never a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from redis.asyncio import Redis

from failing_well.ensemble import Ensemble, ensemble
from support.paper import ACCOUNT
from support.servers import Server
from tradingbot.bus.names import Stream
from tradingbot.domain.cycles import MINUTE_MS
from tradingbot.domain.messages import ApprovedTargetPortfolio, FeatureSnapshot1m
from tradingbot.domain.params import AiParams, ExternalPositions, Params, RiskParams

TRADING = ("market_data", "portfolio_state", "ai_decision", "risk_engine", "execution")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def bot(valkey: Redis, valkey_server: Server) -> AsyncIterator[Ensemble]:
    """A bot that trades BTC and ETH on a venue that has SOL too."""
    async with ensemble(valkey, valkey_server) as bot:
        yield bot


def params(**risk: Any) -> Params:
    return Params(risk=RiskParams(**risk), ai=AiParams(smooth_alpha=1.0))


async def test_a_position_opened_by_hand_is_shown_counted_and_held_while_trading_goes_on(bot: Ensemble) -> None:
    await bot.params(params=params(external_positions=ExternalPositions.HOLD))
    await bot.hold_by_hand("SOL", "3")
    async with bot.running(*TRADING):
        shown = await bot.until(lambda: seen(bot, "SOL"), "SOL in the snapshot")
        counted = await bot.until(lambda: approval_with(bot, "external SOL"), "an approval that counts SOL")
        await bot.until(bot.orders, "an order of another coin")
        breaker = await bot.until(lambda: not_halted(bot), "a breaker that does not halt")

    assert shown.external
    assert shown.qty == Decimal(3)
    weight = float(shown.qty * shown.mark_px) / 10_000
    assert counted.risk_summary.gross >= weight * 0.98
    assert "SOL" not in {each.symbol for each in counted.approved_targets}
    assert bot.orders("SOL") == []
    assert not breaker.get("latch_id"), breaker


async def test_a_position_opened_by_hand_is_closed_when_told_to_reduce(bot: Ensemble) -> None:
    await bot.params(params=params(external_positions=ExternalPositions.REDUCE))
    await bot.hold_by_hand("SOL", "6")
    async with bot.running(*TRADING):
        await bot.until(lambda: closed(bot, "SOL"), "SOL to be closed")

    sent = bot.orders("SOL")
    assert sent
    assert all(each["reduceOnly"] for each in sent), sent


async def test_a_coin_delisted_while_it_is_held_stays_shown_and_counted_and_the_others_go_on(bot: Ensemble) -> None:
    await bot.params(params=params())
    async with bot.running(*TRADING):
        held = await bot.until(lambda: seen(bot, "ETH"), "ETH to be held")
        await bot.until(lambda: seen(bot, "BTC"), "BTC to be held")
        await bot.delist("ETH")
        assert all(each["status"] != "open" for each in bot.orders("ETH"))

        since_ms = bot.clock.now_ms()
        late = await bot.until(lambda: approval_after(bot, since_ms + 3 * MINUTE_MS), "an approval some cycles later")
        snapshot = await bot.snapshot()
        prices = await bot.newest(Stream.FEATURES, FeatureSnapshot1m)
        breaker = await bot.until(lambda: not_halted(bot), "a breaker that does not halt")
        dead_letters = await bot.audits("dlq")

    position = snapshot.positions["ETH"]
    assert position.qty != 0
    assert abs(position.mark_px / held.mark_px - 1) < Decimal("0.05")
    assert "ETH" in {*prices.missing, *prices.stale}
    assert "BTC" in prices.mid_px
    weight = abs(float(position.qty * position.mark_px / snapshot.equity_usd))
    assert late.risk_summary.gross >= weight * 0.98 > 0
    assert breaker["mode"] == "NORMAL", breaker
    assert dead_letters == []


async def approval_after(bot: Ensemble, at_ms: int) -> ApprovedTargetPortfolio | None:
    """The newest approval, once the bot's time has come."""
    return await bot.newest(Stream.APPROVED, ApprovedTargetPortfolio) if bot.clock.now_ms() >= at_ms else None


async def not_halted(bot: Ensemble) -> dict[str, str] | None:
    """What the breaker says once it does not halt: a machine that stands still halts for as long as it does."""
    breaker = await bot.breaker()
    return breaker if breaker.get("mode", "HALT") != "HALT" else None


async def seen(bot: Ensemble, symbol: str) -> Any:
    snapshot = await bot.snapshot()
    return snapshot.positions.get(symbol) if snapshot else None


async def approval_with(bot: Ensemble, flag: str) -> ApprovedTargetPortfolio | None:
    found = await bot.newest(Stream.APPROVED, ApprovedTargetPortfolio)
    return found if found and flag in found.risk_summary.flags else None


async def closed(bot: Ensemble, symbol: str) -> bool:
    state = await bot.paper.info("clearinghouseState", user=ACCOUNT)
    held = {each["position"]["coin"] for each in state["assetPositions"]}
    return bool(bot.orders(symbol)) and symbol not in held
