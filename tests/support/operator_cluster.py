"""A real API server for the operator's tests, a namespace of their own, and the operator's parts around it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tradingbot.runtime.clock import Clock, Ids, SystemClock
from tradingbot_operator.cache import Cache
from tradingbot_operator.children import Children
from tradingbot_operator.kube import Kube, Manifest
from tradingbot_operator.names import API_VERSION, KIND, labels
from tradingbot_operator.probe import Pulse
from tradingbot_operator.queue import Handler, Lane, WorkQueue
from tradingbot_operator.relist import Relist
from tradingbot_operator.resource import Bot, parse
from tradingbot_operator.watch import Watcher, streams, watch

CLUSTER = os.environ.get("KIND_CLUSTER_NAME", "")
CONTEXT = f"kind-{CLUSTER}"
ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "tradingbots.tradingbot.dev.yaml"

needs_cluster = [
    pytest.mark.skipif(not CLUSTER or not shutil.which("kubectl"), reason="KIND_CLUSTER_NAME names no kind cluster"),
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("cluster"),
]


def kubectl(*words: str, given: str | None = None) -> str:
    """Run kubectl against the cluster; it must succeed."""
    command = ["kubectl", "--context", CONTEXT, *words]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


@contextmanager
def own_namespace(folder: Path) -> Iterator[str]:
    """A namespace with the CRD there, and KUBECONFIG naming this cluster alone; both end with the context."""
    name = f"test-operator-{Ids().uuid()[:8]}"
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    kubectl("create", "namespace", name)
    config = folder / "kubeconfig"
    config.write_text(kubectl("config", "view", "--minify", "--flatten"))
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(config)
    try:
        yield name
    finally:
        if before is None:
            del os.environ["KUBECONFIG"]
        else:
            os.environ["KUBECONFIG"] = before
        for bot in kubectl("-n", name, "get", "tradingbots", "-o", "name").split():
            kubectl("-n", name, "patch", bot, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        kubectl("delete", "namespace", name, "--wait=false")


class CountingKube(Kube):
    """The API server, with a count of what was written to it."""

    writes: int = 0

    async def _send(self, method: str, path: str, **rest: Any) -> Manifest:
        self.writes += method != "GET"
        return await super()._send(method, path, **rest)


async def until(condition: Callable[[], Any], *, within_s: float = 15.0) -> float:
    """Wait until the condition holds; returns the seconds that took."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    while not condition():
        assert loop.time() - started < within_s, "it did not come to hold"
        await asyncio.sleep(0.005)
    return loop.time() - started


