"""What the chart promises: least rights, hardened pods, values that the operator takes."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterable
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY, Metric

from support.operator_chart import CHART, ROOT, may, needs_helm, of_kind, rendered, run_helm
from tradingbot.monitor.metrics import BoardCollector
from tradingbot.monitor.models import BusView, CircuitView, Figures, LlmView, Page
from tradingbot_operator.kube import PLURALS
from tradingbot_operator.render import KINDS
from tradingbot_operator.settings import OperatorSettings, parse_settings

pytestmark = [needs_helm, pytest.mark.timeout(120)]

EVERYTHING: dict[str, Any] = {
    "image": {"repository": "registry.example/tradingbot", "digest": "sha256:" + "a" * 64, "pullSecrets": ["pull"]},
    "watch": {"namespaces": ["alpha", "beta"]},
    "accounts": {"leaseNamespace": "accounts"},
    "redis": {"image": "valkey:8", "urlSecretNames": ["own-redis"]},
    "venue": {"ipWeightPerMinute": 600},
    "bots": {
        "resources": {"redis": {"limits": {"memory": "1Gi"}}},
        "storageClass": "fast",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "trading", "operator": "Exists"}],
        "podMonitor": True,
        "metricsFrom": {"kubernetes.io/metadata.name": "monitoring"},
        "extraEgress": [{"ports": [{"port": 4318}]}],
        "modelEgress": [{"ports": [{"port": 11434}]}],
        "dnsEgress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
        "externalRedisEgress": [{"ports": [{"port": 6379}]}],
        "otlpEndpoint": "http://otel.monitoring:4318",
    },
    "resyncSeconds": 60,
    "mode": {"receiveSeconds": 5, "ackSeconds": 20},
    "logLevel": "DEBUG",
    "rbac": {"aggregate": True},
    "podDisruptionBudget": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "podLabels": {"team": "trading"},
    "podAnnotations": {"note": "hello"},
    "priorityClassName": "system-cluster-critical",
}


def settings_of(manifests: tuple[dict[str, Any], ...]) -> OperatorSettings:
    (config,) = of_kind(manifests, "ConfigMap")
    return parse_settings(yaml.safe_load(config["data"]["settings.yaml"]))


def roles_in(manifests: tuple[dict[str, Any], ...], namespace: str) -> list[dict[str, Any]]:
    return [each for each in of_kind(manifests, "Role") if each["metadata"]["namespace"] == namespace]


def test_helm_finds_nothing_to_complain_of() -> None:
    answer = run_helm("lint", "--strict", str(CHART), values=EVERYTHING)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_operator_takes_the_settings_of_a_plain_install() -> None:
    settings = settings_of(rendered())
    assert settings.image == "tradingbot:0.1.0"
    assert settings.watched == ("ops",)
    assert settings.lease_namespace == "ops"
    plain = OperatorSettings(image=settings.image, operator_namespace="ops", operator_labels=settings.operator_labels)
    assert settings == plain.model_copy(update={"namespaces": ("ops",), "account_lease_namespace": "ops"})


def test_every_value_reaches_the_operator() -> None:
    settings = settings_of(rendered(**EVERYTHING))
    assert settings.image == "registry.example/tradingbot@sha256:" + "a" * 64
    assert settings.watched == ("alpha", "beta")
    unset = set(OperatorSettings.model_fields) - settings.model_fields_set
    assert unset == set()
    assert settings.resources["redis"].limits.memory == "1Gi"
    assert settings.metrics_from == {"kubernetes.io/metadata.name": "monitoring"}
    assert settings.ip_weight_per_min == 600
    assert settings.service_monitor


def test_all_namespaces_are_one_star_and_one_cluster_role() -> None:
    manifests = rendered(watch={"allNamespaces": True})
    assert settings_of(manifests).namespaces == ("*",)
    (role,) = of_kind(manifests, "ClusterRole")
    assert may(role, "watch", "tradingbot.dev", "tradingbots")
    assert not may(role, "get", "", "secrets")
    assert not may(role, "list", "", "secrets")


def test_nothing_is_granted_cluster_wide_unless_it_is_asked_for() -> None:
    manifests = rendered(watch={"namespaces": ["alpha", "beta"]})
    assert of_kind(manifests, "ClusterRole") == []
    assert of_kind(manifests, "ClusterRoleBinding") == []
    assert {each["metadata"]["namespace"] for each in of_kind(manifests, "Role")} == {"alpha", "beta", "ops"}


def test_every_role_is_bound_to_the_operators_account_in_its_own_namespace() -> None:
    manifests = rendered(**EVERYTHING)
    roles = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in of_kind(manifests, "Role")}
    bound = {(each["metadata"]["namespace"], each["roleRef"]["name"]) for each in of_kind(manifests, "RoleBinding")}
    assert roles == bound
    (account,) = of_kind(manifests, "ServiceAccount")
    for each in of_kind(manifests, "RoleBinding"):
        (subject,) = each["subjects"]
        assert subject == {"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "ops"}


@pytest.mark.parametrize("verb", ["get", "list", "watch", "update", "patch"])
def test_no_role_reads_or_changes_secrets_of_any_name(verb: str) -> None:
    for role in of_kind(rendered(**EVERYTHING), "Role"):
        assert not may(role, verb, "", "secrets"), role["metadata"]


def test_two_secrets_can_be_read_by_name_the_master_key_and_those_that_values_list() -> None:
    manifests = rendered(redis={"urlSecretNames": ["own-redis"]}, watch={"namespaces": ["alpha"]})
    named = {
        (role["metadata"]["namespace"], verb, name)
        for role in of_kind(manifests, "Role")
        for rule in role["rules"]
        if "secrets" in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [])
    }
    assert named == {("ops", "get", "tradingbot-operator-master"), ("alpha", "get", "own-redis")}


def test_what_render_gives_may_be_applied_watched_and_pruned() -> None:
    manifests = rendered(bots={"podMonitor": True}, watch={"namespaces": ["alpha"]})
    (role,) = roles_in(manifests, "alpha")
    for api_version, kind in KINDS:
        group = api_version.rpartition("/")[0]
        more = () if kind == "PersistentVolumeClaim" else ("update", "delete")
        for verb in ("get", "list", "watch", "create", "patch", *more):
            assert may(role, verb, group, PLURALS[api_version, kind]), (verb, kind)


def test_neither_a_volume_nor_a_secret_can_be_deleted_or_replaced() -> None:
    (role,) = roles_in(rendered(watch={"namespaces": ["alpha"]}), "alpha")
    for resource in ("persistentvolumeclaims", "secrets"):
        assert not [verb for verb in ("update", "delete", "deletecollection") if may(role, verb, "", resource)]


def test_no_right_reaches_what_the_operator_has_no_business_with() -> None:
    every_rule = [rule for role in of_kind(rendered(**EVERYTHING), "Role") for rule in role["rules"]]
    resources = {resource for rule in every_rule for resource in rule["resources"]}
    forbidden = {"pods/exec", "roles", "rolebindings", "namespaces", "nodes", "customresourcedefinitions", "*"}
    assert not resources & forbidden
    assert not {verb for rule in every_rule for verb in rule["verbs"]} & {"*", "escalate", "bind", "impersonate"}


@pytest.mark.parametrize("kind", ["Deployment", "Pod"])
def test_every_pod_passes_pod_security_restricted_and_writes_nowhere_but_tmp(kind: str) -> None:
    (owner,) = of_kind(rendered(**EVERYTHING), kind)
    pod = owner["spec"]["template"]["spec"] if kind == "Deployment" else owner["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"]["memory"]
    assert {next(iter(set(each) - {"name"})) for each in pod.get("volumes", [])} <= {"configMap", "emptyDir"}


def test_one_operator_runs_at_a_time_and_restarts_when_its_settings_change() -> None:
    (plain,) = of_kind(rendered(), "Deployment")
    (other,) = of_kind(rendered(resyncSeconds=60), "Deployment")
    assert plain["spec"]["replicas"] == 1
    assert plain["spec"]["strategy"] == {"type": "Recreate"}
    annotations = [each["spec"]["template"]["metadata"]["annotations"] for each in (plain, other)]
    assert annotations[0]["checksum/settings"] != annotations[1]["checksum/settings"]


@pytest.mark.parametrize("kind", ["Deployment", "Pod"])
def test_no_service_of_the_releases_name_becomes_a_setting(kind: str) -> None:
    (owner,) = of_kind(rendered(), kind)
    pod = owner["spec"]["template"]["spec"] if kind == "Deployment" else owner["spec"]
    assert pod["enableServiceLinks"] is False


def test_bots_admit_the_pods_that_the_chart_makes() -> None:
    manifests = rendered(**EVERYTHING)
    (deployment,) = of_kind(manifests, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert settings_of(manifests).operator_labels.items() <= labels.items()


def test_the_definition_is_installed_whole_and_kept_when_the_release_goes() -> None:
    (installed,) = of_kind(rendered(), "CustomResourceDefinition")
    assert installed["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    name = "tradingbots.tradingbot.dev.yaml"
    assert installed == yaml.safe_load((ROOT / "crds" / name).read_text(encoding="utf-8"))


def test_a_release_may_leave_the_definition_to_others() -> None:
    assert of_kind(rendered(crds={"install": False}), "CustomResourceDefinition") == []


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"imag": {}}, "imag"),
        ({"bots": {"resources": {"brain": {}}}}, "brain"),
        ({"watch": {"allNamespaces": True, "namespaces": ["alpha"]}}, "namespaces"),
        ({"venue": {"ipWeightPerMinute": 5000}}, "ipWeightPerMinute"),
        ({"logLevel": "LOUD"}, "logLevel"),
        ({"redis": {"urlSecretNames": ["*"]}}, "urlSecretNames"),
    ],
)
def test_a_value_that_is_misspelt_or_out_of_range_is_refused_by_name(values: dict[str, Any], complaint: str) -> None:
    answer = run_helm("template", "x", str(CHART), "--kube-version", "1.34.0", values=values)
    assert answer.returncode != 0
    assert complaint in answer.stderr


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert _named(schema["properties"]) - {"global"} == _paths(values, schema["properties"])


def _named(properties: dict[str, Any], above: str = "") -> set[str]:
    names = set[str]()
    for name, schema in properties.items():
        inner = schema.get("properties")
        free = name == "resources"  # open below: requests and limits, or components
        names |= _named(inner, f"{above}{name}.") if inner and not free else {above + name}
    return names


def _paths(values: dict[str, Any], properties: dict[str, Any], above: str = "") -> set[str]:
    paths = set[str]()
    for name, value in values.items():
        inner = properties.get(name, {}).get("properties")
        deep = isinstance(value, dict) and inner and name != "resources"
        paths |= _paths(value, inner, f"{above}{name}.") if deep else {above + name}
    return paths


def test_the_charts_page_says_what_the_values_are() -> None:
    readme = runpy.run_path(str(ROOT / "charts" / "readme.py"))
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    assert (CHART / "README.md").read_text(encoding="utf-8") == readme["page"](values), "run `make schemas`"


def test_the_alerts_ask_for_figures_that_exist() -> None:
    for module in ("tradingbot.runtime.metrics", "tradingbot_operator.metrics"):
        import_module(module)
    (rules,) = of_kind(rendered(prometheusRule={"enabled": True}), "PrometheusRule")
    alerts = [each for group in rules["spec"]["groups"] for each in group["rules"]]
    figures = [*REGISTRY.collect(), *monitors_figures()]
    known = {sample for each in figures for sample in (each.name, f"{each.name}_total")} | {"up"}
    for each in alerts:
        names = re.findall(r"\b([a-z][a-z_]+)(?=[\[{ )]|$)", re.sub(r"\{[^}]*\}|by \([^)]*\)", "", each["expr"]))
        asked = set(names) - {"sum", "max", "rate", "increase", "absent", "by"}
        assert asked
        assert asked <= known, each["alert"]


def monitors_figures() -> Iterable[Metric]:
    """Those of a page on which everything is known that an alert may ask for."""
    page = Page.model_construct(
        figures=Figures(fallback_ratio=0.0),
        mode=None,
        equity_usd=None,
        gross=None,
        net=None,
        snapshot_age_s=None,
        llm=LlmView(
            name="m", spend_usd=Decimal(1), cap_usd=Decimal(5), circuit=CircuitView(open=False, failures=0, wait_s=0)
        ),
        bus=BusView(connected=True),
    )
    return BoardCollector(lambda: page).collect()
