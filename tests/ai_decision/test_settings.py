"""Who decides, by the environment: values that contradict one another, or lack whom to ask, are refused."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from tradingbot.ai_decision.settings import AiDecisionSettings, ApiKeyUnreadable
from tradingbot.domain.services import SERVICES
from tradingbot.domain.static import STRATEGIES
from tradingbot.local.environment import check_environment, known_names, process_environment
from tradingbot.runtime.process import settings_class
from tradingbot.runtime.settings import SettingsError

NEEDED = {"REDIS_URL": "redis://x", "BOT_ID": "b"}
MODEL = {"AI_LLM_ENDPOINT": "https://api.example.com/v1", "AI_LLM_MODEL": "m-1"}


def load(**environ: str) -> AiDecisionSettings:
    return AiDecisionSettings.load({**NEEDED, **environ})


def refused(**environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**environ)
    (line,) = caught.value.lines
    return line


def test_the_baseline_decides_unless_somebody_else_is_named() -> None:
    assert load().ai_strategy == "baseline"
    assert load(AI_USE_LLM="false").ai_strategy == "baseline"


@pytest.mark.parametrize("name", [*STRATEGIES, "plugin:mine", "plugin:my-own_v1.2"])
def test_every_strategy_is_named_as_the_docs_say(name: str) -> None:
    assert load(AI_STRATEGY=name, **MODEL).ai_strategy == name


@pytest.mark.parametrize("name", ["LLM", "plugin:", "plugin:../x", "plugin:a b", "magic", "plugin:" + "a" * 65])
def test_a_name_that_no_strategy_has_is_refused_with_those_there_are(name: str) -> None:
    line = refused(AI_STRATEGY=name, **MODEL)

    assert line.startswith("AI_STRATEGY: must be one of baseline, llm, regime, equal, inverse_vol, or plugin:NAME")
    assert line.endswith(f"was {name!r}")


def test_ai_use_llm_is_short_for_the_strategy_llm() -> None:
    assert load(AI_USE_LLM="true", **MODEL).ai_strategy == "llm"
    assert load(AI_USE_LLM="true", AI_STRATEGY="llm", **MODEL).ai_strategy == "llm"


@pytest.mark.parametrize(
    ("use", "strategy"), [("true", "baseline"), ("true", "regime"), ("true", "plugin:x"), ("false", "llm"),
                          ("false", "regime")]
)  # fmt: skip
def test_values_that_contradict_one_another_are_refused_by_both_names(use: str, strategy: str) -> None:
    line = refused(AI_USE_LLM=use, AI_STRATEGY=strategy, **MODEL)

    assert f"AI_USE_LLM={use}" in line
    assert "AI_STRATEGY" in line
    assert strategy in line


@pytest.mark.parametrize("strategy", ["llm", "regime"])
@pytest.mark.parametrize("lacking", ["AI_LLM_ENDPOINT", "AI_LLM_MODEL"])
def test_a_strategy_that_asks_a_model_needs_to_know_whom(strategy: str, lacking: str) -> None:
    line = refused(AI_STRATEGY=strategy, **{name: value for name, value in MODEL.items() if name != lacking})

    assert lacking in line
    assert f"AI_STRATEGY={strategy}" in line


def test_a_decision_has_to_fit_into_its_cycle() -> None:
    assert "DECISION_BUDGET_S must be below CYCLE_SECONDS" in refused(DECISION_BUDGET_S="60")
    assert load(DECISION_BUDGET_S="60", CYCLE_SECONDS="120").decision_budget_s == 60


def test_the_models_key_is_never_shown() -> None:
    settings = load(AI_STRATEGY="llm", AI_LLM_API_KEY="sk-secret", **MODEL)

    assert "sk-secret" not in f"{settings!r} {settings}"
    assert settings.llm_api_key() == SecretStr("sk-secret")
    assert "ai_llm_api_key" in settings.secret_fields()
    assert "hunter2" not in refused(AI_LLM_ENDPOINT="https://me:hunter2@api/v1")


def test_a_key_that_is_rotated_in_its_file_counts_at_the_next_call(tmp_path) -> None:
    path = tmp_path / "key"
    path.write_text("one\n")
    settings = load(AI_STRATEGY="llm", AI_LLM_API_KEY_FILE=str(path), **MODEL)
    first = settings.llm_api_key()
    path.write_text("two")

    assert (first, settings.llm_api_key()) == (SecretStr("one"), SecretStr("two"))
    path.write_text(" \n")
    with pytest.raises(ApiKeyUnreadable, match="is empty"):
        settings.llm_api_key()
    path.unlink()
    with pytest.raises(ApiKeyUnreadable, match="FileNotFoundError"):
        settings.llm_api_key()


def test_one_key_is_given_once(tmp_path) -> None:
    (tmp_path / "key").write_text("x")

    assert "not both" in refused(AI_LLM_API_KEY="a", AI_LLM_API_KEY_FILE=str(tmp_path / "key"))
    assert "must be a file that exists" in refused(AI_LLM_API_KEY_FILE=str(tmp_path / "none"))


@pytest.mark.parametrize("service", SERVICES)
def test_what_concerns_the_decision_reaches_its_process_alone(service: str) -> None:
    names = {name for name in known_names() if name.startswith(("AI_LLM_", "AI_STRATEGY", "AI_USE", "DECISION_"))}
    given = dict.fromkeys(names, "x")

    environ = process_environment(service=service, given=given, decided={}, machine={})

    assert names >= {"AI_LLM_API_KEY", "AI_STRATEGY", "AI_USE_LLM", "DECISION_BUDGET_S"}
    assert set(environ) == (names if service == "ai_decision" else set())


def test_up_and_config_check_refuse_what_the_decision_would_refuse() -> None:
    with pytest.raises(SettingsError, match="AI_LLM_ENDPOINT"):
        check_environment({"AI_USE_LLM": "true"})
    check_environment({"AI_USE_LLM": "true", **MODEL})
    assert settings_class("ai_decision") is AiDecisionSettings


PUBLIC = ["http://api.example.com/v1", "http://8.8.8.8/v1", "http://[2001:4860:4860::8888]/v1", "http://134744072/v1"]
PUBLIC += ["http://api\u3002example\u3002com/v1", "http://\u2488.8.8.8/v1"]  # dots and digits in other letters
INSIDE = [
    "http://localhost:8000/v1", "http://127.0.0.1:8000/v1", "http://10.0.0.7/v1", "http://model:8000/v1",
    "http://model.models.svc:8000/v1", "http://model.models.svc.cluster.local:8000/v1", "https://api.example.com/v1",
]  # fmt: skip


@pytest.mark.parametrize("url", PUBLIC)
def test_a_key_does_not_go_to_a_public_host_in_clear_text(url: str) -> None:
    line = refused(AI_STRATEGY="llm", AI_LLM_MODEL="m-1", AI_LLM_ENDPOINT=url, AI_LLM_API_KEY="sk-secret")
    assert "use https://" in line
    assert "sk-secret" not in line
    assert load(AI_STRATEGY="llm", AI_LLM_MODEL="m-1", AI_LLM_ENDPOINT=url).ai_llm_endpoint


@pytest.mark.parametrize("url", INSIDE)
def test_a_key_may_go_to_a_model_of_ones_own_without_tls(url: str) -> None:
    assert load(AI_STRATEGY="llm", AI_LLM_MODEL="m-1", AI_LLM_ENDPOINT=url, AI_LLM_API_KEY="sk-secret").ai_llm_endpoint
