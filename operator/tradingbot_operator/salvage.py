"""A bot out of a resource whose spec is broken: enough of it to be halted and deleted.

Whatever else is wrong with a spec, its mode is obeyed. Each field that is valid by itself counts; one that is not has
its default, except a mode that cannot be read: that is a HALT, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from tradingbot.domain.modes import Mode
from tradingbot_operator.params import params_of
from tradingbot_operator.resource import Bot, parse
from tradingbot_operator.spec import AiSpec, ExchangeSpec, ExecutionSpec, RedisSpec, RiskSpec, TradingBotSpec

_WITH_PARTS: Final[Mapping[str, type[BaseModel]]] = {
    "exchange": ExchangeSpec,
    "redis": RedisSpec,
    "risk": RiskSpec,
    "execution": ExecutionSpec,
    "ai": AiSpec,
}


def salvage(body: Mapping[str, Any]) -> Bot:
    """What can be read of a resource, for its mode and its deletion; never to be rendered."""
    given = body.get("spec")
    given = given if isinstance(given, Mapping) else {}
    kept = _valid_fields(TradingBotSpec, given)
    for name, model in _WITH_PARTS.items():
        if name in given and name not in kept and isinstance(given[name], Mapping):
            kept[name] = _valid_fields(model, given[name])
    if "mode" in given and "mode" not in kept:
        kept["mode"] = Mode.HALT
    spec = _with_usable_params(TradingBotSpec.model_validate(kept, extra="ignore"))
    return replace(parse({**body, "spec": {}}), spec=spec)


def _with_usable_params(spec: TradingBotSpec) -> TradingBotSpec:
    """A HALT is written together with the parameters; where these contradict one another, what a HALT does is kept."""
    try:
        params_of(spec)
    except ValidationError:
        return spec.model_copy(
            update={"risk": RiskSpec(halt_action=spec.risk.halt_action), "execution": ExecutionSpec(), "ai": AiSpec()}
        )
    return spec


def _valid_fields(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are valid by themselves; what is broken between fields matters to rendering alone."""
    return {name: value for name, value in given.items() if _valid(model, name, value)}


def _valid(model: type[BaseModel], name: str, value: Any) -> bool:
    try:
        model.model_validate({name: value}, extra="ignore")
    except ValidationError:
        return False
    return True
