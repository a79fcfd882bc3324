"""The reference of all settings, read off their classes: docs/settings.md and ``.env.example`` are made from it.

A field's docstring says what it is, its unit, its default and the reason; what is allowed comes from its type.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tradingbot.domain.model import Model
from tradingbot.domain.params import AiParams, ExecutionParams, RiskParams
from tradingbot.domain.services import SERVICES
from tradingbot.domain.static import PLUGIN_PREFIX, STRATEGIES, StaticSettings
from tradingbot.local.environment import SET_BY_UP
from tradingbot.runtime.process import settings_class
from tradingbot.runtime.settings import PARAMETER_NAMES, ServiceSettings

_PARAMETER_MODELS: Mapping[str, type[Model]] = {"risk": RiskParams, "execution": ExecutionParams, "ai": AiParams}
_SPECIAL_DOCS = {
    "CAP_BTC_ETH": "|w| at most for BTC and for ETH. Default 0.15: the most liquid coins may weigh the most.",
    "CAP_ALT": "|w| at most for any other coin. Default 0.10.",
}
_SPECIAL_DEFAULTS = {"AI_STRATEGY": "baseline"}
"""Of fields whose default follows from another one."""
_SPECIAL_ALLOWED = {"AI_STRATEGY": f"{', '.join(STRATEGIES)}, {PLUGIN_PREFIX}NAME"}
_UNITS = {"_s": "seconds", "_ms": "milliseconds", "_bps": "basis points", "_per_min": "per minute"}
_WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One environment variable."""

    name: str
    section: str
    allowed: str
    default: str
    """As it would be written; empty when there is none."""
    text: str
    secret: bool = False
    required: bool = False
    parameter: str = ""
    """The dotted names that `tradingbot ctl set` knows it by."""

    @property
    def set_by_up(self) -> bool:
        """True when ``up`` decides it for its own processes."""
        return self.name in SET_BY_UP


@cache
def reference() -> tuple[Setting, ...]:
    """Every setting, in the order of the page."""
    seen: dict[str, Setting] = {}
    for each in (*_static(), *_parameters(), *_shared(), *_services()):
        seen.setdefault(each.name, each)
    return tuple(seen.values())


def _static() -> Iterator[Setting]:
    yield from _of_class(StaticSettings, section="What is traded, and where", fields=list(StaticSettings.model_fields))


def _shared() -> Iterator[Setting]:
    own = [field for field in ServiceSettings.model_fields if field not in StaticSettings.model_fields]
    yield from _of_class(ServiceSettings, section="Every process", fields=own)


def _services() -> Iterator[Setting]:
    for service in SERVICES:
        model = settings_class(service)
        own = [field for field in model.model_fields if field not in ServiceSettings.model_fields]
        yield from _of_class(model, section=f"Only {service}", fields=own)


def _parameters() -> Iterator[Setting]:
    for name, targets in PARAMETER_NAMES.items():
        group, _, field = targets[0].partition(".")
        model = _PARAMETER_MODELS[group]
        base = field.partition(".")[0]
        schema = model.model_json_schema()["properties"][base]
        default = model.model_fields[base].default
        if isinstance(default, dict):
            default, schema = default[field.partition(".")[2]], schema["additionalProperties"]
        yield Setting(
            name=name,
            section={"risk": "Risk limits", "execution": "Execution", "ai": "Decision"}[group],
            allowed=_allowed(schema, model.model_json_schema().get("$defs", {})) + _unit(name),
            default=_written(default),
            text=_SPECIAL_DOCS.get(name) or _docstrings(model).get(base, ""),
            parameter=", ".join(targets),
        )


def _of_class(model: type[StaticSettings], *, section: str, fields: list[str]) -> Iterator[Setting]:
    schema = model.model_json_schema()
    texts = _docstrings(model)
    for field in fields:
        info = model.model_fields[field]
        properties = schema["properties"][field]
        has_default = not info.is_required() and info.default_factory is None
        yield Setting(
            name=field.upper(),
            section=section,
            allowed=_SPECIAL_ALLOWED.get(field.upper())
            or _allowed(properties, schema.get("$defs", {})) + _unit(field.upper()),
            default=_written(info.default) if has_default else _SPECIAL_DEFAULTS.get(field.upper(), ""),
            text=texts.get(field, ""),
            secret="SecretStr" in str(info.annotation),
            required=info.is_required(),
        )


