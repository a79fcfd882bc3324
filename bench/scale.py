"""The operator with 1,000 resources: from a patch to the bot's ctl.commands, a restart, memory.

Method: on a kind cluster with its real API server the chart is installed, and 1,000 suspended TradingBots name one
Redis by ``urlSecretRef``, an index each. 200 random ones get another ``spec.mode``; the start is the moment before the
request is sent, the end is the id of the entry in the bot's ``ctl.commands``: the server's own clock, on the same
machine. Then the operator's pod is killed: the time from its new container's start until every bot has been looked at
and the queue is empty, and how many resources were written meanwhile. Memory is the process' resident set.

Beside it: 20 whole bots in a namespace that admits no pods (their Deployments stand, nothing runs).

    python bench/scale.py [--bots 1000] [--patches 200] [--whole 20]
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import random
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubernetes import client, config

from stack import machine, percentile, row

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from harness import cluster, namespaces
from harness.bot import CHILD_KINDS, to_ms
from harness.kubectl import Kubectl, Manifest
from harness.operator import Operator
from harness.waiting import eventually

GOALS = {"patch": 60.0, "restart": 15.0, "memory": 150.0}
REDIS = "redis"
SECRET = "redis-urls"
RECONCILES = "tradingbot_operator_reconciles_total"
WRITES = "tradingbot_operator_child_writes_total"
Resources = dict[str, tuple[str, str]]


class Bench:
    """One installation with its bots."""

    def __init__(self, kubectl: Kubectl, operator: Operator, *, light: str, whole: str) -> None:
        self.kubectl = kubectl
        self.operator = operator
        self.light = light
        self.whole = whole
        config.load_kube_config(context=kubectl.context)
        self.api = client.CustomObjectsApi()

    def create(self, namespace: str, name: str, spec: dict[str, Any]) -> None:
        body = {
            "apiVersion": "tradingbot.dev/v1alpha1",
            "kind": "TradingBot",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        self.api.create_namespaced_custom_object("tradingbot.dev", "v1alpha1", namespace, "tradingbots", body)

    def bots(self, namespace: str) -> list[Manifest]:
        found = self.api.list_namespaced_custom_object("tradingbot.dev", "v1alpha1", namespace, "tradingbots")
        return list(found["items"])

    def versions(self) -> dict[str, str]:
        """The resource version of every bot, and of every child of the whole ones."""
        bots = [each for namespace in (self.light, self.whole) for each in self.bots(namespace)]
        children = self.kubectl.list(",".join(CHILD_KINDS), self.whole, "app.kubernetes.io/managed-by")
        return {each["metadata"]["uid"]: each["metadata"]["resourceVersion"] for each in (*bots, *children)}

    def patch(self, name: str, mode: str) -> tuple[float, int]:
        """When the request was sent, Unix ms, and the generation that it led to."""
        sent_ms = time.time() * 1000
        body = {"spec": {"mode": mode}}
        found = self.api.patch_namespaced_custom_object(
            "tradingbot.dev", "v1alpha1", self.light, "tradingbots", name, body
        )
        return sent_ms, int(found["metadata"]["generation"])

    def metrics(self) -> dict[str, float]:
        """The operator's metrics through the API server, each with its labels and summed over them; empty while it
        does not answer."""
        pods = self.operator.ready_pods()
        path = f"/api/v1/namespaces/{self.operator.namespace}/pods/{pods[0]}:8080/proxy/metrics" if pods else ""
        done = self.kubectl.run("get", "--raw", path) if pods else None
        sums: dict[str, float] = {}
        for line in done.stdout.splitlines() if done and done.returncode == 0 else []:
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                sums[name] = float(value)
                if "{" in name:
                    key = name.partition("{")[0]
                    sums[key] = sums.get(key, 0.0) + float(value)
        return sums

    def memory_mb(self) -> float:
        """The operator's resident set."""
        text = self.kubectl.exec(self.operator.wait_ready(), self.operator.namespace, "cat", "/proc/1/status")
        kilobytes = next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))
        return int(kilobytes) / 1024

    def written_ms(self, indexes: dict[str, int]) -> dict[str, dict[int, float]]:
        """By bot and generation: when its command stood in ctl.commands, Unix ms."""
        read = 'redis-cli --no-auth-warning -a "$0" -n "$n" --json xrange ctl.commands - +'
        script = f'while read -r n; do echo "#$n"; {read}; done'
        asked = "".join(f"{index}\n" for index in indexes.values())
        password = base64.b64decode(self.secret["password"]).decode()
        text = self.kubectl.exec(REDIS, self.light, "bash", "-c", script, password, stdin=asked, timeout_s=300)
        by_index = {int(part.split("\n", 1)[0]): part.split("\n", 1)[1] for part in text.split("#")[1:]}
        return {name: _generations(json.loads(by_index[index])) for name, index in indexes.items()}

    @property
    def secret(self) -> dict[str, str]:
        found = self.kubectl.get("secret", SECRET, self.light)
        assert found is not None
        return dict(found["data"])


