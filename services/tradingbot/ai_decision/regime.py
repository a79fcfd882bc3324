"""The two-stage strategy: a model names the regime and a risk multiplier, a convex optimizer finds the weights.

A model is asked for what it may be good at, a judgement of the whole, and not for arithmetic: ``allocation`` says what
each regime means in numbers. Several samples are one answer: the regime that most of them name (of two that are named
as often the more cautious one), the lower median of the multipliers, and the mean confidence times the part of the
samples that named the regime.

What ``weigh`` needs beside the view is in the proposal's evidence, the correlations too, so that ``rebuild`` finds the
same weights to the last bit without a model and without the minutes before.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from tradingbot.ai_decision.allocation import HALF_SPREAD, Market, Regime, Stance, holdings_of, problem_of
from tradingbot.ai_decision.breakdown import breakdown
from tradingbot.ai_decision.correlation import Array, Correlations, packed, unpacked
from tradingbot.ai_decision.llm.answer import RATIONALE_LIMIT
from tradingbot.ai_decision.llm.prompt import Prompt, account_of, brief, compact, load_template, market_of, recent_of
from tradingbot.ai_decision.minutes import WINDOW, Minutes
from tradingbot.ai_decision.optimizer import Optimizer, UnsolvedError
from tradingbot.ai_decision.strategy import RATIONALE_MAX, Proposal, StrategyFailed, View
from tradingbot.domain.cycles import to_ms
from tradingbot.domain.messages import FeatureSnapshot1m, ModelName
from tradingbot.domain.model import Model

if TYPE_CHECKING:
    from tradingbot.ai_decision.llm.client import ModelClient

USED: Final = "regime"
_CAUTION: Final = (Regime.TREND, Regime.RANGE, Regime.STRESS)
_BPS: Final = 10_000.0


class RegimeAnswer(Model):
    """What a model must answer."""

    regime: Regime
    risk_multiplier: Annotated[float, Field(ge=0, le=1)]
    confidence: Annotated[float, Field(ge=0, le=1)]
    rationale: Annotated[str, Field(max_length=RATIONALE_LIMIT)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The samples as one answer."""

    stance: Stance
    confidence: float
    agreement: float
    """The part of the samples that named the regime."""
    rationale: str


class RegimeStrategy:
    """Asks a model for the regime, and the optimizer for the weights."""

    def __init__(self, client: ModelClient, *, minutes: Minutes) -> None:
        self._client = client
        self._template = load_template(f"regime-{client.prompt_version}")
        self._minutes = minutes
        self._window: deque[FeatureSnapshot1m] = deque(maxlen=WINDOW)
        self._optimizers: dict[int, Optimizer] = {}

    async def propose(self, view: View) -> Proposal:
        """The optimizer's weights under the model's regime.

        Raises:
            StrategyFailed: no coin has features, the model gave no usable answer, or the optimizer found none.
        """
        count = len(view.usable)
        if not count:
            raise StrategyFailed("no coin has whole and fresh features")
        correlation = await self._correlation(view)
        answers = await self._client.ask(
            Prompt(template=self._template, user=compact(facts_of(view, correlation))),
            schema=RegimeAnswer,
            check=lambda _answer, _around: None,
            deadline_s=view.deadline_s,
        )
        if count not in self._optimizers:
            self._optimizers[count] = Optimizer(count)
        evidence = {**answers.evidence, "correlation": packed(correlation)}
        return weigh(
            answers.parsed,
            view,
            optimizer=self._optimizers[count],
            model=answers.model,
            evidence=evidence,
            answer_digest=answers.digest,
        )

    async def _correlation(self, view: View) -> Array:
        """Of the usable coins, from the minutes up to the decision's own: always from the same ones, restarted or
        not, as far as the stream still has them."""
        asof_ms = to_ms(view.features.asof_minute)
        last_ms = to_ms(self._window[-1].asof_minute) if self._window else 0
        self._window.extend(each for each in await self._minutes(last_ms) if to_ms(each.asof_minute) <= asof_ms)
        return correlation_of(self._window, view)


def correlation_of(window: Sequence[FeatureSnapshot1m], view: View) -> Array:
    """The shrunk correlations of the usable coins' one-minute returns, oldest minute first."""
    running = Correlations(view.universe)
    for each in window:
        running.observe(each.ret_1m)
    return running.matrix(view.usable)


