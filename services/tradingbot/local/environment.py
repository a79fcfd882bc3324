"""From ``.env`` and the environment to what each process is given, and nothing more than that.

Only ``up`` and the command line read ``.env``. A process gets the settings that its own class declares, so that the
private key, which execution's settings alone declare, reaches execution's process alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from tradingbot.domain.cautions import cautions
from tradingbot.domain.services import SERVICES
from tradingbot.domain.static import Network, StaticSettings, split_list
from tradingbot.runtime.process import settings_class
from tradingbot.runtime.settings import (
    PARAMETER_NAMES,
    SettingsError,
    check_names,
    load_params,
)

SET_BY_UP = ("REDIS_URL", "BOT_ID", "CLOCK_ANCHOR", "PRICE_SOURCE", "METRICS_PORT", "METRICS_HOST", "DATA_DIR")
"""What ``up`` decides for its own processes, whatever the environment says."""

_BASE = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR",
         "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")  # fmt: skip
"""What a process needs of the operating system; anything else of the person's environment stays out."""


def known_names() -> frozenset[str]:
    """Every name that a ``.env`` may hold."""
    declared = {name for service in SERVICES for name in settings_class(service).names().values()}
    return frozenset(declared | set(PARAMETER_NAMES))


def read_environment(env_file: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that are given: the environment's over the file's; empty ones count as unset.

    Raises:
        SettingsError: the file is missing or holds a name that no setting has.
    """
    known = known_names()
    given: dict[str, str] = {}
    if env_file is not None:
        if not env_file.is_file():
            raise SettingsError([f"{env_file}: no such file"])
        given = {name: value or "" for name, value in dotenv_values(env_file, interpolate=False).items()}
        check_names(given, known=known, where=str(env_file))
    given |= {name: environ[name] for name in known if environ.get(name)}
    return {name: value for name, value in given.items() if value.strip()}


def process_environment(
    *, service: str, given: Mapping[str, str], decided: Mapping[str, str], machine: Mapping[str, str]
) -> dict[str, str]:
    """What one service's process is given: what it declares, what ``up`` decided, and the machine's own basics."""
    declared = set(settings_class(service).names().values())
    picked = {name: value for name, value in given.items() if name in declared and name not in SET_BY_UP}
    return base_environment(machine) | picked | {name: value for name, value in decided.items() if name in declared}


def strategy_in_force(given: Mapping[str, str]) -> str:
    """Who decides, of settings that were checked."""
    short = given.get("AI_USE_LLM", "").strip().lower() in {"true", "t", "yes", "y", "on", "1"}
    return given.get("AI_STRATEGY", "").strip() or ("llm" if short else "baseline")


def warnings(given: Mapping[str, str]) -> tuple[str, ...]:
    """What is allowed and yet was hardly meant, of settings that were checked: a sentence each."""
    universe = given.get("UNIVERSE")
    coins = split_list(universe) if universe else StaticSettings().universe
    return cautions(load_params(given), coins=coins)


def base_environment(machine: Mapping[str, str]) -> dict[str, str]:
    """The machine's own basics."""
    return {name: machine[name] for name in _BASE if name in machine}


def check_environment(given: Mapping[str, str]) -> None:
    """Validate everything that is given, as every service would at its start.

    Raises:
        SettingsError: one line per field that is wrong, of all services at once; where all are right, what the strategy
            needs and is not installed here.
    """
    usable = {name: value for name, value in given.items() if name not in SET_BY_UP}
    usable |= {"REDIS_URL": "redis://127.0.0.1", "BOT_ID": "check"}
    if usable.get("HL_NETWORK", Network.PAPER) == Network.PAPER:
        # The paper account and its key are made by `up`; whatever key is given is not used.
        usable |= {"DRY_RUN": "true"} if usable.get("DRY_RUN", "false").lower() == "false" else {}
        usable = {name: value for name, value in usable.items() if not name.startswith("HL_PRIVATE_KEY")}
    lines: dict[str, None] = {}
    for service in SERVICES:
        try:
            settings_class(service).load(usable)
        except SettingsError as error:
            lines |= dict.fromkeys(error.lines)
    try:
        load_params(given)
    except SettingsError as error:
        lines |= dict.fromkeys(error.lines)
    if lines:
        raise SettingsError(list(lines))
    from tradingbot.ai_decision.strategies import check_installed  # noqa: PLC0415 - `--help` needs no strategy

    check_installed(strategy_in_force(given))
