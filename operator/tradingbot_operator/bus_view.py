"""What the operator sees of one bot in its Redis, read at one moment and made of plain values.

Reading is forgiving where a figure is concerned (it is left out) and strict where a mode is: a word that is no mode
counts as HALT, as it does in execution. Nothing that is kept in Redis makes it fail: a HALT would wait behind it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from tradingbot.bus.buckets import IP_WEIGHT
from tradingbot.bus.control import Applied
from tradingbot.bus.library import Reading
from tradingbot.bus.names import Key, Stream, state_key
from tradingbot.domain.cycles import from_ms, start_ms_of
from tradingbot.domain.envelope import Message
from tradingbot.domain.messages import StateSnapshot
from tradingbot.domain.modes import EffectiveMode, Mode, effective_mode
from tradingbot.domain.params import Params
from tradingbot_operator.overrides import overrides_in_force

_BREAKER_STATE: Final = state_key("risk_engine")
KEYS: Final = (
    Key.APPLIED,
    Key.MODE_SPEC,
    Key.MODE_BREAKER,
    Key.MODE_PERSON,
    Key.PARAMS,
    Key.PARAMS_PERSON,
    Key.LIMITS,
    Key.IDENTITY,
    Key.SERVER,
    Key.LATEST_PREFLIGHT,
    _BREAKER_STATE,
    Stream.SNAPSHOT.value,
    Stream.APPROVED.value,
)
"""What one look reads."""
_DIGITS: Final = 18
_LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecSaid:
    """The spec's key: the last that the operator wrote."""

    mode: Mode
    uid: str
    generation: int
    command_id: str
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSaid:
    """What the risk engine restricts."""

    mode: Mode
    reason: str
    latch_ids: tuple[str, ...]
    """What a person names to clear it; empty while it clears by itself."""
    command_id: str

    @property
    def latch_id(self) -> str | None:
        """The first of them."""
        return self.latch_ids[0] if self.latch_ids else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSaid:
    """What a person restricts from the command line or the monitor."""

    mode: Mode
    reason: str
    by: str
    until_generation: int | None
    counts: bool
    """False once the spec's generation has reached ``until_generation``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """Execution's last preflight."""

    verdict: str
    """ok, warning or failed."""
    texts: tuple[str, ...]
    """``name: text`` of each check with that verdict."""
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BusView:
    """One bot's Redis as of one moment. Weights and drawdown are fractions of equity."""

    applied: Applied | None = None
    """What execution has applied; None when it has never said."""
    effective: EffectiveMode
    """The strictest of the three sources, as the keys say it."""
    spec: SpecSaid | None = None
    breaker: BreakerSaid | None = None
    """None until the risk engine has spoken, which counts as HALT."""
    person: PersonSaid | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    params: Params | None = None
    """The spec's, without a person's; None when there are none, or of another version's schema."""
    params_version: int | None = None
    params_generation: int | None = None
    params_uid: str = ""
    share_per_min: int | None = None
    equity_usd: float | None = None
    gross: float | None = None
    net: float | None = None
    drawdown: float | None = None
    snapshot_at: datetime | None = None
    last_cycle_id: str | None = None
    last_cycle_at: datetime | None = None
    preflight: Preflight | None = None
    identity: str | None = None
    appendfsync: str | None = None
    """As noted when the library was loaded."""
    digest: str = ""
    """Of the function library that is loaded."""

    @property
    def spec_generation(self) -> int | None:
        """The generation of the spec's key."""
        return self.spec.generation if self.spec else None

    @property
    def open_orders(self) -> int | None:
        """Orders of the bot that are open, as execution last said."""
        return self.applied.open_orders if self.applied else None


def view_of(reading: Reading) -> BusView:
    """The view of what was read; ``reading`` holds ``KEYS``."""
    spec, breaker, person = (reading.hash(key) for key in (Key.MODE_SPEC, Key.MODE_BREAKER, Key.MODE_PERSON))
    params, kept = reading.hash(Key.PARAMS), reading.hash(Key.PARAMS_PERSON)
    applied = reading.hash(Key.APPLIED)
    return BusView(
        applied=_applied(applied),
        effective=effective_mode(spec=spec, breaker=breaker, person=person),
        spec=_spec(spec),
        breaker=_breaker(breaker),
        person=_person(person, spec),
        overrides=overrides_in_force(params, kept),
        params=_params(params),
        params_version=_whole(params.get("version")),
        params_generation=_whole(params.get("generation")),
        params_uid=params.get("uid", ""),
        share_per_min=_whole(reading.hash(Key.LIMITS).get(IP_WEIGHT)),
        preflight=_preflight(reading.hash(Key.LATEST_PREFLIGHT)),
        identity=reading.text(Key.IDENTITY),
        appendfsync=reading.hash(Key.SERVER).get("appendfsync"),
        digest=reading.digest,
        **_cycle(reading.newest(Stream.APPROVED)),
        **_figures(reading.newest(Stream.SNAPSHOT), reading.hash(_BREAKER_STATE)),
    )


