"""docs/resource.md: every field, rule and column of the resource, from the same schema that the API server uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tradingbot_operator.names import API_VERSION, CLEAR_BREAKER, KIND, PAUSE
from tradingbot_operator.rules import RULES

Schema = dict[str, Any]

_HEAD = f"""\
# The resource: {KIND}

Written by `python -m tradingbot_operator.crd` from the operator's models; do not edit.

`{API_VERSION}`, namespaced, short name `tb`. An empty `spec: {{}}` is a bot on the paper exchange; examples are in
[examples/](../examples). `kubectl explain tradingbot.spec --recursive` shows the same on the cluster.

A change of `risk`, `execution` and of the smoothing in `ai` is applied from the next cycle without restarting a pod;
a change of `mode` at once.
"""

_ANNOTATIONS = f"""\
## Annotations

| annotation | what it does |
|---|---|
| `{PAUSE}: "true"` | the operator leaves the bot's children alone; modes still work |
| `{CLEAR_BREAKER}: ID` | clears the latched breaker with this id (`status.breaker.latchId`); taken off when done |
"""


def reference_page(schema: Schema, *, columns: Iterable[tuple[str, str, str, int]]) -> str:
    """The page, in Markdown."""
    parts = [_HEAD, "## Spec\n", *_tables(schema["properties"]["spec"], "spec")]
    parts += ["## Rules\n", _rules(), _ANNOTATIONS, "## Columns of `kubectl get tb`\n", _columns(columns)]
    parts += ["## Status\n", *_tables(schema["properties"]["status"], "status")]
    return "\n".join(parts)


def _tables(node: Schema, path: str) -> Iterator[str]:
    """A section for an object: its own fields as a table, then a section for each object in it."""
    head = "" if "." not in path else f"### {path}\n\n"
    needed = set(node.get("required", ()))
    rows = [_row(name, part, needed=name in needed) for name, part in node["properties"].items()]
    yield (
        f"{head}{node.get('description', '')}\n\n| field | type | default | meaning |\n|---|---|---|---|\n"
        + "\n".join([*rows, ""])
    )
    for name, part in node["properties"].items():
        inner = part.get("items", part)
        if "properties" in inner and not _same_for_all(node, part):
            yield from _tables(inner, f"{path}.{name}{'[]' if inner is not part else ''}")
    if shared := next((part for part in node["properties"].values() if _same_for_all(node, part)), None):
        yield from _tables(shared, f"{path}.*")


def _same_for_all(node: Schema, part: Schema) -> bool:
    """Whether an object has many fields of one and the same shape: described once."""
    return "properties" in part and list(node["properties"].values()).count(part) > 1


def _row(name: str, part: Schema, *, needed: bool) -> str:
    default = part.get("default")
    filled = default not in (None, "", []) and "properties" not in part
    shown = f"`{_text(default)}`" if filled else "needed" if needed else ""
    return f"| `{name}` | {_cell(_type(part))} | {shown} | {_cell(part.get('description', ''))} |"


def _type(part: Schema) -> str:
    if part.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in part:
        return " or ".join(f"`{each}`" for each in part["enum"])
    if part["type"] == "array":
        return f"list of {_type(part['items'])}"
    if part["type"] == "object":
        return f"map to {_type(part['additionalProperties'])}" if "additionalProperties" in part else "object"
    return f"{part['type']}{_bounds(part)}"


def _bounds(part: Schema) -> str:
    low, high = part.get("minimum"), part.get("maximum")
    if part["type"] not in {"number", "integer"} or (low is None and high is None):
        return ""
    left = "" if low is None else f"{'above' if part.get('exclusiveMinimum') else 'from'} {_text(low)}"
    right = "" if high is None else f"{'below' if part.get('exclusiveMaximum') else 'to'} {_text(high)}"
    return f", {' '.join(filter(None, (left, right)))}"


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}" if value < 1e6 else f"{value:.0f}"
        case list() | tuple():
            return f"[{', '.join(_text(each) for each in value)}]"
        case dict():
            return f"{{{', '.join(f'{name}: {_text(each)}' for name, each in value.items())}}}"
        case _:
            return str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _rules() -> str:
    rows = "\n".join(f"| `{rule.path}` | {_cell(rule.message)} |" for rule in RULES)
    head = "Checked by the API server; a resource that breaks one is refused with this text."
    return f"{head}\n\n| field | rule |\n|---|---|\n{rows}\n"


def _columns(columns: Iterable[tuple[str, str, str, int]]) -> str:
    rows: Sequence[str] = [
        f"| {name.upper()} | `{path}` | {meaning}{' (with `-o wide`)' if priority else ''} |"
        for name, path, meaning, priority in columns
    ]
    return "\n".join(["| column | field | meaning |", "|---|---|---|", *rows, ""])
