"""`kubectl tradingbot status`, `logs`, `orders`, `render`, `diff`: they read, and say what they could not read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from support.operator_kubectl import FakeKubectl
from support.operator_specs import ROOT, body, example
from tradingbot_operator.drift import stamped
from tradingbot_operator.keys import MasterKey
from tradingbot_operator.plugin.app import app
from tradingbot_operator.plugin.bots import Seen
from tradingbot_operator.plugin.summary import summary
from tradingbot_operator.render import context_of, render
from tradingbot_operator.render.model import model_backend
from tradingbot_operator.resource import InvalidSpec, parse
from tradingbot_operator.settings import parse_settings

NOW = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)
SETTINGS = {"image": "tradingbot:1", "operatorNamespace": "tradingbot-system"}


def ago(**span: float) -> str:
    return (NOW - timedelta(**span)).isoformat().replace("+00:00", "Z")


BOT = {
    "metadata": {"name": "majors", "namespace": "desk", "generation": 5, "creationTimestamp": ago(hours=3, minutes=12)},
    "spec": {"mode": "NORMAL", "exchange": {"network": "paper"}},
    "status": {
        "phase": "Halted",
        "ready": "8/8",
        "account": "0x71d1",
        "mode": {
            "desired": "NORMAL", "effective": "HALT", "source": "breaker", "reason": "drawdown of 3.1 %",
            "generation": 4, "requestedAt": ago(seconds=90), "receivedAt": ago(seconds=89.8),
            "cancelledAt": ago(seconds=89.5), "ackedAt": ago(seconds=89.2), "openOrders": 0,
        },
        "breaker": {"mode": "HALT", "reason": "drawdown of 3.1 %", "latchId": "drawdown-7"},
        "person": {"mode": "REDUCE_ONLY", "by": "ann", "reason": "news", "untilGeneration": 6},
        "portfolio": {
            "equityUsd": "9690.12", "gross": 0.32, "net": 0.18, "drawdown": 0.031, "lastCycle": "20261122T2058Z",
            "lastCycleAt": ago(minutes=2),
        },
        "overrides": {"risk.max_gross": "0.3"},
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "AllReady", "message": "8 of 8",
             "lastTransitionTime": ago(days=2)},
            {"type": "ModeApplied", "status": "False", "reason": "Superseded", "lastTransitionTime": ago(seconds=90)},
        ],
    },
}  # fmt: skip


def pod(component: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"majors-{component}-1",
            "labels": {"app.kubernetes.io/component": component},
            "creationTimestamp": ago(hours=3),
        },
        "status": {"phase": "Running", **status},
    }


PODS = [
    pod("monitor", containerStatuses=[{"ready": True, "restartCount": 0, "state": {"running": {}}}]),
    pod(
        "execution",
        containerStatuses=[
            {"ready": False, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        ],
    ),
]
EVENTS = [
    {
        "metadata": {"creationTimestamp": ago(minutes=9)}, "eventTime": ago(minutes=9), "type": "Warning",
        "reason": "BreakerTripped", "message": "drawdown\n of 3.1 %",
    },
    {"metadata": {"creationTimestamp": ago(minutes=30)}, "lastTimestamp": ago(minutes=5), "type": "Normal",
     "reason": "ModeApplied", "message": "HALT"},
]  # fmt: skip


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def test_the_summary_says_all_that_a_person_looks_for() -> None:
    """Held whole: a screen is one thing."""
    seen = Seen(bot=BOT, pods=tuple(PODS), events=tuple(EVENTS), missing=("events: forbidden",))

    shown = "\n".join(summary(seen, now=NOW))

    assert (
        shown
        == """\
desk/majors  Halted  on paper  8/8 pods ready  age 3h12m
Account    0x71d1
Equity     9690.12 USD  gross 0.3200  net 0.1800  drawdown 0.0310
Last cycle 20261122T2058Z, 2m ago

Mode          HALT by breaker: drawdown of 3.1 %
  desired     NORMAL (Redis holds generation 4; the resource is at 5: all here is older; does the operator run?)
  stamps      requested 1m30s ago, received +0.2 s, cancelled +0.5 s, acknowledged +0.8 s
  open orders 0
Breaker       HALT: drawdown of 3.1 %; clear it: kubectl annotate tb majors tradingbot.dev/clear-breaker=drawdown-7
Person        REDUCE_ONLY by ann: news, until generation 6
Overrides     risk.max_gross=0.3

