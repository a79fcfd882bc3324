"""A resource is read whole or refused with the fields that are wrong, and the spec's defaults are the domain's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from support.operator_specs import (
    ALLOWED,
    CHANGES,
    RULES,
    SCHEMA,
    Accepted,
    Refused,
    body,
    example,
    keyed_model,
    off_paper,
)
from tradingbot.ai_decision.settings import AiDecisionSettings
from tradingbot.domain.params import AiParams, ExecutionParams, Params, RiskParams
from tradingbot.domain.static import StaticSettings
from tradingbot.runtime.settings import SettingsError
from tradingbot_operator.params import params_of
from tradingbot_operator.resource import InvalidSpec, parse
from tradingbot_operator.rules import RULES as ALL_RULES
from tradingbot_operator.rules import broken_rules
from tradingbot_operator.spec import TradingBotSpec


@pytest.mark.parametrize("name", ["tradingbot", "testnet", "mainnet", "language-model"])
def test_an_example_is_accepted_as_it_stands(name: str) -> None:
    """A reader who forbids unknown fields finds nothing to forbid."""
    assert parse(example(name), strict=True).name


def test_no_example_sends_an_order_off_paper() -> None:
    """Nothing that a default can do may cost money."""
    assert all(parse(example(name)).spec.dry_run_in_force for name in ("testnet", "mainnet"))
    assert not parse(example()).spec.dry_run_in_force


def test_the_defaults_of_the_spec_are_those_of_the_domain() -> None:
    """A bot in a cluster and one on a laptop have the same limits."""
    assert params_of(TradingBotSpec()) == Params()
    static = StaticSettings()
    spec = TradingBotSpec()
    assert spec.universe == static.universe
    assert spec.cycle_seconds == static.cycle_seconds
    assert spec.exchange.network is static.hl_network
    assert spec.dry_run_in_force is static.dry_run


@pytest.mark.parametrize("network", ["testnet", "mainnet"])
def test_off_paper_a_bot_is_a_dry_run_unless_told_otherwise(network: str) -> None:
    """As the services' own default has it."""
    assert parse(body({"exchange": off_paper(network)})).spec.dry_run_in_force
    assert StaticSettings(hl_network=network, hl_account_address="0x" + "1" * 40).dry_run


def test_every_parameter_but_two_of_the_wire_can_be_set_by_the_spec() -> None:
    """order_ttl_ms and max_start_delay_s guard the wire and stay as they are; all others have a field."""
    spec = {
        "risk": {
            "maxGross": 0.5, "maxNet": 0.3, "caps": {"SOL": 0.2}, "defaultCap": 0.11, "turnoverCap": 0.2,
            "drawdown": {"reduceOnly": 0.04, "halt": 0.05}, "haltAction": "Flatten", "maxDailyFeeBps": 7,
            "allowShort": True, "externalPositions": "Reduce",
        },
        "execution": {
            "slices": 2, "sliceIntervalSeconds": 5, "sliceTimeoutSeconds": 6, "priceGuardBps": 8,
            "replaceOnce": False, "orderTif": "Ioc", "maxOrdersPerMinute": 9, "maxCancelsPerMinute": 10,
            "minRebalanceWeight": 0.01, "flattenGuardBps": 11, "maxPriceGuardBps": 12, "thinBookScore": 0.3,
        },
        "ai": {"smoothAlpha": 0.9, "minConfidence": 0.1, "lowConfidenceScale": 0.2},
    }  # fmt: skip
    params, default = params_of(parse(body(spec), strict=True).spec), Params()
    same = {
        f"{group}.{name}"
        for group, model in (("risk", RiskParams), ("execution", ExecutionParams), ("ai", AiParams))
        for name in model.model_fields
        if getattr(getattr(params, group), name) == getattr(getattr(default, group), name)
    }
    assert same == {"execution.order_ttl_ms", "execution.max_start_delay_s"}
    assert params.risk.caps == {"SOL": 0.2}


@pytest.mark.parametrize("case", [*RULES, *SCHEMA], ids=str)
def test_a_spec_that_the_api_server_refuses_is_refused_by_the_operator_too(case: Refused) -> None:
    """Another version's CRD may be installed; the field is named, its value is not."""
    if not case.by_operator:
        assert parse(body(case.spec)).spec
        return
    with pytest.raises(InvalidSpec) as refused:
        parse(body(case.spec, name=case.bot))
    assert any(path.startswith(case.path) for path in refused.value.paths), refused.value.paths


@pytest.mark.parametrize("case", [*CHANGES], ids=str)
def test_a_change_that_is_forbidden_is_a_good_spec_by_itself(case: Refused) -> None:
    """So that what refuses it in the cluster is the rule about changes."""
    assert parse(body(case.spec), strict=True)
    assert parse(body(case.before), strict=True)


@pytest.mark.parametrize("case", ALLOWED, ids=str)
def test_a_change_that_is_allowed_is_a_good_spec(case: Accepted) -> None:
    """Both ends of it."""
    assert parse(body(case.before), strict=True)
    assert parse(body(case.after), strict=True)


def test_every_rule_with_a_python_half_has_a_case_that_breaks_it() -> None:
    """And so has every rule about a change."""
    broken = {rule.message for case in RULES for rule in _broken(case)}
    assert {rule.message for rule in ALL_RULES if rule.holds} - broken == set()
    spoken = [case.says for case in (*CHANGES, *RULES, *SCHEMA)]
    silent = [rule.message for rule in ALL_RULES if not any(text in rule.message for text in spoken)]
    assert silent == []


