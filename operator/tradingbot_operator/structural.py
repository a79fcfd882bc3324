"""From a Pydantic model to a structural schema, the part of OpenAPI v3 that a CRD may use.

Pydantic writes JSON Schema 2020-12: references, ``anyOf`` with null, exclusive bounds as numbers, patterns of keys. A
structural schema has none of these; what cannot be said in it is refused here rather than dropped, but for key
patterns, which ``rules.py`` says in CEL.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_KEPT = frozenset(
    {
        *("type", "format", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "multipleOf"),
        *("exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "minProperties", "maxProperties"),
        *("required", "default", "description", "x-kubernetes-int-or-string"),
    }
)
_DROPPED = frozenset({"title", "propertyNames", "$defs"})


class NotStructuralError(TypeError):
    """The model says something that a CRD cannot."""


def structural_schema(model: type[BaseModel]) -> Schema:
    """The model's schema without references, with its defaults and its docstrings as descriptions.

    Raises:
        NotStructuralError: a part of the model has no structural form.
    """
    whole = model.model_json_schema(by_alias=True)
    return _convert(whole, whole.get("$defs", {}), at=model.__name__)


def _convert(node: Mapping[str, Any], defs: Mapping[str, Any], *, at: str) -> Schema:
    node = _inlined(node, defs, at=at)
    out: Schema = {}
    for name, value in node.items():
        match name:
            case "properties":
                out["properties"] = {each: _convert(part, defs, at=f"{at}.{each}") for each, part in value.items()}
            case "items":
                out["items"] = _convert(value, defs, at=f"{at}[]")
            case "patternProperties" | "additionalProperties" if isinstance(value, dict):
                values = next(iter(value.values())) if name == "patternProperties" else value
                out["additionalProperties"] = _convert(values, defs, at=f"{at}{{}}")
            case "additionalProperties":
                pass  # "no other field" is what the API server does by itself
            case "exclusiveMinimum" | "exclusiveMaximum":
                out[name] = True
                out["minimum" if name == "exclusiveMinimum" else "maximum"] = value
            case _ if name in _KEPT:
                out[name] = deepcopy(value)
            case _ if name not in _DROPPED:
                raise NotStructuralError(f"{at}: {name} has no structural form")
    return _finished(out)


def _inlined(node: Mapping[str, Any], defs: Mapping[str, Any], *, at: str) -> Schema:
    """The node with its reference resolved and ``| None`` taken off; its own words win over the referenced."""
    merged = dict(node)
    if "anyOf" in merged:
        options = [each for each in merged.pop("anyOf") if each.get("type") != "null"]
        if len(options) != 1:
            raise NotStructuralError(f"{at}: more than one type")
        merged = {**options[0], **merged}
    while "$ref" in merged:
        target = defs[merged.pop("$ref").rpartition("/")[2]]
        merged = {**target, **merged}
    return merged


def _finished(schema: Schema) -> Schema:
    """Defaults whole, as rules are checked against them unfilled; none where nothing would be filled in."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    default = schema.pop("default", None)
    if default is not None and properties:
        default = {name: deepcopy(each["default"]) for name, each in properties.items() if "default" in each}
    if default not in (None, {}):
        schema["default"] = default
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    return schema
