"""`tradingbot config` and the help that teaches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina.instrumentation
from typer.testing import CliRunner

from tradingbot.cli import app
from tradingbot.local.folder import DataFolder, Running
from tradingbot.runtime.settings import SettingsError

KEY = "0x" + "1" * 64
NOBODY = "http://127.0.0.1:9"
ACCOUNT = "0x" + "a" * 40


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env and no setting of the machine's."""
    monkeypatch.chdir(tmp_path)
    for name in ("HL_PRIVATE_KEY", "REDIS_URL", "MAX_GROSS"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str, **environ: str):
    return CliRunner().invoke(app, list(arguments), env=environ)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("up",),
        ("run",),
        ("paper",),
        ("verify",),
        ("preflight",),
        ("audit",),
        ("ctl",),
        ("ctl", "halt"),
        ("ctl", "set"),
        ("ctl", "clear-breaker"),
        ("dlq",),
        ("dlq", "retry"),
        ("config",),
    ],
)
def test_every_command_explains_itself(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--help")

    assert done.exit_code == 0
    assert "Usage" in done.output


def test_the_help_names_the_way_to_start_and_the_way_to_stop() -> None:
    output = run("--help").output

    for text in ("tradingbot up", "tradingbot ctl halt", "tradingbot verify"):
        assert text in output


def test_check_accepts_what_env_prints(tmp_path: Path) -> None:
    printed = run("config", "env").output
    (tmp_path / ".env").write_text(printed)

    assert run("config", "check").output == "0 settings given, all valid\n"


def test_check_tells_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_GROSS=much\nHL_NETWORK=moon\n")

    done = run("config", "check")

    assert isinstance(done.exception, SettingsError)
    assert {line.partition(":")[0] for line in done.exception.lines} == {"MAX_GROSS", "HL_NETWORK"}


def test_show_says_what_is_in_force_and_never_a_secret(tmp_path: Path) -> None:
    proxy = "HL_HTTP_URL=http://me:hunter2@proxy:8080"
    (tmp_path / ".env").write_text(f"MAX_GROSS=0.3\nHL_PRIVATE_KEY={KEY}\n{proxy}\n")

    shown = json.loads(run("config", "show", "--json").output)

    assert shown["MAX_GROSS"] == "0.3"
    assert shown["MAX_NET"] == "0.2"
    assert shown["HL_PRIVATE_KEY"] == "[secret]"
    plain = run("config", "show").output
    assert KEY not in plain
    assert "hunter2" not in plain + json.dumps(shown)
    assert "[secret]" in plain


@pytest.mark.parametrize(
    ("given", "strategy"),
    [("", "baseline"), ("AI_STRATEGY=equal", "equal"), ("AI_USE_LLM=true", "llm"), ("AI_USE_LLM=false", "baseline")],
)
def test_show_says_who_decides(tmp_path: Path, given: str, strategy: str) -> None:
    (tmp_path / ".env").write_text(f"{given}\n")

    assert json.loads(run("config", "show", "--json").stdout)["AI_STRATEGY"] == strategy


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize(
    "given",
    [
        "AI_USE_LLM=true\nAI_STRATEGY=equal",
        "CYCLE_SECONDS=60\nDECISION_BUDGET_S=60",
        "DRAWDOWN_HALT=0.01",
        "AI_STRATEGY=plugin:mine",
    ],
)
def test_show_prints_what_up_refuses(tmp_path: Path, given: str, options: tuple[str, ...]) -> None:
    (tmp_path / ".env").write_text(f"{given}\n")
    shown, checked = run("config", "show", *options), run("config", "check")

    assert isinstance(shown.exception, SettingsError)
    assert isinstance(checked.exception, SettingsError)
    assert shown.exception.lines == checked.exception.lines
    assert "MAX_GROSS" in shown.stdout, "the settings are shown all the same"


def test_settings_that_buy_nothing_are_warned_of_and_not_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MIN_REBALANCE_WEIGHT=0.05\nUNIVERSE=BTC,ETH\n")
    for command in (("config", "show", "--json"), ("config", "check")):
        done = run(*command)
        assert done.exit_code == 0
        assert "warning: MIN_REBALANCE_WEIGHT 0.05 is not below TURNOVER_CAP / coins = 0.1 / 2" in done.stderr
    (tmp_path / ".env").write_text("MIN_REBALANCE_WEIGHT=0.05\nUNIVERSE=BTC\n")
    assert run("config", "show", "--json").stderr == ""


def test_a_command_without_a_bot_says_how_to_start_one() -> None:
    done = run("ctl", "status")

    assert "start one with `tradingbot up`" in str(done.exception)


def test_an_unknown_service_is_refused() -> None:
    assert run("run", "oracle").exit_code == 2


@pytest.fixture
def told_of_retries() -> Iterator[None]:
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


def test_a_preflight_of_a_venue_that_does_not_answer_prints_the_report_alone(told_of_retries: None) -> None:
    done = run("preflight", "--json", HL_NETWORK="testnet", HL_ACCOUNT_ADDRESS=ACCOUNT, HL_HTTP_URL=NOBODY)

    assert done.exit_code == 1
    assert {each["verdict"] for each in json.loads(done.stdout)["checks"]} >= {"failed"}


@pytest.mark.parametrize(
    ("runs", "asked", "named"),
    [
        ({"HL_NETWORK": "paper"}, {"HL_NETWORK": "mainnet"}, "HL_NETWORK is mainnet"),
        (
            {"HL_NETWORK": "testnet", "HL_ACCOUNT_ADDRESS": ACCOUNT},
            {"HL_NETWORK": "testnet", "HL_ACCOUNT_ADDRESS": "0x" + "b" * 40},
            "HL_ACCOUNT_ADDRESS is 0xbbb",
        ),
    ],
    ids=["network", "account"],
)
def test_a_preflight_never_tells_of_another_bot_than_the_settings_name(
    tmp_path: Path, runs: dict[str, str], asked: dict[str, str], named: str
) -> None:
    DataFolder.make(tmp_path / "data" / "one").note_running(
        Running(
            pid=os.getpid(),
            redis_url="redis://127.0.0.1:9",
            operator_url="redis://127.0.0.1:9",
            monitor_url="m",
            paper_url=None,
            account=ACCOUNT,
            anchor="0:0:1.0",
            static=runs,
        )
    )
    told = str(run("preflight", **asked).exception)

    assert named in told
    assert "--data-dir" in told