def _broken(case: Refused) -> list[Any]:
    spec = TradingBotSpec.model_validate(case.spec)
    return [rule for rule in ALL_RULES if rule.holds and not rule.holds(spec)]


KEYED_URLS = (
    "https://api.example.com/v1", "http://api.example.com/v1", "http://model:8000/v1", "http://model.:8000/v1",
    "http://model.ai.svc:8000/v1", "http://model.ai.svc.cluster.local./v1", "http://model.ai.svc.evil.com/v1",
    "http://evil.com/model.svc", "http://evil.com?model.svc", "http://evil.com#.svc", "http://evil.com/?http://model",
    "http://8.8.8.8/v1", "http://134744072/v1", "http://0x7f.1/v1", "http://127.1/v1", "http://127.0.0.1/v1",
    "http://10.0.0.7:8000", "http://10.0.0.256/v1", "http://010.0.0.1/v1", "http://10.0.0.1.evil.com/v1",
    "http://172.15.0.1/v1", "http://172.16.0.1/v1", "http://172.31.255.255/v1", "http://172.32.0.1/v1",
    "http://192.168.0.1/v1", "http://192.169.0.1/v1", "http://169.254.1.1/v1", "http://[::1]:8000/v1",
    "http://[fd00::1]/v1", "http://[fe80::1]/v1", "http://[fc::1]/v1", "http://[2001:4860:4860::8888]/v1",
)  # fmt: skip


@pytest.mark.parametrize("url", KEYED_URLS)
def test_the_resource_and_the_decision_agree_to_whom_a_key_may_go_in_clear_text(url: str) -> None:
    """What is taken here does not fail in the pod, and what the pod takes is not refused here."""
    environ = {"REDIS_URL": "redis://x", "BOT_ID": "b", "AI_STRATEGY": "llm", "AI_LLM_MODEL": "m"}
    try:
        AiDecisionSettings.load({**environ, "AI_LLM_ENDPOINT": url, "AI_LLM_API_KEY": "sk-1"})
        taken = True
    except SettingsError as error:
        taken = "shows the key on the way" not in str(error)
    spec = TradingBotSpec.model_validate({"ai": keyed_model(url)})
    assert [rule.path for rule in broken_rules(spec)] == ([] if taken else ["spec.ai.endpoint"])


@pytest.mark.parametrize("rest", ["x:99999/v1", "x:0", "x:abc", "[::1/v1", "[x]/", "/v1", ":80", "?x"])
def test_a_url_without_a_host_or_a_port_is_refused_by_all_who_would_use_it(rest: str) -> None:
    """A policy and a connection are made from both: what has none would fail later, and say less."""
    found = {"ai.endpoint": f"http://{rest}", "exchange.httpUrl": f"http://{rest}", "exchange.wsUrl": f"ws://{rest}"}
    for path, url in found.items():
        part, field = path.split(".")
        with pytest.raises(InvalidSpec) as refused:
            parse(body({part: {field: url}}))
        assert refused.value.paths == (f"spec.{path}",)
    with pytest.raises(ValidationError, match="must name a host"):
        StaticSettings.model_validate({"hl_http_url": f"http://{rest}"})


def test_an_invalid_spec_names_its_fields_and_keeps_the_body() -> None:
    """The operator still obeys its mode and its deletion; values stay out of the text."""
    given = body({"mode": "HALT", "risk": {"maxGross": "0xsecret"}}, uid="u-1")
    with pytest.raises(InvalidSpec) as refused:
        parse(given)
    assert refused.value.paths == ("spec.risk.maxGross",)
    assert refused.value.body["spec"]["mode"] == "HALT"
    assert "0xsecret" not in str(refused.value)


def test_a_field_of_a_newer_version_is_ignored_by_the_operator() -> None:
    """An operator that was rolled back goes on; one who renders from a file is told."""
    given = body({"risk": {"maxGross": 0.3, "maxNet": 0.1, "tomorrow": 1}})
    assert parse(given).spec.risk.max_gross == 0.3
    with pytest.raises(InvalidSpec, match=r"spec\.risk\.tomorrow"):
        parse(given, strict=True)


def test_the_metadata_that_decides_something_is_read() -> None:
    """Times are aware, annotations and finalizers are there even when the API server leaves them out."""
    bare = parse(body({}))
    assert (bare.annotations, bare.finalizers, bare.deleting, bare.paused, bare.runs) == ({}, (), False, False, True)
    full = parse(
        body(
            {"redis": {"adopt": "01234567-89ab-cdef-0123-456789abcdef"}},
            namespace="desk",
            uid="u-2",
            generation=7,
            creationTimestamp="2026-11-22T20:00:00Z",
            deletionTimestamp="2026-11-22T21:00:00Z",
            annotations={"tradingbot.dev/pause": "true"},
            finalizers=["tradingbot.dev/stop-trading"],
            resourceVersion="42",
        )
    )
    assert full.key == "desk/majors"
    assert full.deletion_requested_at == datetime(2026, 11, 22, 21, tzinfo=UTC)
    assert full.created_at == datetime(2026, 11, 22, 20, tzinfo=UTC)
    assert (full.deleting, full.paused, full.runs, full.generation) == (True, True, False, 7)
    assert full.bot_id == "01234567-89ab-cdef-0123-456789abcdef"
    assert parse(body({}, uid="u-3")).bot_id == "u-3"