def facts_of(view: View, correlation: Array) -> dict[str, Any]:
    """What decides, for a model that names a regime."""
    pairs = packed(correlation)
    return {
        "asof": view.features.asof_minute.strftime("%Y-%m-%dT%H:%MZ"),
        "coins": market_of(view),
        "correlation": brief(sum(pairs) / len(pairs), digits=2) if pairs else 1.0,
        "account": account_of(view),
        "recent": recent_of(view),
    }


def judge(answers: Sequence[RegimeAnswer]) -> Judgement:
    """The samples, one at least, as one answer."""
    votes = Counter(answer.regime for answer in answers)
    regime = max(_CAUTION, key=lambda each: (votes[each], _CAUTION.index(each)))
    multipliers = sorted(answer.risk_multiplier for answer in answers)
    agreement = votes[regime] / len(answers)
    return Judgement(
        stance=Stance(regime=regime, multiplier=multipliers[(len(multipliers) - 1) // 2]),
        confidence=sum(answer.confidence for answer in answers) / len(answers) * agreement,
        agreement=agreement,
        rationale=next(answer.rationale for answer in answers if answer.regime is regime),
    )


def weigh(
    answers: Sequence[RegimeAnswer],
    view: View,
    *,
    optimizer: Optimizer,
    model: ModelName,
    evidence: Mapping[str, Any],
    answer_digest: str | None = None,
) -> Proposal:
    """The proposal that checked answers make: pure, whatever the optimizer solved before.

    Args:
        answers: the model's, one at least.
        view: what the decision sees.
        optimizer: one of as many coins as are usable.
        model: who answered.
        evidence: the record so far, with ``correlation`` (``packed``, of the usable coins); what decided is added.
        answer_digest: of the raw answers.

    Raises:
        StrategyFailed: the optimizer found no answer.
    """
    judgement, symbols = judge(answers), view.usable
    market = market_from(view, unpacked(evidence["correlation"], len(symbols)))
    holdings = holdings_of(symbols, present=view.present, universe=view.universe, risk=view.risk)
    problem = problem_of(market, holdings, judgement.stance)
    try:
        solution = optimizer.solve(problem)
    except UnsolvedError as error:
        raise StrategyFailed(f"optimizer: {error}", evidence=evidence, answer_digest=answer_digest) from error
    stance = judgement.stance
    return Proposal(
        weights=dict(zip(symbols, solution.weights, strict=True)),
        confidence=judgement.confidence,
        rationale=f"{stance.regime}, risk {stance.multiplier:g}: {judgement.rationale}"[:RATIONALE_MAX],
        model=model,
        used=USED,
        signals=dict(zip(symbols, market.signals, strict=True)),
        evidence={
            **evidence,
            "regime": str(stance.regime),
            "risk_multiplier": stance.multiplier,
            "agreement": judgement.agreement,
            "allocation": breakdown(symbols, problem, solution).model_dump(mode="json"),
        },
        answer_digest=answer_digest,
    )


def market_from(view: View, correlation: Array) -> Market:
    """The usable coins as the optimizer's problem needs them."""
    features, symbols = view.features, view.usable
    spreads = features.spread_bps or {}
    return Market(
        vol_1h=[features.vol_1h[symbol] for symbol in symbols],
        ret_5m=[features.ret_5m[symbol] for symbol in symbols],
        ret_1h=[features.ret_1h[symbol] for symbol in symbols],
        correlation=correlation,
        half_spread=[max(spreads[s], 0.0) / 2.0 / _BPS if s in spreads else HALF_SPREAD for s in symbols],
    )


def rebuild(evidence: Mapping[str, Any], view: View) -> Proposal:
    """The very proposal again, from what the record tells: nobody is asked.

    Raises:
        StrategyFailed: the optimizer finds no answer (any more).
        ValueError: the record is not ours.
    """
    return weigh(
        [RegimeAnswer.model_validate(each) for each in evidence["answers"]],
        view,
        optimizer=Optimizer(len(view.usable)),
        model=ModelName(name=evidence["model"], version=evidence["prompt"]["version"]),
        evidence=evidence,
    )
