"""Asking a model: one deadline, bounded retries, a cap on money and size, and a circuit, all behind ``ask``.

What comes out is a majority of checked answers with everything the record needs, or one error that says why not.
Nothing here knows what is asked for: the schema and the check are the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic

from pydantic import SecretStr
from redis.asyncio import Redis
from structlog import get_logger

from tradingbot.ai_decision.llm.answer import AnswerT, read_answer
from tradingbot.ai_decision.llm.chat import ChatServer, Completion, Request, open_http
from tradingbot.ai_decision.llm.circuit import Circuit
from tradingbot.ai_decision.llm.dialect import Dialect, learned
from tradingbot.ai_decision.llm.faults import Fault, ModelFailed, NoCompletion, Refused
from tradingbot.ai_decision.llm.prompt import Prompt
from tradingbot.ai_decision.llm.record import Ledger
from tradingbot.ai_decision.llm.schema import strict_schema
from tradingbot.ai_decision.llm.spend import DailySpend, Prices, Reservation
from tradingbot.ai_decision.settings import AiDecisionSettings, ApiKeyUnreadable
from tradingbot.bus.errors import BusError
from tradingbot.bus.names import MICRO
from tradingbot.domain.messages import ModelName
from tradingbot.runtime.clock import Clock
from tradingbot.runtime.metrics import count_error
from tradingbot.runtime.stopping import end

MARGIN_S: Final = 0.25
"""Real seconds left at the end of a budget, to tell what was answered so far."""
BACKOFF_S: Final = 0.25
"""Before the first retry; doubled for each later one."""

Check = Callable[[AnswerT, str], None]
"""Refuses an answer that cannot be meant, given the words around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers(Generic[AnswerT]):
    """Usable answers of a strict majority of the samples."""

    parsed: tuple[AnswerT, ...]
    model: ModelName
    evidence: Mapping[str, Any]
    """For audit.logs; ``answers`` in it are the parsed ones."""
    digest: str
    """Names the raw answers."""


@dataclass(slots=True, kw_only=True)
class _Asking(Generic[AnswerT]):
    """One decision's questions."""

    request: Request
    schema: type[AnswerT]
    check: Check[AnswerT]
    until_s: float
    ledger: Ledger
    parsed: dict[int, AnswerT] = field(default_factory=dict)


