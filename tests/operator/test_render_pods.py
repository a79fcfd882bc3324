"""The pods: which change restarts them, who holds which secret, and that they are as restricted as they can be."""

import json

import pytest

from support.operator_render import (
    ACCOUNT,
    EVERYTHING,
    MASTER,
    SETTINGS,
    THEIR_REDIS,
    UID,
    bot,
    container,
    everything,
    find,
    of_kind,
    rendered,
    templates,
)
from tradingbot.ai_decision.settings import AiDecisionSettings
from tradingbot.bus.acl import ROLES
from tradingbot.domain.modes import Mode
from tradingbot.domain.services import SERVICES
from tradingbot.execution.mode_reader import FileSaid
from tradingbot.runtime.process import settings_class
from tradingbot_operator.names import COMPONENTS, component_of
from tradingbot_operator.render import KINDS, OPTIONAL_KINDS, context_of, render, secrets
from tradingbot_operator.settings import parse_settings

ALL = {
    "paper": rendered(),
    "everything": everything(),
    "their redis": rendered(THEIR_REDIS),
    "dry run": rendered({**EVERYTHING, "dryRun": True}),
    "live prices": rendered({"exchange": {"paper": {"prices": "live"}}}),
}


@pytest.fixture(params=ALL, ids=str)
def manifests(request):
    return ALL[request.param]


ASKING = {
    "strategy": "llm", "endpoint": "https://api.example/v1", "model": "m-1", "decisionBudgetSeconds": 9,
    "apiKeySecretRef": {"name": "their-llm", "key": "token"}, "maxUsdPerDay": 2.5, "usdPerMillionTokensIn": 0.15,
    "usdPerMillionTokensOut": 0.6, "samples": 3, "temperature": 0.7, "maxTokens": 500, "prompt": "v2",
}  # fmt: skip
EQUAL = {"ai": {"strategy": "equal"}}

LIVE_CHANGES = {
    "risk": {
        "risk": {"maxGross": 0.3, "maxNet": 0.1, "caps": {"BTC": 0.2}, "haltAction": "Flatten", "allowShort": True}
    },
    "execution": {"execution": {"slices": 2, "priceGuardBps": 5, "orderTif": "Ioc", "maxOrdersPerMinute": 5}},
    "ai": {"ai": {"smoothAlpha": 0.5, "minConfidence": 0.1, "lowConfidenceScale": 0.2}},
    "mode": {"mode": "HALT"},
    "deletion": {"deletionPolicy": "Flatten", "deletionDeadlineSeconds": 60},
    "suspend": {"suspend": True},
}


@pytest.mark.parametrize("change", LIVE_CHANGES.values(), ids=LIVE_CHANGES)
def test_a_change_that_is_applied_live_restarts_nothing(change):
    assert templates(rendered(change)) == templates(rendered())


@pytest.mark.parametrize("change", [LIVE_CHANGES[name] for name in ("risk", "execution", "ai", "deletion")])
def test_a_change_of_parameters_changes_no_manifest_at_all(change):
    assert rendered(change) == rendered()


@pytest.mark.parametrize("change", [{"universe": ["BTC"]}, {"cycleSeconds": 600}, {"dryRun": True}])
def test_a_change_of_static_settings_restarts_all_six_services_and_not_redis(change):
    before, after = templates(rendered()), templates(rendered(change))
    restarted = {component for component in before if before[component] != after[component]}
    assert restarted >= {component_of(service) for service in SERVICES}
    assert "redis" not in restarted


def test_a_change_that_concerns_execution_alone_restarts_it_alone():
    before = templates(rendered())
    after = templates(rendered({"redis": {"acceptWeakDurability": True}}))
    assert [component for component in before if before[component] != after[component]] == ["execution"]


def test_the_mode_file_says_the_specs_mode_and_halt_for_a_bot_that_is_to_stop():
    def mode(spec, **metadata):
        said = find(rendered(spec, **metadata), "ConfigMap", "majors-mode")["data"]["mode"]
        return FileSaid.parse(said).mode

    gone = {"deletionTimestamp": "2026-02-18T16:00:00Z"}
    assert mode({}) is Mode.NORMAL
    assert mode({"mode": "REDUCE_ONLY"}) is Mode.REDUCE_ONLY
    assert mode({"suspend": True}) is Mode.HALT
    assert mode({}, **gone) is Mode.HALT
    assert mode({"deletionPolicy": "Flatten"}, **gone) is Mode.HALT
    assert mode({"deletionPolicy": "Leave", "mode": "REDUCE_ONLY"}, **gone) is Mode.REDUCE_ONLY


