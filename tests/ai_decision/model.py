"""A model client on a real Redis and a real server, and what a model would answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from ai_decision.market import UNIVERSE
from risk_engine.bench import T0
from support.model_server import ModelServer
from support.stage import JumpClock
from tradingbot.ai_decision.llm.client import open_client
from tradingbot.ai_decision.llm.strategy import LlmStrategy
from tradingbot.ai_decision.settings import AiDecisionSettings
from tradingbot.bus.names import spend_key

KEY = "sk-nobody-may-see-this"
WEIGHTS = {"BTC": 0.06, "ETH": 0.04, "SOL": 0.03, "ADA": 0.02, "DOGE": 0.01}
TODAY = spend_key("2026-02-18")


def answer(weights: dict[str, float] | None = None, /, **more: Any) -> str:
    """A well-formed answer."""
    weights = WEIGHTS if weights is None else weights
    whole = {
        "targets": [{"symbol": symbol, "weight": weight} for symbol, weight in weights.items()],
        "cash_weight": 1 - sum(weights.values()),
        "confidence": 0.8,
        "rationale": "Momentum is mild.",
        **more,
    }
    return json.dumps(whole)


def settings(server: ModelServer, **environ: str) -> AiDecisionSettings:
    """Settings as the process loads them."""
    return AiDecisionSettings.load(environ_of(server, **environ))


def environ_of(server: ModelServer, **more: str) -> dict[str, str]:
    """The environment of an ai_decision that asks this server."""
    return {
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "BOT_ID": "bot-under-test",
        "UNIVERSE": ",".join(UNIVERSE),
        "AI_STRATEGY": "llm",
        "AI_LLM_ENDPOINT": server.endpoint,
        "AI_LLM_MODEL": "scripted",
        "AI_LLM_API_KEY": KEY,
        "DECISION_BUDGET_S": "30",
        **more,
    }


class PatientClock(JumpClock):
    """Real time runs as it does, and leaps when a test says so."""

    def __init__(self) -> None:
        super().__init__(T0)
        self.leapt_s = 0.0

    def real_s(self) -> float:
        return super().real_s() + self.leapt_s


@asynccontextmanager
async def asking(
    redis: Redis, server: ModelServer, clock: JumpClock | None = None, **environ: str
) -> AsyncIterator[LlmStrategy]:
    """The strategy with everything behind it."""
    async with open_client(settings(server, **environ), redis=redis, clock=clock or JumpClock(T0)) as client:
        yield LlmStrategy(client)


async def spent(redis: Redis) -> int:
    """Micro-USD of the day."""
    return int(await redis.get(TODAY) or 0)