Conditions
  Ready        True   2d     AllReady: 8 of 8
  ModeApplied  False  1m30s  Superseded

Pods
  majors-monitor-1    ready      Running           3h
  majors-execution-1  NOT READY  CrashLoopBackOff  3h  4 restarts

Last events
  9m  Warning  BreakerTripped  drawdown of 3.1 %
  5m  Normal   ModeApplied     HALT

could not be read: events: forbidden"""
    )


def test_a_bot_that_the_operator_has_not_seen_is_shown_without_its_status() -> None:
    bare = {"metadata": {"name": "new", "namespace": "desk", "generation": 1}, "spec": {"mode": "HALT"}}

    shown = summary(Seen(bot=bare, pods=(), events=(), missing=()), now=NOW)

    assert shown[0].startswith("desk/new  not seen by the operator yet  on paper")
    assert "Mode          UNKNOWN" in shown
    assert "  desired     HALT" in shown


def test_a_dry_run_a_pause_and_a_deletion_are_said() -> None:
    odd = {
        "metadata": {
            "name": "x", "generation": 1, "deletionTimestamp": ago(seconds=30),
            "annotations": {"tradingbot.dev/pause": "true"},
        },
        "spec": {"exchange": {"network": "mainnet"}},
        "status": {"deletion": "waiting for the venue"},
    }  # fmt: skip

    shown = "\n".join(summary(Seen(bot=odd, pods=(), events=(), missing=()), now=NOW))

    assert "on mainnet (dry run)" in shown
    assert "deletion asked for 30s ago" in shown
    assert "Paused: children are left alone" in shown
    assert "Deletion: waiting for the venue" in shown


def test_status_reads_the_bot_its_pods_and_its_events(kubectl: FakeKubectl) -> None:
    kubectl.answers("get tradingbots.tradingbot.dev majors", BOT)
    kubectl.answers("get pods --selector=tradingbot.dev/bot=majors", {"items": PODS})
    kubectl.answers("get events", {"items": EVENTS})

    done = run("status", "majors", "-n", "desk")

    assert done.exit_code == 0
    assert "majors-execution-1  NOT READY  CrashLoopBackOff" in done.stdout
    facts = json.loads(run("status", "majors", "--json").stdout)
    assert facts["status"]["mode"]["source"] == "breaker"
    assert facts["pods"][0] == {
        "name": "majors-execution-1", "component": "execution", "ready": False, "restarts": 4,
        "state": "CrashLoopBackOff",
    }  # fmt: skip
    assert [each["reason"] for each in facts["events"]] == ["BreakerTripped", "ModeApplied"]


def test_status_shows_what_it_may_and_says_what_it_may_not(kubectl: FakeKubectl) -> None:
    kubectl.answers("get tradingbots.tradingbot.dev majors", BOT)
    kubectl.answers("get pods", err="Error from server (Forbidden): pods is forbidden", code=1)
    kubectl.answers("get events", {"items": []})

    done = run("status", "majors")

    assert done.exit_code == 0
    assert "could not be read: pods: Error from server (Forbidden)" in done.stdout


def test_several_bots_are_a_table_and_none_is_said(kubectl: FakeKubectl) -> None:
    other = {**BOT, "metadata": {**BOT["metadata"], "name": "alts"}}
    listed = kubectl.answers("get tradingbots.tradingbot.dev", {"items": [BOT, other]})

    lines = run("status").stdout.splitlines()

    assert lines[0].split() == ["NAME", "MODE", "APPLIED", "READY", "EQUITY", "NETWORK", "PHASE", "AGE"]
    assert [line.split()[0] for line in lines[1:]] == ["majors", "alts"]
    kubectl.says(listed, {"items": []})
    assert "no bot in this namespace" in run("status").stdout


def test_orders_come_from_the_monitors_pod(kubectl: FakeKubectl) -> None:
    kubectl.answers("exec", "0 open orders at 2026-11-22 21:00:00Z\n")

    assert run("orders", "majors", "-n", "desk").stdout == "0 open orders at 2026-11-22 21:00:00Z\n"
    assert kubectl.calls[0][1:] == [
        "exec", "deployment/majors-monitor", "--pod-running-timeout=3s", "--", "tradingbot", "ctl", "orders",
    ]  # fmt: skip


def plugin(*words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """The plugin as a process of its own."""
    command = [sys.executable, "-m", "tradingbot_operator.plugin.app", *words]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=50, env=dict(os.environ))


def test_logs_become_kubectls_own(kubectl: FakeKubectl) -> None:
    kubectl.answers("logs", "a line\n")

    done = plugin("logs", "majors", "-c", "risk_engine", "--since", "10m", "-n", "desk")

    assert (done.returncode, done.stdout) == (0, "a line\n")
    assert kubectl.call("logs") == [
        "--namespace=desk", "logs", "--selector=tradingbot.dev/bot=majors,app.kubernetes.io/component=risk-engine",
        "--tail=50", "--max-log-requests=20", "--since=10m",
    ]  # fmt: skip


def test_an_error_is_kubectls_text_without_a_traceback(kubectl: FakeKubectl) -> None:
    kubectl.answers("get", err="error: context deadline exceeded", code=1)

    done = plugin("status", "majors")

    assert (done.returncode, done.stderr) == (1, "error: context deadline exceeded\n")


def test_without_kubectl_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "kubectl is not on the PATH" in plugin("status", "majors").stderr


def test_a_component_that_is_none_is_refused() -> None:
    assert "is none of market-data" in run("logs", "majors", "-c", "executor").output


@pytest.mark.parametrize("words", [(), ("status",), ("halt",), ("diff",)], ids=str)
def test_every_command_explains_itself(words: tuple[str, ...]) -> None:
    shown = run(*words, "--help")
    assert shown.exit_code == 0
    assert "kubectl tradingbot" in shown.stdout


def settings_file(folder: Path) -> str:
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    return str(path)


def test_render_needs_no_cluster_and_prints_what_the_operator_would_apply(
    kubectl: FakeKubectl,
    tmp_path: Path,
) -> None:
    """Off paper nothing but Redis' password hashes is unknown, and they are zeros."""
    done = run("render", "-f", str(ROOT / "examples/testnet.yaml"), "--settings", settings_file(tmp_path), "-n", "desk")

    printed = list(yaml.safe_load_all(done.stdout))
    bot = parse(
        body(example("testnet")["spec"], name="testnet", namespace="desk", uid="0" * 8 + "-0000" * 3 + "-" + "0" * 12)
    )
    wanted = render(bot, context_of(bot, parse_settings(SETTINGS), MasterKey(b"k" * 32)))
    assert [(each["kind"], each["metadata"]["name"]) for each in printed] == [
        (each["kind"], each["metadata"]["name"]) for each in wanted
    ]
    execution = next(
        each for each in printed if each["metadata"]["name"] == "testnet-execution" and each["kind"] == "Deployment"
    )
    assert execution in [stamped(each) for each in wanted]
    assert not any(each["kind"] == "Secret" for each in printed)
    acl = next(each for each in printed if each["metadata"]["name"] == "testnet-redis" and each["kind"] == "ConfigMap")
    assert f"#{'0' * 64}" in acl["data"]["users.acl"]


