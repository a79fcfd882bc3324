"""A thin asyncio face of the Kubernetes API: what the operator needs, with two kinds of errors.

The transport, its credentials and their refresh are the official client's. Paths come from one table instead of the
client's discovery: no cache file, no request before the first one that matters, and a manifest stays a dict.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from tradingbot.domain.errors import Permanent, Temporary
from tradingbot.runtime.clock import Clock
from tradingbot_operator.names import API_VERSION, FIELD_MANAGER, KIND, MANAGED_BY, PLURAL, STATUS_MANAGER
from tradingbot_operator.resource import Bot

Manifest = dict[str, Any]

TIMEOUT_S: Final = 10.0
_credentials: Any = config  # the client is not typed
_PAGE = 500
_CONNECTIONS = 32
_NOTE_LIMIT = 1024
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

PLURALS: Final[Mapping[tuple[str, str], str]] = {
    (API_VERSION, KIND): PLURAL,
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "Event"): "events",
    ("v1", "PersistentVolumeClaim"): "persistentvolumeclaims",
    ("v1", "Pod"): "pods",
    ("v1", "Secret"): "secrets",
    ("v1", "Service"): "services",
    ("v1", "ServiceAccount"): "serviceaccounts",
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("coordination.k8s.io/v1", "Lease"): "leases",
    ("events.k8s.io/v1", "Event"): "events",
    ("monitoring.coreos.com/v1", "PodMonitor"): "podmonitors",
    ("monitoring.coreos.com/v1", "ServiceMonitor"): "servicemonitors",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
}
"""Every kind that the operator touches; all are namespaced."""

WATCHED_CHILDREN: Final = (
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
)
"""Kinds of children that are watched. Secrets are not: their content is nobody's business here. Nor is what another
project's CRD brings, which may not be there: a PodMonitor is read when it is looked at."""


class KubeError(Temporary):
    """The API server could not do it now: no answer (status 0), a conflict, too many requests, or its own fault."""

    def __init__(self, message: str, *, status: int = 0, delay_s: float | None = None) -> None:
        super().__init__(message, delay_s=delay_s)
        self.status = status


class Forbidden(Permanent):
    """The API server does not let the operator do it: RBAC, a quota, a namespace on its way out."""

    status = 403


