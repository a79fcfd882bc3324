"""What ai_decision's pod alone is given: who decides, the language model's address, and its key as a file."""

from __future__ import annotations

from typing import Any, Final

from tradingbot_operator.render.pods import PRIVATE_FILES, Mount
from tradingbot_operator.spec import AiSpec

MODEL_FOLDER: Final = "/etc/tradingbot/model"
MODEL_KEY_FIELD: Final = "api-key"


def decision_environment(ai: AiSpec) -> dict[str, str]:
    """By the names of ``tradingbot.ai_decision.settings``; the model's settings only where somebody may ask it."""
    values = {"AI_STRATEGY": ai.strategy, "DECISION_BUDGET_S": str(ai.decision_budget_seconds)}
    return values | _model(ai) if ai.may_ask else values


def decision_mounts(ai: AiSpec) -> tuple[Mount, ...]:
    """The model's key, read anew at each call, so that a Secret that is rotated counts without a restart."""
    given = ai.api_key_secret_ref
    if given is None or not ai.may_ask:
        return ()
    items = [{"key": given.key, "path": MODEL_KEY_FIELD}]
    source: dict[str, Any] = {"secret": {"secretName": given.name, "items": items, "defaultMode": PRIVATE_FILES}}
    return (Mount(name="model-key", path=MODEL_FOLDER, source=source),)


def _model(ai: AiSpec) -> dict[str, str]:
    values = {
        "AI_LLM_ENDPOINT": ai.endpoint,
        "AI_LLM_MODEL": ai.model,
        "AI_LLM_API_KEY_FILE": f"{MODEL_FOLDER}/{MODEL_KEY_FIELD}" if ai.api_key_secret_ref else None,
        "AI_LLM_MAX_USD_PER_DAY": _number(ai.max_usd_per_day),
        "AI_LLM_USD_PER_MTOK_IN": _number(ai.usd_per_million_tokens_in),
        "AI_LLM_USD_PER_MTOK_OUT": _number(ai.usd_per_million_tokens_out),
        "AI_LLM_MAX_TOKENS": str(ai.max_tokens),
        "AI_LLM_SAMPLES": str(ai.samples),
        "AI_LLM_TEMPERATURE": _number(ai.temperature),
        "AI_LLM_PROMPT": ai.prompt,
    }
    return {name: value for name, value in values.items() if value is not None}


def _number(value: float) -> str:
    return f"{value:.12g}"