@pytest.mark.parametrize(
    "change", [{"strategy": "equal"}, {"decisionBudgetSeconds": 5}, {**ASKING, "strategy": "regime"}], ids=str
)
def test_a_change_of_who_decides_restarts_the_decision_alone(change):
    before, after = templates(rendered()), templates(rendered({"ai": change}))
    assert {component for component in before if before[component] != after[component]} == {"ai-decision"}


def test_the_models_key_is_a_file_in_the_decisions_pod_alone():
    found = templates(rendered({"ai": ASKING}))
    for component, template in found.items():
        volumes = [each for each in template["spec"].get("volumes", []) if each["name"] == "model-key"]
        assert bool(volumes) == (component == "ai-decision")
        assert ("their-llm" in json.dumps(template)) == (component == "ai-decision")
        assert ("AI_LLM" in json.dumps(template)) == (component == "ai-decision")
    (volume,) = found["ai-decision"]["spec"]["volumes"]
    assert volume["secret"] == {
        "secretName": "their-llm", "defaultMode": 0o440, "items": [{"key": "token", "path": "api-key"}],
    }  # fmt: skip


@pytest.mark.parametrize("strategy", ["baseline", "equal", "inverse_vol"])
def test_a_strategy_that_asks_nobody_is_not_given_the_models_key(strategy):
    template = templates(rendered({"ai": {**ASKING, "strategy": strategy}}))["ai-decision"]
    assert "their-llm" not in json.dumps(template)
    assert "AI_LLM" not in json.dumps(template)


def test_a_bot_in_the_cluster_decides_as_its_resource_says(tmp_path):
    manifests = rendered({"ai": ASKING})
    pod = container(templates(manifests)["ai-decision"])
    environ = {each["name"]: each.get("value", "redis://x:y@host:6379/0") for each in pod["env"]}
    environ |= find(manifests, "ConfigMap", "majors-config")["data"]
    folder, name = environ["AI_LLM_API_KEY_FILE"].rsplit("/", 1)
    assert {"name": "model-key", "mountPath": folder, "readOnly": True} in pod["volumeMounts"]
    (tmp_path / name).write_text("sk-1\n")
    environ["AI_LLM_API_KEY_FILE"] = str(tmp_path / name)

    settings = AiDecisionSettings.load(environ)

    key = settings.llm_api_key()
    assert key is not None
    assert key.get_secret_value() == "sk-1"
    assert settings.ai_strategy == "llm"
    assert (settings.ai_llm_endpoint, settings.ai_llm_model) == ("https://api.example/v1", "m-1")
    assert settings.decision_budget_s == 9
    assert settings.ai_llm_max_usd_per_day == 2.5
    assert (settings.ai_llm_usd_per_mtok_in, settings.ai_llm_usd_per_mtok_out) == (0.15, 0.6)
    assert (settings.ai_llm_samples, settings.ai_llm_temperature) == (3, 0.7)
    assert (settings.ai_llm_max_tokens, settings.ai_llm_prompt) == (500, "v2")


def test_the_models_settings_have_the_same_defaults_in_a_resource_as_in_the_environment():
    asking = {"strategy": "llm", "endpoint": "https://api.example/v1", "model": "m"}
    pod = container(templates(rendered({"ai": asking}))["ai-decision"])
    given = {each["name"]: each["value"] for each in pod["env"] if "value" in each}
    fields = {name: field for field, name in AiDecisionSettings.names().items()}
    for name in set(given) - {"AI_STRATEGY", "AI_LLM_ENDPOINT", "AI_LLM_MODEL"}:
        assert given[name] == str(AiDecisionSettings.model_fields[fields[name]].default), name


@pytest.mark.parametrize("spec", [{}, EVERYTHING, {**EVERYTHING, "dryRun": True}, THEIR_REDIS, EQUAL], ids=str)
@pytest.mark.parametrize("service", SERVICES)
def test_a_services_settings_take_the_environment_that_its_pod_is_given(spec, service, tmp_path):
    manifests = rendered(spec)
    pod = container(templates(manifests)[component_of(service)])
    environ = dict(find(manifests, "ConfigMap", "majors-config")["data"])
    environ |= {each["name"]: each.get("value", "redis://x:y@host:6379/0") for each in pod["env"]}
    declared = settings_class(service).names().values()
    if "HL_PRIVATE_KEY_FILE" in environ:
        key = tmp_path / "private-key"
        key.write_text(MASTER.paper_agent_key("bots", UID).get_secret_value())
        key.chmod(0o440)
        environ["HL_PRIVATE_KEY_FILE"] = str(key)

    settings = settings_class(service).load(environ)

    assert {each["name"] for each in pod["env"]} <= set(declared)
    assert settings.bot_id == bot(spec).bot_id
    assert settings.universe == bot(spec).spec.universe
    assert settings.dry_run is bot(spec).spec.dry_run_in_force
    assert settings.metrics_port == 9090