def _docstrings(model: type[Any]) -> dict[str, str]:
    """Field -> the string under it, of the class and its bases."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, Model) or cls is Model:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)
        for before, after in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[before.target.id] = " ".join(str(after.value.value).split())
    return found


def _written(default: Any) -> str:
    """A default as a person would write it into ``.env``."""
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case tuple() | list():
            return ",".join(map(str, default))
        case float():
            return f"{default:g}"
        case _:
            return str(default)


def _unit(name: str) -> str:
    unit = next((unit for suffix, unit in _UNITS.items() if name.lower().endswith(suffix)), "")
    return f", {unit}" if unit else ""


def _allowed(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a value may be, from its JSON Schema."""
    if reference := schema.get("$ref"):
        return _allowed(definitions[reference.rpartition("/")[2]], definitions)
    for many in ("anyOf", "allOf"):
        if many in schema:
            return " or ".join(_allowed(each, definitions) for each in schema[many] if each.get("type") != "null")
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    match schema.get("type"):
        case "boolean":
            return "true, false"
        case "integer" | "number" as kind:
            return ("whole number" if kind == "integer" else "number") + _bounds(schema)
        case "array":
            return "list, separated by commas"
        case "object":
            return "real_start_ms:virtual_start_ms:speed"
        case _:
            return "text"


def _bounds(schema: Mapping[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']:g} to {schema['maximum']:g}"
    low = f" ≥ {schema['minimum']:g}" if "minimum" in schema else ""
    low = f" > {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else low
    high = f" ≤ {schema['maximum']:g}" if "maximum" in schema else ""
    return f"{low} and{high}" if low and high else low + high


def as_markdown() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made from the code by `make schemas`; edit the docstrings of the settings classes instead.",
        "",
        "A setting is an environment variable. `tradingbot up` and the other commands also read `.env`",
        "(start from `.env.example`); the environment wins over the file, an empty value counts as unset, and a name",
        "in `.env` that no setting has is refused. `tradingbot config check` validates all of it, `config show` prints",
        "what is in force.",
        "",
        "Settings with a name under *ctl set* may change while the bot runs: they reach the services through the bus",
        "and take effect at the next cycle's start. The others are fixed when a process starts.",
    ]
    section = ""
    for each in reference():
        if each.section != section:
            section = each.section
            lines += [
                "",
                f"## {section}",
                "",
                "| name | allowed | default | what it is | ctl set |",
                "|---|---|---|---|---|",
            ]
        lines.append(
            f"| `{each.name}` | {_cell(each.allowed)}{', secret' if each.secret else ''} | {_default_cell(each)} "
            f"| {_cell(each.text)} | {', '.join(f'`{name}`' for name in each.parameter.split(', ') if name)} |"
        )
    return "\n".join(lines) + "\n"


def _default_cell(each: Setting) -> str:
    if each.required:
        return "none, required"
    if each.name == "DRY_RUN":
        return "see there"
    return f"`{each.default}`" if each.default else "—"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def as_env_file() -> str:
    """``.env.example``: every setting that a person may give, commented out, with its default."""
    lines = [
        "# Settings of `tradingbot`. Copy to .env and keep it out of version control.",
        "# Every line is a default: uncomment what you change. `tradingbot config check` validates the file.",
    ]
    section = ""
    for each in reference():
        if each.section != section:
            section = each.section
            lines += ["", f"# ---- {section}"]
        note = "Set by `up`. " if each.set_by_up else ""
        lines += ["", *(f"# {line}" for line in textwrap.wrap(f"{note}{each.text} [{each.allowed}]", _WIDTH))]
        lines.append(f"#{each.name}={each.default}")
    return "\n".join(lines) + "\n"