@dataclass
class Stand:
    """The operator's parts on a real API server; lanes do what the test says."""

    kube: CountingKube
    clock: Clock
    namespace: str
    cache: Cache
    queue: WorkQueue
    watcher: Watcher
    relist: Relist
    pulse: Pulse
    children: Children

    async def make_bot(self, name: str = "majors", **spec: Any) -> Bot:
        """A bot as the API server has it; suspended unless the spec says otherwise."""
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"suspend": True, "exchange": {"network": "paper"}, **spec},
        }
        assert await self.kube.create(body)
        return await self.bot(name)

    async def bot(self, name: str = "majors") -> Bot:
        """The bot as it is now."""
        live = await self.kube.get(API_VERSION, KIND, self.namespace, name)
        assert live is not None
        return parse(live)

    async def drop_bot(self, bot: Bot) -> None:
        """Delete the bot and wait for its end."""
        await self.kube.delete(API_VERSION, KIND, bot.namespace, bot.name)
        for _ in range(1000):
            if await self.kube.get(API_VERSION, KIND, bot.namespace, bot.name) is None:
                return
            await asyncio.sleep(0.01)

    async def edit(self, api_version: str, kind: str, name: str, patch: Mapping[str, Any]) -> Manifest:
        """Change an object as another than the operator would."""
        plural = {"ConfigMap": "configmap", "Deployment": "deployment"}.get(kind, kind.lower())
        words = ("-n", self.namespace, "patch", plural, name, "--type=merge", "-p", yaml.safe_dump(dict(patch)))
        await asyncio.to_thread(kubectl, *words)
        live = await self.kube.get(api_version, kind, self.namespace, name)
        assert live is not None
        return live

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch, after a list."""
        await self.relist.fill()
        stop = asyncio.Event()

        def give_signals_back() -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().remove_signal_handler(number)

        task = asyncio.create_task(
            watch(self.watcher, self.pulse, [self.namespace], stop=stop, started=give_signals_back)
        )
        try:
            await until(lambda: self.pulse.complete or task.done())
            yield
            assert not task.done(), "the watch ended by itself"
        finally:
            stop.set()
            await task

    @asynccontextmanager
    async def working(self, handlers: Mapping[Lane, Handler]) -> AsyncIterator[None]:
        """Watch, and work on the lanes that are given."""

        async def nothing(_: str) -> None:
            pass

        async with self.watching():
            task = asyncio.create_task(self.queue.run({lane: handlers.get(lane, nothing) for lane in Lane}))
            try:
                yield
                assert not task.done(), "the queue ended by itself"
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def stand_in(namespace: str) -> AsyncIterator[Stand]:
    """The parts, for one namespace."""
    clock, ids = SystemClock(), Ids(1)
    kube = await CountingKube.connect(clock, context=CONTEXT)
    assert isinstance(kube, CountingKube)
    cache, queue = Cache(), WorkQueue(clock, ids)
    watcher = Watcher(cache, queue)
    try:
        yield Stand(
            kube=kube,
            clock=clock,
            namespace=namespace,
            cache=cache,
            queue=queue,
            watcher=watcher,
            relist=Relist(
                kube, watcher, cache=cache, queue=queue, clock=clock, ids=ids, namespaces=[namespace], resync_s=300
            ),
            pulse=Pulse(clock, streams([namespace])),
            children=Children(kube, cache, clock),
        )
    finally:
        await kube.close()


def manifest(bot: Bot, api_version: str, kind: str, name: str, **content: Any) -> Manifest:
    """A child of the bot, as render makes them."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": bot.name,
        "uid": bot.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    metadata = {
        "name": f"{bot.name}-{name}",
        "namespace": bot.namespace,
        "labels": labels(bot.name, name),
        "ownerReferences": [owner],
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def small_family(bot: Bot) -> tuple[Manifest, ...]:
    """One child of each watched kind, none of which starts a pod."""
    chosen = {"tradingbot.dev/bot": bot.name, "app.kubernetes.io/component": "x"}
    container = {"name": "x", "image": "none:1", "env": [{"name": "A", "value": "1"}]}
    pod = {"metadata": {"labels": chosen}, "spec": {"containers": [container]}}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return (
        manifest(bot, "v1", "ConfigMap", "config", data={"A": "1", "B": "2"}),
        manifest(bot, "v1", "PersistentVolumeClaim", "claim", spec=claim),
        manifest(bot, "v1", "ServiceAccount", "account", automountServiceAccountToken=False),
        manifest(
            bot, "v1", "Service", "service", spec={"selector": chosen, "ports": [{"port": 80, "targetPort": 80}]}
        ),
        manifest(
            bot, "apps/v1", "Deployment", "deployment",
            spec={"replicas": 0, "selector": {"matchLabels": chosen}, "template": pod},
        ),
        manifest(
            bot, "apps/v1", "StatefulSet", "set",
            spec={"replicas": 0, "selector": {"matchLabels": chosen}, "serviceName": "x", "template": pod},
        ),
        manifest(
            bot, "networking.k8s.io/v1", "NetworkPolicy", "deny",
            spec={"podSelector": {"matchLabels": chosen}, "policyTypes": ["Ingress", "Egress"]},
        ),
        manifest(
            bot, "policy/v1", "PodDisruptionBudget", "budget",
            spec={"maxUnavailable": 1, "selector": {"matchLabels": chosen}},
        ),
    )  # fmt: skip