def test_every_name_in_the_shared_environment_is_one_that_all_services_know():
    shared = set(find(everything(), "ConfigMap", "majors-config")["data"])
    for service in SERVICES:
        assert shared <= set(settings_class(service).names().values())


def test_only_execution_is_given_the_key(manifests):
    for component, template in templates(manifests).items():
        secrets_mounted = [each for each in template["spec"].get("volumes", []) if "secret" in each]
        assert not secrets_mounted or component == "execution"
        named = {each["name"] for each in container(template).get("env", [])}
        assert not {name for name in named if "PRIVATE_KEY" in name} or component == "execution"
    assert "PRIVATE_KEY" not in json.dumps(of_kind(manifests, "ConfigMap"))


def test_the_key_is_a_file_that_only_the_pods_own_user_can_read():
    template = templates(everything())["execution"]
    (volume,) = [each for each in template["spec"]["volumes"] if "secret" in each]
    assert volume["secret"] == {
        "secretName": "agent", "defaultMode": 0o440, "items": [{"key": "pk", "path": "private-key"}],
    }  # fmt: skip
    assert template["spec"]["securityContext"]["fsGroup"] == 10001


def test_a_dry_run_is_not_given_any_key():
    template = templates(rendered({**EVERYTHING, "dryRun": True}))["execution"]
    assert "secret" not in json.dumps(template["spec"]["volumes"])


def test_each_service_is_given_its_own_redis_user_and_no_other():
    for service in SERVICES:
        env = container(templates(rendered())[component_of(service)])["env"]
        refs = [each["valueFrom"]["secretKeyRef"] for each in env if "valueFrom" in each]
        assert refs == [{"name": "majors-bus", "key": service}]


def test_what_is_applied_holds_no_secret(manifests):
    text = json.dumps(manifests)
    held = [MASTER.password("bots", bot_id, role) for role in ROLES for bot_id in (UID, EVERYTHING["redis"]["adopt"])]
    held += [MASTER.paper_agent_key("bots", UID).get_secret_value()[2:], MASTER.text().get_secret_value()]
    assert not [each for each in held if each in text]
    assert not of_kind(manifests, "Secret")


def test_the_bus_secret_has_a_url_for_every_user_but_the_operator():
    made = {each["metadata"]["name"]: each for each in secrets(bot(), MASTER)}
    assert set(made) == {"majors-bus", "majors-paper-agent"}
    urls = made["majors-bus"]["stringData"]
    assert set(urls) == set(ROLES) - {"operator"}
    password = MASTER.password("bots", UID, "execution")
    assert urls["execution"] == f"redis://execution:{password}@majors-redis.bots.svc:6379/0"


def test_secrets_are_made_only_for_what_is_ours():
    assert [each["metadata"]["name"] for each in secrets(bot(THEIR_REDIS), MASTER)] == ["majors-paper-agent"]
    assert [each["metadata"]["name"] for each in secrets(bot(EVERYTHING), MASTER)] == ["majors-bus"]


def test_every_pod_passes_pod_security_restricted(manifests):
    for template in templates(manifests).values():
        spec, each = template["spec"], container(template)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
        }  # fmt: skip
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "secret", "persistentVolumeClaim"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)


def test_no_pod_has_a_token_or_learns_of_other_services_by_its_environment(manifests):
    for template in templates(manifests).values():
        assert template["spec"]["automountServiceAccountToken"] is False
        assert template["spec"]["enableServiceLinks"] is False
        assert template["spec"]["serviceAccountName"] == "majors"
    assert find(manifests, "ServiceAccount", "majors")["automountServiceAccountToken"] is False


