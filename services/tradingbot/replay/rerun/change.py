"""A change of settings that a replay can tell the consequences of.

Parameters of decision, gate and no-trade band, and a strategy that needs nobody. Everything else is refused, because
the record could only answer by guessing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError

from tradingbot.ai_decision.strategies import PURE
from tradingbot.domain.params import Params, merge_override
from tradingbot.runtime.settings import PARAMETER_NAMES, SettingsError, check_names, load_params

STRATEGY: Final = "AI_STRATEGY"
CHANGEABLE: Final = (
    *("MAX_GROSS", "MAX_NET", "CAP_BTC_ETH", "CAP_ALT", "TURNOVER_CAP", "ALLOW_SHORT", "EXTERNAL_POSITIONS"),
    *("DRAWDOWN_REDUCE_ONLY", "DRAWDOWN_HALT", "MAX_DAILY_FEE_BPS", "MIN_REBALANCE_WEIGHT"),
    *("AI_SMOOTH_ALPHA", "AI_MIN_CONFIDENCE", "AI_LOW_CONF_SCALE", STRATEGY),
)
"""What decides on weights and on whether to trade. Other parameters say how orders are worked at the venue, and a
replay fills them at the recorded mids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be different."""

    values: Mapping[str, object] = field(default_factory=dict)
    """By dotted parameter name."""
    strategy: str | None = None

    def params(self, recorded: Params) -> Params:
        """The parameters that would have been in force instead of the recorded ones.

        Raises:
            SettingsError: together with those they make no sense.
        """
        try:
            return merge_override(recorded, dict(self.values))
        except ValidationError as error:
            raise SettingsError([each["msg"] for each in error.errors(include_url=False)]) from None


def change_of(given: Mapping[str, str], *, known: Collection[str], where: str) -> Change:
    """The change that a file of settings asks for; ``known``: every name that a setting has.

    Raises:
        SettingsError: a line for each name that does not exist, cannot matter here, or has a value that is not allowed.
    """
    check_names(given, known=known, where=where)
    lines = [_why_not(name) for name in given if name not in CHANGEABLE]
    strategy = given.get(STRATEGY)
    if strategy is not None and strategy not in PURE:
        lines.append(f"{STRATEGY}: {strategy} would need answers that nobody gave; one of {', '.join(PURE)}")
    if not given:
        lines.append(f"{where}: holds no setting")
    if lines:
        raise SettingsError(lines)
    load_params(given)
    values = {target: given[name] for name, targets in PARAMETER_NAMES.items() if name in given for target in targets}
    return Change(values=values, strategy=strategy)


def _why_not(name: str) -> str:
    if name in PARAMETER_NAMES:
        return f"{name}: says how orders are worked, and a replay fills them at the recorded mids"
    return f"{name}: no recorded step depends on it; {', '.join(CHANGEABLE)} can be changed"
