"""The newest that is known of every bot, child and pod, cut down to what decisions need.

Filled by lists and the watch, and by the operator's own writes, so that none of them is repeated because the watch
was slower. The newest resource version wins. What is kept of an object is never changed, only replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tradingbot_operator.kube import Manifest
from tradingbot_operator.names import KIND, LABEL_BOT
from tradingbot_operator.ownership import foreign_fields

_GRAVES: Final = 4096
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


class ChildId(NamedTuple):
    """A child within its bot's namespace."""

    api_version: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child as it is in the cluster."""

    live: Manifest
    """Without managedFields."""
    foreign: tuple[str, ...]
    """Paths of its content that neither the operator nor a controller of the cluster has set."""

    @property
    def uid(self) -> str:
        return str(self.live["metadata"].get("uid", ""))

    @property
    def deleting(self) -> bool:
        return "deletionTimestamp" in self.live["metadata"]

    @property
    def owner(self) -> Manifest | None:
        """The reference to its controller."""
        owners = self.live["metadata"].get("ownerReferences") or ()
        return next((each for each in owners if each.get("controller")), None)

    @property
    def owner_uid(self) -> str | None:
        """The uid of its controller."""
        return None if self.owner is None else str(self.owner["uid"])


@dataclass(slots=True)
class _Family:
    children: dict[ChildId, Child] = field(default_factory=dict)
    pods: dict[str, Manifest] = field(default_factory=dict)


class Cache:
    """What is known of the watched namespaces."""

    def __init__(self) -> None:
        self._bots: dict[str, Manifest] = {}
        self._families: dict[str, _Family] = {}
        self._gone: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._bots)

    def keys(self) -> tuple[str, ...]:
        """The keys of all bots."""
        return tuple(self._bots)

    def bots(self) -> tuple[Manifest, ...]:
        """The bodies of all bots."""
        return tuple(self._bots.values())

    def bot(self, key: str) -> Manifest | None:
        """The body of a bot; None when there is none."""
        return self._bots.get(key)

    def children(self, key: str) -> Mapping[ChildId, Child]:
        """The watched children of a bot, Secrets not among them."""
        family = self._families.get(key)
        return family.children if family else {}

    def pods(self, key: str) -> tuple[Manifest, ...]:
        """The pods of a bot: metadata and status."""
        family = self._families.get(key)
        return tuple(family.pods.values()) if family else ()

    def known(self, body: Manifest) -> Manifest | None:
        """What is kept of the object that has this one's kind and name."""
        key = key_of(body)
        if body["kind"] == KIND:
            return self._bots.get(key)
        family = self._families.get(key)
        if family is None:
            return None
        if body["kind"] == "Pod":
            return family.pods.get(body["metadata"]["name"])
        child = family.children.get(id_of(body))
        return child.live if child else None

    def store(self, body: Manifest) -> bool:
        """Keep an object; False when what is kept is as new."""
        known = self.known(body)
        since = self._gone.get(body["metadata"].get("uid", ""), -1) if known is None else version_of(known)
        if version_of(body) <= since:
            return False
        key = key_of(body)
        if body["kind"] == KIND:
            self._bots[key] = _lean(body)
        elif body["kind"] == "Pod":
            self._family(key).pods[body["metadata"]["name"]] = _lean_pod(body)
        else:
            foreign = foreign_fields(body["metadata"].get("managedFields") or ())
            self._family(key).children[id_of(body)] = Child(live=_lean(body), foreign=foreign)
        return True

    def remove(self, body: Manifest) -> bool:
        """Drop an object that is no more; False when it is not kept or another of its name has come since."""
        self._bury(body)
        known = self.known(body)
        if known is None or known["metadata"].get("uid") != body["metadata"].get("uid"):
            return False
        key = key_of(body)
        if body["kind"] == KIND:
            del self._bots[key]
            return True
        family = self._families[key]
        if body["kind"] == "Pod":
            del family.pods[body["metadata"]["name"]]
        else:
            del family.children[id_of(body)]
        if not family.children and not family.pods:
            del self._families[key]
        return True

    def objects(self, api_version: str, kind: str, namespace: str | None) -> Iterator[Manifest]:
        """What is kept of a kind in a namespace, in all of them with None."""
        if kind == KIND:
            kept: list[Manifest] = list(self._bots.values())
        elif kind == "Pod":
            kept = [pod for family in self._families.values() for pod in family.pods.values()]
        else:
            kept = [
                child.live
                for family in self._families.values()
                for identity, child in family.children.items()
                if identity[:2] == (api_version, kind)
            ]
        return (each for each in kept if namespace in {None, each["metadata"]["namespace"]})

    def _bury(self, body: Manifest) -> None:
        # The answer to a write of ours may be read after the news of the object's end: it must not come back by that.
        # It may come back by itself: one that lost its label is gone for the watch, and is there again with it.
        uid = body["metadata"].get("uid", "")
        self._gone.pop(uid, None)
        self._gone[uid] = version_of(body)
        if len(self._gone) > _GRAVES:
            del self._gone[next(iter(self._gone))]

    def _family(self, key: str) -> _Family:
        return self._families.setdefault(key, _Family())


def key_of(body: Manifest) -> str:
    """The key of the bot that an object is or belongs to; ``namespace/`` when it names none."""
    metadata = body["metadata"]
    if body["kind"] == KIND:
        return f"{metadata['namespace']}/{metadata['name']}"
    # The owner first: it says more than a label that anyone may change. A pod's is its ReplicaSet.
    owners = metadata.get("ownerReferences") or ()
    owner = next((each["name"] for each in owners if each["kind"] == KIND and each.get("controller")), None)
    return f"{metadata['namespace']}/{owner or (metadata.get('labels') or {}).get(LABEL_BOT, '')}"


def id_of(body: Manifest) -> ChildId:
    """What names a child within its bot."""
    return ChildId(body["apiVersion"], body["kind"], body["metadata"]["name"])


def version_of(body: Manifest) -> int:
    """The resource version as a number: of one object's, the greater is the newer."""
    return int(body["metadata"].get("resourceVersion") or 0)


def _lean(body: Manifest) -> Manifest:
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    if annotations := metadata.get("annotations"):
        metadata["annotations"] = {name: value for name, value in annotations.items() if name != _LAST_APPLIED}
    return {**body, "metadata": metadata}


_POD_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "labels",
    "creationTimestamp",
    "deletionTimestamp",
)
_POD_STATUS: Final = ("phase", "reason", "message", "conditions", "containerStatuses", "initContainerStatuses")


def _lean_pod(body: Manifest) -> Manifest:
    metadata: dict[str, Any] = {name: body["metadata"][name] for name in _POD_METADATA if name in body["metadata"]}
    status = {name: body["status"][name] for name in _POD_STATUS if name in body.get("status", {})}
    return {"apiVersion": body["apiVersion"], "kind": "Pod", "metadata": metadata, "status": status}
