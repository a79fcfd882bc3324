"""Settings: a start-up that cannot go well is refused as a whole, with one line per field and never a secret."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from tradingbot.domain.params import Params
from tradingbot.domain.services import SERVICES
from tradingbot.domain.static import Network
from tradingbot.runtime.clock import Anchor
from tradingbot.runtime.process import settings_class
from tradingbot.runtime.settings import PARAMETER_NAMES, ServiceSettings, SettingsError, check_names, load_params

NEEDED = {"REDIS_URL": "redis://user:hunter2@127.0.0.1:6379/0", "BOT_ID": "bot"}


def refused(**environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        ServiceSettings.load({**NEEDED, **environ})
    return caught.value.lines


def test_defaults_are_the_missions_and_cost_nothing() -> None:
    settings = ServiceSettings.load(NEEDED)

    assert settings.universe == ("BTC", "ETH", "SOL", "ADA", "DOGE")
    assert settings.cycle_seconds == 60
    assert settings.hl_network is Network.PAPER
    assert settings.dry_run is False
    assert settings.clock_anchor == Anchor.real()


@pytest.mark.parametrize("network", ["testnet", "mainnet"])
def test_a_real_network_is_a_dry_run_unless_said_otherwise(network: str) -> None:
    given = {**NEEDED, "HL_NETWORK": network, "HL_ACCOUNT_ADDRESS": "0x" + "1" * 40}
    assert ServiceSettings.load(given).dry_run is True
    assert ServiceSettings.load({**given, "DRY_RUN": "false"}).dry_run is False


@pytest.mark.parametrize("network", ["testnet", "mainnet"])
@pytest.mark.parametrize("service", SERVICES)
def test_every_service_alike_refuses_a_real_network_without_an_account_in_one_line(service: str, network: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        settings_class(service).load({**NEEDED, "HL_NETWORK": network})

    (line,) = refusal.value.lines
    assert "HL_ACCOUNT_ADDRESS" in line
    assert network in line


def test_each_missing_setting_gets_a_line() -> None:
    with pytest.raises(SettingsError) as caught:
        ServiceSettings.load({})

    assert caught.value.lines == ("REDIS_URL: not set; it has no default", "BOT_ID: not set; it has no default")


def test_each_wrong_setting_gets_one_line_with_its_name_its_value_and_what_is_allowed() -> None:
    lines = refused(HL_NETWORK="mainnnet", CYCLE_SECONDS="61", UNIVERSE="BTC,BTC", METRICS_PORT="70000")

    assert [line.partition(":")[0] for line in lines] == ["UNIVERSE", "CYCLE_SECONDS", "HL_NETWORK", "METRICS_PORT"]
    assert "'paper', 'testnet' or 'mainnet'" in lines[2]
    assert lines[2].endswith("was 'mainnnet'")


def test_a_secret_is_never_in_an_error() -> None:
    lines = refused(POSTGRES_DSN="postgres://me:hunter2@db/x")

    (line,) = lines
    assert line.startswith("POSTGRES_DSN: must be empty: storing to PostgreSQL is not built yet")
    assert line.endswith("was [secret]")


def test_a_key_or_password_in_the_wrong_place_is_not_shown_either() -> None:
    lines = refused(HL_ACCOUNT_ADDRESS="0x" + "ab" * 32, HL_HTTP_URL="ftp://me:hunter2@proxy")

    assert [line.partition(":")[0] for line in lines] == ["HL_HTTP_URL", "HL_ACCOUNT_ADDRESS"]
    assert "abab" not in "".join(lines)
    assert "hunter2" not in "".join(lines)


def test_an_empty_variable_counts_as_unset() -> None:
    assert ServiceSettings.load({**NEEDED, "HL_NETWORK": "", "POSTGRES_DSN": " "}).hl_network is Network.PAPER


def test_secrets_do_not_print() -> None:
    settings = ServiceSettings.load(NEEDED)

    assert "hunter2" not in repr(settings)
    assert isinstance(settings.redis_url, SecretStr)
    assert "redis_url" in settings.secret_fields()


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("MAX_GROSS", "0.3", lambda params: params.risk.max_gross == 0.3),
        ("CAP_BTC_ETH", "0.05", lambda params: params.risk.caps == {"BTC": 0.05, "ETH": 0.05}),
        ("CAP_ALT", "0.02", lambda params: params.risk.cap("DOGE") == 0.02),
        ("TWAP_SLICES", "1", lambda params: params.execution.twap_slices == 1),
        ("ALLOW_SHORT", "true", lambda params: params.risk.allow_short is True),
        ("ORDER_TIF", "Ioc", lambda params: params.execution.order_tif == "Ioc"),
        ("AI_MIN_CONFIDENCE", "0.6", lambda params: params.ai.min_confidence == 0.6),
    ],
)
def test_a_parameters_variable_reaches_its_parameter(name: str, text: str, found) -> None:
    assert found(load_params({name: text}))


def test_without_variables_the_parameters_are_the_defaults() -> None:
    assert load_params({}) == Params()


def test_each_wrong_parameter_gets_a_line_with_its_variables_name() -> None:
    with pytest.raises(SettingsError) as caught:
        load_params({"MAX_GROSS": "much", "TWAP_SLICES": "0"})

    assert [line.partition(":")[0] for line in caught.value.lines] == ["MAX_GROSS", "TWAP_SLICES"]


def test_parameters_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(SettingsError, match="drawdown_halt must not be below"):
        load_params({"DRAWDOWN_HALT": "0.01"})

    assert load_params({"DRAWDOWN_HALT": "0.015", "DRAWDOWN_REDUCE_ONLY": "0.01"}).risk.drawdown_halt == 0.015


def test_a_misspelt_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SettingsError) as caught:
        check_names(["MAX_GROS", "TWAP_SLICES"], known=PARAMETER_NAMES, where=".env")

    assert caught.value.lines == ("MAX_GROS: no such setting in .env; did you mean MAX_GROSS?",)