class ModelClient:
    """A language model, as a strategy sees it."""

    def __init__(self, server: ChatServer, *, settings: AiDecisionSettings, spend: DailySpend, clock: Clock) -> None:
        self._server = server
        self._settings = settings
        self._spend = spend
        self._clock = clock
        self._dialect = Dialect()
        self._prices = Prices(
            usd_per_mtok_in=settings.ai_llm_usd_per_mtok_in, usd_per_mtok_out=settings.ai_llm_usd_per_mtok_out
        )
        self._circuit = Circuit(
            failures_to_open=settings.ai_llm_circuit_failures, open_s=settings.ai_llm_circuit_open_s
        )

    @property
    def prompt_version(self) -> str:
        """The version that the settings name."""
        return self._settings.ai_llm_prompt

    async def ask(
        self, prompt: Prompt, *, schema: type[AnswerT], check: Check[AnswerT], deadline_s: float
    ) -> Answers[AnswerT]:
        """The answers to a prompt, as many as the settings sample.

        Args:
            prompt: what is sent.
            schema: the shape of an answer.
            check: raises Refused for an answer that cannot be meant.
            deadline_s: the real second by which the decision must be made; 0: the budget from now on.

        Raises:
            ModelFailed: no strict majority of usable answers; its evidence tells of all that came.
        """
        now_s = self._clock.real_s()
        if wait_s := self._circuit.wait_s(now_s):
            raise ModelFailed(
                Fault.CIRCUIT_OPEN,
                f"after {self._circuit.failures} failures, for {wait_s:.0f} s more",
                evidence={"model": str(self._settings.ai_llm_model), **self._bounds(now_s)},
            )
        asking = _Asking(
            request=self._request(prompt, schema),
            schema=schema,
            check=check,
            until_s=(deadline_s or now_s + self._settings.decision_budget_s) - MARGIN_S,
            ledger=Ledger(prompt=prompt.named, model=str(self._settings.ai_llm_model), started_s=now_s),
        )
        await self._sample(asking)
        return self._concluded(asking)

    def _request(self, prompt: Prompt, schema: type[AnswerT]) -> Request:
        settings = self._settings
        return Request(
            model=str(settings.ai_llm_model),
            messages=prompt.messages,
            schema_name=schema.__name__,
            schema=strict_schema(schema),
            temperature=settings.ai_llm_temperature,
            max_tokens=settings.ai_llm_max_tokens,
        )

    async def _sample(self, asking: _Asking[AnswerT]) -> None:
        """Ask for every sample at once until the time is over; each is noted when it comes."""
        left_s = asking.until_s - self._clock.real_s()
        tasks = [
            asyncio.create_task(self._until_answered(asking, index)) for index in range(self._settings.ai_llm_samples)
        ]
        try:
            await asyncio.wait(tasks, timeout=max(0.0, left_s))
        finally:
            late = [task for task in tasks if not task.done()]
            for task in late:
                task.cancel()  # all of them first: whoever waits here may be cancelled too
            for task in late:
                await end(task)
        for task in tasks:
            if task in late:
                asking.ledger.failed(Fault.TIME, f"no answer within {max(0.0, left_s):.1f} s")
            else:
                task.result()  # raises what is nobody's answer: Redis is away

    async def _until_answered(self, asking: _Asking[AnswerT], index: int) -> None:
        """One sample: tries until an answer is usable, the attempts are used up or the wait would be too long."""
        for attempt in range(self._settings.ai_llm_attempts):
            dialect = self._dialect
            try:
                asking.parsed[index] = self._judged(asking, await self._paid(asking, dialect), index)
            except (ModelFailed, Refused, NoCompletion) as error:
                asking.ledger.failed(error.fault, error.why)
                wait_s = 0.0 if self._learn(dialect, error) else _wait_s(error, attempt=attempt)
            else:
                return
            if wait_s is None or self._clock.real_s() + wait_s >= asking.until_s:
                return
            await self._clock.sleep_real(wait_s)

    async def _paid(self, asking: _Asking[AnswerT], dialect: Dialect) -> Completion:
        """One request under the day's cap."""
        key = self._key()
        body = asking.request.body(dialect)
        most = self._prices.at_most(prompt_bytes=len(body), max_tokens=asking.request.max_tokens)
        reservation = await self._spend.reserve(most)
        asking.ledger.sent(most)
        try:
            completion = await self._server.complete(body, key=key)
        except NoCompletion as error:
            if not error.billed:
                asking.ledger.cost(-most)
                await self._settle(reservation, 0)
            raise
        asking.ledger.used(completion)
        if completion.tokens_in is not None and completion.tokens_out is not None:
            cost = self._prices.cost(tokens_in=completion.tokens_in, tokens_out=completion.tokens_out)
            asking.ledger.cost(cost - most)
            await self._settle(reservation, cost)
        return completion

    async def _settle(self, reservation: Reservation, micro_usd: int) -> None:
        """Correct what is reserved; where Redis is away it stays as it is, and what was paid for is not thrown away."""
        try:
            await self._spend.settle(reservation, micro_usd)
        except BusError as error:
            count_error(error)
            get_logger("tradingbot.ai_decision").warning(
                "spend_not_settled",
                error=str(error),
                reserved_usd=reservation.micro_usd / MICRO,
                cost_usd=micro_usd / MICRO,
            )

    def _judged(self, asking: _Asking[AnswerT], completion: Completion, index: int) -> AnswerT:
        asking.ledger.answered(completion.text, sample=index)
        try:
            answer, around = read_answer(completion.text, asking.schema)
        except Refused as error:
            if completion.finish_reason == "length":
                raise Refused(error.fault, f"cut off at {asking.request.max_tokens} tokens; {error.why}") from None
            raise
        asking.check(answer, around)
        return answer

    def _concluded(self, asking: _Asking[AnswerT]) -> Answers[AnswerT]:
        samples, ledger, now_s = self._settings.ai_llm_samples, asking.ledger, self._clock.real_s()
        parsed = tuple(asking.parsed[index] for index in sorted(asking.parsed))
        told = ledger.evidence([answer.model_dump(mode="json") for answer in parsed], now_s=now_s)
        if 2 * len(parsed) <= samples:
            fault, why = ledger.reason
            if fault not in {Fault.SPEND_CAP, Fault.API_KEY}:  # the model is not to blame
                self._circuit.failed(now_s)
            raise ModelFailed(
                fault,
                why if samples == 1 else f"{len(parsed)} of {samples} answers are usable; {why}",
                evidence={**told, **self._bounds(now_s)},
                answer_digest=ledger.digest,
            )
        self._circuit.succeeded()
        name = ModelName(name=str(self._settings.ai_llm_model), version=asking.ledger.prompt["version"])
        evidence = {**told, **self._bounds(now_s)}
        return Answers(parsed=parsed, model=name, evidence=evidence, digest=ledger.digest or "")

    def _bounds(self, now_s: float) -> dict[str, Any]:
        """What holds the model back, as it stands after a decision."""
        return {"cap_usd": self._spend.cap_usd, "circuit": self._circuit.told(now_s)}

    def _learn(self, asked: Dialect, error: Exception) -> bool:
        """Whether a refusal taught how this server wants to be asked."""
        better = learned(asked, error) if isinstance(error, NoCompletion) else None
        self._dialect = better or self._dialect
        return better is not None

    def _key(self) -> SecretStr | None:
        try:
            return self._settings.llm_api_key()
        except ApiKeyUnreadable as error:
            raise ModelFailed(Fault.API_KEY, str(error)) from None


def _wait_s(error: ModelFailed | Refused | NoCompletion, *, attempt: int) -> float | None:
    """Real seconds until the next try; None when another one cannot help."""
    if isinstance(error, Refused):
        return 0.0
    if isinstance(error, ModelFailed) or not error.again:
        return None
    return BACKOFF_S * 2**attempt if error.delay_s is None else error.delay_s


@contextlib.asynccontextmanager
async def open_client(settings: AiDecisionSettings, *, redis: Redis, clock: Clock) -> AsyncIterator[ModelClient]:
    """The model that the settings name, with its connections for as long as the context lasts."""
    url = str(settings.ai_llm_endpoint)
    async with open_http(url) as http:
        server = ChatServer(http, url=url, max_response_bytes=settings.ai_llm_max_response_bytes)
        spend = DailySpend(redis, max_usd=settings.ai_llm_max_usd_per_day, clock=clock)
        yield ModelClient(server, settings=settings, spend=spend, clock=clock)
