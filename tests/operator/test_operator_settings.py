"""The operator's own settings: read as the chart writes them, refused with a line per field."""

import pytest

from tradingbot.runtime.settings import SettingsError
from tradingbot_operator.settings import DEFAULT_RESOURCES, OperatorSettings, load_settings, parse_settings

MINIMAL = {"image": "tradingbot:1", "operatorNamespace": "ops"}


def refusal(content) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        parse_settings(content)
    return refused.value.lines


def test_names_are_written_as_chart_values_are(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(
        "image: tradingbot:1\noperatorNamespace: ops\nnamespaces: [a, b]\nipWeightPerMin: 600\n"
        "resources:\n  execution: {limits: {memory: 1Gi}}\nextraEgress:\n- ports: [{port: 4318}]\n"
    )
    settings = load_settings(path)
    assert settings.watched == ("a", "b")
    assert settings.ip_weight_per_min == 600
    assert settings.extra_egress == ({"ports": [{"port": 4318}]},)
    assert settings.resources_of("execution").limits.memory == "1Gi"


def test_a_component_keeps_the_defaults_that_the_chart_does_not_change():
    settings = parse_settings({**MINIMAL, "resources": {"redis": {"requests": {"cpu": "1"}}}})
    redis = settings.resources_of("redis")
    assert redis.requests.cpu == "1"
    assert redis.limits == DEFAULT_RESOURCES["redis"].limits
    assert settings.resources_of("monitor") == DEFAULT_RESOURCES["monitor"]


def test_without_namespaces_the_operator_watches_its_own():
    settings = parse_settings(MINIMAL)
    assert settings.watched == ("ops",)
    assert settings.lease_namespace == "ops"


def test_every_wrong_field_has_a_line_that_names_it():
    lines = refusal(
        {
            "operatorNamespace": "ops",
            "imagePullPolciy": "Never",
            "ipWeightPerMin": 5000,
            "resources": {"exection": {}, "redis": {"limits": {"memory": "lots"}}},
            "operatorLabels": {},
        }
    )
    told = {line.partition(":")[0]: line for line in lines}
    assert set(told) == {
        "image",
        "imagePullPolciy",
        "ipWeightPerMin",
        "resources.exection",
        "resources.redis.limits.memory",
        "operatorLabels",
    }
    assert told["image"].endswith("not set; it has no default")
    assert told["imagePullPolciy"].endswith("no such setting")
    assert "1200" in told["ipWeightPerMin"]
    assert told["ipWeightPerMin"].endswith("was 5000")
    assert told["resources.redis.limits.memory"].endswith("was 'lots'")


@pytest.mark.parametrize("text", ["", "- a\n", "image: [", "just text"])
def test_a_file_that_is_no_mapping_is_refused_in_words(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        load_settings(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"gone\.yaml: No such file"):
        load_settings(tmp_path / "gone.yaml")


def test_settings_cannot_be_changed_by_accident():
    settings = OperatorSettings(image="i", operator_namespace="ops")
    with pytest.raises(ValueError, match="frozen"):
        settings.image = "other"