class Rejected(Permanent):
    """The API server calls the object invalid: the same one will never be accepted."""

    def __init__(self, message: str, *, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


class Kube:
    """The API server. Every call ends within TIMEOUT_S real seconds.

    Raises (every method):
        KubeError: try again later.
        Forbidden, Rejected: trying again does not help.
    """

    def __init__(self, client: Any, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    @classmethod
    async def connect(cls, clock: Clock, *, context: str | None = None) -> Kube:
        """As the pod's service account, or outside a cluster as the kubeconfig says."""
        configuration = Configuration(connection_pool_maxsize=_CONNECTIONS)
        if in_cluster() and context is None:
            _credentials.load_incluster_config(client_configuration=configuration)
        else:
            await _credentials.load_kube_config(context=context, client_configuration=configuration)
        client = ApiClient(configuration)
        client.user_agent = MANAGED_BY
        return cls(client, clock)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply as the children's one owner, taking over what others have set; returns the live object."""
        query = [("fieldManager", FIELD_MANAGER), ("force", "true")]
        return await self._send("PATCH", path_of(manifest), query=query, body=manifest, content_type=_APPLY)

    async def create(self, manifest: Manifest) -> bool:
        """Create; False when one of that name is there."""
        metadata = manifest["metadata"]
        path = collection_path(manifest["apiVersion"], manifest["kind"], metadata.get("namespace"))
        try:
            await self._send("POST", path, query=[("fieldManager", FIELD_MANAGER)], body=manifest)
        except KubeError as error:
            if error.status == 409:
                return False
            raise
        return True

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object; None when there is none."""
        try:
            return await self._send("GET", object_path(api_version, kind, namespace, name))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, api_version: str, kind: str, namespace: str | None, selector: str | None = None
    ) -> list[Manifest]:
        """All objects of a kind that the selector matches; ``namespace`` None means all namespaces."""
        return [each async for each in self.pages(api_version, kind, namespace, selector)]

    async def pages(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        selector: str | None = None,
        *,
        metadata_only: bool = False,
    ) -> AsyncIterator[Manifest]:
        """The objects of a list, read a page at a time; with ``metadata_only`` nothing else of them."""
        path = collection_path(api_version, kind, namespace)
        base = [("limit", str(_PAGE)), *([("labelSelector", selector)] if selector else [])]
        token = ""
        while True:
            query = [*base, *([("continue", token)] if token else [])]
            page = await self._send("GET", path, query=query, accept=_METADATA_ONLY if metadata_only else _JSON)
            for item in page.get("items") or ():
                # The API server leaves both out of a list's items.
                yield {**item, "apiVersion": api_version, "kind": kind}
            token = page.get("metadata", {}).get("continue") or ""
            if not token:
                return

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
        """Delete, in the background what it owns; False when it is gone already or another of that name is there."""
        options: Manifest = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self._send("DELETE", object_path(api_version, kind, namespace, name), body=options)
        except KubeError as error:
            if error.status in {404, 409}:
                return False
            raise
        return True

    async def replace(self, manifest: Manifest) -> Manifest:
        """Put the object in the place of what is there; with a resourceVersion only if it is still that one."""
        return await self._send("PUT", path_of(manifest), query=[("fieldManager", FIELD_MANAGER)], body=manifest)

    async def patch_status(self, bot: Bot, status: Mapping[str, Any]) -> Manifest:
        """Put a whole status in the place of the bot's; a resource of the same name made later is left alone."""
        path = object_path(API_VERSION, KIND, bot.namespace, bot.name) + "/status"
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": bot.uid},
            {"op": "add", "path": "/status", "value": dict(status)},
        ]
        query = [("fieldManager", STATUS_MANAGER)]
        return await self._send("PATCH", path, query=query, body=patch, content_type=_JSON_PATCH)

    async def patch_metadata(
        self,
        bot: Bot,
        *,
        annotations: Mapping[str, str | None] | None = None,
        finalizers: Sequence[str] | None = None,
    ) -> Manifest:
        """Set annotations (None removes one) and, when given, the whole list of finalizers.

        The list is written only while it is what the caller saw, so that nobody else's finalizer is lost.
        """
        metadata: Manifest = {"uid": bot.uid}
        if annotations:
            metadata["annotations"] = dict(annotations)
        if finalizers is None:
            return await self._patch_bot(bot, metadata)
        metadata |= {"finalizers": list(finalizers), "resourceVersion": bot.resource_version}
        try:
            return await self._patch_bot(bot, metadata)
        except KubeError as error:
            live = await self.get(API_VERSION, KIND, bot.namespace, bot.name) if error.status == 409 else None
            if live is None or tuple(live["metadata"].get("finalizers") or ()) != bot.finalizers:
                raise
            return await self._patch_bot(bot, metadata | {"resourceVersion": live["metadata"]["resourceVersion"]})

    async def delete_pods(self, namespace: str, selector: str, *, grace: int | None = None) -> tuple[str, ...]:
        """Delete the pods that the selector matches; returns their names."""
        pods = [each["metadata"] for each in await self.list("v1", "Pod", namespace, selector)]
        for pod in pods:
            await self.delete("v1", "Pod", namespace, pod["name"], uid=pod["uid"], grace=grace)
        return tuple(pod["name"] for pod in pods)

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
        """Tell something that happened to a bot; ``type`` is Normal or Warning. One of that name is told once."""
        named = {"name": name} if name else {"generateName": f"{bot.name}-"}
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, tz=UTC)
        await self.create(
            {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {**named, "namespace": bot.namespace},
                "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
                "reportingController": f"tradingbot.dev/{MANAGED_BY}",
                "reportingInstance": MANAGED_BY,
                "action": action,
                "reason": reason,
                "type": type,
                "note": shortened(message, to_bytes=_NOTE_LIMIT),
                "regarding": {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "namespace": bot.namespace,
                    "name": bot.name,
                    "uid": bot.uid,
                    "resourceVersion": bot.resource_version,
                },
            }
        )

    async def _patch_bot(self, bot: Bot, metadata: Manifest) -> Manifest:
        path = object_path(API_VERSION, KIND, bot.namespace, bot.name)
        query = [("fieldManager", FIELD_MANAGER)]
        return await self._send("PATCH", path, query=query, body={"metadata": metadata}, content_type=_MERGE)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: object = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> Manifest:
        headers = {"Accept": accept, "Content-Type": content_type}
        request = await self._client.param_serialize(
            method, path, query_params=list(query), header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            response = await self._client.call_api(*request, _request_timeout=TIMEOUT_S)
            content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubeError(f"{method} {path}: no answer from the API server: {error!r}") from error
        if 200 <= response.status < 300:
            live: Manifest = json.loads(content)
            return live
        raise _error(f"{method} {path}", response.status, content, response.headers.get("Retry-After"))


def in_cluster() -> bool:
    """Whether this process is a pod with a service account's token."""
    return _SERVICE_ACCOUNT.exists()


def collection_path(api_version: str, kind: str, namespace: str | None) -> str:
    """The path of a kind's objects.

    Raises:
        KeyError: a kind that is not in PLURALS.
    """
    root = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
    within = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"{root}{within}/{PLURALS[api_version, kind]}"


def object_path(api_version: str, kind: str, namespace: str, name: str) -> str:
    """The path of one object."""
    return f"{collection_path(api_version, kind, namespace)}/{quote(name, safe='')}"


def shortened(text: str, *, to_bytes: int) -> str:
    """The text, cut with an ellipsis where it has more bytes in UTF-8."""
    content = text.encode()
    if len(content) <= to_bytes:
        return text
    return content[: to_bytes - len("…".encode())].decode(errors="ignore") + "…"


def path_of(manifest: Manifest) -> str:
    """The path of a manifest's object."""
    metadata = manifest["metadata"]
    return object_path(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"])


def _error(what: str, status: int, content: bytes, retry_after: str | None) -> KubeError | Forbidden | Rejected:
    text = f"{what}: {status} {_message(content)}"
    if status == 403:
        return Forbidden(text)
    if status in {400, 405, 413, 415, 422}:
        return Rejected(text, status=status)
    delay_s = float(retry_after) if retry_after and retry_after.isdigit() else None
    return KubeError(text, status=status, delay_s=delay_s)


def _message(content: bytes) -> str:
    """The message of the API server's Status; what it says of a value may hold that value, so no Secret goes through
    apply."""
    try:
        return str(json.loads(content).get("message", ""))
    except (ValueError, AttributeError):
        return content[:200].decode("utf-8", "replace")
