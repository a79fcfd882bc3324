"""A Kubernetes API in memory, with what the operator relies on: apply, finalizers, generations, owners, one watch.

It stands in for the API server alone. Pods come and go at once as their Deployments and StatefulSets say, unless a test
holds them back. Whatever changes is told to the listeners, as a watch would.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tradingbot.domain.cycles import from_ms
from tradingbot.runtime.clock import Clock
from tradingbot_operator.kube import KubeError, Manifest
from tradingbot_operator.names import API_VERSION, KIND, LABEL_BOT
from tradingbot_operator.resource import Bot

Address = tuple[str, str, str, str]
"""apiVersion, kind, namespace, name."""


@dataclass
class Write:
    """One request that changed something, or was to."""

    verb: str
    kind: str
    name: str
    body: Any = None


@dataclass
class FakeKube:
    """The API server and the controllers behind it."""

    clock: Clock
    listeners: list[Callable[[str, Manifest], None]] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    """Requests that changed something."""
    refuse: Callable[[str, str, str], Exception | None] = lambda verb, kind, name: None
    """What a request fails with; None lets it through."""
    pods_start: bool = True
    """Whether new pods become ready; else they stay as they were made."""
    objects: dict[Address, Manifest] = field(default_factory=dict)
    _version: int = 100
    _uids: int = 0

    # ---------------------------------------------------------------- what the operator calls

    async def apply(self, manifest: Manifest) -> Manifest:
        self._check("apply", manifest["kind"], manifest["metadata"]["name"])
        live = self.objects.get(_address(manifest))
        wanted = _merged(live or {}, manifest)
        if live is not None and wanted == live:
            return copy.deepcopy(live)
        self._log("apply", manifest)
        return self._put(wanted)

    async def create(self, manifest: Manifest) -> bool:
        name = manifest["metadata"].get("name") or f"{manifest['metadata']['generateName']}{self._version}"
        self._check("create", manifest["kind"], name)
        body = {**manifest, "metadata": {**manifest["metadata"], "name": name}}
        if _address(body) in self.objects:
            return False
        self._log("create", body)
        self._put(body)
        return True

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        self._check("get", kind, name)
        return copy.deepcopy(self.objects.get((api_version, kind, namespace, name)))

    async def list(
        self, api_version: str, kind: str, namespace: str | None, selector: str | None = None
    ) -> list[Manifest]:
        self._check("list", kind, "")
        wanted = dict(pair.split("=") for pair in selector.split(",")) if selector else {}
        return [
            copy.deepcopy(each)
            for (version, its_kind, space, _), each in self.objects.items()
            if (version, its_kind) == (api_version, kind)
            and namespace in {None, space}
            and wanted.items() <= (each["metadata"].get("labels") or {}).items()
        ]

    async def pages(
        self, api_version: str, kind: str, namespace: str | None, selector: str | None = None, **_: Any
    ) -> AsyncIterator[Manifest]:
        for each in await self.list(api_version, kind, namespace, selector):
            yield each

    async def delete(
        self,
        api_version: str,
        kind: str,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        grace: int | None = None,
    ) -> bool:
        self._check("delete", kind, name)
        live = self.objects.get((api_version, kind, namespace, name))
        if live is None or uid not in {None, live["metadata"]["uid"]}:
            return False
        self._log("delete", live)
        self._remove(live)
        return True

    async def replace(self, manifest: Manifest) -> Manifest:
        self._check("replace", manifest["kind"], manifest["metadata"]["name"])
        live = self.objects.get(_address(manifest))
        version = manifest["metadata"].get("resourceVersion")
        if live is None or version not in {None, live["metadata"]["resourceVersion"]}:
            raise KubeError("conflict", status=409)
        self._log("replace", manifest)
        return self._put(copy.deepcopy(manifest))

    async def patch_status(self, bot: Bot, status: Mapping[str, Any]) -> Manifest:
        self._check("patch_status", KIND, bot.name)
        live = self._bot(bot.namespace, bot.name, bot.uid)
        self.writes.append(Write("patch_status", KIND, bot.name, dict(status)))
        return self._put({**live, "status": copy.deepcopy(dict(status))})

    async def patch_metadata(
        self, bot: Bot, *, annotations: Mapping[str, str | None] | None = None, finalizers: Sequence[str] | None = None
    ) -> Manifest:
        self._check("patch_metadata", KIND, bot.name)
        live = self._bot(bot.namespace, bot.name, bot.uid)
        metadata = dict(live["metadata"])
        if finalizers is not None:
            metadata["finalizers"] = list(finalizers)
        if annotations:
            kept = {**(metadata.get("annotations") or {}), **annotations}
            metadata["annotations"] = {name: value for name, value in kept.items() if value is not None}
        self.writes.append(Write("patch_metadata", KIND, bot.name, metadata.get("finalizers")))
        body = {**live, "metadata": metadata}
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            self._remove(body)
            return body
        return self._put(body)

    async def delete_pods(self, namespace: str, selector: str, *, grace: int | None = None) -> tuple[str, ...]:
        pods = await self.list("v1", "Pod", namespace, selector)
        for pod in pods:
            await self.delete("v1", "Pod", namespace, pod["metadata"]["name"], uid=pod["metadata"]["uid"], grace=grace)
        return tuple(pod["metadata"]["name"] for pod in pods)

    async def event(
        self,
        bot: Bot,
        *,
        type: str,  # noqa: A002 - the field's name
        reason: str,
        message: str,
        action: str,
        name: str | None = None,
    ) -> None:
        metadata = {"namespace": bot.namespace, **({"name": name} if name else {"generateName": f"{bot.name}."})}
        body = {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": metadata}
        await self.create({**body, "type": type, "reason": reason, "note": message, "action": action})

    # ---------------------------------------------------------------- what a person does

    def person_creates(self, namespace: str, name: str, spec: Mapping[str, Any], **metadata: Any) -> Manifest:
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"namespace": namespace, "name": name, "generation": 1, **metadata},
            "spec": copy.deepcopy(dict(spec)),
        }
        return self._put(body)

    def person_patches(self, namespace: str, name: str, spec: Mapping[str, Any]) -> Manifest:
        live = self._bot(namespace, name)
        generation = live["metadata"]["generation"] + 1
        changed = _merged(live, {"spec": dict(spec), "metadata": {"generation": generation}})
        return self._put(changed)

    def person_annotates(self, namespace: str, name: str, **annotations: str | None) -> Manifest:
        live = self._bot(namespace, name)
        kept = {**(live["metadata"].get("annotations") or {}), **annotations}
        kept = {key: value for key, value in kept.items() if value is not None}
        return self._put({**live, "metadata": {**live["metadata"], "annotations": kept}})

    def person_deletes(self, namespace: str, name: str) -> None:
        live = self._bot(namespace, name)
        if not live["metadata"].get("finalizers"):
            self._remove(live)
        elif "deletionTimestamp" not in live["metadata"]:
            metadata = {**live["metadata"], "deletionTimestamp": self._now()}
            self._put({**live, "metadata": {**metadata, "generation": metadata["generation"] + 1}})

    # ---------------------------------------------------------------- what a test asks

    def find(self, kind: str, name: str) -> Manifest | None:
        return next((each for (_, k, _, n), each in self.objects.items() if (k, n) == (kind, name)), None)

    def of_kind(self, kind: str) -> list[Manifest]:
        return [each for (_, its, _, _), each in self.objects.items() if its == kind]

    def events(self, reason: str | None = None) -> list[Manifest]:
        return [each for each in self.of_kind("Event") if reason in {None, each["reason"]}]

    # ---------------------------------------------------------------- inside

    def _bot(self, namespace: str, name: str, uid: str | None = None) -> Manifest:
        live = self.objects.get((API_VERSION, KIND, namespace, name))
        if live is None or uid not in {None, live["metadata"]["uid"]}:
            raise KubeError(f"no {name}", status=404)
        return live

    def _check(self, verb: str, kind: str, name: str) -> None:
        if error := self.refuse(verb, kind, name):
            raise error

    def _log(self, verb: str, body: Manifest) -> None:
        if body["kind"] != "Event":
            self.writes.append(Write(verb, body["kind"], body["metadata"]["name"]))

    def _put(self, body: Manifest) -> Manifest:
        body = copy.deepcopy(body)
        address = _address(body)
        before = self.objects.get(address)
        metadata = body["metadata"]
        if before is None:
            self._uids += 1
            metadata.setdefault("uid", f"00000000-0000-4000-8000-{self._uids:012d}")
            metadata.setdefault("creationTimestamp", self._now())
        elif _content(before) == _content(body):
            return copy.deepcopy(before)
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self.objects[address] = body
        self._tell("MODIFIED" if before else "ADDED", body)
        if body["kind"] in {"Deployment", "StatefulSet"}:
            self._run_pod(body)
        return copy.deepcopy(body)

    def _remove(self, body: Manifest) -> None:
        self.objects.pop(_address(body), None)
        self._version += 1
        gone = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        self._tell("DELETED", gone)
        uid = body["metadata"]["uid"]
        for owned in list(self.objects.values()):
            if any(each["uid"] == uid for each in owned["metadata"].get("ownerReferences") or ()):
                self._remove(owned)
        if body["kind"] == "Pod":
            owner = next(iter(body["metadata"].get("ownerReferences") or ()), None)
            parent = owner and next(
                (each for each in self.objects.values() if each["metadata"]["uid"] == owner["uid"]), None
            )
            if parent:
                self._run_pod(parent)

    def _run_pod(self, parent: Manifest) -> None:
        name = f"{parent['metadata']['name']}-0"
        if self.find("Pod", name) or parent["spec"].get("replicas", 1) == 0:
            return
        template = parent["spec"]["template"]
        ready = "True" if self.pods_start else "False"
        state = {"running": {}} if self.pods_start else {"waiting": {"reason": "PodInitializing"}}
        self._put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "namespace": parent["metadata"]["namespace"],
                    "name": name,
                    "labels": {**template["metadata"]["labels"], LABEL_BOT: parent["metadata"]["labels"][LABEL_BOT]},
                    "ownerReferences": [
                        {
                            "apiVersion": parent["apiVersion"],
                            "kind": parent["kind"],
                            "name": parent["metadata"]["name"],
                            "uid": parent["metadata"]["uid"],
                            "controller": True,
                        }
                    ],
                },
                "status": {
                    "conditions": [{"type": "Ready", "status": ready}],
                    "containerStatuses": [{"state": state, "restartCount": 0}],
                },
            }
        )

    def _tell(self, kind: str, body: Manifest) -> None:
        for listener in self.listeners:
            listener(kind, copy.deepcopy(body))

    def _now(self) -> str:
        return from_ms(self.clock.now_ms()).strftime("%Y-%m-%dT%H:%M:%SZ")


def _address(body: Manifest) -> Address:
    return body["apiVersion"], body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]


def _content(body: Manifest) -> Manifest:
    metadata = {name: value for name, value in body["metadata"].items() if name != "resourceVersion"}
    return {**body, "metadata": metadata}


def _merged(live: Any, wanted: Any) -> Any:
    if not isinstance(live, dict) or not isinstance(wanted, dict):
        return copy.deepcopy(wanted)
    return {**live, **{name: _merged(live.get(name), value) for name, value in wanted.items()}}