def _applied(kept: Mapping[str, str]) -> Applied | None:
    """What cannot be read acknowledges nothing."""
    try:
        return Applied.of(kept) if kept else None
    except ValueError:
        return Applied()


def _spec(kept: Mapping[str, str]) -> SpecSaid | None:
    if not kept:
        return None
    return SpecSaid(
        mode=_mode(kept),
        uid=kept.get("uid", ""),
        generation=_whole(kept.get("generation")) or 0,
        command_id=kept.get("command_id", ""),
        at=_moment(kept.get("at_ms")),
    )


def _breaker(kept: Mapping[str, str]) -> BreakerSaid | None:
    if not kept:
        return None
    named = kept.get("latch_ids") or kept.get("latch_id") or ""
    return BreakerSaid(
        mode=_mode(kept),
        reason=kept.get("reason", ""),
        latch_ids=tuple(each for each in named.split(",") if each),
        command_id=kept.get("command_id", ""),
    )


def _person(kept: Mapping[str, str], spec: Mapping[str, str]) -> PersonSaid | None:
    if not kept:
        return None
    until = _whole(kept.get("until_generation"))
    return PersonSaid(
        mode=_mode(kept),
        reason=kept.get("reason", ""),
        by=kept.get("issued_by", ""),
        until_generation=until,
        counts=until is None or (_whole(spec.get("generation")) or 0) < until,
    )


def _mode(kept: Mapping[str, str]) -> Mode:
    word = kept.get("mode", "")
    return Mode(word) if word in Mode.__members__ else Mode.HALT


def _params(kept: Mapping[str, str]) -> Params | None:
    try:
        return Params.model_validate_json(kept["values"], extra="ignore")
    except (KeyError, ValidationError):
        return None  # written anew then


def _preflight(kept: Mapping[str, str]) -> Preflight | None:
    if "verdict" not in kept:
        return None
    try:
        checks = json.loads(kept.get("checks") or "[]")
        texts = tuple(f"{each['name']}: {each['text']}" for each in checks if each["verdict"] == kept["verdict"])
    except (KeyError, TypeError, ValueError):
        texts = ()
    return Preflight(verdict=kept["verdict"], texts=texts, at=_moment(kept.get("at_ms")))


def _cycle(payload: str | None) -> dict[str, Any]:
    """The last cycle that the risk gate decided on: in HALT too, where nothing is planned any more."""
    try:
        cycle_id = str(json.loads(payload or "{}")["env"]["cycle_id"])
        return {"last_cycle_id": cycle_id, "last_cycle_at": from_ms(start_ms_of(cycle_id))}
    except (KeyError, TypeError, ValueError):
        return {}


def _figures(payload: str | None, breaker_state: Mapping[str, str]) -> dict[str, Any]:
    try:
        snapshot = Message[StateSnapshot].read(payload or "").data
    except ValidationError:
        return {}
    equity = float(snapshot.equity_usd)
    figures = {"equity_usd": equity, "snapshot_at": _moment(str(snapshot.asof_ms) if snapshot.asof_ms else None)}
    if equity > 0:
        weights = [float(each.qty * each.mark_px) / equity for each in snapshot.positions.values()]
        figures |= {"gross": sum(map(abs, weights)), "net": sum(weights)}
    return {**figures, **_drawdown(breaker_state, deposits_usd=float(snapshot.health.deposits_net_usd))}


def _drawdown(breaker_state: Mapping[str, str], *, deposits_usd: float) -> dict[str, float]:
    """As the risk engine counts it: its peak and its equity are corrected for deposits."""
    try:
        kept = json.loads(breaker_state.get("value") or "{}")
        peak, equity = float(kept["peak_usd"]), float(kept["equity_usd"])
    except (KeyError, TypeError, ValueError):
        return {}
    lost, whole = peak - equity, peak + deposits_usd
    return {"drawdown": 0.0 if lost <= 0 else lost / whole if whole > lost else 1.0}


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) <= _DIGITS else None


def _moment(at_ms: str | None) -> datetime | None:
    found = _whole(at_ms)
    return None if found is None or found > _LAST_MS else from_ms(found)
