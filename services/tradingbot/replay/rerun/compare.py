"""Whether two messages are the same to the last bit, and where they first differ when they are not."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first field that differs."""

    path: str
    recorded: Any
    recomputed: Any

    def below(self, name: str) -> Difference:
        """The same, seen from one level further up."""
        return Difference(_joined(name, self.path), self.recorded, self.recomputed)


def plain(value: BaseModel) -> Any:
    """A model as its JSON says it; a float comes back from its shortest text with the same bits."""
    return json.loads(value.model_dump_json())


def difference(recorded: BaseModel, recomputed: BaseModel) -> Difference | None:
    """Where two messages first differ. Their texts tell when they do not: a float's shortest text is its alone."""
    before, after = recorded.model_dump_json(), recomputed.model_dump_json()
    return None if before == after else first_difference(json.loads(before), json.loads(after))


def first_difference(recorded: Any, recomputed: Any) -> Difference | None:
    """Compare two trees of JSON values in the recorded one's order; floats by their bits, −0.0 is not 0.0."""
    if isinstance(recorded, dict) and isinstance(recomputed, dict):
        return _in_mapping(recorded, recomputed)
    if isinstance(recorded, list) and isinstance(recomputed, list):
        return _in_list(recorded, recomputed)
    return None if _same(recorded, recomputed) else Difference("", recorded, recomputed)


def in_common(recorded: Mapping[str, Any], recomputed: Mapping[str, Any], names: Iterable[str]) -> Difference | None:
    """Compare the named fields that the record has: what its writer did not know yet is not asked for."""
    for name in names:
        if name in recorded and (found := first_difference(recorded[name], recomputed.get(name, ABSENT))):
            return found.below(name)
    return None


def _in_mapping(recorded: dict[str, Any], recomputed: dict[str, Any]) -> Difference | None:
    for name in [*recorded, *(name for name in recomputed if name not in recorded)]:
        found = first_difference(recorded.get(name, ABSENT), recomputed.get(name, ABSENT))
        if found is not None:
            return found.below(name)
    return None


def _in_list(recorded: list[Any], recomputed: list[Any]) -> Difference | None:
    for index in range(max(len(recorded), len(recomputed))):
        before, after = (each[index] if index < len(each) else ABSENT for each in (recorded, recomputed))
        if found := first_difference(before, after):
            return found.below(_name(before, after, index))
    return None


def _name(before: Any, after: Any, index: int) -> str:
    """A weight or a slice is named by its coin, where both have the same."""
    if isinstance(before, dict) and isinstance(after, dict) and "symbol" in before:
        return f"{index}:{before['symbol']}"
    return str(index)


def _same(recorded: Any, recomputed: Any) -> bool:
    if type(recorded) is not type(recomputed):
        return False
    if isinstance(recorded, float):
        return struct.pack("<d", recorded) == struct.pack("<d", recomputed)
    return bool(recorded == recomputed)


def _joined(name: str, path: str) -> str:
    return f"{name}.{path}" if path else name
