"""The status of a TradingBot, computed from what is known; never read back to decide anything.

Nothing is written when nothing changed. What a person waits for (a mode, a condition, a pod) is written at once;
figures and texts that change all the time at most once a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tradingbot.domain.modes import Mode
from tradingbot_operator.conditions import ACCOUNT_IN_USE, DEGRADED, READY, SPEC_VALID, conditions
from tradingbot_operator.modes import ModeState
from tradingbot_operator.observation import Observation
from tradingbot_operator.overrides import shown
from tradingbot_operator.status_model import (
    BreakerStatus,
    Condition,
    ConditionStatus,
    ModeStatus,
    ParametersStatus,
    PersonStatus,
    PortfolioStatus,
    TradingBotStatus,
)

FIGURES_S: Final = 60.0
"""Figures are written at most this often, real seconds."""
_WEIGHT_DIGITS: Final = 4
_TEXT_LIMIT: Final = 1024
_WORD_LIMIT: Final = 128

Status = dict[str, Any]


def status_of(seen: Observation) -> Status:
    """The whole status, as it is to be written; what cannot be known now is as the bot's status said it before."""
    before = seen.bot.status
    found = conditions(seen, before.get("conditions") or (), now=seen.now)
    fresh = TradingBotStatus(
        observed_generation=found[0].observed_generation,
        phase=_phase(seen, found),
        ready=seen.ready_text,
        bot_id=seen.bot.bot_id,
        account=seen.account,
        weight_per_minute=seen.weight,
        mode=_mode(seen),
        breaker=_breaker(seen),
        person=_person(seen),
        portfolio=_portfolio(seen),
        parameters=_parameters(seen),
        overrides=_overrides(seen),
        deletion=_cut(seen.deletion, _TEXT_LIMIT),
        conditions=found,
    )
    written: Status = fresh.model_dump(mode="json", by_alias=True, exclude_none=True)
    return written | _carried(seen, before, written)


def urgent(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether something changed that a person waits for, rather than a figure or a text."""
    return _essence(before) != _essence(after)


def condition_of(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """One condition of a status; empty when it is not there."""
    return next((each for each in status.get("conditions") or () if each.get("type") == name), {})


_FROM_REDIS: Final = ("breaker", "person", "portfolio", "parameters", "overrides")


def _carried(seen: Observation, before: Mapping[str, Any], fresh: Status) -> Status:
    """What was said before of things that have not been looked at yet, or that Redis does not tell now."""
    names = ["account", "weightPerMinute", *(_FROM_REDIS if seen.view is None else ())]
    if seen.mode is None:
        names.append("mode")
    return {name: before[name] for name in names if name in before and name not in fresh}


_NOISE: Final = frozenset({"portfolio"})
_NOISE_INSIDE: Final = {"mode": ("reason", "openOrders"), "breaker": ("reason",), "person": ("reason",)}


def _essence(status: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in status.items() if name not in _NOISE}
    for name, noisy in _NOISE_INSIDE.items():
        if name in kept:
            kept[name] = {field: value for field, value in kept[name].items() if field not in noisy}
    kept["conditions"] = [
        {field: value for field, value in each.items() if field != "message"} for each in kept.get("conditions") or ()
    ]
    return kept


def _phase(seen: Observation, found: tuple[Condition, ...]) -> str:
    """One word of the conditions and the mode; for a person, never for a decision."""
    holds = {each.type: each.status is ConditionStatus.TRUE for each in found}
    effective = seen.mode.effective if seen.mode else None
    phases = (
        (seen.bot.deleting, "Deleting"),
        (holds.get(ACCOUNT_IN_USE, False), "Refused"),
        (not holds[SPEC_VALID], "Invalid"),
        (seen.bot.spec.suspend, "Suspended" if seen.at_rest else "Suspending"),
        (holds[DEGRADED], "Degraded"),
        (not holds[READY], "Starting" if effective is None else "NotReady"),
        (effective is Mode.HALT, "Halted"),
        (effective is Mode.REDUCE_ONLY, "ReduceOnly"),
    )
    return next((word for applies, word in phases if applies), "Running")


def _mode(seen: Observation) -> ModeStatus | None:
    state = seen.mode
    if state is None:
        return None
    answered = _answers(state)
    return ModeStatus(
        desired=state.desired,
        effective=state.effective,
        source=state.source,
        reason=_cut(state.reason, _TEXT_LIMIT),
        generation=state.generation,
        requested_at=state.requested_at,
        received_at=state.received_at if answered else None,
        cancelled_at=state.cancelled_at if answered else None,
        acked_at=state.acked_at if answered else None,
        open_orders=state.open_orders,
        flatten=(state.flatten or None) if answered else None,
    )


def _answers(state: ModeState) -> bool:
    """Whether execution's stamps are about what is desired now, and not about what it was told before."""
    if state.applied:
        return True
    if state.effective is None or state.received_at is None or state.requested_at is None:
        return False
    return state.effective.rank >= state.desired.rank and state.received_at >= state.requested_at


def _breaker(seen: Observation) -> BreakerStatus | None:
    said = seen.view.breaker if seen.view else None
    if said is None:
        return None
    return BreakerStatus(
        mode=said.mode, reason=_cut(said.reason, _TEXT_LIMIT), latch_id=_cut(said.latch_id or "", _WORD_LIMIT)
    )


def _person(seen: Observation) -> PersonStatus | None:
    said = seen.view.person if seen.view else None
    if said is None or not said.counts:
        return None
    return PersonStatus(
        mode=said.mode,
        reason=_cut(said.reason, _TEXT_LIMIT),
        by=_cut(said.by, _WORD_LIMIT),
        until_generation=said.until_generation,
    )


def _portfolio(seen: Observation) -> PortfolioStatus | None:
    view = seen.view
    if view is None or view.equity_usd is None:
        return None
    return PortfolioStatus(
        equity_usd=f"{view.equity_usd:.2f}",
        gross=_rounded(view.gross),
        net=_rounded(view.net),
        drawdown=_rounded(view.drawdown),
        last_cycle=view.last_cycle_id,
        last_cycle_at=view.last_cycle_at,
    )


def _parameters(seen: Observation) -> ParametersStatus | None:
    if seen.view is None or seen.view.params_version is None:
        return None
    return ParametersStatus(generation=seen.view.params_generation, version=seen.view.params_version)


def _overrides(seen: Observation) -> dict[str, str] | None:
    if seen.view is None or not seen.view.overrides:
        return None
    return {name: _cut(value, _WORD_LIMIT) or "" for name, value in shown(seen.view.overrides).items()}


def _rounded(value: float | None) -> float | None:
    # + 0.0 turns a negative zero into zero: it would be another text.
    return None if value is None else round(value, _WEIGHT_DIGITS) + 0.0


def _cut(text: str, limit: int) -> str | None:
    """The text within its limit; None when it is empty."""
    if not text:
        return None
    return text if len(text) <= limit else text[: limit - 1] + "…"
