"""Trouble on request: which requests are hurt, how, how often. The dice are seeded, so trouble repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tradingbot.runtime.clock import Ids


class Kind(StrEnum):
    """What happens to a request."""

    DELAY = "delay"
    """It waits: ``delay_ms`` of virtual time, ``real_delay_ms`` of real time."""
    DROP_BEFORE = "drop_before"
    """The connection breaks and the request is never read."""
    DROP_AFTER = "drop_after"
    """It takes effect, then the connection breaks without an answer."""
    RATE_LIMIT = "rate_limit"
    """429 with the body ``null``."""
    SERVER_ERROR = "server_error"
    """5xx with HTML, before anything is read."""
    SERVER_ERROR_AFTER = "server_error_after"
    """It takes effect, then 5xx with HTML."""
    CLOSE_SOCKETS = "close_sockets"
    """Every WebSocket is closed: with ``close_code``, or broken off when that is 1006. Looked at twice a virtual
    second; path and type do not matter."""
    POST_ONLY = "post_only"
    """For ``delay_ms`` of virtual time only Alo orders are taken, as after a network upgrade."""


class Fault(BaseModel):
    """One rule; it is used up after ``count`` hits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    path: Literal["/info", "/exchange", "/ws"] | None = None
    """Only requests to this path; None: all."""
    type: str | None = None
    """Only requests of this info or action type; None: all."""
    count: Annotated[int, Field(ge=1)] | None = None
    """How often; None: until cleared."""
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The chance that a matching request is hit."""
    delay_ms: Annotated[int, Field(ge=0)] = 0
    real_delay_ms: Annotated[int, Field(ge=0)] = 0
    status: Annotated[int, Field(ge=500, le=599)] = 502
    """Of server errors."""
    close_code: int = 1006


class Faults:
    """The rules in force, in their order."""

    def __init__(self, rules: Sequence[Fault] = (), *, seed: int = 1) -> None:
        self._dice = Ids(seed)
        self._rules: list[tuple[Fault, int | None]] = [(rule, rule.count) for rule in rules]

    @property
    def rules(self) -> list[Fault]:
        return [rule for rule, _ in self._rules]

    def add(self, rule: Fault) -> None:
        self._rules.append((rule, rule.count))

    def clear(self) -> None:
        self._rules.clear()

    def strike(self, path: str, type_: str | None) -> list[Fault]:
        """The rules that hit this request; each uses up one of its count."""
        return self._roll(lambda rule: rule.kind is not Kind.CLOSE_SOCKETS and _matches(rule, path, type_))

    def strike_sockets(self) -> list[Fault]:
        """The rules that close the sockets at this beat."""
        return self._roll(lambda rule: rule.kind is Kind.CLOSE_SOCKETS)

    def _roll(self, applies: Callable[[Fault], bool]) -> list[Fault]:
        hits, kept = [], []
        for rule, left in self._rules:
            hit = applies(rule) and self._dice.uniform(0.0, 1.0) <= rule.probability
            if hit:
                hits.append(rule)
            still = left - 1 if hit and left is not None else left
            if still is None or still > 0:
                kept.append((rule, still))
        self._rules = kept
        return hits


def parse_fault(text: str) -> Fault:
    """``KIND[,name=value…]`` as ``--fault`` takes it: ``drop_after,path=/exchange,type=order,count=1``.

    A number is the kind that answers with it: ``429,count=3`` or ``503``.

    Raises:
        ValueError: an unknown kind, name or value.
    """
    kind, *pairs = text.split(",")
    fields: dict[str, str] = {"kind": kind}
    if kind.isdecimal():
        fields = {"kind": Kind.RATE_LIMIT} if kind == "429" else {"kind": Kind.SERVER_ERROR, "status": kind}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not name=value")
        fields[name] = value
    return Fault.model_validate(fields)


def _matches(rule: Fault, path: str, type_: str | None) -> bool:
    return rule.path in {None, path} and rule.type in {None, type_}
