"""From texts on a command line to parameters, axes of a sweep and ranges of a search."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TypeVar

from pydantic import ValidationError

from tradingbot.domain.params import Params, merge_override, parameter_names
from tradingbot.replay.backtest.market import BacktestError
from tradingbot.replay.backtest.search import Range
from tradingbot.runtime.settings import PARAMETER_NAMES

Kind = TypeVar("Kind", bound=StrEnum)

MOST_STEPS = 1_000


def with_values(params: Params, given: Sequence[str]) -> Params:
    """``name=value`` texts over the parameters: ``risk.max_gross=0.5`` or, as in ``.env``, ``MAX_GROSS=0.5``.

    Raises:
        BacktestError: a name is unknown or a value is not allowed.
    """
    values: dict[str, object] = {}
    for text in given:
        name, value = _split(text, "--param")
        values |= dict.fromkeys(targets_of(name), value)
    return _merged(params, values)


def axes_of(params: Params, given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``name=a,b,c`` or ``name=from:to:step`` (both ends included) texts; every value by itself must be allowed.

    Raises:
        BacktestError: a name is unknown, a value is not allowed, or the text cannot be read.
    """
    axes = {}
    for text in given:
        name, values = _split(text, "--sweep", "name=a,b,c or name=from:to:step")
        if len(targets := targets_of(name)) > 1:
            raise BacktestError(f"--sweep {text}: {name} stands for {' and '.join(targets)}; sweep them one by one")
        steps = _steps(text, values) if ":" in values else (each.strip() for each in values.split(","))
        axes[targets[0]] = tuple(dict.fromkeys(steps))  # a value named twice is one try, not two
        for value in axes[targets[0]]:
            _known(params, targets[0], value)
    return axes


def ranges_of(params: Params, given: Sequence[str]) -> dict[str, Range]:
    """``name=low:high`` or ``name=low:high:log`` texts; whole numbers where the parameter is one.

    Raises:
        BacktestError: a name is unknown, is no number, or the text cannot be read.
    """
    ranges = {}
    for text in given:
        name, span = _split(text, "--range", "name=low:high or name=low:high:log")
        (target, *more), parts = targets_of(name), span.split(":")
        if more or len(parts) not in (2, 3) or parts[2:] not in ([], ["log"]):
            raise BacktestError(f"--range {text}: wanted name=low:high or name=low:high:log, of one parameter")
        low, high = (_number(text, part) for part in parts[:2])
        ranges[target] = Range(
            low=float(low), high=float(high), whole=_is_whole(params, target, text), log=len(parts) == 3
        )
        if low >= high or (len(parts) == 3 and low <= 0):
            raise BacktestError(f"--range {text}: low must be below high, and above 0 for log")
    return ranges


def one_of(kinds: type[Kind], text: str, *, option: str) -> Kind:
    """The member of an enumeration that a text names.

    Raises:
        BacktestError: there is none.
    """
    try:
        return kinds(text)
    except ValueError:
        raise BacktestError(f"{option} {text}: one of {', '.join(kinds)}") from None


def targets_of(name: str) -> tuple[str, ...]:
    """The dotted names that a name stands for: itself, or those of a ``.env`` name.

    Raises:
        BacktestError: it looks like another one, which is named.
    """
    known = (*PARAMETER_NAMES, *parameter_names())
    if name in known or name.startswith("risk.caps."):  # a cap's coin is part of its name
        return PARAMETER_NAMES.get(name, (name,))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    if near:
        raise BacktestError(f"{name}: unknown parameter; did you mean {near[0]}?")
    return (name,)


def _split(text: str, option: str, wanted: str = "name=value") -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise BacktestError(f"{option} {text}: wanted {wanted}")
    return name.strip(), value.strip()


def _steps(text: str, span: str) -> tuple[str, ...]:
    parts = span.split(":")
    if len(parts) != 3:
        raise BacktestError(f"--sweep {text}: wanted name=a,b,c or name=from:to:step")
    start, stop, step = (_number(text, part) for part in parts)
    if step <= 0 or stop < start or (stop - start) / step > MOST_STEPS:
        raise BacktestError(f"--sweep {text}: from must not exceed to, in at most {MOST_STEPS} steps above 0")
    return tuple(str(start + step * k) for k in range(int((stop - start) / step) + 1))


def _number(text: str, part: str) -> Decimal:
    try:
        number = Decimal(part)
    except InvalidOperation:
        raise BacktestError(f"{text}: {part!r} is no number") from None
    if not number.is_finite():
        raise BacktestError(f"{text}: {part!r} is no number")
    return number


def _known(params: Params, target: str, value: object) -> None:
    """Refuse a misspelt name at once; a combination of values may still be refused later."""
    try:
        merge_override(params, {target: value})
    except ValidationError as error:
        if any(len(each["loc"]) > 1 for each in error.errors()):
            raise BacktestError(_told(error)) from None
    except ValueError as error:
        raise BacktestError(str(error)) from None


def _is_whole(params: Params, target: str, text: str) -> bool:
    group, _, rest = target.partition(".")
    field, _, leaf = rest.partition(".")
    declared = getattr(type(getattr(params, group, None)), "model_fields", {}).get(field)
    kind = None if declared is None else float if leaf else declared.annotation
    if kind not in (int, float):
        raise BacktestError(f"--range {text}: {target} is no parameter that is a number")
    return kind is int


def _merged(params: Params, values: dict[str, object]) -> Params:
    try:
        return merge_override(params, values)
    except ValidationError as error:
        raise BacktestError(_told(error)) from None
    except ValueError as error:
        raise BacktestError(str(error)) from None


def _told(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or 'parameters'}: {each['msg']}, was {each['input']!r}"
        if each["loc"]
        else each["msg"]
        for each in error.errors()
    )
