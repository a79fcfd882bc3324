"""The JSON schema of an answer, in the subset that strict servers take.

They differ in which bounds they accept (many refuse ``maximum`` or ``maxLength``), so only the shape is sent; the
bounds are held where the answer is read.
"""

from __future__ import annotations

from typing import Any, Final

from tradingbot.domain.model import Model

_SHAPE: Final = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs"}
)
_BY_NAME: Final = frozenset({"properties", "$defs"})


def strict_schema(model: type[Model]) -> dict[str, Any]:
    """The shape of a model: every field required, no other allowed."""
    return _strict(model.model_json_schema())


def _strict(node: dict[str, Any]) -> dict[str, Any]:
    kept = {name: _each(name, value) for name, value in node.items() if name in _SHAPE}
    if kept.get("type") == "object":
        kept |= {"required": list(kept.get("properties", {})), "additionalProperties": False}
    return kept


def _each(name: str, value: Any) -> Any:
    if name in _BY_NAME:
        return {key: _strict(each) for key, each in value.items()}
    if name == "anyOf":
        return [_strict(each) for each in value]
    return _strict(value) if name == "items" else value