def in_cluster(fake: FakeKubectl, manifests: tuple[dict[str, Any], ...], live: dict[str, Any]) -> None:
    """The cluster as it is when the operator has rendered this bot."""
    fake.answers("get tradingbots.tradingbot.dev majors", live)
    for each in manifests:
        if each["kind"] in ("ConfigMap", "Deployment"):
            kind = "configmap" if each["kind"] == "ConfigMap" else "deployment.apps"
            fake.answers(f"get {kind} {each['metadata']['name']} ", each)


def test_for_a_bot_in_the_cluster_render_knows_what_the_operator_knows(
    kubectl: FakeKubectl,
    tmp_path: Path,
) -> None:
    """Account, agent and hashes are read from where they stand in plain sight: not a byte differs."""
    live = body(example()["spec"], namespace="desk", uid="01234567-89ab-cdef-0123-456789abcdef", generation=3)
    bot = parse(live)
    wanted = render(bot, context_of(bot, parse_settings(SETTINGS), MasterKey(b"k" * 32)))
    in_cluster(kubectl, wanted, live)

    done = run(
        "render", "-f", str(ROOT / "examples/tradingbot.yaml"), "--settings", settings_file(tmp_path), "-n", "desk"
    )

    assert list(yaml.safe_load_all(done.stdout)) == [stamped(each) for each in wanted]


