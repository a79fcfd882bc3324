"""Where a live object differs from what was rendered. Pure.

What the API server adds (defaults, uids, status) is not looked at: only what the manifest says counts. Lists count as
a whole, and the content of a ConfigMap exactly, for a key too many there is a setting that nobody rendered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tradingbot_operator.kube import Manifest
from tradingbot_operator.names import RENDERED

_EMPTY: Final[tuple[Any, ...]] = (None, {}, [], ())
_AMOUNTS: Final = frozenset({"requests", "limits", "sizeLimit"})
_SUFFIXES: Final[Mapping[str, Decimal]] = {
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
}


def stamped(manifest: Manifest) -> Manifest:
    """The manifest with its own hash as the annotation RENDERED."""
    metadata = dict(manifest["metadata"])
    annotations = {name: text for name, text in (metadata.get("annotations") or {}).items() if name != RENDERED}
    bare = {**manifest, "metadata": {**metadata, "annotations": annotations}}
    content = json.dumps(bare, sort_keys=True, separators=(",", ":")).encode()
    annotations = {**annotations, RENDERED: hashlib.sha256(content).hexdigest()[:16]}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def drifted(desired: Manifest, live: Manifest) -> list[str]:
    """Paths at which ``live`` does not say what ``desired`` says; empty when it does."""
    paths = list(_differences(desired, live, "", amounts=False))
    if desired["kind"] == "ConfigMap":
        for part in ("data", "binaryData"):
            extra = set(live.get(part) or {}) - set(desired.get(part) or {})
            paths += [f"{part}.{name}" for name in sorted(extra)]
    return paths


def _differences(desired: Any, live: Any, path: str, *, amounts: bool) -> Iterator[str]:
    if desired in _EMPTY:
        if live not in _EMPTY and not isinstance(live, dict):
            yield path
    elif isinstance(desired, dict):
        if not isinstance(live, dict):
            yield path
            return
        for name, value in desired.items():
            here = f"{path}.{name}" if path else name
            yield from _differences(value, live.get(name), here, amounts=amounts or name in _AMOUNTS)
    elif isinstance(desired, list | tuple):
        if not isinstance(live, list) or len(live) != len(desired):
            yield path
            return
        for index, (wanted, found) in enumerate(zip(desired, live, strict=True)):
            yield from _differences(wanted, found, f"{path}[{index}]", amounts=amounts)
    elif desired != live and not (desired == "" and live is None) and not (amounts and _same_amount(desired, live)):
        yield path


def _same_amount(left: Any, right: Any) -> bool:
    """Whether two quantities are one: the API server writes ``1000m`` as ``1``."""
    first, second = _amount(left), _amount(right)
    return first is not None and first == second


def _amount(text: Any) -> Decimal | None:
    number = str(text)
    suffix = next((each for each in ("Ki", "Mi", "Gi", "Ti", "m", "k", "M", "G", "T") if number.endswith(each)), "")
    try:
        return Decimal(number.removesuffix(suffix)) * _SUFFIXES.get(suffix, Decimal(1))
    except InvalidOperation:
        return None
