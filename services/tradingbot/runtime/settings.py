"""Settings from the environment: one frozen object per process, refused as a whole when any of it is wrong.

A field's environment name is its name in capitals, so that the mission's names are used exactly. No service reads a
``.env`` file: ``up`` and the command line do, and hand the variables on.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails

from tradingbot.domain.errors import Permanent
from tradingbot.domain.params import Params, merge_override
from tradingbot.domain.static import HttpUrl, Network, StaticSettings
from tradingbot.runtime.clock import Anchor
from tradingbot.runtime.logging import redact

ALLOWED_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

PARAMETER_NAMES: Mapping[str, tuple[str, ...]] = {
    "MAX_GROSS": ("risk.max_gross",),
    "MAX_NET": ("risk.max_net",),
    "CAP_BTC_ETH": ("risk.caps.BTC", "risk.caps.ETH"),
    "CAP_ALT": ("risk.default_cap",),
    "TURNOVER_CAP": ("risk.turnover_cap",),
    "DRAWDOWN_REDUCE_ONLY": ("risk.drawdown_reduce_only",),
    "DRAWDOWN_HALT": ("risk.drawdown_halt",),
    "MAX_DAILY_FEE_BPS": ("risk.max_daily_fee_bps",),
    "ALLOW_SHORT": ("risk.allow_short",),
    "HALT_ACTION": ("risk.halt_action",),
    "EXTERNAL_POSITIONS": ("risk.external_positions",),
    "TWAP_SLICES": ("execution.twap_slices",),
    "SLICE_INTERVAL_S": ("execution.slice_interval_s",),
    "SLICE_TIMEOUT_S": ("execution.slice_timeout_s",),
    "PX_GUARD_BPS": ("execution.px_guard_bps",),
    "MAX_GUARD_BPS": ("execution.max_guard_bps",),
    "THIN_BOOK_SCORE": ("execution.thin_book_score",),
    "ORDER_TIF": ("execution.order_tif",),
    "REPLACE_ONCE": ("execution.replace_once",),
    "MAX_ORDERS_PER_MIN": ("execution.max_orders_per_min",),
    "MAX_CANCELS_PER_MIN": ("execution.max_cancels_per_min",),
    "MIN_REBALANCE_WEIGHT": ("execution.min_rebalance_weight",),
    "FLATTEN_GUARD_BPS": ("execution.flatten_guard_bps",),
    "ORDER_TTL_MS": ("execution.order_ttl_ms",),
    "MAX_START_DELAY_S": ("execution.max_start_delay_s",),
    "AI_SMOOTH_ALPHA": ("ai.smooth_alpha",),
    "AI_MIN_CONFIDENCE": ("ai.min_confidence",),
    "AI_LOW_CONF_SCALE": ("ai.low_conf_scale",),
}
"""Environment name -> the parameters (``domain.params``) that it sets. They reach the services through
``ctl.params``, because they may change while the bot runs."""


class SettingsError(Permanent):
    """Settings that cannot be used: a line per field with its name, its value (never a secret) and what is allowed.

    A key is not shown either when it was pasted into a field that is no secret, such as the account's address.
    """

    def __init__(self, lines: Collection[str]) -> None:
        self.lines = tuple(str(redact(line)) for line in lines)
        super().__init__("\n".join(self.lines))


def _check_log_level(level: str) -> str:
    if level.upper() not in ALLOWED_LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(ALLOWED_LOG_LEVELS)}")
    return level.upper()


def _refuse_postgres(_: SecretStr) -> SecretStr:
    raise ValueError("must be empty: storing to PostgreSQL is not built yet; the record is on Redis Streams")


def _parse_anchor(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return Anchor.parse(value)
    except ValueError:
        raise ValueError("must be real_start_ms:virtual_start_ms:speed, as `up` writes it") from None


class ServiceSettings(StaticSettings):
    """What every service shares. A service's own settings are a subclass in its ``settings.py``."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)

    redis_url: SecretStr
    """The bus: redis://[user:password@]host:port/0. A secret, because it holds a password. No default: a bot that
    talks to a Redis by chance is worse than one that does not start. `up` starts its own and sets it."""

    bot_id: Annotated[str, Field(min_length=1, max_length=128)]
    """Names the bot in every order id and event id: the resource's uid, locally made once and kept in the data
    folder. No default: two bots with one id would cancel each other's orders."""

    clock_anchor: Annotated[Anchor, BeforeValidator(_parse_anchor)] = Anchor.real()
    """real_start_ms:virtual_start_ms:speed, where virtual time is tied to real time. Default: virtual time is real
    time; `up --speed` and recordings set it."""

    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """TCP port of /metrics, /healthz and /readyz. Default 0: off; the operator sets it."""

    metrics_host: str = "127.0.0.1"
    """The address that METRICS_PORT listens on. Default 127.0.0.1: figures of an account are not for the network; the
    operator sets 0.0.0.0 behind a network policy."""

    log_level: Annotated[str, AfterValidator(_check_log_level)] = "INFO"
    """DEBUG, INFO, WARNING or ERROR. Default INFO: one line for each step of a cycle."""

    data_dir: str | None = None
    """Folder for files that a process keeps. Default: none; `up` sets its data folder."""

    mode_file: str | None = None
    """File with the spec's mode (NORMAL, REDUCE_ONLY, HALT), read by execution while Redis has no spec key: the least
    restriction that it starts with. Default: none, which counts as NORMAL; the operator mounts one."""

    otel_exporter_otlp_endpoint: HttpUrl | None = None
    """OTLP/HTTP endpoint such as http://collector:4318 for traces that join a cycle across services. Default: none,
    no traces and nothing of OpenTelemetry is loaded."""

    postgres_dsn: Annotated[SecretStr, AfterValidator(_refuse_postgres)] | None = None
    """PostgreSQL for the archive. Only empty for now: the record is on Redis Streams."""

    @model_validator(mode="after")
    def _account_is_known(self) -> Self:
        if self.hl_network is not Network.PAPER and self.hl_account_address is None:
            raise ValueError(
                f"the account that is traded, HL_ACCOUNT_ADDRESS, is needed with HL_NETWORK={self.hl_network.value}, "
                "for a DRY_RUN too"
            )
        return self

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from an environment; an empty variable counts as unset.

        Raises:
            SettingsError: one line per field that is missing or wrong.
        """
        given = {field: environ[name] for field, name in cls.names().items() if environ.get(name, "").strip()}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise SettingsError(list(_lines(cls, error.errors(include_url=False), environ))) from None

    @classmethod
    def names(cls) -> dict[str, str]:
        """Field -> environment name."""
        return {field: field.upper() for field in cls.model_fields}

    @classmethod
    def secret_fields(cls) -> frozenset[str]:
        """The fields whose values are never shown."""
        return frozenset(field for field, info in cls.model_fields.items() if "SecretStr" in str(info.annotation))


def _lines(cls: type[ServiceSettings], errors: list[ErrorDetails], environ: Mapping[str, str]) -> Iterator[str]:
    names, secrets = cls.names(), cls.secret_fields()
    for error in errors:
        field = str(error["loc"][0]) if error["loc"] else ""
        if error["type"] == "default_factory_not_called":
            continue  # follows from another field's error, which has a line of its own
        if not field:
            yield _allowed(error["msg"])
        elif error["type"] == "missing":
            yield f"{names[field]}: not set; it has no default"
        else:
            shown = "[secret]" if field in secrets else repr(environ[names[field]])
            yield f"{names[field]}: {_allowed(error['msg'])}; was {shown}"


def _allowed(text: str) -> str:
    """Pydantic's text without its lead-in, starting in lower case as the rest of a line does."""
    text = text.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def load_params(environ: Mapping[str, str]) -> Params:
    """The parameters with the environment's values over the defaults.

    Raises:
        SettingsError: one line per variable that is wrong.
    """
    values: dict[str, object] = {}
    lines: list[str] = []
    for name, targets in PARAMETER_NAMES.items():
        text = environ.get(name, "").strip()
        if not text:
            continue
        single: dict[str, object] = dict.fromkeys(targets, text)
        try:
            merge_override(Params(), single)
        except ValidationError as error:
            problems = {_allowed(each["msg"]) for each in error.errors(include_url=False) if len(each["loc"]) > 1}
            if problems:
                lines.append(f"{name}: {'; '.join(sorted(problems))}; was {text!r}")
        values |= single
    if lines:
        raise SettingsError(lines)
    try:
        return merge_override(Params(), values)
    except ValidationError as error:
        raise SettingsError([_allowed(each["msg"]) for each in error.errors(include_url=False)]) from None


def check_names(given: Collection[str], *, known: Collection[str], where: str) -> None:
    """Refuse names that no setting has, each with the nearest one that exists.

    Raises:
        SettingsError: one line per unknown name.
    """
    lines = []
    for name in sorted(set(given) - set(known)):
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else "`tradingbot config show` lists them all"
        lines.append(f"{name}: no such setting in {where}; {hint}")
    if lines:
        raise SettingsError(lines)
