"""The page of the chart's values, made from values.yaml: ``python charts/readme.py`` writes it.

A value's description is the comment right above it; ``# ## Title`` begins a section. A test fails when the page and the
values differ, or when a value has no comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "tradingbot-operator"
_KEY = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z][\w-]*):(?P<rest>.*)$")

HEAD = """\
# tradingbot-operator

Runs TradingBots: one resource each, one portfolio on one account of Hyperliquid or on a paper exchange of its own.

```
helm install tradingbot-operator charts/tradingbot-operator --namespace tradingbot --create-namespace
kubectl apply -n tradingbot -f examples/tradingbot.yaml
kubectl get tb -n tradingbot --watch
```

To halt a bot: `kubectl patch tb majors -n tradingbot --type merge -p '{"spec":{"mode":"HALT"}}'`.
More: [install](../../docs/install.md), [upgrade](../../docs/upgrade.md), [security](../../docs/security.md),
[troubleshooting](../../docs/troubleshooting.md), [failure modes](../../docs/failure-modes.md).

This page is written by `make schemas` from [values.yaml](values.yaml).
"""


@dataclass(frozen=True)
class Value:
    """One line of the page."""

    section: str
    path: str
    default: Any
    description: str


def values(text: str) -> Iterator[Value]:
    """Every value that a person may set, in the file's order.

    Raises:
        ValueError: a value has no comment.
    """
    defaults = yaml.safe_load(text)
    section, comment = "", list[str]()
    parents: list[tuple[int, str]] = []
    described: int | None = None
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# ## "):
            section, comment = stripped.removeprefix("# ## "), []
        elif stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
        elif not stripped:
            comment = []
        elif (key := _KEY.match(line)) is not None:
            indent = len(key["indent"])
            if described is not None and indent > described:
                continue  # a part of a value that has been described as a whole
            parents = [each for each in parents if each[0] < indent] + [(indent, key["name"])]
            path = [name for _, name in parents]
            if comment:
                yield Value(section, ".".join(path), _at(defaults, path), " ".join(comment))
                described = indent
            elif key["rest"].strip():
                raise ValueError(f"{'.'.join(path)} has no comment")
            else:
                described = None
            comment = []


def _at(content: Any, path: list[str]) -> Any:
    for name in path:
        content = content[name]
    return content


def page(text: str) -> str:
    """The whole page."""
    lines, section = [HEAD.rstrip()], ""
    for each in values(text):
        if each.section != section:
            section = each.section
            lines += [f"\n## {section}\n", "| value | default | what it is |", "|---|---|---|"]
        lines.append(f"| `{each.path}` | `{json.dumps(each.default)}` | {each.description} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    (CHART / "README.md").write_text(page(text), encoding="utf-8")


if __name__ == "__main__":
    main()
