"""Whose a child's fields are, by the managedFields that the API server keeps of every write.

Server-side apply brings back the fields that it names and leaves alone what someone else has added beside them: an
environment variable, ``paused: true``, a node selector. Such fields are found here, before managedFields are dropped
from what the operator remembers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tradingbot_operator.names import FIELD_MANAGER

Fields = Mapping[str, Any]

_CONTROLLERS: Final = frozenset({"kube-controller-manager", "kube-scheduler", "kubelet", "kube-apiserver"})
_CONTENT: Final = ("f:spec", "f:data", "f:binaryData", "f:immutable", "f:automountServiceAccountToken")
"""What a child is about. Others' labels and annotations do no harm, a pod template's among them: a person restarts
pods by one."""


def foreign_fields(managed: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Paths of the content that others than the operator and the cluster's own controllers have set."""
    own: dict[str, Any] = {}
    for entry in managed:
        if entry.get("manager") == FIELD_MANAGER:
            own = _union(own, entry.get("fieldsV1") or {})
    paths: list[str] = []
    for entry in managed:
        if entry.get("manager") == FIELD_MANAGER or entry.get("manager") in _CONTROLLERS:
            continue
        if entry.get("subresource") == "status":
            continue
        fields = entry.get("fieldsV1") or {}
        paths += _beyond({name: fields[name] for name in _CONTENT if name in fields}, own, "")
    return tuple(dict.fromkeys(paths))


def left_by_replace(managed: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The entries by which the operator owns fields otherwise than by apply."""
    return tuple(
        each
        for each in managed
        if each.get("manager") == FIELD_MANAGER and each.get("operation") == "Update" and not each.get("subresource")
    )


def _beyond(fields: Fields, own: Fields | None, path: str) -> Iterator[str]:
    """The leaves of ``fields`` that are not in ``own``."""
    for name, below in fields.items():
        here = f"{path}.{name}" if path else name
        if name == "." or here.endswith(".f:metadata.f:annotations"):
            continue
        mine = None if own is None else own.get(name)
        if below:
            yield from _beyond(below, mine, here)
        elif own is None or name not in own:
            yield here.replace("f:", "")


def _union(left: Fields, right: Fields) -> dict[str, Any]:
    merged = dict(left)
    for name, below in right.items():
        merged[name] = _union(merged.get(name) or {}, below or {})
    return merged