def test_every_pod_has_requests_a_memory_limit_and_three_probes(manifests):
    for template in templates(manifests).values():
        each = container(template)
        assert {"cpu", "memory"} <= set(each["resources"]["requests"])
        assert "memory" in each["resources"]["limits"]
        assert "cpu" not in each["resources"]["limits"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(each)


def test_there_is_never_a_second_pod_of_a_part(manifests):
    for each in of_kind(manifests, "Deployment", "StatefulSet"):
        assert each["spec"]["replicas"] == 1
        assert each["kind"] == "StatefulSet" or each["spec"]["strategy"] == {"type": "Recreate"}
        selector = each["spec"]["selector"]["matchLabels"]
        assert selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()


def test_a_pod_is_given_longer_to_end_than_its_service_takes():
    from tradingbot.runtime.process import GRACE_S

    for template in templates(rendered()).values():
        assert template["spec"]["terminationGracePeriodSeconds"] >= GRACE_S + 5
    assert templates(rendered())["execution"]["spec"]["terminationGracePeriodSeconds"] == 30


def test_everything_belongs_to_the_bot_and_is_labelled(manifests):
    for each in manifests:
        assert each["metadata"]["namespace"] == "bots"
        assert each["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "tradingbot-operator"
        if each["kind"] != "PersistentVolumeClaim":
            (owner,) = each["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["name"], owner["uid"]) == ("TradingBot", "majors", UID)
            assert owner["controller"] is True
            assert owner["blockOwnerDeletion"] is False


def test_no_two_manifests_are_one_object_and_every_kind_is_announced(manifests):
    keys = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(keys) == len(set(keys))
    assert {key[:2] for key in keys} <= {*KINDS, *OPTIONAL_KINDS}


def test_a_retained_volume_outlives_the_bot_and_is_found_by_the_bot_that_adopts_it():
    (kept,) = of_kind(rendered({**EVERYTHING, "redis": {"retain": True}}), "PersistentVolumeClaim")
    assert "ownerReferences" not in kept["metadata"]
    adopting = rendered({"redis": {"adopt": UID}}, uid="another-uid", name="heir")
    claims = of_kind(adopting, "PersistentVolumeClaim")
    assert kept["metadata"]["name"] in [each["metadata"]["name"] for each in claims]
    assert all(each["metadata"]["ownerReferences"][0]["uid"] == "another-uid" for each in claims)


def test_a_bot_at_rest_keeps_its_configuration_and_volumes_alone():
    kinds = sorted(each["kind"] for each in rendered({"suspend": True}, at_rest=True))
    assert kinds == ["ConfigMap", "ConfigMap", "ConfigMap", "PersistentVolumeClaim", "PersistentVolumeClaim"]
    assert set(templates(rendered({"suspend": True}))) == set(COMPONENTS), "until its HALT is acknowledged"


def test_a_redis_of_a_persons_own_is_used_and_none_is_made():
    manifests = rendered(THEIR_REDIS)
    assert "redis" not in templates(manifests)
    env = container(templates(manifests)["execution"])["env"]
    assert {"name": "REDIS_URL", "valueFrom": {"secretKeyRef": {"name": "their-redis", "key": "dsn"}}} in env
    assert "majors-redis" not in json.dumps(manifests)


def test_a_vault_is_the_account_that_is_traded():
    environ = find(everything(), "ConfigMap", "majors-config")["data"]
    assert environ["HL_ACCOUNT_ADDRESS"] == ACCOUNT
    assert {"name": "HL_VAULT_ADDRESS", "value": ACCOUNT} in container(templates(everything())["execution"])["env"]


def test_off_paper_nothing_is_sent_unless_it_is_asked_for():
    exchange = {name: value for name, value in EVERYTHING["exchange"].items() if name != "liveTrading"}
    environ = find(rendered({"exchange": exchange}), "ConfigMap", "majors-config")["data"]
    assert environ["DRY_RUN"] == "true"


def test_the_paper_exchange_knows_the_account_and_the_wallet_that_signs_for_it():
    arguments = container(templates(rendered())["paper"])["args"]
    assert f"--account={MASTER.paper_account('bots', UID)}" in arguments
    assert f"--agent={MASTER.paper_agent_address('bots', UID)}" in arguments
    assert "--start-equity-usd=10000" in arguments


@pytest.mark.parametrize(("usd", "text"), [(10_000, "10000"), (0.5, "0.5"), (1e9, "1000000000"), (1e-7, "0.0000001")])
def test_start_equity_is_written_without_an_exponent(usd, text):
    manifests = rendered({"exchange": {"paper": {"startEquityUsd": usd}}})
    assert f"--start-equity-usd={text}" in container(templates(manifests)["paper"])["args"]


def test_a_drain_is_never_held_up_for_ever(manifests):
    budgets = of_kind(manifests, "PodDisruptionBudget")
    assert budgets
    for each in budgets:
        assert each["spec"]["maxUnavailable"] == 1
        assert each["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        selected = [t for t in templates(manifests).values()
                    if each["spec"]["selector"]["matchLabels"].items() <= t["metadata"]["labels"].items()]  # fmt: skip
        assert len(selected) == 1, "no budget makes one pod wait for another"


def test_rendering_is_pure():
    each = bot(EVERYTHING)
    context = context_of(each, parse_settings({"image": "i", "operatorNamespace": "o"}), MASTER)
    first = render(each, context)
    text = json.dumps(first)
    first[0]["metadata"]["labels"].clear()
    assert json.dumps(render(each, context)) == text


def test_the_context_never_shows_the_master_key_or_a_password():
    text = repr(context_of(bot(), SETTINGS, MASTER))
    assert MASTER.password("bots", UID, "execution") not in text
    assert MASTER.text().get_secret_value() not in text
