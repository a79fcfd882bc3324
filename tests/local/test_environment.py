"""From .env to what each process is given, and nothing more than that."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tradingbot.domain.services import SERVICES
from tradingbot.local.environment import check_environment, known_names, process_environment, read_environment
from tradingbot.runtime.settings import SettingsError

MISSION = """
REDIS_URL POSTGRES_DSN UNIVERSE CYCLE_SECONDS MAX_GROSS MAX_NET CAP_BTC_ETH CAP_ALT TURNOVER_CAP TWAP_SLICES
SLICE_INTERVAL_S SLICE_TIMEOUT_S PX_GUARD_BPS MAX_ORDERS_PER_MIN MAX_CANCELS_PER_MIN HL_WS_URL HL_HTTP_URL
HL_ACCOUNT_ADDRESS HL_PRIVATE_KEY DRY_RUN AI_USE_LLM AI_LLM_ENDPOINT AI_LLM_API_KEY AI_LLM_MODEL AI_SMOOTH_ALPHA
AI_MIN_CONFIDENCE AI_LOW_CONF_SCALE
"""
KEY = "0x" + "1" * 64


def env_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / ".env"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", MISSION.split())
def test_every_name_of_the_mission_is_known(name: str) -> None:
    assert name in known_names()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = env_file(tmp_path, "MAX_GROSS=0.2\nMAX_NET=0.1\nCAP_ALT=\n")

    assert read_environment(path, {"MAX_GROSS": "0.3", "PATH": "/bin"}) == {"MAX_GROSS": "0.3", "MAX_NET": "0.1"}


def test_a_misspelt_name_in_the_file_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"HL_PRIVAT_KEY: no such setting .* did you mean HL_PRIVATE_KEY"):
        read_environment(env_file(tmp_path, f"HL_PRIVAT_KEY={KEY}\n"), {})


def test_a_file_that_was_named_and_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        read_environment(tmp_path / "none", {})


@pytest.mark.parametrize("service", SERVICES)
def test_the_key_reaches_execution_alone(service: str) -> None:
    given = {"HL_PRIVATE_KEY": KEY, "UNIVERSE": "BTC"}

    environ = process_environment(service=service, given=given, decided={"BOT_ID": "b"}, machine={"PATH": "/bin"})

    assert ("HL_PRIVATE_KEY" in environ) == (service == "execution")
    assert environ["UNIVERSE"] == "BTC"
    assert environ["PATH"] == "/bin"


def test_nothing_else_of_the_persons_environment_reaches_a_process() -> None:
    machine = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "HL_PRIVATE_KEY": KEY}

    environ = process_environment(service="execution", given={}, decided={}, machine=machine)

    assert environ == {"PATH": "/bin"}


def test_what_up_decides_wins_over_what_was_given() -> None:
    given = {"REDIS_URL": "redis://elsewhere", "BOT_ID": "theirs"}

    environ = process_environment(service="monitor", given=given, decided={"REDIS_URL": "redis://ours"}, machine={})

    assert environ == {"REDIS_URL": "redis://ours"}


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        check_environment({"HL_NETWORK": "moon", "MAX_GROSS": "much", "MONITOR_PORT": "-1"})

    assert {line.partition(":")[0] for line in caught.value.lines} == {"HL_NETWORK", "MAX_GROSS", "MONITOR_PORT"}


def test_the_paper_exchange_needs_no_key_and_a_real_venue_does() -> None:
    check_environment({})
    check_environment({"DRY_RUN": "false"})
    with pytest.raises(SettingsError, match="HL_PRIVATE_KEY"):
        check_environment({"HL_NETWORK": "mainnet", "DRY_RUN": "false", "HL_ACCOUNT_ADDRESS": "0x" + "1" * 40})


def test_a_dry_run_on_a_real_venue_without_an_account_is_refused_in_one_line_for_all_services() -> None:
    with pytest.raises(SettingsError) as caught:
        check_environment({"HL_NETWORK": "testnet"})

    (line,) = caught.value.lines
    assert "HL_ACCOUNT_ADDRESS" in line


def test_a_wrong_key_is_never_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        check_environment({"HL_NETWORK": "mainnet", "DRY_RUN": "false", "HL_PRIVATE_KEY": KEY, "MAX_NET": "x"})

    assert "1111" not in str(caught.value)


def test_a_strategy_that_is_not_installed_is_refused_by_its_name() -> None:
    with pytest.raises(SettingsError, match=r"^AI_STRATEGY: no strategy mine is installed .*; there is none$"):
        check_environment({"AI_STRATEGY": "plugin:mine"})


def test_a_strategy_whose_libraries_are_missing_is_refused_with_what_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    regime = {"AI_STRATEGY": "regime", "AI_LLM_ENDPOINT": "http://127.0.0.1:9/v1", "AI_LLM_MODEL": "m"}
    check_environment(regime)
    monkeypatch.setitem(sys.modules, "clarabel", None)
    with pytest.raises(
        SettingsError, match=r"^AI_STRATEGY: regime needs clarabel: .pip install tradingbot.optimizer..$"
    ):
        check_environment(regime)
