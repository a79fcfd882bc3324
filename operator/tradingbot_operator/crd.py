"""The CustomResourceDefinition, made from the models: ``python -m tradingbot_operator.crd`` writes it and its docs.

It is written to ``crds/`` and, the same bytes, into the chart; a test fails when the files differ from the models.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tradingbot_operator.names import GROUP, KIND, PLURAL, VERSION
from tradingbot_operator.reference import reference_page
from tradingbot_operator.rules import RULES, Rule
from tradingbot_operator.spec import TradingBotSpec
from tradingbot_operator.status_model import TradingBotStatus
from tradingbot_operator.structural import Schema, structural_schema

_FILE = f"{PLURAL}.{GROUP}.yaml"
CRD_FILES: Final = (f"crds/{_FILE}", f"charts/tradingbot-operator/files/{_FILE}")
REFERENCE_FILE: Final = "docs/resource.md"
_HEAD = "# Written by `python -m tradingbot_operator.crd` from operator/tradingbot_operator/spec.py: edit that.\n"

_COLUMNS = (
    ("Mode", ".spec.mode", "What the spec asks for", 0),
    ("Applied", ".status.mode.effective", "The mode in force: the strictest of spec, breaker and person", 0),
    ("Ready", ".status.ready", "Pods that are ready, of those wanted", 0),
    ("Equity", ".status.portfolio.equityUsd", "Equity in USD", 0),
    ("Network", ".spec.exchange.network", "paper, testnet or mainnet", 0),
    ("Phase", ".status.phase", "One word, derived from the conditions", 1),
    ("Source", ".status.mode.source", "Whose mode is in force", 1),
    ("Strategy", ".spec.ai.strategy", "Who decides", 1),
    ("Account", ".status.account", "The account that is traded", 1),
)


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition of TradingBot."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["tb"],
                "categories": ["all", "trading"],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [*_columns(), {"name": "Age", "type": "date", "jsonPath": _CREATED}],
        "schema": {"openAPIV3Schema": schema()},
    }


_CREATED = ".metadata.creationTimestamp"


def _columns() -> Iterable[dict[str, Any]]:
    for name, path, description, priority in _COLUMNS:
        column = {"name": name, "type": "string", "jsonPath": path, "description": description}
        yield {**column, "priority": priority} if priority else column


def schema() -> Schema:
    """The structural schema of a whole resource, with its rules."""
    status = structural_schema(TradingBotStatus)
    conditions = status["properties"]["conditions"]
    conditions |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    whole: Schema = {
        "type": "object",
        "description": "An automated trading bot: applied it trades, patched with mode: HALT it stops.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(TradingBotSpec),
            "status": status,
        },
    }
    whole["properties"]["spec"]["properties"]["universe"]["x-kubernetes-list-type"] = "atomic"
    for rule in RULES:
        _node(whole, rule.at).setdefault("x-kubernetes-validations", []).append(_validation(rule))
    return whole


def _node(whole: Schema, at: str) -> Schema:
    node = whole
    for name in filter(None, at.split(".")):
        node = node["properties"][name]
    return node


def _validation(rule: Rule) -> dict[str, str]:
    reason = "FieldValueRequired" if rule.required else "FieldValueForbidden"
    field = {"fieldPath": rule.field} if rule.field else {}
    return {"rule": rule.cel, "message": rule.message, "reason": reason, **field}


def crd_text() -> str:
    """The file's text."""
    return f"{_HEAD}{yaml.safe_dump(crd(), sort_keys=False, width=118, allow_unicode=True)}"


def generated_files() -> Mapping[str, str]:
    """Path below the repository -> text, of everything that is made from the models."""
    return {**dict.fromkeys(CRD_FILES, crd_text()), REFERENCE_FILE: reference_page(schema(), columns=_COLUMNS)}


def write(root: Path) -> list[Path]:
    """Write the files below ``root``; returns those that have changed."""
    changed = []
    for name, text in generated_files().items():
        path = root / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        changed.append(path)
    return changed


if __name__ == "__main__":
    for written in write(Path(sys.argv[1] if len(sys.argv) > 1 else ".")):
        sys.stdout.write(f"{written}\n")