def test_for_a_bot_that_asks_a_model_render_reads_its_service_as_the_operator_does(
    kubectl: FakeKubectl, tmp_path: Path
) -> None:
    spec = {**example()["spec"], "ai": {"strategy": "llm", "endpoint": "http://model.ai.svc/v1", "model": "m"}}
    live = body(spec, namespace="desk", uid="01234567-89ab-cdef-0123-456789abcdef", generation=3)
    service = {"spec": {"selector": {"app": "model"}, "ports": [{"port": 80, "targetPort": 8000}]}}
    bot = parse(live)
    known = context_of(bot, parse_settings(SETTINGS), MasterKey(b"k" * 32), model=model_backend(bot, service))
    wanted = render(bot, known)
    in_cluster(kubectl, wanted, live)
    kubectl.answers("get service model ", service)
    (tmp_path / "bot.yaml").write_text(yaml.safe_dump(body(spec)), encoding="utf-8")

    done = run("render", "-f", str(tmp_path / "bot.yaml"), "--settings", settings_file(tmp_path), "-n", "desk")

    assert list(yaml.safe_load_all(done.stdout)) == [stamped(each) for each in wanted]
    asked = next(call for call in kubectl.calls if "service" in call)
    assert "--namespace=ai" in asked


def test_diff_asks_the_api_server_with_the_operators_own_name(kubectl: FakeKubectl, tmp_path: Path) -> None:
    live = body(example()["spec"], namespace="desk", uid="01234567-89ab-cdef-0123-456789abcdef", generation=3)
    kubectl.answers("get tradingbots.tradingbot.dev majors", live)
    own = kubectl.answers("diff --filename=-", "", reads=True)
    children = kubectl.answers("diff --server-side", "-  CYCLE_SECONDS: 60\n", code=1, reads=True)

    done = run("diff", "-f", str(ROOT / "examples/tradingbot.yaml"), "--settings", settings_file(tmp_path))

    assert (done.exit_code, done.stdout) == (1, "-  CYCLE_SECONDS: 60\n")
    assert "--field-manager=tradingbot-operator" in kubectl.calls[-1]
    assert next(yaml.safe_load_all((own / "given").read_text()))["kind"] == "TradingBot"
    assert "majors-execution" in {
        each["metadata"]["name"] for each in yaml.safe_load_all((children / "given").read_text())
    }


def test_diff_says_when_it_could_not_be_told(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """Exit code 1 of kubectl without a difference is an error, not a difference."""
    kubectl.answers("diff", err="error: the server could not be reached", code=1)

    done = run("diff", "-f", str(ROOT / "examples/tradingbot.yaml"), "--settings", settings_file(tmp_path))

    assert done.exit_code == 2
    assert "could not be reached" in done.stderr


def test_the_settings_are_those_of_the_operator_that_watches_the_namespace(kubectl: FakeKubectl) -> None:
    settings = {"metadata": {"name": "op", "namespace": "sys"}, "data": {"settings.yaml": yaml.safe_dump(SETTINGS)}}
    listed = kubectl.answers("get configmaps --all-namespaces", {"items": [settings]})

    assert "image: tradingbot:1" in (done := run("render", "-f", str(ROOT / "examples/testnet.yaml"))).stdout
    assert "settings: sys/op" in done.stderr
    elsewhere = {"metadata": {"name": "op", "namespace": "far"}, "data": dict(settings["data"])}
    elsewhere["data"]["settings.yaml"] = yaml.safe_dump({**SETTINGS, "image": "far:1", "namespaces": ["far"]})
    near = {"metadata": {"name": "op", "namespace": "near"}, "data": dict(settings["data"])}
    near["data"]["settings.yaml"] = yaml.safe_dump({**SETTINGS, "image": "near:1", "namespaces": ["desk"]})
    kubectl.says(listed, {"items": [elsewhere, near]})
    done = run("render", "-f", str(ROOT / "examples/testnet.yaml"), "-n", "desk")
    assert "image: near:1" in done.stdout
    assert "settings: near/op" in done.stderr
    kubectl.says(listed, {"items": [settings, settings]})
    assert "name the operator's with --settings" in run("render", "-f", str(ROOT / "examples/testnet.yaml")).stderr


def test_a_file_with_a_mistake_is_refused_with_its_field(kubectl: FakeKubectl, tmp_path: Path) -> None:
    path = tmp_path / "bot.yaml"
    path.write_text(yaml.safe_dump(body({"risk": {"maxGros": 0.3}})), encoding="utf-8")
    with pytest.raises(InvalidSpec, match=r"spec\.risk\.maxGros"):
        run("render", "-f", str(path))
    path.write_text("kind: ConfigMap\n", encoding="utf-8")
    with pytest.raises(Exception, match="holds no TradingBot"):
        run("render", "-f", str(path))
