"""A model's answer: read strictly, checked against what was asked, and against its own words.

A model is asked for one JSON object. Servers differ in how far they hold it to that, so the text is judged here
alone: exactly one object, no name twice, no NaN, nothing missing, nothing more. Text around the object is allowed
(some models fence or explain it) but counts as the model's words, like the rationale: an answer whose words say one
thing and whose weights do another is refused, because nobody knows which was meant.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Final, NoReturn, TypeVar

from pydantic import Field, ValidationError

from tradingbot.ai_decision.llm.faults import Fault, Refused
from tradingbot.ai_decision.llm.words import contradictions
from tradingbot.ai_decision.strategy import View
from tradingbot.domain.model import Model

AnswerT = TypeVar("AnswerT", bound=Model)

CASH_TOLERANCE: Final = 0.02
"""How far cash_weight may lie from 1 − Σw: what rounding each weight to two digits makes of it."""
RATIONALE_LIMIT: Final = 2000
"""Characters; the prompt asks for far fewer."""
_THINKING: Final = (("<think>", "</think>"), ("<thinking>", "</thinking>"))
_SHOWN: Final = 120


class CoinWeight(Model):
    """One coin's target."""

    symbol: str
    weight: float


class WeightsAnswer(Model):
    """What a model that proposes weights must answer."""

    targets: tuple[CoinWeight, ...]
    cash_weight: float
    confidence: Annotated[float, Field(ge=0, le=1)]
    rationale: Annotated[str, Field(max_length=RATIONALE_LIMIT)]

    @property
    def weights(self) -> dict[str, float]:
        """By coin."""
        return {each.symbol: each.weight for each in self.targets}


def read_answer(text: str, schema: type[AnswerT]) -> tuple[AnswerT, str]:
    """The answer in a model's text, and the words around it.

    A passage that is marked as thinking is neither: it is how the model got there, not what it says.

    Raises:
        Refused: not exactly one JSON object, or one that breaks the schema.
    """
    said = _said(text).strip()
    found, around = _only_object(said)
    try:
        return schema.model_validate_json(found, strict=True), around
    except ValidationError as error:
        raise Refused(Fault.SCHEMA, _told(error)) from None


def _said(text: str) -> str:
    """The text without what is marked as thinking; without an end it is no mark."""
    for start, stop in _THINKING:
        before, mark, rest = text.partition(start)
        _, end, after = rest.rpartition(stop)
        if mark and end and "{" not in before:
            text = f"{before}\n{after}"
    return text


def check_weights(answer: WeightsAnswer, view: View, *, around: str = "") -> None:
    """Refuse weights that cannot be meant for what was asked.

    Raises:
        Refused: an unknown, missing or repeated coin, a weight beyond ±1 or short where no shorts are allowed, cash
            that is not what the weights leave, or words that contradict the weights.
    """
    _check_coins([each.symbol for each in answer.targets], view)
    low = -1.0 if view.risk.allow_short else 0.0
    odd = [f"{symbol} {weight:g}" for symbol, weight in answer.weights.items() if not low <= weight <= 1]
    if odd:
        raise Refused(Fault.WEIGHTS, f"outside {low:g} to 1: {', '.join(odd)}"[:_SHOWN])
    held = sum(weight for symbol, weight in view.present.items() if symbol not in view.usable)
    left = 1 - held - sum(answer.weights.values())
    if abs(answer.cash_weight - left) > CASH_TOLERANCE:
        raise Refused(Fault.CASH, f"cash_weight is {answer.cash_weight:g}, but the weights leave {left:.4g}")
    against = contradictions(f"{answer.rationale}\n{around}", answer.weights, present=view.present)
    if against:
        raise Refused(Fault.CONTRADICTION, "; ".join(against)[: 3 * _SHOWN])


def _check_coins(symbols: list[str], view: View) -> None:
    asked = view.usable
    wrong = {
        "unknown": sorted(set(symbols) - set(asked)),
        "missing": sorted(set(asked) - set(symbols)),
        "repeated": sorted(symbol for symbol, times in Counter(symbols).items() if times > 1),
    }
    told = [f"{kind}: {', '.join(names)}" for kind, names in wrong.items() if names]
    if told:
        raise Refused(Fault.COINS, "; ".join(told)[:_SHOWN])


def _only_object(text: str) -> tuple[str, str]:
    """The one JSON object in a text, and the rest; an object that is only quoted inside another one is part of it."""
    try:
        whole = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        return _embedded(text, error)
    if not isinstance(whole, dict):
        raise Refused(Fault.BAD_JSON, f"not an object but a {type(whole).__name__}")
    return text, ""


def _embedded(text: str, error: Exception) -> tuple[str, str]:
    start = text.find("{")
    if start < 0:
        raise Refused(Fault.BAD_JSON, f"no JSON object in: {text[:_SHOWN]!r}") from None
    try:
        _, end = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise Refused(Fault.BAD_JSON, "nested too deep") from None
    except ValueError as inner:
        raise Refused(Fault.BAD_JSON, str(inner if start else error)[:_SHOWN]) from None
    rest = text[end:]
    if "{" in rest:
        raise Refused(Fault.BAD_JSON, "more than one object: which one is meant is not known")
    return text[start:end], f"{text[:start]}\n{rest}".strip()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"{Counter(names).most_common(1)[0][0][:_SHOWN]!r} stands in it more than once")
    return dict(pairs)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "answer"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {first['msg']}{more}"[: 2 * _SHOWN]
