"""Audit records for reading: as they are on the bus, long texts cut."""

from __future__ import annotations

import json
from typing import Any, Final

MAX_TEXT_CHARS: Final = 2000


def read_record(entry_id: str, raw: str) -> dict[str, Any]:
    """An entry of audit.logs with its stream id; one that is not valid JSON is shown as the text that it is."""
    try:
        message = dict(json.loads(raw))
    except (ValueError, TypeError):
        return {"id": entry_id, "unreadable": raw[:MAX_TEXT_CHARS]}
    return {"id": entry_id, "env": message.get("env", {}), "data": _cut(message.get("data", {}))}


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT_CHARS else f"{value[:MAX_TEXT_CHARS]}…"
    if isinstance(value, dict):
        return {name: _cut(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_cut(each) for each in value]
    return value
