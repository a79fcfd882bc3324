"""Files that are made from the code: JSON Schemas, the page of settings, ``.env.example``.

``python -m tradingbot.local.generated [FOLDER]`` writes them; a test fails when the repository's differ.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tradingbot.bus.names import Stream
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import DeadLetter
from tradingbot.domain.model import Model
from tradingbot.domain.params import VersionedParams
from tradingbot.domain.static import StaticSettings
from tradingbot.local.reference import as_env_file, as_markdown
from tradingbot.replay.evidence import MODELS
from tradingbot.replay.report import Report

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def files() -> Iterator[tuple[str, str]]:
    """Path below the repository, and text, of each."""
    message: Any = Message
    for stream in Stream:
        yield f"docs/schemas/{stream.value}.json", _schema(message[MODELS[stream]], stream.value)
    yield "docs/schemas/dlq.json", _schema(Message[DeadLetter], "dlq.*")
    for name, model in (("params", VersionedParams), ("static-settings", StaticSettings), ("report", Report)):
        yield f"docs/schemas/{name}.json", _schema(model, name)
    yield "docs/settings.md", as_markdown()
    yield ".env.example", as_env_file()


def _schema(model: type[Model], title: str) -> str:
    schema = model.model_json_schema()
    return (
        json.dumps({"$schema": _DRAFT, **schema, "title": title}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    )


def main() -> None:
    """Write them all."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    for name, text in files():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
