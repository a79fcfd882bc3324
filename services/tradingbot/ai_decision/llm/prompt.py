"""What a model is told: a version of the instructions, kept as a file, and the facts of this minute as compact JSON.

A version is never edited once it was released: its digest is in the record of every decision, and a replay shows
whether the file still is the one that was used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from tradingbot.ai_decision.strategy import PastDecision, View
from tradingbot.domain.ids import digest
from tradingbot.runtime.settings import SettingsError

_FOLDER: Final = "prompts"
_SUFFIX: Final = ".txt"
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A version of the instructions."""

    version: str
    text: str

    @property
    def digest(self) -> str:
        """Names the text."""
        return digest(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Everything that a model is sent, but for the schema of its answer."""

    template: Template
    user: str
    """The facts."""

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation as the API takes it."""
        return [{"role": "system", "content": self.template.text}, {"role": "user", "content": self.user}]

    @property
    def named(self) -> dict[str, str]:
        """What the record says of it: the version, the digest of its file, and that of the facts."""
        return {"version": self.template.version, "digest": self.template.digest, "facts": digest(self.user)}


def load_template(version: str) -> Template:
    """The instructions of a version, from the files of this package.

    Raises:
        SettingsError: there is no such version.
    """
    folder = resources.files(__package__).joinpath(_FOLDER)
    there = sorted(each.name.removesuffix(_SUFFIX) for each in folder.iterdir() if each.name.endswith(_SUFFIX))
    if version not in there:
        raise SettingsError([f"AI_LLM_PROMPT: there is no prompt {version}; there is {', '.join(there)}"])
    return Template(version=version, text=folder.joinpath(version + _SUFFIX).read_text(encoding="utf-8").strip())


def compact(facts: Mapping[str, Any]) -> str:
    """JSON without a space too many, in the order given."""
    return json.dumps(facts, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def facts_of(view: View) -> dict[str, Any]:
    """What decides, for a model that proposes weights."""
    return {
        "asof": view.features.asof_minute.strftime("%Y-%m-%dT%H:%MZ"),
        "coins": market_of(view),
        "account": account_of(view),
        "limits": limits_of(view),
        "recent": recent_of(view),
    }


def market_of(view: View) -> dict[str, dict[str, float]]:
    """The features of every usable coin: moves in percent, volatility in percent a year."""
    features = view.features
    optional = {
        "spread_bps": features.spread_bps,
        "book_imbalance": features.book_imbalance,
        "liquidity": features.liquidity_score,
        "book_churn": features.liq_intensity,
    }
    return {
        symbol: {
            "mid": brief(float(features.mid_px[symbol]), digits=6),
            "ret_5m_pct": brief(100 * features.ret_5m[symbol]),
            "ret_1h_pct": brief(100 * features.ret_1h[symbol]),
            "vol_1h_pct": brief(100 * features.vol_1h[symbol]),
            **{name: brief(values[symbol]) for name, values in optional.items() if values and symbol in values},
        }
        for symbol in view.usable
    }


def account_of(view: View) -> dict[str, Any]:
    """What is held, as fractions of equity; coins without usable features cannot change and are told apart."""
    usable, present = set(view.usable), view.present
    return {
        "equity_usd": brief(float(view.snapshot.equity_usd), digits=7),
        "weights": {symbol: brief(present.get(symbol, 0.0)) for symbol in view.usable},
        "held": {symbol: brief(weight) for symbol, weight in present.items() if symbol not in usable},
        "last_target": {symbol: brief(weight) for symbol, weight in view.previous.items() if symbol in usable},
    }


def limits_of(view: View) -> dict[str, Any]:
    """What the risk gate will allow."""
    risk = view.risk
    return {
        "max_weight": {symbol: risk.cap(symbol) for symbol in view.usable},
        "max_gross": risk.max_gross,
        "max_net": risk.max_net,
        "max_turnover": risk.turnover_cap,
        "shorts": risk.allow_short,
    }


def recent_of(view: View) -> list[dict[str, Any]]:
    """The last decisions, oldest first, and what became of equity and prices since each, in percent."""
    return [_outcome(past, view) for past in view.recent]


def _outcome(past: PastDecision, view: View) -> dict[str, Any]:
    mids = view.features.mid_px
    moves = {symbol: float(mids[symbol]) / mid - 1 for symbol, mid in past.mids.items() if symbol in mids and mid > 0}
    equity = float(view.snapshot.equity_usd)
    return {
        "cycle": past.cycle_id,
        "weights": {symbol: brief(weight, digits=3) for symbol, weight in past.weights.items()},
        "equity_pct": brief(100 * (equity / past.equity_usd - 1), digits=3) if past.equity_usd > 0 else None,
        "price_pct": {symbol: brief(100 * move, digits=2) for symbol, move in moves.items()},
    }


def brief(value: float, *, digits: int = _DIGITS) -> float:
    """As many significant digits, and no more: a model reads no better for sixteen of them."""
    if value == 0 or not math.isfinite(value):
        return 0.0
    return float(f"{value:.{digits}g}")
