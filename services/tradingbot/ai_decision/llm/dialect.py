"""What servers that call themselves compatible differ in, learned from what they refuse.

A newer model wants ``max_completion_tokens``, another takes no temperature, an older server knows no strict schema. The
first refusal of a request names what it does not take; the next attempt leaves that out, and so do all later ones.
Nothing rests on it: an answer is judged by the same rules, however it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from tradingbot.ai_decision.llm.faults import NoCompletion

_REFUSES: Final = frozenset({400, 422})
_NEWER: Final = "max_completion_tokens"


class Format(Enum):
    """How the answer's form is asked for."""

    SCHEMA = "json_schema"
    OBJECT = "json_object"
    PROMPT = "prompt"
    """By the prompt alone."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one server wants to be asked."""

    max_tokens_name: str = "max_tokens"
    takes_temperature: bool = True
    format: Format = Format.SCHEMA

    def response_format(self, *, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The field of that name; empty where the server takes none."""
        match self.format:
            case Format.SCHEMA:
                asked = {"json_schema": {"name": name, "strict": True, "schema": schema}}
                return {"response_format": {"type": "json_schema", **asked}}
            case Format.OBJECT:
                return {"response_format": {"type": "json_object"}}
            case Format.PROMPT:
                return {}


def learned(dialect: Dialect, refusal: NoCompletion) -> Dialect | None:
    """The dialect that a refusal asks for; None when it is about something else."""
    if refusal.status not in _REFUSES:
        return None
    if _NEWER in refusal.why and dialect.max_tokens_name != _NEWER:
        return replace(dialect, max_tokens_name=_NEWER)
    if "temperature" in refusal.why and dialect.takes_temperature:
        return replace(dialect, takes_temperature=False)
    if ("response_format" in refusal.why or "json_schema" in refusal.why) and dialect.format is not Format.PROMPT:
        return replace(dialect, format=Format.OBJECT if dialect.format is Format.SCHEMA else Format.PROMPT)
    return None
