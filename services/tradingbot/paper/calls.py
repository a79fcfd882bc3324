"""Reads and actions as HTTP and WebSocket carry them alike: parsed, weighed, hurt on request, answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tradingbot.paper.actions import Request
from tradingbot.paper.book_view import BadAggregation
from tradingbot.paper.budgets import answer_weight, exchange_weight, info_weight
from tradingbot.paper.faults import Fault, Kind
from tradingbot.paper.info import Malformed, Query
from tradingbot.paper.venue import Venue

NOT_JSON = "Failed to parse the request body as JSON"
NOT_TYPED = "Failed to deserialize the JSON body into the target type"
BAD_GATEWAY = "<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a content and its media type."""

    status: int
    content: Any
    media_type: str = "application/json"

    def body(self) -> str:
        """The content as it is sent."""
        is_json = self.media_type == "application/json"
        return json.dumps(self.content, separators=(",", ":")) if is_json else str(self.content)


class BreakOff(Exception):  # noqa: N818 - an order to the edge
    """The connection is to break without an answer."""


class Calls:
    """What both edges call."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    async def info(self, body: bytes | str, *, path: str) -> Answer:
        """Answer a read.

        Raises:
            BreakOff: a fault demands it.
        """
        content = _parsed(body)
        if isinstance(content, Answer):
            return content
        type_ = _type_of(content)
        after = await self._before(path, type_)
        if isinstance(after, Answer):
            return after
        if not self._spend(info_weight(type_ or "")):
            return Answer(429, None)
        try:
            answer = self._venue.ask(Query.model_validate_json(body))
        except (ValidationError, Malformed):
            return _plain(422, NOT_TYPED)
        except BadAggregation:
            return Answer(500, None)
        self._venue.ip_budget.add(answer_weight(type_ or "", answer))
        return _after(after, Answer(200, answer))

    async def exchange(self, body: bytes | str, *, path: str) -> Answer:
        """Carry out an action; when this returns it is on disk.

        Raises:
            BreakOff: a fault demands it.
        """
        content = _parsed(body)
        if isinstance(content, Answer):
            return content
        after = await self._before(path, _type_of(content.get("action") if isinstance(content, dict) else None))
        if isinstance(after, Answer):
            return after
        try:
            request = Request.model_validate_json(body)
        except ValidationError:
            return _plain(422, NOT_TYPED)
        if not self._spend(exchange_weight(request)):
            return Answer(429, None)
        return _after(after, Answer(200, self._venue.exchange(request)))

    def _spend(self, weight: int) -> bool:
        return self._venue.ip_budget.take(weight, now_ms=self._venue.clock.now_ms())

    async def _before(self, path: str, type_: str | None) -> list[Fault] | Answer:
        """What hits the request on its way in: an answer in its place, or what will hit its answer."""
        clock = self._venue.clock
        if self._venue.options.latency_ms:
            await clock.sleep(self._venue.options.latency_ms / 1000)
        hits = self._venue.faults.strike(path, type_)
        for fault in hits:
            match fault.kind:
                case Kind.DELAY:
                    await clock.sleep(fault.delay_ms / 1000)
                    await clock.sleep_real(fault.real_delay_ms / 1000)
                case Kind.DROP_BEFORE:
                    raise BreakOff
                case Kind.RATE_LIMIT:
                    return Answer(429, None)
                case Kind.SERVER_ERROR:
                    return _server_error(fault)
                case _:
                    pass
        return hits


def _after(hits: list[Fault], answer: Answer) -> Answer:
    for fault in hits:
        if fault.kind is Kind.DROP_AFTER:
            raise BreakOff
        if fault.kind is Kind.SERVER_ERROR_AFTER:
            return _server_error(fault)
    return answer


def _parsed(body: bytes | str) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        return _plain(400, f"{NOT_JSON}: {error}")


def _type_of(content: Any) -> str | None:
    found = content.get("type") if isinstance(content, dict) else None
    return found if isinstance(found, str) else None


def _plain(status: int, text: str) -> Answer:
    return Answer(status, text, "text/plain")


def _server_error(fault: Fault) -> Answer:
    return Answer(fault.status, BAD_GATEWAY.format(status=fault.status), "text/html")