def _generations(entries: list[Any]) -> dict[int, float]:
    found: dict[int, float] = {}
    for entry_id, fields in entries:
        data = json.loads(fields[fields.index("p") + 1])["data"]
        if data.get("generation") is not None:
            found.setdefault(data["generation"], float(entry_id.partition("-")[0]))
    return found


def redis_of(namespace: str, *, databases: int) -> list[Manifest]:
    """One Redis with an index for each bot, and the Secret with all addresses."""
    password = secrets.token_hex(16)
    container = {
        "name": REDIS,
        "image": cluster.REDIS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["redis-server", "--databases", str(databases), "--requirepass", password],
        "args": ["--appendonly", "yes", "--appendfsync", "always", "--save", ""],
        "workingDir": "/data",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    security = {
        "runAsNonRoot": True,
        "runAsUser": 999,
        "fsGroup": 999,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": security,
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    urls = {f"url-{n}": f"redis://:{password}@{REDIS}.{namespace}.svc:6379/{n}" for n in range(databases)}
    metadata = {"name": REDIS, "namespace": namespace, "labels": {"app": REDIS}}
    service = {"selector": {"app": REDIS}, "ports": [{"port": 6379}]}
    named = {"name": SECRET, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
        {"apiVersion": "v1", "kind": "Secret", "metadata": named, "stringData": {**urls, "password": password}},
    ]


@contextlib.contextmanager
def installed(bots: int) -> Iterator[Bench]:
    """The chart, one Redis, and a namespace without room for pods."""
    kubectl = cluster.find_or_create()
    light, whole = namespaces.create(kubectl, "light"), namespaces.create(kubectl, "whole")
    operator = Operator(kubectl, namespaces.create(kubectl, "operator"), [light, whole])
    try:
        quota = {"hard": {"pods": "0"}}
        named = {"name": "no-pods", "namespace": whole}
        kubectl.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": named, "spec": quota})
        for manifest in redis_of(light, databases=bots):
            kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        kubectl("wait", "pod", REDIS, "-n", light, "--for=condition=Ready", "--timeout=120s", timeout_s=150)
        operator.install(redis={"urlSecretNames": [SECRET]})
        yield Bench(kubectl, operator, light=light, whole=whole)
    finally:
        operator.uninstall()
        namespaces.remove_all(kubectl)


def light_spec(index: int) -> dict[str, Any]:
    """A suspended bot on its index of the shared Redis."""
    return {"suspend": True, "redis": {"urlSecretRef": {"name": SECRET, "key": f"url-{index}"}}}


def settled(bench: Bench, bots: int, *, within_s: float) -> None:
    """Every bot has a status for its generation, and the queue is empty."""

    def look() -> bool:
        found = [*bench.bots(bench.light), *bench.bots(bench.whole)]
        seen = [each.get("status", {}).get("observedGeneration") == each["metadata"]["generation"] for each in found]
        return len(seen) == bots and all(seen)

    eventually(look, what=f"{bots} bots are settled", within_s=within_s, every_s=3)


def patches(bench: Bench, *, bots: int, times: int) -> list[float]:
    """Milliseconds from the request to the command, for random bots, one every 50 ms."""
    chosen = random.Random(7).sample(range(bots), times)
    sent = {}
    for index in chosen:
        sent[f"light-{index}"] = bench.patch(f"light-{index}", "REDUCE_ONLY")
        time.sleep(0.05)
    time.sleep(5)
    written = bench.written_ms({f"light-{index}": index for index in chosen})
    return [written[name][generation] - sent_ms for name, (sent_ms, generation) in sent.items()]


def restart(bench: Bench, *, bots: int) -> tuple[float, int]:
    """(seconds from the new container's start until all is looked at, objects written meanwhile)."""
    before = bench.versions()
    bench.operator.kill()
    eventually(lambda: not bench.operator.ready_pods(), what="the old one is gone", within_s=30, every_s=0.2)
    done_ms = eventually(lambda: _all_seen(bench, bots), what="all bots are looked at", within_s=300, every_s=0.3)
    status = bench.operator.pods()[0]["status"]["containerStatuses"][0]
    started_ms = to_ms(status["state"]["running"]["startedAt"])
    time.sleep(10)
    after = bench.versions()
    written = sum(after[uid] != version for uid, version in before.items()) + int(bench.metrics().get(WRITES, 0))
    return (done_ms - started_ms) / 1000, written


def _all_seen(bench: Bench, bots: int) -> float | None:
    found = bench.metrics()
    waiting = found.get("tradingbot_operator_queue_depth", 1) + found.get("tradingbot_operator_queue_running", 1)
    # The mode's lane does not count: a bot without pods has no Redis that could answer it.
    seen = [found.get(f'{RECONCILES}{{lane="{lane}"}}', 0) >= bots for lane in ("children", "status")]
    return time.time() * 1000 if all(seen) and not waiting else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bots", type=int, default=1000)
    parser.add_argument("--patches", type=int, default=200)
    parser.add_argument("--whole", type=int, default=20)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left in the cluster
    with installed(options.bots) as bench:
        started = time.monotonic()
        for index in range(options.bots):
            bench.create(bench.light, f"light-{index}", light_spec(index))
        settled(bench, options.bots, within_s=900)
        print(f"{machine()}; kind; {options.bots} suspended bots settled {time.monotonic() - started:.0f} s after")
        print(f"memory with them: {bench.memory_mb():.0f} MB", flush=True)
        taken = patches(bench, bots=options.bots, times=options.patches)
        print(row("patch -> ctl.commands", taken), flush=True)
        light_s, light_writes = restart(bench, bots=options.bots)
        memory_mb = bench.memory_mb()
        print(f"restart with {options.bots} bots: {light_s:.1f} s, {light_writes} writes", flush=True)

        started = time.monotonic()
        for index in range(options.whole):
            bench.create(bench.whole, f"whole-{index}", {})
        settled(bench, options.bots + options.whole, within_s=900)
        print(f"{options.whole} whole bots without pods applied in {time.monotonic() - started:.0f} s")
        whole_s, whole_writes = restart(bench, bots=options.bots + options.whole)
        print(f"restart with both: {whole_s:.1f} s, {whole_writes} writes; memory {bench.memory_mb():.0f} MB")
    figures = {"patch": percentile(taken, 0.99), "restart": light_s, "memory": memory_mb}
    for name, unit in (("patch", "ms p99"), ("restart", "s"), ("memory", "MB")):
        said = "met" if figures[name] <= GOALS[name] and (name != "restart" or not light_writes) else "missed"
        print(f"goal {name} <= {GOALS[name]:g} {unit}: {said} ({figures[name]:.0f})")


if __name__ == "__main__":
    main()
