"""The language model strategy: a model proposes the weights of every usable coin.

With several samples each weight is the median of the answers, and confidence is the median of theirs times their
agreement, which is

    1 − Σ_k Σ_i |w_ki − m_i| / Σ_k (Σ_i |w_ki| + Σ_i |m_i|),

m being the medians: 1 when all answers are the same, 0 when none shares anything with the median.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, Final

from tradingbot.ai_decision.llm.answer import WeightsAnswer, check_weights
from tradingbot.ai_decision.llm.client import ModelClient
from tradingbot.ai_decision.llm.faults import Fault, ModelFailed, Refused
from tradingbot.ai_decision.llm.prompt import Prompt, compact, facts_of, load_template
from tradingbot.ai_decision.strategy import RATIONALE_MAX, Proposal, View
from tradingbot.domain.messages import ModelName

USED: Final = "llm"


class LlmStrategy:
    """Asks a model for weights."""

    def __init__(self, client: ModelClient) -> None:
        self._client = client
        self._template = load_template(client.prompt_version)

    async def propose(self, view: View) -> Proposal:
        """The model's weights, checked against the view.

        Raises:
            ModelFailed: there is no usable answer.
        """
        if not view.usable:
            raise ModelFailed(Fault.STALE_INPUTS, "no coin has whole and fresh features")
        answers = await self._client.ask(
            Prompt(template=self._template, user=compact(facts_of(view))),
            schema=WeightsAnswer,
            check=lambda answer, around: check_weights(answer, view, around=around),
            deadline_s=view.deadline_s,
        )
        proposal = interpret(answers.parsed, view, model=answers.model)
        evidence = {**answers.evidence, "agreement": proposal.evidence["agreement"]}
        return replace(proposal, evidence=evidence, answer_digest=answers.digest)


def interpret(answers: Sequence[WeightsAnswer], view: View, *, model: ModelName) -> Proposal:
    """The proposal that checked answers make."""
    middle = {symbol: median(answer.weights[symbol] for answer in answers) for symbol in view.usable}
    agreed = agreement(answers, middle)
    return Proposal(
        weights=middle,
        confidence=median(answer.confidence for answer in answers) * agreed,
        rationale=min(answers, key=lambda answer: _apart(answer, middle)).rationale[:RATIONALE_MAX],
        model=model,
        used=USED,
        evidence={"agreement": agreed},
    )


def agreement(answers: Sequence[WeightsAnswer], middle: Mapping[str, float]) -> float:
    """How far answers agree with their median, 0 to 1; see the module's formula."""
    whole = sum(sum(map(abs, answer.weights.values())) + sum(map(abs, middle.values())) for answer in answers)
    return 1.0 - sum(_apart(answer, middle) for answer in answers) / whole if whole > 0 else 1.0


def rebuild(evidence: Mapping[str, Any], view: View) -> Proposal:
    """The very proposal again, from what the record tells: nobody is asked.

    Raises:
        ModelFailed: the record holds no answer, or one that would not be taken (any more).
        pydantic.ValidationError: the record is not ours.
    """
    answers = [WeightsAnswer.model_validate(each) for each in evidence["answers"]]
    if not answers:
        raise ModelFailed(Fault.SCHEMA, "the record holds no answer")
    try:
        for answer in answers:
            check_weights(answer, view)
    except Refused as error:
        raise ModelFailed(error.fault, error.why) from error
    model = ModelName(name=evidence["model"], version=evidence["prompt"]["version"])
    proposal = interpret(answers, view, model=model)
    return replace(proposal, evidence={**evidence, **proposal.evidence})


def _apart(answer: WeightsAnswer, middle: Mapping[str, float]) -> float:
    return sum(abs(answer.weights[symbol] - weight) for symbol, weight in middle.items())
